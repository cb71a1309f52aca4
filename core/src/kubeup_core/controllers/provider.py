"""Provider: from an object to a Place that works, or to the reason why it does not.

In life order: the plugin is there, the config is valid, the Secrets are there, it was built, it is whose it was, its credentials are
good. What a Provider may not do before it is gone (`kubeup.dev/in-use`) is in `in_use.py`. A plugin that breaks is off and says so; it
never stops another.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import orjson
from pydantic import BaseModel

from ..client import Client, Event
from ..errors import Denied, InvalidSpec, SupplierError, Unknown
from ..kinds import Cluster, Installation, Launch, LoadBalancer, NodePool, Provider, Secret, Volume
from ..kinds.installation import NAME
from ..kinds.provider import AUTO_LABEL, HostStatus, PluginInfo, ProviderSpec, ProviderStatus
from ..objects import IN_USE, ObjectMeta
from ..plugin_config import secret_refs
from ..provider_types import BadBuild, InvalidConfig, Plugins, ProviderType, SwitchedOff
from ..provider_types import PluginError as PluginFault
from ..runtime.budgets import Budgets, Meter
from ..runtime.calls import InProgress
from ..runtime.controller import Controller, Env, Key, Result, Watch
from ..runtime.places import Place
from ..statuses import AlreadyExists
from ..supplier import Context, Problem, Suppliers
from .balancer_hosts import lent
from .in_use import InUse
from .marks import last_error, same_error
from .placement import machines_at

RECHECK = 300.0
PROBE = 3600.0
COUNT = 5.0
"""Seconds between two writes of a mere count."""


_HOST_STATES = {"free": "Free", "claimed": "Claimed", "taken": "Taken", "kept": "KeptBack", "unreachable": "Unreachable"}
"""Of a SlotState, as objects say it."""


def ensure_implicit(client: Client, plugins: Plugins) -> list[str]:
    """A Provider of its own name for each type whose config needs no field, but for those that are made when something names
    them; called when a server starts. Returns what was made."""
    made = []
    for type_ in plugins.implicit():
        if not plugins.providers[type_].ambient and client.find(Provider, type_) is None:
            with suppress(AlreadyExists):
                client.create(_implicit(type_))
                made.append(type_)
    return made


def _implicit(type_: str) -> Provider:
    return Provider(metadata=ObjectMeta(name=type_, labels={AUTO_LABEL: "true"}), spec=ProviderSpec(type=type_))


class _Fault(Exception):
    """Why it does not work: (reason, message) for the condition Ready. plugin: it is the plugin's fault."""

    def __init__(
        self, reason: str, message: str, *, plugin: bool = False, after: float | None = None, stalled: bool = True
    ) -> None:
        super().__init__(message)
        self.reason, self.message, self.plugin, self.after, self.stalled = reason, message, plugin, after, stalled


@dataclass
class _Memory:
    """digest: of what the suppliers were built from. Times are awake seconds."""

    digest: str = ""
    built: Suppliers | None = None
    built_at: float = 0.0
    meter: Meter | None = None
    probed: float | None = None
    failures: int = 0
    again: float = 0.0
    problem: Problem | None = None
    counted: float = float("-inf")
    error: SupplierError | None = None
    fault: _Fault | None = None


