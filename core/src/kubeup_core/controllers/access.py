"""The one way in which the core runs something on a Machine, whoever can: the place's own `execute`, or an executor plugin.

Called by whatever bootstraps, upgrades or looks into machines. It also decides whom to trust over a network. A host key is, in this
order: what the supplier says; what was pinned before; what the machine printed on its console, which reaches us through the
provider's API; and only with `Provider.spec.access.hostKeys: firstUse` what it presents itself. What was learned is pinned before
anything is sent. Keys are kept in `ssh_keys.py`; how a connection works is the plugin's business.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from ..errors import Denied, InvalidSpec, NotFound, NotReady, SupplierError, Unknown
from ..executor import Executor, HostKeyChanged, HostKeyUnknown, Keys
from ..kinds import Cluster, Launch, Machine, Secret
from ..kinds.provider import AccessSpec
from ..plugins import PluginError
from ..runtime.controller import Env, Key
from ..runtime.places import Place
from ..supplier import Access, Ref
from .marks import ref_of
from .routes import direct, host_name, jump_host
from .ssh_keys import KNOWN_HOSTS, PRIVATE, known, on_console, pin, secret_name, values
from .troubles import LATER, SOON, Trouble, trouble

T = TypeVar("T")

log = logging.getLogger(__name__)

OUTPUT = 64 * 2**20
"""Bytes of output at most: it is kept in memory."""

CONSOLE = 256 * 2**10
"""Bytes of the console that are searched for host keys."""

GRACE = 15.0
"""Seconds beyond a script's own time after which its call is given up."""


class Finished(NamedTuple):
    """code: the script's exit code. output: its stdout and stderr, in the order they came."""

    code: int
    output: bytes


