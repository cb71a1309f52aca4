"""Clusters: the networks that their machines need, what their state is as a whole, and their end.

The only writer of `Cluster.status`. It makes no machines: pools are objects of their own, and their controller asks
`cluster_status.cluster_blocks` whether this cluster can use machines at all. When a Cluster is deleted, everything that names it is
deleted, in whatever order that was asked for, and the Cluster goes when complete observations prove that nothing is left of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..client import Event
from ..errors import SupplierError
from ..kinds import Cluster, Launch, LoadBalancer, Machine, NodePool, Provider, Secret, Volume
from ..kinds.cluster import ClusterStatus
from ..kinds.machine import ABANDON
from ..objects import Resource
from ..runtime.controller import Controller, Env, Key, Result, Watch
from ..runtime.places import Place
from ..statuses import Conflict, Forbidden, NotFound
from ..supplier import Mark
from .certificates import Certificates, tell_ends
from .cluster_status import cluster_blocks, count, describe
from .control_plane import ControlPlane, resolve
from .endpoint import Endpoints
from .etcd_snapshots import Snapshots
from .leftovers import Leftovers
from .network import Members, Networks
from .network_rules import providers_of
from .nodes import Nodes
from .pauses import paused, said
from .plans import control_planes
from .proof import Proof
from .ssh_keys import ensure_ssh_keys
from .troubles import LATER, Trouble, hold, let_go, note, sooner, tell, usable, write_status

FINALIZER = "kubeup.dev/cluster"
CHILDREN: tuple[type[Resource], ...] = (LoadBalancer, NodePool, Machine, Volume)


class ClusterController(Controller):
    name = "cluster"
    kind = Cluster
    lull = 0.2

    def __init__(self, env: Env) -> None:
        self.watches = (
            *(Watch(kind, keys_of) for kind in CHILDREN),
            Watch(Launch, keys_of),
            Watch(Provider, lambda event: self._users_of(event.object.name)),
            Watch(Secret, owners_of),
        )
        super().__init__(env)
        self.networks = Networks(env)
        self.certificates = Certificates(env)
        self.endpoints = Endpoints(env)
        self.control_plane = ControlPlane(env, self.name)
        self.nodes = env.shared(Nodes)
        self.snapshots = env.shared(Snapshots)
        self.leftovers = Leftovers(env, self.name)
        self.proof = Proof(env)
        env.inventory.on_change("networks", self._of_network)

    def reconcile(self, key: Key) -> Result:
        cluster = self.env.cache.get(Cluster, key.name, key.namespace)
        if cluster is None:
            return Result()
        if not cluster.deleting:
            return self._keep(hold(self.env, cluster, FINALIZER), key)
        if FINALIZER in cluster.finalizers:
            return self._delete(cluster, key)
        return Result()

    # -- living ----------------------------------------------------------------------------------------------------------

    def _keep(self, cluster: Cluster, key: Key) -> Result:
        members = self._members(cluster)
        places, troubles = self._places(members.wanted(cluster))
        status = cluster.status.model_copy(deep=True)
        after: float | None = None
        if not cluster.spec.paused:
            places |= self._places(n.provider for n in status.networks)[0]
            status.providers += [name for name in places if name not in status.providers]
            self.networks.plan(cluster, status, members, places)
            cluster = write_status(self.env, cluster, status)  # where things will be made, before anything is
            status = cluster.status.model_copy(deep=True)
            progress = self.networks.step(cluster, status, members, places, key)
            troubles = progress.troubles | troubles
            note(status, progress.error, self.env.clock.wall())
            after = sooner(progress.after, self._forget_providers(cluster, status, members))
        begun = status.control_plane is not None and status.control_plane.initialized
        stop, found = paused(self.env, cluster), None
        if cluster.spec.kubernetes is not None and stop:
            found = Trouble(reason="Paused", message=said(stop))
        elif cluster.spec.kubernetes is not None and (begun or not troubles):
            found = self._kubernetes(cluster, status)
        now = self.env.clock.wall()
        status.unused_overrides = self._unused_overrides(cluster, members)
        found = describe(cluster, status, members, troubles, now, self.env.plugins.bootstrappers, found)
        return tell(self.env, cluster, status, found, sooner(after, *(t.after for t in troubles.values())))

    def _kubernetes(self, cluster: Cluster, status: ClusterStatus) -> Trouble | None:
        """Keys, endpoint, control planes, kubeconfig, addons: each as far as the one before allows. -> what it waits for."""
        if cluster_blocks(cluster, self.env.plugins.bootstrappers) and status.condition("KubernetesValid") is None:
            return None
        found = (
            resolve(cluster, status)
            or self._ssh_keys(cluster)
            or self.certificates.ensure_keys(cluster)
            or self.endpoints.check(cluster, status)
        )
        found = self.control_plane.check(cluster, status, found)
        if found is not None:
            return found
        plane = self.control_plane.step(cluster, status)
        tell_ends(self.env, cluster, status, control_planes(self.env, cluster))
        endpoint = self.endpoints.step(cluster, status, self.control_plane.first(cluster, status))
        bad = self.certificates.ensure_kubeconfig(cluster, status)
        status.version = self.nodes.version(cluster) or status.version
        addons = self._silent(cluster, status) or self._addons(cluster, status)
        self._say(cluster, status, endpoint, plane)
        self.snapshots.say(cluster, status, self.env.clock.wall())
        return bad or endpoint or plane or addons

    def _silent(self, cluster: Cluster, status: ClusterStatus) -> Trouble | None:
        """The API answered once, and does not now. "Starting": this process has not asked yet, and the last word stands."""
        api = self.nodes.api(cluster)
        if api.ok or status.control_plane is None or not status.control_plane.initialized:
            return None
        return Trouble(reason="EndpointNotReady" if api.ok is False else "Starting", message=f"its API: {api.message}")

    def _addons(self, cluster: Cluster, status: ClusterStatus) -> Trouble | None:
        addons = self.nodes.addons(cluster)
        if addons.ok:
            return None
        known = addons.ok is False or not status.is_true("AddonsReady")
        return Trouble(reason=addons.reason if known else "Starting", message=addons.message, stalled=addons.ok is False)

    def _say(self, cluster: Cluster, status: ClusterStatus, endpoint: Trouble | None, plane: Trouble | None) -> None:
        """EndpointReady, ControlPlaneReady, AddonsReady. What is not known yet takes back nothing that was said."""
        api, addons = self.nodes.api(cluster), self.nodes.addons(cluster)
        where = f"{status.endpoint.host}:{status.endpoint.port}" if status.endpoint is not None else ""
        told: dict[str, tuple[bool | None, str, str]] = {
            "EndpointReady": (False, endpoint.reason, endpoint.message)
            if endpoint is not None
            else (api.ok, api.reason, f"{where} answers" if api.ok else f"{where}: {api.message}"),
            "ControlPlaneReady": (None if plane.reason == "Starting" else False, plane.reason, plane.message)
            if plane is not None
            else (True, "Ready", f"{cluster.spec.control_plane.replicas} of them Ready"),
            "AddonsReady": (addons.ok, addons.reason, addons.message),
        }
        now, generation = self.env.clock.wall(), cluster.metadata.generation
        for type_, (value, reason, message) in told.items():
            if value is not None or not status.is_true(type_):
                status.set_condition(type_, value, reason, message, now=now, generation=generation)

    def _ssh_keys(self, cluster: Cluster) -> Trouble | None:
        try:
            ensure_ssh_keys(self.env, cluster)
        except SupplierError as error:
            return Trouble(
                reason="KeysInvalid", message=f"{error.message}; {error.remedy}", after=5.0, stalled=bool(error.remedy)
            )
        return None

    def _forget_providers(self, cluster: Cluster, status: ClusterStatus, members: Members) -> float | None:
        """A Provider that is not used any more is let go, once nothing of the cluster is left there. -> when to look again."""
        volumes = {v.status.provider for v in self._belonging(Volume, cluster)}
        used = {*members.wanted(cluster), *members.inside(), *volumes, *(n.provider for n in status.networks)}
        after: float | None = None
        for name in [n for n in status.providers if n not in used]:
            place, _ = usable(self.env, name)
            if place is not None and self._shared(place, used):
                status.providers.remove(name)
            elif place is not None and self.proof.empty(place, cluster.uid):
                status.providers.remove(name)
                self.proof.forget(cluster.uid)
            elif place is not None:
                after = self.proof.after()
        return after

    def _shared(self, place: Place, used: Iterable[str | None]) -> bool:
        """Another Provider of the same account is in use: what is there is found through that one."""
        others = (self.env.places.get(name) for name in used)
        return any(other is not None and other.usable and other.identity.key == place.identity.key for other in others)

    # -- the end ---------------------------------------------------------------------------------------------------------

    def _delete(self, cluster: Cluster, key: Key) -> Result:
        if cluster.spec.paused:
            message = f"it is to be deleted, but it is paused; set spec.paused: false in Cluster {cluster.name} to let it go"
            return self._wait(cluster, cluster.status.model_copy(deep=True), Trouble(reason="Paused", message=message))
        self.control_plane.restoring.forget(cluster.uid)
        made = self.leftovers.step(cluster, key)
        if made is not None:
            return self._wait(cluster, cluster.status.model_copy(deep=True), made)
        left, refused = self._delete_children(cluster)
        members = self._members(cluster)
        status = cluster.status.model_copy(deep=True)
        places, troubles = self._places(status.providers)
        self.networks.plan(cluster, status, members, places)
        cluster = write_status(self.env, cluster, status)
        status = cluster.status.model_copy(deep=True)
        progress = self.networks.step(cluster, status, members, places, key)
        note(status, progress.error, self.env.clock.wall())
        launches = sum(1 for launch in members.launches if launch.status.phase == "Open")
        left += [f"{launches} launches that are not settled"] if launches else []
        left += [f"the network at {n.provider}" for n in status.networks if not self._abandoned(cluster, n.provider, places)]
        if refused:
            return self._wait(
                cluster, status, Trouble(reason="DeletionRefused", message="; ".join(refused), after=LATER, stalled=True)
            )
        if left:
            reasons = [f"Provider {name}: {t.message}" for name, t in sorted((troubles | progress.troubles).items())]
            found = Trouble(
                reason="Deleting",
                message="; ".join([f"waits for the end of {' and '.join(left)}", *reasons]),
                after=progress.after,
                stalled=any(t.stalled for t in troubles.values()),
            )
            return self._wait(cluster, status, found)
        return self._finish(cluster, status, places, troubles)

    def _finish(
        self, cluster: Cluster, status: ClusterStatus, places: dict[str, Place], troubles: dict[str, Trouble]
    ) -> Result:
        """The proof: complete observations of each place show nothing with this cluster's mark."""
        for name in status.providers:
            place = places.get(name)
            if self._abandoned(cluster, name, places):
                continue
            if place is None:
                why = troubles[name].message if name in troubles else ""
                message = (
                    f"cannot look whether anything is left at Provider {name}: {why}. If that place will never answer again: "
                    f"kubectl annotate cluster {cluster.name} -n {cluster.namespace} {ABANDON}=REASON"
                )
                return self._wait(cluster, status, Trouble(reason="CannotObserve", message=message, after=LATER, stalled=True))
            if not self.proof.empty(place, cluster.uid):
                message = f"looks whether anything is left at Provider {name}: {self.proof.why(place, cluster.uid)}"
                return self._wait(cluster, status, Trouble(reason="Proving", message=message, after=self.proof.after()))
        let_go(self.env, cluster, FINALIZER)
        self.leftovers.forget(cluster.uid)
        self.proof.forget(cluster.uid)
        return Result()

    def _abandoned(self, cluster: Cluster, provider: str, places: dict[str, Place]) -> bool:
        """A person has given up a place that cannot be asked; the reason stays in an event."""
        reason = cluster.annotations.get(ABANDON)
        if not reason or provider in places:
            return False
        message = f"nobody looked whether anything is left at Provider {provider}: {reason}"
        self.env.events.event(cluster, "Warning", "Abandoned", message)
        return True

    def _delete_children(self, cluster: Cluster) -> tuple[list[str], list[str]]:
        """Ask for the deletion of all that names the cluster. -> what is left, in words; what the API refused."""
        left, refused = [], []
        for kind in CHILDREN:
            for item in self._belonging(kind, cluster):
                if item.deleting:
                    continue
                try:
                    self.env.client.delete(kind, item.name, item.namespace, uid=item.uid)
                except (NotFound, Conflict):
                    continue
                except Forbidden as error:
                    refused.append(error.message)
            items = self._belonging(kind, cluster)
            if items:
                left.append(f"{len(items)} {kind.__name__}{'s' if len(items) > 1 else ''}")
        return left, refused

    def _wait(self, cluster: Cluster, status: ClusterStatus, found: Trouble) -> Result:
        count(status, self._members(cluster))
        return tell(self.env, cluster, status, found)

    # -- below -----------------------------------------------------------------------------------------------------------

    def _members(self, cluster: Cluster) -> Members:
        return Members(
            pools=self._belonging(NodePool, cluster),
            machines=self._belonging(Machine, cluster),
            launches=self._belonging(Launch, cluster),
            balancers=self._belonging(LoadBalancer, cluster),
        )

    def _belonging(self, kind: type[Any], cluster: Cluster) -> list[Any]:
        return self.env.cache.by(kind, "cluster", f"{cluster.namespace}/{cluster.name}")

    def _users_of(self, provider: str) -> Iterator[Key]:
        for cluster in self.env.cache.list(Cluster):
            pools = self._belonging(NodePool, cluster)
            named = {cluster.spec.provider, *cluster.status.providers}
            named.update(name for pool in pools for name in providers_of(cluster, pool))
            if provider in named:
                yield Key(cluster.namespace, cluster.name)

    def _of_network(self, mark: Mark) -> tuple[str, Key] | None:
        cluster = self.env.cache.uid(Cluster, mark.maker)
        return (self.name, Key(cluster.namespace, cluster.name)) if cluster is not None else None

    def _places(self, names: Iterable[str]) -> tuple[dict[str, Place], dict[str, Trouble]]:
        """Those Providers that can be talked to, and what is wrong with the others."""
        places: dict[str, Place] = {}
        troubles: dict[str, Trouble] = {}
        for name in names:
            place, found = usable(self.env, name)
            if place is not None:
                places[name] = place
            elif found is not None:
                troubles[name] = found
        return places, troubles

    def _unused_overrides(self, cluster: Cluster, members: Members) -> list[str]:
        providers = (self.env.cache.get(Provider, name) for name in members.wanted(cluster))
        types = {provider.spec.type for provider in providers if provider is not None}
        return sorted({*cluster.spec.overrides, *cluster.spec.control_plane.overrides} - types)


def keys_of(event: Event[Any]) -> Iterator[Key]:
    """What belongs to a cluster concerns it when it comes, goes, or changes in what is counted here."""
    new, old = event.object, event.old
    if isinstance(new, Machine) and isinstance(old, Machine) and event.type == "MODIFIED" and _counted(new) == _counted(old):
        return
    yield Key(new.namespace, new.spec.cluster)


def owners_of(event: Event[Secret]) -> Iterator[Key]:
    """The keys of a cluster are its own business."""
    for owner in event.object.metadata.owner_references or ():
        if owner.kind == "Cluster":
            yield Key(event.object.namespace, owner.name)


def _counted(machine: Machine) -> tuple[Any, ...]:
    resolved = machine.status.resolved
    told = machine.status.condition("Bootstrapped")
    return (
        machine.deleting,
        machine.status.state,
        machine.status.launch,
        machine.status.is_true("Ready"),
        told.reason if told is not None else "",
        resolved.provider if resolved else "",
        tuple(a.address for a in machine.status.addresses),
    )