class ProviderController(Controller):
    name = "provider"
    kind = Provider
    resync = RECHECK

    def __init__(self, env: Env) -> None:
        self.watches = (
            Watch(Secret, self._of_secret),
            Watch(Installation, lambda event: [Key("", p.name) for p in env.cache.list(Provider)]),
            Watch(Launch, lambda event: [Key("", event.object.spec.provider)]),
            *(Watch(kind, self._of_user) for kind in (Cluster, NodePool, LoadBalancer, Volume)),
        )
        super().__init__(env)
        self.in_use = InUse(env)
        self._memory: dict[str, _Memory] = {}
        self._ambient = {name for name in env.plugins.implicit() if env.plugins.providers[name].ambient}
        env.inventory.on_snapshot(self._of_hosts)

    def reconcile(self, key: Key) -> Result:
        provider = self.env.cache.get(Provider, key.name)
        if provider is None:
            self._forget(key.name)
            if key.name in self._ambient and self.in_use.users(key.name):
                self.env.client.create(_implicit(key.name))
            return Result()
        place = self.env.places.get(provider.name) or Place(provider.name, provider)
        refs, config = self._refs(provider)
        if provider.deleting:
            waits = self.in_use.release(provider, place)
            if not waits:
                return Result()
        else:
            provider = self.in_use.hold(provider, refs)
            waits = ""
        memory = self._memory.setdefault(provider.uid, _Memory())
        fault: _Fault | None = None
        try:
            self._work(provider, place, memory, config)
        except _Fault as found:
            fault = found
        self._publish(provider, place, memory, fault)
        return self._report(provider, place, memory, fault, waits)

    # -- steps, in order -------------------------------------------------------------------------------------------------

    def _work(self, provider: Provider, place: Place, memory: _Memory, config: BaseModel | _Fault) -> None:
        """Raises the first _Fault."""
        if isinstance(config, _Fault):
            raise config
        type_ = self.env.plugins.find(provider.spec.type)
        secrets = self._secrets(provider, config)
        digest = _digest(provider, secrets)
        recheck = bool(place.denied) and self.env.clock.awake() - memory.built_at >= RECHECK
        if memory.built is None or memory.digest != digest or recheck:
            if memory.digest == digest and self.env.clock.awake() < memory.again:
                raise self._still(memory)
            self._build(provider, place, memory, type_, config, secrets, digest)
        self._check_identity(provider, place, memory)
        self._probe(provider, place, memory)

    def _refs(self, provider: Provider) -> tuple[list[tuple[str, str]], BaseModel | _Fault]:
        """The Secrets that it refers to, and the validated config (or what is wrong with it)."""
        spec = provider.spec
        refs = []
        if spec.credentials.source == "secret" and spec.credentials.secret_ref is not None:
            refs.append((spec.credentials.secret_ref.namespace, spec.credentials.secret_ref.name))
        try:
            config = self.env.plugins.config(spec.type, spec.config)
        except InvalidConfig as error:
            text = "; ".join(_problem(p) for p in error.problems)
            return refs, _Fault("InvalidConfig", text)
        except SwitchedOff as error:
            return refs, _Fault("PluginBroken", f"{error.message}; {error.remedy}", plugin=True)
        except PluginFault as error:
            return refs, _Fault("NotInstalled", f"{error.message}; {error.remedy}")
        refs += [(ref.namespace, ref.name) for ref in secret_refs(config)]
        return list(dict.fromkeys(refs)), config

    def _secrets(self, provider: Provider, config: BaseModel) -> dict[str, str]:
        """ "namespace/name/key" -> value, and the keys of the credentials' Secret under their own names."""
        found: dict[str, str] = {}
        for ref in secret_refs(config):
            secret = self._secret(ref.namespace, ref.name)
            value = (secret.data or {}).get(ref.key)
            if value is None:
                raise _Fault("SecretMissing", f"Secret {ref.namespace}/{ref.name} has no key {ref.key}; add it")
            found[ref.path] = base64.b64decode(value).decode(errors="replace")
        credentials = provider.spec.credentials.secret_ref
        if provider.spec.credentials.source == "secret" and credentials is not None:
            data = self._secret(credentials.namespace, credentials.name).data or {}
            found.update({key: base64.b64decode(value).decode(errors="replace") for key, value in data.items()})
        return found

    def _secret(self, namespace: str, name: str) -> Secret:
        secret = self.env.cache.get(Secret, name, namespace)
        if secret is None:
            remedy = f"kubectl create secret generic {name} -n {namespace} --from-file=KEY=FILE"
            raise _Fault("SecretMissing", f"there is no Secret {namespace}/{name}; make it: {remedy}")
        return secret

    def _build(
        self, provider: Provider, place: Place, memory: _Memory, type_: ProviderType, config: BaseModel,
        secrets: dict[str, str], digest: str,
    ) -> None:  # fmt: skip
        meter = memory.meter = memory.meter or Meter(self.env.clock)
        meter.own.limit({}, provider.spec.limits.requests_per_second)
        context = self._context(provider, secrets, meter.charge)
        try:
            built = self.env.calls.do(
                place, f"provider/{provider.name}", "build", lambda: type_.make(config, context),
                wake=(self.name, Key("", provider.name)), token=digest,
            )  # fmt: skip
        except InProgress:
            raise
        except SupplierError as error:
            memory.fault = self._not_built(provider, place, memory, digest, error)
            raise memory.fault from error
        place.budget = meter.shared = self.env.shared(Budgets).of(built.identity.key, self.env.clock)
        meter.shared.limit(built.capabilities.budgets)
        self._close(memory)
        memory.built, memory.digest, memory.built_at = built, digest, self.env.clock.awake()
        memory.probed, memory.failures, memory.error, memory.fault = None, 0, None, None

    def _still(self, memory: _Memory) -> _Fault:
        """Why the last build failed, until it is time for another."""
        left = memory.again - self.env.clock.awake()
        last = memory.fault
        if last is None:
            return _Fault("NotReady", self._said(memory), after=left, stalled=False)
        return _Fault(last.reason, last.message, plugin=last.plugin, after=left, stalled=last.stalled)

    def _not_built(self, provider: Provider, place: Place, memory: _Memory, digest: str, error: SupplierError) -> _Fault:
        """Why build failed. Anything but a SupplierError of its own is the plugin's fault."""
        cause = error.__cause__
        memory.failures = memory.failures + 1 if memory.digest == digest else 1
        memory.digest, memory.error = digest, error
        wait = min(5.0 * 2.0 ** (memory.failures - 1), RECHECK)
        memory.again = self.env.clock.awake() + wait
        if isinstance(error, Unknown) and isinstance(cause, BadBuild):
            return _Fault("PluginBroken", str(cause), plugin=True, after=RECHECK)
        if isinstance(error, Unknown) and cause is not None and not isinstance(cause, SupplierError | OSError):
            text = f"the plugin for {provider.spec.type} failed when it was started: {type(cause).__name__}; tell its author"
            return _Fault("PluginBroken", text, plugin=True, after=wait)
        if isinstance(error, Denied):
            memory.again = self.env.clock.awake() + RECHECK
            return _Fault("CredentialsDenied", place.denied or error.message, after=RECHECK)
        if isinstance(error, InvalidSpec):
            memory.again = self.env.clock.awake() + RECHECK
            text = f"{error.path or 'spec.config'}: {error.message}; {error.remedy or 'correct it'}"
            return _Fault("InvalidConfig", text, after=RECHECK)
        return _Fault("NotReady", self._said(memory), after=wait, stalled=False)

    def _check_identity(self, provider: Provider, place: Place, memory: _Memory) -> None:
        """Fixed at first use, in the status, before anything is made there."""
        assert memory.built is not None
        identity = memory.built.identity
        if provider.status.identity is not None and provider.status.identity != identity.key:
            raise _Fault(
                "IdentityChanged",
                f"it was first used with {provider.status.identity}, and now {identity.key} answers (as {identity.principal}). "
                "Nothing is created, deleted or concluded there. Point it back at the "
                "first, or make another Provider for the other account",
            )

    def _probe(self, provider: Provider, place: Place, memory: _Memory) -> None:
        """Read-only, at first use and hourly; a success is what ends a denial."""
        assert memory.built is not None
        if memory.probed is not None and self.env.clock.awake() - memory.probed < PROBE:
            return
        probe = memory.built.probe
        place.built = memory.built
        try:
            problems = self.env.calls.do(
                place, f"provider/{provider.name}", "probe", probe,
                wake=(self.name, Key("", provider.name)), token=memory.digest, mutating=False,
            )  # fmt: skip
        except InProgress:
            raise
        except Denied as error:
            memory.probed = self.env.clock.awake()
            memory.error = error
            return
        except SupplierError:
            memory.probed = self.env.clock.awake() - PROBE + 60.0
            return
        memory.probed = self.env.clock.awake()
        memory.problem = problems[0] if problems else None
        memory.error = None
        place.denied = ""

    # -- what comes of it ------------------------------------------------------------------------------------------------

    def _publish(self, provider: Provider, place: Place, memory: _Memory, fault: _Fault | None) -> None:
        """Fix the identity durably, then let controllers use the place."""
        if fault is None and memory.built is not None and provider.status.identity is None:
            changed = self.env.cache.copy(provider)
            changed.status.identity = memory.built.identity.key
            changed.status.principal = memory.built.identity.principal
            provider = self.env.client.update_status(changed)
        installation = self.env.cache.get(Installation, NAME)
        before = _shown(place)
        place.provider = provider
        place.frozen = fault is not None and fault.reason == "IdentityChanged"
        place.held = IN_USE in provider.finalizers
        place.pause = f"Provider {provider.name}" if provider.spec.paused else ""
        if installation is not None and installation.spec.paused:
            place.pause = "Installation kubeup"
        if fault is None:
            if place.built is not memory.built or place.fault[0]:
                place.built_at = self.env.clock.wall()
            place.built, place.fault = memory.built, ("", "")
        elif fault.reason == "CredentialsDenied" and place.built is not None:
            place.fault = ("", "")  # it worked before: deletes are still tried
        else:
            place.fault = (fault.reason, fault.message)
        if self.env.places.get(provider.name) is None or before != _shown(place):
            self.env.places.put(place)

    def _report(self, provider: Provider, place: Place, memory: _Memory, fault: _Fault | None, waits: str) -> Result:
        current = self.env.cache.get(Provider, provider.name)
        if current is None or current.uid != provider.uid:
            return Result()
        status = current.status.model_copy(deep=True)
        self._describe(current, status, place, memory)
        self._conditions(current, status, place, memory, fault, waits)
        after = self._after(place, memory, fault, waits)
        if status == current.status:
            return after
        only_counts = status.model_copy(update={"machines": current.status.machines}) == current.status
        now = self.env.clock.awake()
        left = memory.counted + COUNT - now
        if only_counts and left > 0:
            return Result(after=left)
        memory.counted = now
        self.env.client.update_status(current.model_copy(update={"status": status}))
        return after

    def _after(self, place: Place, memory: _Memory, fault: _Fault | None, waits: str) -> Result:
        if waits:
            return Result(after=2.0)
        if fault is not None and fault.after is not None:
            return Result(after=fault.after, slow=fault.stalled)
        if place.denied:
            return Result(after=max(1.0, memory.built_at + RECHECK - self.env.clock.awake()), slow=True)
        return Result()

    def _describe(self, provider: Provider, status: ProviderStatus, place: Place, memory: _Memory) -> None:
        status.observed_generation = provider.metadata.generation
        status.machines = machines_at(self.env, provider.name)
        type_ = self.env.plugins.providers.get(provider.spec.type)
        if type_ is not None:
            status.plugin = PluginInfo(distribution=type_.distribution, version=type_.version, contract=type_.contract)
        if memory.built is not None and not place.frozen:
            status.principal = memory.built.identity.principal
            status.capabilities = _capabilities(memory.built)
            status.hosts = self._hosts(place)
        error = last_error(memory.error, self.env.clock.wall()) if memory.error is not None else None
        if not same_error(status.last_error, error):
            status.last_error = error

    def _hosts(self, place: Place) -> list[HostStatus] | None:
        """Of an inventory, which is looked at also while nothing of ours is there."""
        if not place.capabilities.reusable:
            return None
        self.env.inventory.want(place, "machines")
        seen = self.env.inventory.snapshot(place, "machines")
        if seen is None or not seen.slots:
            return None
        return [
            HostStatus(
                name=slot.name,
                state=_HOST_STATES.get(slot.state, slot.state),
                zone=slot.place or None,
                machine=slot.machine or None,
                message=slot.message or None,
                facts=dict(slot.facts),
            )
            for slot in seen.slots
        ]

    def _of_hosts(self, what: str, identity: str) -> list[tuple[str, Key]]:
        """A new observation of an inventory."""
        if what != "machines":
            return []
        return [(self.name, Key("", p.name)) for p in self.env.places.of_identity(identity) if p.capabilities.reusable]

    def _conditions(
        self, provider: Provider, status: ProviderStatus, place: Place, memory: _Memory, fault: _Fault | None, waits: str
    ) -> None:
        now, generation = self.env.clock.wall(), provider.metadata.generation

        def say(type_: str, value: bool, reason: str, message: str) -> None:
            status.set_condition(type_, value, reason, message, now=now, generation=generation)

        def flag(type_: str, value: bool, reason: str, message: str) -> None:
            say(type_, True, reason, message) if value else status.drop_condition(type_)

        denied = place.denied or (fault.message if fault is not None and fault.reason == "CredentialsDenied" else "")
        if waits:
            say("Ready", False, "InUse", waits)
        elif fault is not None:
            say("Ready", False, fault.reason, fault.message)
        elif not place.ok:
            say("Ready", False, place.reason, place.why)
        elif memory.problem is not None:
            say("Ready", True, "Problem", _problem(memory.problem))
        else:
            say("Ready", True, "Usable", f"acts as {status.principal or 'nobody in particular'} at {status.identity}")
        if denied:
            say(
                "CredentialsValid",
                False,
                "Denied",
                f"{denied}. Nothing is created there until a check succeeds (every 5 minutes)",
            )
        elif memory.built is not None:
            say("CredentialsValid", True, "Accepted", "the place accepts them")
        frozen = fault.message if fault is not None and fault.reason == "IdentityChanged" else ""
        flag("IdentityChanged", bool(frozen), "IdentityChanged", frozen)
        broken = fault.message if fault is not None and fault.plugin else ""
        flag("PluginBroken", bool(broken), "PluginBroken", broken)
        stalled = fault is not None and fault.stalled
        flag("Stalled", stalled, fault.reason if fault else "", fault.message if fault else "")
        flag(
            "Reconciling",
            fault is not None and not fault.stalled,
            fault.reason if fault else "",
            fault.message if fault else "",
        )

    def _said(self, memory: _Memory) -> str:
        error = memory.error
        if error is None:
            return "it has not answered yet; it is tried again by itself"
        return f"{error.message}; {error.remedy or 'it is tried again by itself'}"

    def _context(self, provider: Provider, secrets: dict[str, str], charge: Callable[[str, float], None]) -> Context:
        spec = provider.spec
        return Context(
            installation=self.env.installation,
            provider=provider.uid,
            secrets=secrets,
            charge=charge,
            images=dict(spec.images),
            zones=tuple(spec.zones),
            machine_types=tuple(spec.machine_types),
            profile=spec.credentials.profile or "",
            hosts=lambda: lent(self.env, spec.type),
        )

    def _forget(self, name: str) -> None:
        place = self.env.places.get(name)
        if place is not None:
            memory = self._memory.pop(place.provider.uid, None)
            if memory is not None:
                self._close(memory)
            self.env.places.drop(name)
        self.in_use.release_secrets()

    @staticmethod
    def _close(memory: _Memory) -> None:
        """Of a plugin's code: whatever it raises must stop nobody."""
        if memory.built is not None:
            with suppress(Exception):
                memory.built.close()

    # -- who is woken ----------------------------------------------------------------------------------------------------

    def _of_secret(self, event: Event[Any]) -> Iterator[Key]:
        name = (event.object.namespace, event.object.name)
        for provider in self.env.cache.list(Provider):
            if name in self._refs(provider)[0] or IN_USE in event.object.finalizers:
                yield Key("", provider.name)

    def _of_user(self, event: Event[Any]) -> Iterator[Key]:
        """Whatever names Providers: they hold what is used, and let go what is not; some come to be by that."""
        yield from (Key("", name) for name in self._ambient if self.env.cache.get(Provider, name) is None)
        for provider in self.env.cache.list(Provider):
            if event.type != "MODIFIED" or IN_USE not in provider.finalizers or provider.deleting:
                yield Key("", provider.name)


