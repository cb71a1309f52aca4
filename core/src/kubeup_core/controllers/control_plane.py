"""The control planes of a Kubernetes cluster: their pool, who begins the cluster, and who joins next.

A part of the Cluster controller, the only writer of `status.controlPlane`; `bootstrapping.py` asks `permission` before it lets a
machine begin or join a cluster. Whoever begins, and whose turn it is, is stored before the machine may act on it: so that no crash of
kubeup makes two machines begin, or two join etcd at once. Machines are made by the pool's controller like any others.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Literal

from ..bootstrapper import Task
from ..errors import SupplierError
from ..kinds import Cluster, Machine, NodePool
from ..kinds.cluster import ClusterStatus, ControlPlaneStatus, Resolved
from ..kinds.nodepool import MAX_NAME, NodePoolSpec, Update
from ..objects import ObjectMeta
from ..plugins import PluginError
from ..runtime.controller import Env, Key
from ..statuses import AlreadyExists, NotFound
from .bootstraps import Bootstraps, bootstrapper_of
from .endpoint import on_machine
from .etcd_restore import Restoring
from .members import address_of
from .nodes import Nodes
from .plans import cluster_plan, control_planes
from .renewing import Renewing
from .settling import Settling
from .troubles import LATER, SOON, Trouble
from .upgrading import Upgrading

SUFFIX = "-control-plane"
WAITING = "WaitingForTurn"


def permission(env: Env, cluster: Cluster, machine: Machine) -> Task | Trouble:
    """What a prepared machine may do now to become a member: INIT or JOIN; or what it waits for. Reads only what is stored."""
    status = cluster.status.control_plane or ControlPlaneStatus()
    if status.restore is not None and status.restore.machine == machine.uid:
        return Task.INIT  # no control plane is left: it begins again, with the same keys, and then gets the snapshot
    if machine.spec.role == "controlPlane" and machine.uid == status.first_uid:
        if cluster.status.endpoint is None or not cluster.status.endpoint.host:
            return Trouble(reason="WaitingForEndpoint", message="it begins the cluster when the address of its API is known")
        return Task.INIT
    if not status.initialized:
        who = f"until {status.first} has begun the cluster" if status.first else "until a control plane can begin the cluster"
        return Trouble(reason=WAITING, message=f"it waits {who}")
    if env.shared(Bootstraps).joined(machine):
        return Task.JOIN
    if machine.spec.role == "controlPlane":
        if status.turn == machine.uid:
            return Task.JOIN
        return Trouble(reason=WAITING, message="control planes join one at a time, and it is not its turn yet")
    api = env.shared(Nodes).api(cluster)
    if api.ok is not True:
        return Trouble(reason="WaitingForAPI", message=f"it joins when the cluster's API answers: {api.message}", after=SOON)
    return Task.JOIN


def going(cluster: Cluster | None) -> bool:
    """The whole cluster is on its way out: nothing has to be drained, and no quorum be kept."""
    return cluster is None or cluster.deleting


def pool_name(cluster: str) -> str:
    return f"{cluster[: MAX_NAME - len(SUFFIX)]}{SUFFIX}"


class ControlPlane:
    def __init__(self, env: Env, controller: str) -> None:
        self.env = env
        self.controller = controller
        self.nodes = env.shared(Nodes)
        self.book = env.shared(Bootstraps)
        self.settling = Settling(env, controller)
        self.upgrading = Upgrading(env, controller)
        self.renewing = Renewing(env, controller)
        self.restoring = Restoring(env, controller)

    def check(self, cluster: Cluster, status: ClusterStatus, other: Trouble | None) -> Trouble | None:
        """What can never work, told before anything is made: the condition KubernetesValid, which pools look at.

        other: what is wrong with its keys or its endpoint
        """
        found = self._refusal(cluster, status) or other
        result = (True, "Checked", "the bootstrapper can do it") if found is None else (False, found.reason, found.message)
        now, generation = self.env.clock.wall(), cluster.metadata.generation
        status.set_condition("KubernetesValid", *result, now=now, generation=generation)
        return found

    def step(self, cluster: Cluster, status: ClusterStatus) -> Trouble | None:
        """One step nearer; None when every control plane works."""
        state = status.control_plane = status.control_plane or ControlPlaneStatus()
        kubernetes = cluster.spec.kubernetes
        assert kubernetes is not None
        state.version = state.version or kubernetes.version
        if state.version == kubernetes.version:
            state.bundle = kubernetes.bundle
        found = self._pool(cluster, status)
        if found is not None:
            return found
        machines = control_planes(self.env, cluster)
        living = [m for m in machines if not m.deleting]
        state.replicas = len(machines)
        state.ready = sum(1 for m in living if m.status.is_true("Ready"))
        self._first(cluster, state, machines)
        if not state.initialized:
            return self._begin(cluster, state, machines)
        restoring = self.restoring.step(cluster, status, machines)
        if restoring is not None:
            return restoring
        self.renewing.look(cluster, state)
        under_way = self.upgrading.under_way(cluster, state) or self.renewing.under_way(cluster, state)
        if under_way is not None:
            return under_way
        return self._turn(cluster, state, machines) or self._complete(cluster, status, state, living)

    def first(self, cluster: Cluster, status: ClusterStatus) -> Machine | None:
        state = status.control_plane
        return self.env.cache.uid(Machine, state.first_uid) if state is not None and state.first_uid else None

    # -- before anything -------------------------------------------------------------------------------------------------

    def _refusal(self, cluster: Cluster, status: ClusterStatus) -> Trouble | None:
        kubernetes = cluster.spec.kubernetes
        assert kubernetes is not None
        try:
            self.env.plugins.bootstrapper_config(kubernetes.bootstrapper, kubernetes.config)
            bootstrapper = bootstrapper_of(self.env, cluster)
            problems = bootstrapper.check(cluster_plan(self.env, cluster, version=kubernetes.version))
            running = status.control_plane.version if status.control_plane is not None else ""
            if running and not problems:
                hops = bootstrapper.hops(running, kubernetes.version)
                single = "bundle" if kubernetes.bundle is not None else kubernetes.source
                if len(hops) > 1 and single in ("bundle", "preinstalled"):
                    message = (
                        f"spec.kubernetes: {running} goes to {kubernetes.version} over {', '.join(hops[:-1])}, and what is "
                        f"{'in the bundle' if single == 'bundle' else 'preinstalled'} is of one version; "
                        f"go to {hops[0]} with its own first"
                    )
                    return Trouble(reason="InvalidSpec", message=message, after=LATER, stalled=True)
        except PluginError as error:
            return Trouble(reason="InvalidConfig", message=f"{error.message}; {error.remedy}", stalled=True)
        except SupplierError as error:
            remedy = f"; {error.remedy}" if error.remedy else ""
            return Trouble(reason="InvalidSpec", message=f"spec.kubernetes: {error.message}{remedy}", after=LATER, stalled=True)
        if problems:
            said = "; ".join(f"{p.path}: {p.message}" + (f" ({p.remedy})" if p.remedy else "") for p in problems)
            return Trouble(reason="InvalidSpec", message=said, after=LATER, stalled=True)
        return None

    # -- the pool --------------------------------------------------------------------------------------------------------

    def _pool(self, cluster: Cluster, status: ClusterStatus) -> Trouble | None:
        """Made, and kept as the Cluster says."""
        wanted = _wanted(cluster, status)
        pool = self.env.cache.get(NodePool, wanted.name, cluster.namespace)
        if pool is None:
            with suppress(AlreadyExists):
                self.env.client.create(wanted)
            return None
        if not any(o.uid == cluster.uid for o in pool.metadata.owner_references or ()):
            message = f"NodePool {pool.name} is there already and not this cluster's; rename one of the two"
            return Trouble(reason="ControlPlanePoolTaken", message=message, stalled=True)
        if pool.spec.to_dict() != wanted.spec.to_dict() and not pool.deleting:
            changed = self.env.cache.copy(pool)
            changed.spec = wanted.spec
            try:
                self.env.client.update(changed)
            except NotFound:
                return None
        return None

    # -- the first -------------------------------------------------------------------------------------------------------

    def _first(self, cluster: Cluster, state: ControlPlaneStatus, machines: list[Machine]) -> None:
        """Choose who begins; another one only as long as the cluster has not begun, and when the former is gone for good: until
        then it may still be beginning."""
        if state.initialized or any(m.uid == state.first_uid for m in machines):
            return
        able = [m for m in machines if address_of(m) and m.status.state != "Failed" and not m.deleting]
        chosen = min(able, key=lambda m: m.name, default=None)
        state.first, state.first_uid = (chosen.name, chosen.uid) if chosen is not None else ("", "")

    def _begin(self, cluster: Cluster, state: ControlPlaneStatus, machines: list[Machine]) -> Trouble | None:
        first = next((m for m in machines if m.uid == state.first_uid), None)
        if first is None:
            return Trouble(reason="WaitingForMachine", message="no control-plane machine has an address yet")
        if first.deleting:
            message = f"another control plane begins the cluster when {first.name} is gone"
            return Trouble(reason="WaitingForMachine", message=message)
        api = self.nodes.api(cluster)
        if not self.book.joined(first):
            told = self.book.of(first)
            said = f": {told.bootstrapped.message}" if told is not None else ""
            stalled = told is not None and told.stalled
            return Trouble(reason="Initializing", message=f"{first.name} begins the cluster{said}", stalled=stalled)
        if api.ok is not True:
            message = f"{first.name} has begun the cluster, but its API does not answer yet: {api.message}"
            return Trouble(reason="WaitingForAPI", message=message, after=SOON)
        state.initialized = True
        self.env.events.event(
            cluster, "Normal", "ControlPlaneInitialized", f"{first.name} has begun the cluster, and its API answers"
        )
        return Trouble(reason="Initialized", message="the cluster has begun", after=0.1)

    # -- the others ------------------------------------------------------------------------------------------------------

    def _turn(self, cluster: Cluster, state: ControlPlaneStatus, machines: list[Machine]) -> Trouble | None:
        """Whose turn it is. One joins when all that have joined work, so that etcd never counts on two that do not."""
        holder = next((m for m in machines if m.uid == state.turn), None)
        if holder is not None and holder.deleting:
            message = f"the next control plane joins when {holder.name}, which was joining, is gone"
            return Trouble(reason="Joining", message=message)
        if holder is not None and not holder.status.is_true("Ready"):
            told = self.book.of(holder)
            if self.book.joined(holder):  # what its coming takes on the others need not wait until its Node is Ready
                there = [m for m in machines if not m.deleting and self.book.joined(m)]
                unsettled = self.settling.step(cluster, sorted(there, key=_since))
                if unsettled is not None:
                    return unsettled
            said = f": {told.bootstrapped.message}" if told is not None else ""
            return Trouble(reason="Joining", message=f"{holder.name} joins the control planes{said}")
        living = [m for m in machines if not m.deleting]
        joined = sorted((m for m in living if self.book.joined(m)), key=_since)
        waiting = [m for m in living if not self.book.joined(m)]
        state.turn = ""
        if not joined or all(m.status.state == "Failed" for m in joined):
            message = (
                "no control plane is left, and etcd went with them; with a snapshot it comes back: "
                f"kubeup etcd restore {cluster.name} -n {cluster.namespace}; without one, delete the cluster and create it anew"
            )
            return Trouble(reason="ControlPlaneLost", message=message, stalled=True)
        if not waiting:
            return None
        lame = [m.name for m in joined if not m.status.is_true("Ready")]
        if lame:
            message = f"the next control plane joins when {', '.join(lame)} works again"
            return Trouble(reason="ControlPlaneNotReady", message=message, after=SOON)
        newest = joined[-1]
        unsettled = self.settling.step(cluster, joined)
        if unsettled is not None:
            return unsettled
        round_ = newest.uid if state.restore is None else f"{newest.uid} {state.restore.done}"
        gate = self.nodes.gate(cluster, round_, (self.controller, Key(cluster.namespace, cluster.name)))
        if gate.ok is not True:
            return Trouble(reason="Checking", message=f"before the next control plane joins: {gate.message}", after=SOON)
        prepared = [m for m in waiting if (told := self.book.of(m)) is not None and told.bootstrapped.reason == WAITING]
        chosen = min(prepared, key=lambda m: m.name, default=None)
        if chosen is None:
            message = f"{', '.join(m.name for m in waiting)} {'is' if len(waiting) == 1 else 'are'} being prepared"
            return Trouble(reason="Preparing", message=message)
        state.turn = chosen.uid
        self.env.wake("machine", Key(chosen.namespace, chosen.name), 0.1)
        return Trouble(reason="Joining", message=f"{chosen.name} joins the control planes")

    def _complete(
        self, cluster: Cluster, status: ClusterStatus, state: ControlPlaneStatus, living: list[Machine]
    ) -> Trouble | None:
        wanted = cluster.spec.control_plane.replicas
        if state.ready < wanted:
            message = f"{state.ready} of {wanted} control planes are Ready"
            return Trouble(reason="ControlPlaneNotReady", message=message, after=SOON)
        if len(living) > wanted:
            return Trouble(reason="ScalingDown", message=f"{len(living)} control planes, on the way to {wanted}", after=SOON)
        unsettled = self.settling.step(cluster, sorted(living, key=_since))
        if unsettled is not None:
            return unsettled
        versions = {m.uid: self.upgrading.workers.version(m) for m in living}  # checked anew after each upgrade and renewal
        round_ = checked(versions, state)
        gate = self.nodes.gate(cluster, round_, (self.controller, Key(cluster.namespace, cluster.name)))
        if gate.ok:
            return self.upgrading.step(cluster, state) or self.renewing.step(cluster, state)
        known = gate.ok is False or not status.is_true("ControlPlaneReady")  # a process that starts has not checked it yet
        return Trouble(reason="Checking" if known else "Starting", message=gate.message, after=SOON)


def checked(versions: Mapping[str, str], state: ControlPlaneStatus) -> str:
    """What a functional check was made of: each machine's version, by uid, and each renewal of its certificates, not their reading."""
    renewed = sorted(r.renewed for r in state.certificates if r.renewed)
    return ",".join([*sorted(f"{uid} {version}" for uid, version in versions.items()), *renewed])


