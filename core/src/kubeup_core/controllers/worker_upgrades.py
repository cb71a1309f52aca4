"""Workers get the version that all control planes run: in place, emptied before and opened again after it, or replaced.

Called by `upgrading.py` when everything works. Which workers are being upgraded is stored before anything is done to them
(`status.controlPlane.workers`); that kubeup closed a Node, and not a person, an annotation of the Node says. So a crash goes on where
it was. Pools of `update.upgrade: Replace` are rolled by `nodepool.py`; it is only waited for here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from ..bootstrapper import Task
from ..errors import SupplierError
from ..kinds import Cluster, Machine, NodePool
from ..kinds.cluster import ControlPlaneStatus
from ..kinds.durations import parse_duration
from ..kinds.nodepool import Drain
from ..plugins import PluginError
from ..runtime.calls import InProgress
from ..runtime.controller import Env, Key
from ..statuses import NotFound, StatusError
from ..workload import Workload
from .access import Reach, not_reached
from .bootstraps import Bootstraps, bootstrapper_of
from .drain import Round, drain_round, keepers, pod_names
from .guest import Guest, Progress, paused
from .nodes import Nodes, NodeView, pool_of
from .pauses import held, said
from .plans import cluster_plan, node_plan
from .rollout import amounts
from .troubles import LATER, SOON, Trouble

T = TypeVar("T")

CLOSED = "kubeup.dev/cordoned"
"""Annotation of a Node that kubeup has closed for an upgrade: it is opened again after it. One that a person closed stays closed."""


class WorkerUpgrades:
    def __init__(self, env: Env, controller: str, task: str) -> None:
        self.env = env
        self.controller = controller
        self.task = task
        self.guest = Guest(env, Reach(env, controller))
        self.nodes = env.shared(Nodes)
        self._began: dict[str, float] = {}
        self._empty: set[str] = set()

    def all(self, cluster: Cluster) -> list[Machine]:
        """Those that have joined and stay."""
        machines: list[Machine] = self.env.cache.by(Machine, "cluster", f"{cluster.namespace}/{cluster.name}")
        book = self.env.shared(Bootstraps)
        found = [m for m in machines if m.spec.role == "worker" and not m.deleting and book.joined(m)]
        return sorted(found, key=lambda m: (m.spec.pool or "", m.name))

    def step(self, cluster: Cluster, state: ControlPlaneStatus) -> Trouble | None:
        """One step nearer; None: all of them run `state.version`."""
        workers = {m.uid: m for m in self.all(cluster)}
        state.workers = [uid for uid in state.workers if uid in workers]
        found: list[Trouble] = []
        for uid in list(state.workers):
            told = self._one(cluster, state, workers[uid])
            if told is None:
                state.workers.remove(uid)
            else:
                found.append(told)
        bad = next((t for t in found if t.stalled), None)
        if bad is not None:
            return bad
        behind = [m for m in workers.values() if self.version(m) not in ("", state.version) and m.uid not in state.workers]
        if not behind:
            return found[0] if found else None
        stopped = [m for m in behind if held(self.env, m)]
        behind = [m for m in behind if m not in stopped]
        if not behind:
            return found[0] if found else _paused(self.env, stopped[0])
        chosen = behind[0]
        pool = self._pool(chosen)
        busy = [workers[uid] for uid in state.workers]
        if any(m.spec.pool != chosen.spec.pool for m in busy):
            return found[0]
        if alone(chosen):
            return self._replace_alone(chosen, pool, list(workers.values()), state.version)
        if pool is not None and pool.spec.update.upgrade == "Replace":
            return self._rolled(pool, workers, state.version)
        return self._begin(pool, [m for m in behind if m.spec.pool == chosen.spec.pool], workers, state, found)

    def version(self, machine: Machine) -> str:
        """What its kubelet says, "" while its Node is not known."""
        node = self.nodes.of(machine)
        return node.kubelet_version if node is not None else ""

    # -- who is next -----------------------------------------------------------------------------------------------------

    def _begin(
        self,
        pool: NodePool | None,
        behind: list[Machine],
        workers: dict[str, Machine],
        state: ControlPlaneStatus,
        found: list[Trouble],
    ) -> Trouble:
        """As many as may be unavailable at the same time; those that are not Ready are, whoever upgrades them or not."""
        budget = max(1, amounts(pool, fixed=True)[1]) if pool is not None else 1
        mates = [m for m in workers.values() if pool is not None and m.spec.pool == pool.name]
        lame = [m for m in mates if m.uid not in state.workers and not m.status.is_true("Ready")]
        lacking = max(0, pool.spec.replicas - len(mates)) if pool is not None else 0
        room = budget - len(state.workers) - len(lame) - lacking
        able = [m for m in behind if m.status.is_true("Ready")][: max(0, room)]
        if not able:
            message = f"{behind[0].name} is upgraded to {state.version} when all others of its pool are Ready"
            if behind[0] in lame:
                message = f"{behind[0].name} is upgraded to {state.version} when it is Ready"
            return found[0] if found else Trouble(reason="Upgrading", message=message, after=SOON)
        state.workers += [m.uid for m in able]
        names = ", ".join(m.name for m in able)
        verb = "is" if len(able) == 1 else "are"
        message = f"{names} {verb} the next to be upgraded to {state.version}"
        return Trouble(reason="Upgrading", message=message, after=0.1)

    def _rolled(self, pool: NodePool, workers: dict[str, Machine], version: str) -> Trouble:
        """The pool's controller takes those of another version for outdated; it does not see Nodes change."""
        self.env.wake("nodepool", Key(pool.namespace, pool.name))
        old = [m.name for m in workers.values() if m.spec.pool == pool.name and self.version(m) not in ("", version)]
        message = f"NodePool {pool.name} is replaced by machines of {version}, {len(old)} are left: {', '.join(old[:5])}"
        if pool.spec.update.strategy == "OnDelete":
            message += "; its update.strategy is OnDelete, so delete them one by one: kubectl delete machine NAME"
        return Trouble(reason="Upgrading", message=message, after=SOON, stalled=pool.spec.update.strategy == "OnDelete")

    def _replace_alone(self, machine: Machine, pool: NodePool | None, workers: list[Machine], version: str) -> Trouble:
        """One that nobody gets into is replaced, when all of its pool is there again."""
        if pool is None:
            message = f"there is no way into {machine.name}, so it cannot be upgraded; delete it, and make another one"
            return Trouble(reason="UpgradeFailed", message=message, after=LATER, stalled=True)
        ready = [m for m in workers if m.spec.pool == pool.name and m.status.is_true("Ready")]
        if len(ready) < pool.spec.replicas:
            message = (
                f"{machine.name} is replaced when all of NodePool {pool.name} are Ready, {len(ready)} of {pool.spec.replicas}"
            )
            return Trouble(reason="Upgrading", message=message, after=SOON)
        with suppress(NotFound):
            self.env.client.delete(Machine, machine.name, machine.namespace, uid=machine.uid)
        message = f"{machine.name} is replaced by one of {version}, as there is no way into it"
        return Trouble(reason="Upgrading", message=message, after=SOON)

    # -- one of them, in place -------------------------------------------------------------------------------------------

    def _one(self, cluster: Cluster, state: ControlPlaneStatus, machine: Machine) -> Trouble | None:
        """None: it is over. Empty it, upgrade it, open it."""
        view = self.nodes.of(machine)
        if view is None:
            return Trouble(reason="Upgrading", message=f"{machine.name} is being upgraded; its Node is looked at", after=SOON)
        stopped = _paused(self.env, machine)
        try:
            if view.kubelet_version == state.version:
                return stopped or self._open(cluster, machine, view, state.version)
            if stopped is not None and machine.uid not in self._empty:
                return stopped
            return self._drain(cluster, machine, state.version) or self._upgrade(cluster, machine, state.version)
        except InProgress as running:
            return Trouble(reason="Upgrading", message=f"{machine.name} is being upgraded", after=running.after or SOON)
        except PluginError as error:
            return Trouble(reason="BootstrapperMissing", message=f"{error.message}; {error.remedy}", after=LATER, stalled=True)
        except SupplierError as error:
            return not_reached(error, machine)
        except StatusError as error:
            message = f"the Node of {machine.name} cannot be changed: {error.message}; it is tried again"
            return Trouble(reason="Upgrading", message=message, after=SOON)

    def _drain(self, cluster: Cluster, machine: Machine, version: str) -> Trouble | None:
        """None: its pods have left, or need not wait any longer. Raises InProgress, StatusError, SupplierError."""
        workload = self.nodes.workload(cluster)
        if machine.uid in self._empty or workload is None:
            return None
        began = self._began.setdefault(machine.uid, self.env.clock.awake())
        found: Round = self._ask(cluster, machine, "drain", partial(close_and_drain, workload, machine.name))
        if not found.pods:
            self._empty.add(machine.uid)
            return None
        pool = self._pool(machine)
        drain = pool.spec.drain if pool is not None else Drain()
        said = keepers(found)
        message = f"before {machine.name} is upgraded to {version}, {len(found.pods)} pods are still on its Node: "
        message += said or pod_names(found.pods)
        if self.env.clock.awake() - began < parse_duration(drain.timeout):
            return Trouble(reason="Draining", message=message, after=SOON)
        if drain.on_timeout == "Force":
            self.env.events.event(machine, "Warning", "DrainForced", f"it is upgraded all the same: {message}")
            self._empty.add(machine.uid)
            return None
        where = f"NodePool {pool.name}" if pool is not None else "its NodePool"
        remedy = (
            f"delete those pods, run more of them elsewhere or relax the budget; or set spec.drain.onTimeout: Force in {where}"
        )
        return Trouble(reason="DrainBlocked", message=f"{message}; {remedy}", after=SOON, stalled=True)

    def _upgrade(self, cluster: Cluster, machine: Machine, version: str) -> Trouble:
        plan, node = cluster_plan(self.env, cluster, version=version), node_plan(self.env, cluster, machine, first=False)
        bootstrapper = bootstrapper_of(self.env, cluster)
        progress = self.guest.step(
            machine,
            self.task,
            lambda: bootstrapper.steps(Task.UPGRADE, plan, node),
            key=Key(cluster.namespace, cluster.name),
            salt=version,
            wish=str(cluster.metadata.generation),
        )
        return told(machine, version, progress)

    def _open(self, cluster: Cluster, machine: Machine, view: NodeView, version: str) -> Trouble | None:
        workload = self.nodes.workload(cluster)
        if view.ready is not True or workload is None:
            message = f"{machine.name} runs {version}, and its Node is awaited to be Ready"
            return Trouble(reason="Upgrading", message=message, after=SOON)
        if CLOSED in view.annotations:
            self._ask(cluster, machine, "uncordon", partial(open_again, workload, machine.name))
        self._began.pop(machine.uid, None)
        self._empty.discard(machine.uid)
        return None

    # -- below -----------------------------------------------------------------------------------------------------------

    def _pool(self, machine: Machine) -> NodePool | None:
        return self.env.cache.get(NodePool, machine.spec.pool, machine.namespace) if machine.spec.pool else None

    def _ask(self, cluster: Cluster, machine: Machine, verb: str, fn: Callable[[], T]) -> T:
        wake = (self.controller, Key(cluster.namespace, cluster.name))
        about = f"the API of {cluster.name} about {machine.name}"
        return self.env.calls.background(pool_of(cluster.uid), about, f"{verb} for an upgrade", fn, wake=wake)