def _problem(problem: Problem) -> str:
    where = f"{problem.path}: " if problem.path else ""
    return f"{where}{problem.message}" + (f"; {problem.remedy}" if problem.remedy else "")


def _digest(provider: Provider, secrets: dict[str, str]) -> str:
    """Of all that a build sees. Values of Secrets go in as a hash only."""
    spec = provider.spec.to_dict()
    spec.pop("paused", None)
    hidden = hashlib.sha256(orjson.dumps(secrets, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return hashlib.sha256(orjson.dumps([spec, hidden], option=orjson.OPT_SORT_KEYS)).hexdigest()


def _capabilities(built: Suppliers) -> dict[str, Any]:
    """As JSON, without what is not one (infinity)."""
    found: dict[str, Any] = {}
    for key, value in asdict(built.capabilities).items():
        if isinstance(value, frozenset):
            value = sorted(value)
        if isinstance(value, float) and value == float("inf"):
            continue
        if isinstance(value, dict):
            value = {k: v if isinstance(v, str) else list(v) for k, v in value.items()}
        found[key] = value
    found["networks"], found["loadBalancers"] = built.networks is not None, built.load_balancers is not None
    found["volumes"] = built.volumes is not None
    return found


def _shown(place: Place) -> tuple[Any, ...]:
    """What others can see of a place."""
    return (place.built, place.fault, place.frozen, place.pause, place.denied, place.held, place.provider.deleting)