class Reach:
    """For one controller, whose keys are woken when a script has ended."""

    def __init__(self, env: Env, controller: str) -> None:
        self.env = env
        self.controller = controller
        self.executors = env.shared(Executors)

    def run(
        self,
        machine: Machine,
        script: str,
        stdin: bytes = b"",
        timeout: float = 30.0,
        *,
        key: Key | None = None,
        verb: str = "execute",
        whole: bool = True,
    ) -> Finished:
        """Run a POSIX shell script as root on a machine. Never waits: raises InProgress until the result is there, once.

        The same script and stdin have to be given until then (a script that holds the time of day never comes to an end), and may run
        a second time: after a crash, and after a result that was never asked for.
        machine  its status may be newer than what is stored
        timeout  seconds, 30 at most at places that run scripts themselves
        key      what is woken, the Machine's own key when absent
        verb     who asks, where several parts of the core ask at the same time about one machine
        whole    False: the script alone tells calls apart, so that megabytes of stdin need not be looked at each time
        Raises SupplierError: see `not_reached` for what to tell people.
        """
        place = self._place(machine)
        wake = (self.controller, key or Key(machine.namespace, machine.name))
        about = b"\0".join((script.encode(), stdin)) if whole else script.encode()
        call = _Call(machine, place, verb, wake, hashlib.sha256(about).hexdigest(), timeout + GRACE)
        kind = machine.status.access.kind if machine.status.access is not None else ""
        if kind == "execute":
            ref, machines = self._ref(machine), place.suppliers.machines
            return self._do(call, lambda: _collected(machine, machines.execute(ref, script, stdin, timeout)), own=True)
        if kind == "none":
            raise InvalidSpec(
                f"Provider {place.name} offers no way into its machines",
                remedy="use a Provider whose machines are reached by ssh, or by its own execute",
            )
        if not kind:
            raise NotReady(f"it is not known yet how {machine.name} is reached")
        executor = self._executor(kind, machine)
        access = self._access(call, executor)
        return self._do(call, lambda: _collected(machine, executor.execute(access, script, stdin, timeout)), own=True)

    def call(self, machine: Machine, script: str, stdin: bytes = b"", timeout: float = 30.0) -> Finished:
        """As `run`, for threads that may wait, as those in which suppliers are called: it blocks until the script has ended."""
        return _Waiting(self.env, self.controller).run(machine, script, stdin, timeout)

    # -- where and as whom -----------------------------------------------------------------------------------------------

    def _place(self, machine: Machine) -> Place:
        name = machine.status.resolved.provider if machine.status.resolved is not None else ""
        place = self.env.places.get(name)
        if place is None or not place.usable:
            raise NotReady(
                f"Provider {name or machine.spec.provider} cannot be used: {place.why if place else 'it is not there'}"
            )
        return place

    def _ref(self, machine: Machine) -> Ref:
        status = machine.status
        launch = self.env.cache.get(Launch, status.launch, machine.namespace) if status.launch else None
        if launch is None or status.index is None or not status.id:
            raise NotReady(f"{machine.name} has not been made yet")
        return ref_of(self.env.installation, launch, status.index, status.id)

    def _executor(self, kind: str, machine: Machine) -> Executor:
        cluster = self.env.cache.get(Cluster, machine.spec.cluster, machine.namespace)
        secret = self.env.cache.get(Secret, secret_name(machine.spec.cluster), machine.namespace)
        private = values(secret).get(PRIVATE, "") if secret is not None else ""
        if cluster is None or not private:
            raise NotReady(
                f"Secret {machine.namespace}/{secret_name(machine.spec.cluster)} with the cluster's SSH key is not there"
            )
        return self.executors.of(self.env, kind, cluster.uid, private)

    def _access(self, call: _Call, executor: Executor) -> Access:
        """All that the executor needs, the pinned keys among it."""
        machine, spec = call.machine, call.place.provider.spec.access
        access = direct(machine, spec)
        via = access.via or spec.via or ""
        if not via or via == machine.name:
            return replace(access, via="", host_key=self._host_key(call, executor, access))
        jump = self.env.cache.get(Machine, via, machine.namespace)
        if jump is not None:
            over = direct(jump, self._place(jump).provider.spec.access)
            over_key = self._host_key(replace(call, machine=jump, place=self._place(jump)), executor, over)
        else:
            over = jump_host(via, access)
            over_key = access.via_host_key or spec.via_host_key or self._learned(call, executor, over, host_name(over), spec)
        access = replace(access, via=f"{over.user}@{host_name(over)}", via_host_key=over_key)
        return replace(access, host_key=self._host_key(call, executor, access))

    # -- whom to trust ---------------------------------------------------------------------------------------------------

    def _host_key(self, call: _Call, executor: Executor, access: Access) -> str:
        if access.host_key:
            return access.host_key
        machine, place = call.machine, call.place
        if found := self._pinned(machine, machine.uid):
            return found
        if place.capabilities.console and (found := self._console(call)):
            pin(self.env, machine.namespace, machine.spec.cluster, machine.uid, found, machine.name)
            return found
        return self._learned(call, executor, access, machine.uid, place.provider.spec.access)

    def _console(self, call: _Call) -> str:
        ref, machines = self._ref(call.machine), call.place.suppliers.machines
        try:
            return on_console(self._do(replace(call, verb="console"), lambda: machines.console(ref, CONSOLE)))
        except (NotFound, NotReady):
            return ""

    def _learned(self, call: _Call, executor: Executor, access: Access, name: str, spec: AccessSpec) -> str:
        """For a host that nobody vouches for. name: under which it is pinned."""
        machine = call.machine
        if found := self._pinned(machine, name):
            return found
        if spec.host_keys != "firstUse":
            raise _unknown_key(call, access, name)
        found = self._do(replace(call, verb=f"host key of {name}"), lambda: executor.host_key(access, 20.0), own=True)
        pin(self.env, machine.namespace, machine.spec.cluster, name, found, machine.name if name == machine.uid else "")
        self.env.events.event(
            machine,
            "Normal",
            "HostKeyPinned",
            f"{access.address} was believed at first use and is now known by {found.split()[0]}",
        )
        return found

    def _pinned(self, machine: Machine, name: str) -> str:
        secret = self.env.cache.get(Secret, secret_name(machine.spec.cluster), machine.namespace)
        return known(values(secret).get(KNOWN_HOSTS, ""), name) if secret is not None else ""

    # -- calls -----------------------------------------------------------------------------------------------------------

    def _do(self, call: _Call, fn: Callable[[], T], *, own: bool = False) -> T:
        """own: into a machine, in threads of its cluster's own. What one machine's door says is no word about its place, which
        `Calls.do` would take an error for."""
        machine = call.machine
        if own:
            cluster = self.env.cache.get(Cluster, machine.spec.cluster, machine.namespace)
            pool = threads_of(cluster.uid if cluster is not None else "")
            return self.env.calls.background(
                pool, machine.uid, call.verb, lambda: _mapped(fn), wake=call.wake, token=call.token, limit=call.limit
            )
        return self.env.calls.do(
            call.place,
            machine.uid,
            call.verb,
            fn,
            wake=call.wake,
            token=call.token,
            mutating=False,
            limit=call.limit,
        )


class _Waiting(Reach):
    """Nothing is handed to another thread, and nobody is woken."""

    def _do(self, call: _Call, fn: Callable[[], T], *, own: bool = False) -> T:
        return fn()


