"""Emptying a Node before its Machine goes: no new pods, the others asked to leave as their disruption budgets allow.

Called by `machine_end.py` for a Machine that is being deleted, between its load balancers and its volumes. Level-triggered: each
round lists the pods that are there and asks again, so nothing need be remembered over a crash but when it began, which the
condition `Drained` tells. Pods of DaemonSets and static pods stay; data in emptyDir volumes is lost, as with the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from ..errors import SupplierError
from ..kinds import Cluster, Machine, NodePool
from ..kinds.durations import parse_duration
from ..kinds.machine import ABANDON
from ..kinds.nodepool import Drain
from ..objects import parse_timestamp
from ..runtime.controller import Env, Key
from ..statuses import NotFound, StatusError, TooManyRequests
from ..workload import Pod, Unreachable, Workload
from .etcd import restoring
from .nodes import Nodes, pool_of

T = TypeVar("T")

DRAINED = "Drained"
MEMBERS = ("worker", "controlPlane")

ROUND, BLOCKED = 2.0, 5.0
"""Awake seconds between rounds: while pods end, and while a budget forbids it."""

SILENT = 300.0
"""Awake seconds, at most, for which an API that does not answer holds a machine back."""

BRIEF = 10.0
"""Awake seconds without an answer that are not worth a word: this process may have just started."""

SHOWN = 3
"""Pods that a message names."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """over: the machine may go. after: awake seconds until the next look. stalled: a person has to act."""

    over: bool
    reason: str
    message: str
    after: float | None = None
    stalled: bool = False


@dataclass(frozen=True)
class Round:
    """pods: those that are still there. kept: those that may not be evicted now, and why. gone: there is no such Node."""

    pods: Sequence[Pod] = ()
    kept: Mapping[Pod, str] = field(default_factory=dict)
    gone: bool = False


class Drains:
    """For one controller. All it remembers is when to ask next, and since when nobody answers."""

    def __init__(self, env: Env, controller: str) -> None:
        self.env = env
        self.controller = controller
        self.nodes = env.shared(Nodes)
        self._next: dict[str, tuple[float, Progress]] = {}
        self._silent: dict[str, float] = {}

    def pointless(self, machine: Machine) -> Progress | None:
        """Asked first of all, while the status still tells what the machine was: a drain of what is dead only takes time."""
        if not undrained(self.env, machine):
            return None
        if machine.annotations.get(ABANDON) is not None:
            return self._over(machine, "Skipped", "its Node was not drained: the machine was given up")
        if machine.status.state == "Failed":
            return self._over(machine, "Skipped", "its Node was not drained: the machine had failed")
        return None

    def step(self, machine: Machine, key: Key) -> Progress | None:
        """How far it is; None: there is nothing to drain, or it is over. Raises InProgress."""
        cluster = self.env.cache.get(Cluster, machine.spec.cluster, machine.namespace)
        if cluster is None or not undrained(self.env, machine):
            return None
        view = self.nodes.of(machine)
        if view is None and machine.status.node_ref is None:
            return self._over(machine, "Skipped", "no Node of it was ever seen")
        if view is not None and view.ready is None:
            silent = "its kubelet has not been heard of for a while, so nobody there can end a pod"
            return self._over(machine, "Skipped", f"its Node was not drained: {silent}")
        now = self.env.clock.awake()
        due, last = self._next.get(machine.uid, (now, None))
        if last is not None and now < due:
            return last
        found = self._round(machine, cluster, key)
        if found.over:
            return found
        self._next[machine.uid] = (now + (found.after or ROUND), found)
        return found

    def delete_node(self, machine: Machine, key: Key) -> None:
        """The machine is gone, and its Node goes. Where the API does not answer, `node.py` does it later. Raises InProgress."""
        cluster = self.env.cache.get(Cluster, machine.spec.cluster, machine.namespace)
        node, workload = machine.status.node_ref, self.nodes.workload(cluster) if cluster is not None else None
        if cluster is None or cluster.deleting or workload is None or not node or self.nodes.api(cluster).ok is not True:
            return
        try:
            self._ask(cluster, machine, key, "delete node", partial(workload.delete_node, node["name"], node.get("uid", "")))
        except (StatusError, SupplierError) as error:
            self.env.events.event(machine, "Warning", "NodeLeft", f"its Node is deleted later: {error}")

    # -- one round -------------------------------------------------------------------------------------------------------

    def _round(self, machine: Machine, cluster: Cluster, key: Key) -> Progress:
        node = machine.status.node_ref["name"] if machine.status.node_ref else machine.name
        workload, api = self.nodes.workload(cluster), self.nodes.api(cluster)
        if workload is None or api.ok is not True:
            return self._unanswered(machine, api.message)
        try:
            found: Round = self._ask(cluster, machine, key, "drain", partial(drain_round, workload, node))
        except (StatusError, SupplierError) as error:
            return self._unanswered(machine, getattr(error, "message", str(error)))
        self._silent.pop(machine.uid, None)
        if found.gone:
            return self._over(machine, "Skipped", "there was no Node of it any more")
        if not found.pods:
            return self._over(machine, DRAINED, "its pods have ended or moved")
        return self._left(machine, found)

    def _left(self, machine: Machine, found: Round) -> Progress:
        pool, drain = self._settings(machine)
        kept = keepers(found)
        if self._elapsed(machine) < parse_duration(drain.timeout):
            message = f"{len(found.pods)} pods are still on its Node: {pod_names(found.pods)}"
            message += f"; {kept}" if kept else ""
            return Progress(over=False, reason="Draining", message=message, after=BLOCKED if kept else ROUND)
        late = f"after {drain.timeout} {len(found.pods)} pods are still on its Node: {kept or pod_names(found.pods)}"
        if pool is None or drain.on_timeout == "Force":
            who = f"spec.drain of NodePool {pool.name}" if pool is not None else "its NodePool is gone"
            return self._over(machine, "Forced", f"{late}; it goes all the same ({who})", warn=True)
        remedy = (
            "delete those pods, run more of them elsewhere or relax the budget, and it goes by itself; or set "
            f"spec.drain.onTimeout: Force in NodePool {pool.name}"
        )
        return Progress(over=False, reason="DrainBlocked", message=f"{late}; {remedy}", after=BLOCKED, stalled=True)

    def _unanswered(self, machine: Machine, why: str) -> Progress:
        now = self.env.clock.awake()
        since = self._silent.setdefault(machine.uid, now)
        limit = min(SILENT, parse_duration(self._settings(machine)[1].timeout))
        if now - since >= limit:
            message = f"its Node was not drained: the cluster has not answered for {limit:.0f} s: {why}"
            return self._over(machine, "Skipped", message, warn=True)
        after = min(BLOCKED, max(0.1, limit - (now - since)))
        if now - since < BRIEF:
            return Progress(over=False, reason="Draining", message="looks what runs on its Node", after=min(after, ROUND))
        message = f"its Node cannot be drained: {why}; without an answer it goes undrained after {limit:.0f} s"
        return Progress(over=False, reason="ApiSilent", message=message, after=after)

    # -- below -----------------------------------------------------------------------------------------------------------

    def _settings(self, machine: Machine) -> tuple[NodePool | None, Drain]:
        pool = self.env.cache.get(NodePool, machine.spec.pool, machine.namespace) if machine.spec.pool else None
        return pool, pool.spec.drain if pool is not None else Drain()

    def _elapsed(self, machine: Machine) -> float:
        began = machine.status.condition(DRAINED)
        if began is None or began.last_transition_time is None:
            return 0.0
        return self.env.clock.elapsed(parse_timestamp(began.last_transition_time))

    def _over(self, machine: Machine, reason: str, message: str, *, warn: bool = False) -> Progress:
        self._next.pop(machine.uid, None)
        self._silent.pop(machine.uid, None)
        name = DRAINED if reason == DRAINED else f"Drain{reason}"
        self.env.events.event(machine, "Warning" if warn else "Normal", name, message)
        return Progress(over=True, reason=reason, message=message)

    def _ask(self, cluster: Cluster, machine: Machine, key: Key, verb: str, fn: Callable[[], T]) -> T:
        return self.env.calls.background(
            pool_of(cluster.uid), f"the API of {cluster.name} about {machine.name}", verb, fn, wake=(self.controller, key)
        )


def undrained(env: Env, machine: Machine) -> bool:
    """Whether a machine that is being deleted may still have pods on its Node: its volumes stay as long.

    False when it is no member of a Kubernetes cluster, when the whole cluster goes, and for a control plane that goes because etcd is
    restored on another one.
    """
    if machine.spec.role not in MEMBERS or machine.status.is_true(DRAINED) or not machine.status.is_true("Bootstrapped"):
        return False
    cluster = env.cache.get(Cluster, machine.spec.cluster, machine.namespace)
    if cluster is None or cluster.spec.kubernetes is None or cluster.deleting:
        return False
    return machine.spec.role != "controlPlane" or not restoring(cluster)  # its Node is of a cluster that is no more


def drain_round(workload: Workload, name: str) -> Round:
    """Cordon the Node, ask each of its pods to leave, and tell what is there. Blocks: for a thread."""
    try:
        if not workload.node(name).get("spec", {}).get("unschedulable"):
            workload.cordon(name)
    except NotFound:
        return Round(gone=True)
    pods = [pod for pod in workload.pods_on(name) if _counts(pod)]
    kept: dict[Pod, str] = {}
    for pod in pods:
        if pod.leaving:
            continue
        try:
            workload.evict(pod)
        except Unreachable:
            raise
        except TooManyRequests as error:
            kept[pod] = "; ".join(cause.message for cause in error.causes) or error.message
        except StatusError as error:
            kept[pod] = error.message
    return Round(pods, kept)


def _counts(pod: Pod) -> bool:
    """Whether it has to leave: not what runs on every node, what only mirrors a file there, or what is over."""
    return pod.controller != "DaemonSet" and not pod.mirror and pod.phase not in ("Succeeded", "Failed")


def pod_names(pods: Sequence[Pod]) -> str:
    shown = ", ".join(str(pod) for pod in pods[:SHOWN])
    return f"{shown} and {len(pods) - SHOWN} more" if len(pods) > SHOWN else shown


def keepers(found: Round) -> str:
    """ "web-1 may not be evicted (The disruption budget web needs 2 healthy pods and has 2 currently)"; "" when all may be."""
    parts = [f"{pod} may not be evicted ({why})" for pod, why in list(found.kept.items())[:SHOWN]]
    more = len(found.kept) - SHOWN
    return ", ".join(parts) + (f" and {more} more" if more > 0 else "")
