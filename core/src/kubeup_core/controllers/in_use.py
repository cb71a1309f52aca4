"""`kubeup.dev/in-use`: a Provider, and every Secret that it refers to, stays while anything made with it exists.

Called by `provider.py`. A Provider is held as soon as something names it, before anything can be made with it; it is let go when
nothing names it any more and complete observations of the place show nothing of ours.
"""

from __future__ import annotations

from ..kinds import Cluster, Launch, LoadBalancer, NodePool, Provider, Secret, Volume
from ..kinds.launch import FINALIZER as LAUNCH_FINALIZER
from ..kinds.machine import ABANDON
from ..objects import IN_USE
from ..plugin_config import secret_refs
from ..provider_types import PluginError
from ..runtime.controller import Env
from ..runtime.inventory import What
from ..runtime.places import Place
from ..supplier import Phase

KINDS_THERE: tuple[What, ...] = ("machines", "networks", "load_balancers", "volumes")


class InUse:
    def __init__(self, env: Env) -> None:
        self.env = env

    def hold(self, provider: Provider, refs: list[tuple[str, str]]) -> Provider:
        """Put the finalizer on, when something names it, and on its Secrets."""
        if IN_USE not in provider.finalizers and self.users(provider.name):
            changed = self.env.cache.copy(provider)
            changed.metadata.finalizers = [*provider.finalizers, IN_USE]
            provider = self.env.client.update(changed)
        if IN_USE in provider.finalizers:
            for namespace, name in refs:
                secret = self.env.cache.get(Secret, name, namespace)
                if secret is not None and IN_USE not in secret.finalizers and not secret.deleting:
                    held = self.env.cache.copy(secret)
                    held.metadata.finalizers = [*secret.finalizers, IN_USE]
                    self.env.client.update(held)
        self.release_secrets()
        return provider

    def release(self, provider: Provider, place: Place) -> str:
        """For one that is being deleted: let go of it, or say what it waits for."""
        if IN_USE not in provider.finalizers:
            return ""
        users = self.users(provider.name)
        if users:
            return f"it is deleted when nothing uses it any more: {_some(users)}"
        if provider.status.identity is not None and ABANDON not in provider.annotations:
            why = self._not_empty(provider, place)
            if why:
                return why
        changed = self.env.cache.copy(provider)
        changed.metadata.finalizers = [f for f in provider.finalizers if f != IN_USE] or None
        self.env.client.update(changed)
        self.release_secrets()
        return ""

    def release_secrets(self) -> None:
        """Secrets that no held Provider refers to any more."""
        needed: set[tuple[str, str]] = set()
        for provider in self.env.cache.list(Provider):
            if IN_USE in provider.finalizers:
                needed.update(self._refs(provider))
        for secret in self.env.cache.list(Secret):
            if IN_USE in secret.finalizers and (secret.namespace, secret.name) not in needed:
                freed = self.env.cache.copy(secret)
                freed.metadata.finalizers = [f for f in secret.finalizers if f != IN_USE] or None
                self.env.client.update(freed)

    def users(self, name: str) -> list[str]:
        """What names a Provider, or was made with it, in words."""
        cache = self.env.cache
        found = [f"Launch {o.name}" for o in cache.by(Launch, "provider", name) if LAUNCH_FINALIZER in o.finalizers]
        found += [f"Volume {o.name}" for o in cache.by(Volume, "provider", name)]
        found += [f"LoadBalancer {o.name}" for o in cache.by(LoadBalancer, "provider", name)]
        found += [f"NodePool {o.name}" for o in cache.by(NodePool, "provider", name)]
        found += [f"Cluster {o.name}" for o in cache.list(Cluster) if _names(o, name)]
        return found

    def _not_empty(self, provider: Provider, place: Place) -> str:
        """The proof: complete, later than the last unknown outcome, and empty. Another Provider of the account keeps what is left."""
        if not place.usable:
            why = place.why or "it cannot be used"
            return (
                f"nothing uses it any more, but whether anything is left there cannot be seen: {why}. To delete it without that proof: "
                f"kubectl annotate provider {provider.name} {ABANDON}=REASON"
            )
        if any(p.name != place.name for p in self.env.places.of_identity(place.identity.key)):
            return ""
        if not self.env.inventory.quiet(place):
            return "the last answer of the place was lost; it is watched a little longer for what may still turn up"
        for what in KINDS_THERE:
            seen = self.env.inventory.snapshot(place, what)
            if seen is None or not seen.complete or (place.last_unknown is not None and seen.started < place.last_unknown):
                self.env.inventory.want(place, what, soon=True)
                return "it is looked whether anything is left there"
            left = [item for item in seen.by_id.values() if item.phase is not Phase.GONE and not item.ref.mark.keep]
            if left or seen.strays:
                self.env.inventory.want(place, what, soon=True)
                return f"{len(left) + len(seen.strays)} {what.replace('_', ' ')} of this installation are still there"
        return ""

    def _refs(self, provider: Provider) -> set[tuple[str, str]]:
        credentials = provider.spec.credentials
        refs = set()
        if credentials.source == "secret" and credentials.secret_ref is not None:
            refs.add((credentials.secret_ref.namespace, credentials.secret_ref.name))
        try:
            config = self.env.plugins.config(provider.spec.type, provider.spec.config)
        except PluginError:
            return refs | _guessed(provider.spec.config)
        return refs | {(ref.namespace, ref.name) for ref in secret_refs(config)}


def _names(cluster: Cluster, provider: str) -> bool:
    named = (cluster.spec.provider, cluster.spec.load_balancers.provider, cluster.spec.endpoint.load_balancer)
    return (
        provider in named
        or provider in cluster.status.providers
        or any(n.provider == provider for n in cluster.status.networks)
    )


def _guessed(config: object) -> set[tuple[str, str]]:
    """References in a config whose plugin is gone: a Secret must not go only because a plugin was uninstalled."""
    if isinstance(config, dict):
        if {"namespace", "name", "key"} <= set(config):
            return {(str(config["namespace"]), str(config["name"]))}
        return {ref for value in config.values() for ref in _guessed(value)}
    if isinstance(config, list):
        return {ref for value in config for ref in _guessed(value)}
    return set()


def _some(users: list[str]) -> str:
    return ", ".join(users[:5]) + (f" and {len(users) - 5} more" if len(users) > 5 else "")