def not_reached(error: SupplierError, machine: Machine) -> Trouble:
    """What an error of `Reach.run` means for the machine, in words for people."""

    def say(reason: str, remedy: str, after: float, *, stalled: bool = False) -> Trouble:
        return Trouble(reason=reason, message=f"{error.message}; {error.remedy or remedy}", after=after, stalled=stalled)

    match error:
        case HostKeyChanged():
            forget = f"take the line {machine.uid} out of known_hosts in Secret {secret_name(machine.spec.cluster)}"
            return say(
                "HostKeyChanged",
                f"nothing was sent to it. When the machine was reinstalled, {forget}; else delete the Machine {machine.name}, "
                "so that it is replaced",
                LATER,
                stalled=True,
            )
        case HostKeyUnknown():
            return say("HostKeyUnknown", "tell its key, or set spec.access.hostKeys: firstUse in its Provider", SOON)
        case Denied():
            return say(
                "AccessDenied", f"Secret {secret_name(machine.spec.cluster)} holds the key that it has to accept", LATER / 2
            )
        case NotReady():
            return say("NotReachable", "it is tried again by itself", error.retry_after or SOON)
        case InvalidSpec():
            return say("NoAccess", "correct it", LATER, stalled=True)
        case _:
            return trouble(error, machine.status.resolved.provider if machine.status.resolved else "")


class Executors:
    """One for each cluster and kind, for all controllers of this process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._built: dict[tuple[str, str], tuple[str, Executor]] = {}

    def of(self, env: Env, kind: str, cluster: str, private: str) -> Executor:
        """The executor with this key; those of former keys and of clusters that are gone are closed. Raises InvalidSpec."""
        digest = hashlib.sha256(private.encode()).hexdigest()
        with self._lock:
            over = [key for key in self._built if key[1] != cluster and env.cache.uid(Cluster, key[1]) is None]
            found = self._built.get((kind, cluster))
            if found is not None and found[0] != digest:
                over.append((kind, cluster))
            for key in over:
                self._built.pop(key)[1].close()
                env.calls.end(threads_of(key[1]))
            if (kind, cluster) not in self._built:
                try:
                    self._built[(kind, cluster)] = (digest, env.plugins.executor(kind).build(Keys(private_key=private)))
                except PluginError as error:
                    raise InvalidSpec(error.message, remedy=error.remedy) from error
            return self._built[(kind, cluster)][1]

    def close(self) -> None:
        """End all connections: the process ends."""
        with self._lock:
            for _, executor in self._built.values():
                executor.close()
            self._built.clear()


def threads_of(cluster: str) -> str:
    """The name of the threads in which a cluster's executor is called."""
    return f"access/{cluster}"


# -- below ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Call:
    machine: Machine
    place: Place
    verb: str
    wake: tuple[str, Key]
    token: str
    limit: float


def _unknown_key(call: _Call, access: Access, name: str) -> HostKeyUnknown:
    machine, provider = call.machine, call.place.name
    secret = f"a line `{name} TYPE KEY` in known_hosts of Secret {secret_name(machine.spec.cluster)}"
    if name != machine.uid:
        pinned, remedy = "jump host", f"set spec.access.viaHostKey in Provider {provider}, or put in {secret}"
    elif call.place.capabilities.console:
        pinned, remedy = "machine", f"its console has not shown it yet; wait, or put in {secret}"
    else:
        pinned, remedy = "machine", f"put in {secret}"
    return HostKeyUnknown(
        f"nobody has told the host key of {pinned} {access.address}, so it is not talked to",
        code="HostKeyUnknown",
        remedy=f"{remedy}, or set spec.access.hostKeys: firstUse in Provider {provider} to believe the first one",
    )


def _collected(machine: Machine, stream: Iterator[bytes | int]) -> Finished:
    output, code = bytearray(), None
    for part in stream:
        if isinstance(part, int):
            code = part
            break
        output += part
        if len(output) > OUTPUT:
            raise InvalidSpec(f"a script on {machine.name} printed more than {OUTPUT} bytes", remedy="fetch it in parts")
    if code is None:
        raise Unknown(f"the connection to {machine.name} ended before the script did; nobody knows how far it came")
    return Finished(code, bytes(output))


def _mapped(fn: Callable[[], T]) -> T:
    """Whatever else an executor's code raises: nobody can say how far it came."""
    try:
        return fn()
    except SupplierError:
        raise
    except Exception as error:
        log.warning("an executor raised %s, which is not a SupplierError", type(error).__name__)
        raise Unknown(f"the executor failed: {type(error).__name__}") from error