def _paused(env: Env, machine: Machine) -> Trouble | None:
    stop = held(env, machine)
    return Trouble(reason="Paused", message=f"{machine.name} is not upgraded: {said(stop)}", after=SOON) if stop else None


def close_and_drain(workload: Workload, name: str) -> Round:
    """Close the Node, with a note that it was kubeup, and ask its pods to leave. Blocks: for a thread."""
    try:
        node = workload.node(name)
    except NotFound:
        return Round(gone=True)
    if not node.get("spec", {}).get("unschedulable"):
        workload.patch_node(name, {"metadata": {"annotations": {CLOSED: "upgrade"}}, "spec": {"unschedulable": True}})
    return drain_round(workload, name)


def open_again(workload: Workload, name: str) -> None:
    """Succeeds when there is no such Node. Blocks: for a thread."""
    with suppress(NotFound):
        workload.patch_node(name, {"metadata": {"annotations": {CLOSED: None}}, "spec": {"unschedulable": None}})


def alone(machine: Machine) -> bool:
    """Nobody gets into it."""
    return machine.status.access is not None and machine.status.access.kind == "none"


def told(machine: Machine, version: str, progress: Progress) -> Trouble:
    """How far the steps are on one machine."""
    if progress.state == "held":
        return paused(progress)
    words = "its kubelet is awaited" if progress.state == "done" else progress.words
    message = f"{machine.name} is being upgraded to {version}: {words}"
    if progress.state == "failed":
        return Trouble(reason="UpgradeFailed", message=message, after=progress.after or LATER, stalled=True)
    return Trouble(reason="Upgrading", message=message, after=progress.after or SOON)