def _since(machine: Machine) -> str:
    """When it joined; what has not been written down yet is the newest."""
    joined = machine.status.condition("Bootstrapped")
    return (joined.last_transition_time if joined is not None and joined.status == "True" else None) or "9999"


def resolve(cluster: Cluster, status: ClusterStatus) -> Trouble | None:
    """status.resolved.source and cni. The latter is decided once, when the networks are known: routes between machines work where
    all are on one flat network. -> why the one that was asked for does not."""
    status.resolved = status.resolved or Resolved()
    kubernetes = cluster.spec.kubernetes
    assert kubernetes is not None
    bundled = kubernetes.source == "auto" and kubernetes.bundle is not None
    status.resolved.source = "bundle" if bundled else kubernetes.source
    wish = cluster.spec.network.cni
    if status.resolved.cni or wish in ("flannel", "none"):
        status.resolved.cni = status.resolved.cni or wish
        return None
    if any(not n.fabric for n in status.networks):
        return None
    segments, fabrics = all(n.flat for n in status.networks), len({n.fabric for n in status.networks})
    flat = segments and fabrics <= 1
    if wish == "bridge" and not flat and not (segments and cluster.spec.network.routed):  # routed: that they are neighbours
        return Trouble(
            reason="NetworkNotFlat",
            message="spec.network.cni: bridge needs routes from machine to machine, and its machines are not all on one flat network; "
            "choose auto or flannel",
            after=LATER,
            stalled=True,
        )
    status.resolved.cni = "bridge" if flat or wish == "bridge" else "flannel"
    return None


def _wanted(cluster: Cluster, status: ClusterStatus) -> NodePool:
    """A control plane whose own address is the API's is never replaced for a changed template: the cluster would be lost with it."""
    plane = cluster.spec.control_plane
    strategy: Literal["Replace", "OnDelete"] = "OnDelete" if on_machine(cluster, status) else "Replace"
    return NodePool(
        metadata=ObjectMeta(name=pool_name(cluster.name), namespace=cluster.namespace, owner_references=[cluster.reference()]),
        spec=NodePoolSpec(
            cluster=cluster.name,
            role="controlPlane",
            replicas=plane.replicas,
            machine=plane.machine,
            overrides=plane.overrides,
            spread=plane.spread,
            update=Update(strategy=strategy, max_surge=1, max_unavailable=0),
            paused=cluster.spec.paused,
        ),
    )
