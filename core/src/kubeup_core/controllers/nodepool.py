"""NodePool: keeps its number of machines, replaces what failed, and rolls to a changed template. It never writes its spec.

Machines are named POOL-NUMBER by the lowest free number, so that a second decision of the same kind is a conflict, not a second
machine. Which place in the pool one fills is its slot (`slots.py`): the successor takes it over, under another name.
What to do is decided in `rollout.py`; where machines come from in `placement.py`; what becomes of one in `machine.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from ..client import Event
from ..kinds import Cluster, Installation, Launch, Machine, NodePool, Provider
from ..kinds.machine import CLUSTER_LABEL, FINALIZER, POOL_LABEL, ROLE_LABEL, SLOT_LABEL, TEMPLATE_LABEL, MachineSpec, Role
from ..kinds.nodepool import ADDRESS, NodePoolStatus, OfferStatus
from ..kinds.template import DEFAULTS, MachineTemplate
from ..objects import ObjectMeta, timestamp
from ..runtime.controller import Controller, Env, Key, Result, Watch
from ..statuses import AlreadyExists, Conflict, Forbidden, NotFound
from .book import Book, Verdict
from .cluster_status import cluster_blocks
from .marks import made_by
from .network_rules import providers_of
from .nodes import Nodes
from .pauses import paused
from .rollout import Plan, View, plan
from .slots import free
from .troubles import Trouble, missing

PACE = 1.0
"""Seconds between two writes of a status that only counts on."""

AT_ONCE = 500
"""Machines created in one go."""

LONGEST_REPAIR = 300.0
"""Awake seconds between two replacements when what is made fails again and again."""


@dataclass
class _Memory:
    """repaired: awake time of the last replacement; repairs: since the pool was last complete. written: of the status."""

    repairs: int = 0
    repaired: float = float("-inf")
    written: float = float("-inf")
    halted: str = ""
    verdicts: tuple[Verdict, ...] = field(default_factory=tuple)


class NodePoolController(Controller):
    name = "nodepool"
    kind = NodePool
    lull = 0.2

    def __init__(self, env: Env) -> None:
        self.watches = (
            Watch(Machine, self._of_machine),
            Watch(Cluster, self._of_cluster),
            Watch(Provider, self._of_provider),
            Watch(Installation, lambda event: [Key(p.namespace, p.name) for p in env.cache.list(NodePool)]),
        )
        super().__init__(env)
        self.book = env.shared(Book)
        self.nodes = env.shared(Nodes)
        self._memory: dict[str, _Memory] = {}

    def reconcile(self, key: Key) -> Result:
        pool = self.env.cache.get(NodePool, key.name, key.namespace)
        if pool is None or pool.deleting:
            return Result()  # its machines go by their owner reference
        cluster = self.env.cache.get(Cluster, pool.spec.cluster, key.namespace)
        memory = self._memory.setdefault(pool.uid, _Memory())
        if cluster is None:
            trouble = missing("Cluster", pool.spec.cluster, (c.name for c in self.env.cache.list(Cluster, key.namespace)))
            return self._report(pool, memory, [], Plan(), Verdict(trouble.reason, trouble.message, stalled=True))
        views = self._views(pool, cluster)
        stop = paused(self.env, pool)
        if stop:
            message = f"{stop} is paused, so nothing is changed; set spec.paused: false there to go on"
            return self._report(pool, memory, views, Plan(), Verdict("Paused", message))
        block = cluster_blocks(cluster, self.env.plugins.bootstrappers) or _unchecked(cluster)
        wait = self._repair_wait(memory, views, pool)
        handed_on = ADDRESS in pool.annotations
        fixed = handed_on or self._fixed(pool, cluster)
        going = sum(1 for machine in self._machines(pool) if machine.deleting)
        steps = plan(pool, views, fixed=fixed, may_create=block is None, may_repair=wait <= 0, leaving=going)
        if handed_on and (steps.delete or going):
            steps.create = 0  # the successor comes when the predecessor, and so its address, is gone
        verdict = Verdict(block.reason, block.message, stalled=not cluster.deleting) if block is not None else None
        self._delete(pool, steps, memory)
        if steps.create:
            leaving = {view.machine.uid for view, _ in steps.delete}
            self._create(pool, cluster, [v for v in views if v.machine.uid not in leaving], steps.create, key)
        views = self._views(pool, cluster)
        result = self._report(pool, memory, views, steps, verdict)
        failed = any(v.failed for v in views)
        return Result(after=wait) if failed and wait > 0 and result.after is None else result

    # -- what is there ---------------------------------------------------------------------------------------------------

    def _views(self, pool: NodePool, cluster: Cluster) -> list[View]:
        """Machines of this pool that are not on their way out."""
        wanted = template_hash(pool, cluster)
        views = []
        for machine in self._machines(pool):
            if machine.deleting:
                continue
            resolved = machine.status.resolved
            old = self._old(pool, cluster, machine)
            views.append(
                View(
                    machine=machine,
                    updated=machine.labels.get(TEMPLATE_LABEL) == wanted and not old,
                    launched=self._launched(machine),
                    order=f"{machine.metadata.creation_timestamp} {len(machine.name):03d} {machine.name}",
                    price=(resolved.price_per_hour or 0.0) if resolved else 0.0,
                    why=f"runs an older Kubernetes ({old})" if old else "is of an older template",
                )
            )
        return views

    def _old(self, pool: NodePool, cluster: Cluster, machine: Machine) -> str:
        """The version that it runs, where that is to be replaced: all control planes have the next. "" while nothing is known."""
        plane = cluster.status.control_plane
        if pool.spec.update.upgrade != "Replace" or pool.spec.role != "worker" or plane is None or not plane.version:
            return ""
        node = self.nodes.of(machine)
        return node.kubelet_version if node is not None and node.kubelet_version != plane.version else ""

    def _machines(self, pool: NodePool) -> list[Machine]:
        found = self.env.cache.by(Machine, "pool", f"{pool.namespace}/{pool.spec.cluster}/{pool.name}")
        return [m for m in found if any(o.uid == pool.uid for o in m.metadata.owner_references or ())]

    def _launched(self, machine: Machine) -> int:
        if machine.status.launch is not None:
            return 2
        for launch in self.env.cache.by(Launch, "member", machine.uid):
            if launch.status.phase == "Open":
                return 1
            if made_by(launch, machine) is not None:
                return 2
        return 0

    def _fixed(self, pool: NodePool, cluster: Cluster) -> bool:
        """Whether machines come from an inventory: the launches there are tell, by the hosts they name."""
        launches = self.env.cache.by(Launch, "pool", f"{pool.namespace}/{cluster.name}/{pool.name}")
        return any(member.slot for launch in launches for member in launch.spec.members[:1])

    def _repair_wait(self, memory: _Memory, views: list[View], pool: NodePool) -> float:
        """What fails again and again is replaced later and later. A complete pool starts anew."""
        if len(views) >= pool.spec.replicas and all(v.ready for v in views):
            memory.repairs = 0
        if memory.repairs == 0:
            return 0.0
        return memory.repaired + min(2.0**memory.repairs, LONGEST_REPAIR) - self.env.clock.awake()

    # -- changes ---------------------------------------------------------------------------------------------------------

    def _delete(self, pool: NodePool, steps: Plan, memory: _Memory) -> None:
        def one(name: str, uid: str) -> Callable[[], None]:
            def delete() -> None:
                try:
                    self.env.client.delete(Machine, name, pool.namespace, uid=uid)
                except (NotFound, Conflict):
                    return
                except Forbidden as error:
                    self.env.events.event(pool, "Warning", "DeletionRefused", error.message)

            return delete

        if not steps.delete:
            return
        if any(view.failed for view, _ in steps.delete):
            memory.repairs += 1
            memory.repaired = self.env.clock.awake()
        reasons: dict[str, list[str]] = {}
        for view, reason in steps.delete:
            reasons.setdefault(reason, []).append(view.machine.name)
        self.env.together([one(view.machine.name, view.machine.uid) for view, _ in steps.delete])
        for reason, names in reasons.items():
            kind = "Repairing" if reason.startswith("replaces") else "Rolling" if "older" in reason else "ScalingDown"
            text = reason if kind == "Repairing" else f"deletes {_some(names)}, which {reason}"
            self.env.events.event(pool, "Normal", kind, text)

    def _create(self, pool: NodePool, cluster: Cluster, staying: list[View], count: int, key: Key) -> None:
        names = _free(pool.name, {m.name for m in self.env.cache.list(Machine, pool.namespace)}, count)
        template = template_of(pool, cluster)
        digest = template_hash(pool, cluster)
        slots = free([v.machine for v in staying], [v.machine for v in staying if v.updated], pool.spec.replicas, count)

        def one(name: str, slot: int) -> Callable[[], None]:
            def create() -> None:
                try:
                    self.env.client.create(self._machine(pool, cluster, name, slot, template, digest))
                except AlreadyExists:
                    return  # somebody else's, or a cache that is behind: the next look takes another name

            return create

        self.book.creating.add(key)
        try:
            todo = [one(name, slot) for name, slot in zip(names, slots, strict=True)]
            for start in range(0, len(todo), AT_ONCE):
                self.env.together(todo[start : start + AT_ONCE])
        finally:
            self.book.creating.discard(key)
        self.env.wake("placement", key)
        self.env.events.event(pool, "Normal", "ScalingUp", f"creates {_some(names)} of template {digest}")

    @staticmethod
    def _machine(pool: NodePool, cluster: Cluster, name: str, slot: int, template: MachineTemplate, digest: str) -> Machine:
        role = _role(pool, cluster)
        return Machine(
            metadata=ObjectMeta(
                name=name,
                namespace=pool.namespace,
                labels={
                    **pool.labels,
                    CLUSTER_LABEL: cluster.name,
                    POOL_LABEL: pool.name,
                    ROLE_LABEL: role,
                    TEMPLATE_LABEL: digest,
                    SLOT_LABEL: str(slot),
                },
                finalizers=[FINALIZER],
                owner_references=[pool.reference()],
            ),
            spec=MachineSpec(
                cluster=cluster.name,
                pool=pool.name,
                role=role,
                provider=None if pool.spec.offers else pool.spec.provider or cluster.spec.provider,
                machine=template,
                overrides=_overrides(pool, cluster),
            ),
        )

    # -- what is said ----------------------------------------------------------------------------------------------------

    def _report(self, pool: NodePool, memory: _Memory, views: list[View], steps: Plan, verdict: Verdict | None) -> Result:
        verdicts = [verdict] if verdict is not None else list(self.book.verdicts.get(Key(pool.namespace, pool.name), ()))
        status = pool.status.model_copy(deep=True)
        status.replicas = len(self._machines(pool))
        status.ready = sum(1 for v in views if v.ready)
        status.updated = sum(1 for v in views if v.updated)
        status.unavailable = max(0, pool.spec.replicas - status.ready)
        status.selector = f"{POOL_LABEL}={pool.name},{CLUSTER_LABEL}={pool.spec.cluster}"
        cluster = self.env.cache.get(Cluster, pool.spec.cluster, pool.namespace)
        if cluster is not None:
            status.template_hash = template_hash(pool, cluster)
            status.arch = status.arch or self._arch(pool)
            status.offers = self._offers(pool, cluster, verdicts)
        self._conditions(pool, status, verdicts, steps)
        status.observed_generation = pool.metadata.generation
        if status == pool.status:
            return Result()
        now = self.env.clock.awake()
        left = memory.written + PACE - now
        if _news(status, pool.status) or left <= 0:
            memory.written = now
            self.env.client.update_status(pool.model_copy(update={"status": status}))
            return Result()
        return Result(after=left)

    def _conditions(self, pool: NodePool, status: NodePoolStatus, verdicts: list[Verdict], steps: Plan) -> None:
        replicas = pool.spec.replicas
        done = status.ready == status.replicas == replicas and status.updated >= replicas
        if pool.spec.update.strategy == "OnDelete":
            done = status.ready == status.replicas == replicas
        first = verdicts[0] if verdicts else None
        if done:
            reason, message = "Ready", f"{status.ready} of {replicas} machines are Ready"
        elif first is not None:
            reason, message = first.reason, f"{status.ready} of {replicas} machines are Ready: {first.message}"
        elif steps.halted:
            reason, message = "RepairHalted", f"{status.ready} of {replicas} machines are Ready: {steps.halted}"
        elif status.updated < min(status.replicas, replicas):
            reason, message = "Rolling", f"{status.updated} of {replicas} machines have the current template"
        else:
            reason, message = "Progressing", f"{status.ready} of {replicas} machines are Ready"
        stalled = not done and ((first is not None and first.stalled) or bool(steps.halted))
        self._set(pool, status, "Ready", done, reason, message)
        self._set(pool, status, "Progressing", not done and not stalled, reason, message)
        self._flag(pool, status, "Reconciling", not done and not stalled, reason, message)
        self._flag(pool, status, "Stalled", stalled, reason, message)
        self._flag(pool, status, "RepairHalted", bool(steps.halted), "TooManyUnhealthy", steps.halted)
        lack = next((v for v in verdicts if v.reason in ("NoCapacity", "QuotaExceeded", "NoOffer")), None)
        self._flag(pool, status, "NoCapacity", lack is not None, lack.reason if lack else "", lack.message if lack else "")
        limit = next((v for v in verdicts if v.reason == "LimitReached"), None)
        self._flag(pool, status, "LimitReached", limit is not None, "LimitReached", limit.message if limit else "")
        if steps.halted:
            self.env.events.event(pool, "Warning", "RepairHalted", steps.halted)

    def _offers(self, pool: NodePool, cluster: Cluster, verdicts: list[Verdict]) -> list[OfferStatus]:
        """Where machines may come from. Times are of the verdict, so that a re-check is no write."""
        shown = []
        for name in providers_of(cluster, pool):
            place = self.env.places.get(name)
            ok = place is not None and place.ok
            lack = next((v for v in verdicts if v.until is not None), None)
            state = "Available" if ok and lack is None else "Cooling" if ok else "Unavailable"
            until = timestamp(lack.until) if ok and lack is not None and lack.until is not None else None
            why = None if ok else (place.why if place is not None else f"there is no Provider {name}")
            shown.append(OfferStatus(provider=name, state=state, cool_until=until, message=why))
        return shown

    def _arch(self, pool: NodePool) -> str | None:
        launches = self.env.cache.by(Launch, "pool", f"{pool.namespace}/{pool.spec.cluster}/{pool.name}")
        first = min(launches, key=lambda launch: launch.metadata.creation_timestamp or "", default=None)
        return first.spec.offer.arch if first is not None else None

    def _set(self, pool: NodePool, status: NodePoolStatus, type_: str, value: bool, reason: str, message: str) -> None:
        now, generation = self.env.clock.wall(), pool.metadata.generation
        status.set_condition(type_, value, reason, message, now=now, generation=generation)

    def _flag(self, pool: NodePool, status: NodePoolStatus, type_: str, value: bool, reason: str, message: str) -> None:
        """A condition that is there only while it is true."""
        if value:
            self._set(pool, status, type_, True, reason, message)
        else:
            status.drop_condition(type_)

    # -- who is woken ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _of_machine(event: Event[Any]) -> Iterator[Key]:
        machine: Machine = event.object
        if machine.spec.pool:
            yield Key(machine.namespace, machine.spec.pool)

    def _of_cluster(self, event: Event[Any]) -> Iterator[Key]:
        for pool in self.env.cache.by(NodePool, "cluster", f"{event.object.namespace}/{event.object.name}"):
            yield Key(pool.namespace, pool.name)

    def _of_provider(self, event: Event[Any]) -> Iterator[Key]:
        for pool in self.env.cache.list(NodePool):
            cluster = self.env.cache.get(Cluster, pool.spec.cluster, pool.namespace)
            if cluster is not None and event.object.name in providers_of(cluster, pool):
                yield Key(pool.namespace, pool.name)


def _unchecked(cluster: Cluster) -> Trouble | None:
    """No machine is made for a Kubernetes cluster before its settings were found to be possible."""
    valid = cluster.status.condition("KubernetesValid")
    if cluster.spec.kubernetes is None or (valid is not None and valid.observed_generation == cluster.metadata.generation):
        return None
    return Trouble(reason="Checking", message=f"the settings of Cluster {cluster.name} are being checked")


def template_of(pool: NodePool, cluster: Cluster) -> MachineTemplate:
    """With every field: the pool's over the cluster's over the defaults."""
    return pool.spec.machine.over(cluster.spec.machine, DEFAULTS)


def template_hash(pool: NodePool, cluster: Cluster) -> str:
    """Of all that makes a machine another one. Offers are not part of it: another place to buy from is no reason to replace."""
    wanted = {
        "machine": template_of(pool, cluster).to_dict(),
        "overrides": _overrides(pool, cluster),
        "provider": None if pool.spec.offers else pool.spec.provider or cluster.spec.provider,
    }
    return hashlib.sha256(orjson.dumps(wanted, option=orjson.OPT_SORT_KEYS)).hexdigest()[:10]


def _role(pool: NodePool, cluster: Cluster) -> Role:
    """Without Kubernetes there is nothing to work for or to control: such machines are plain."""
    if pool.spec.role == "loadBalancer" or cluster.spec.kubernetes is not None:
        return pool.spec.role
    return "plain"


def _overrides(pool: NodePool, cluster: Cluster) -> dict[str, dict[str, Any]]:
    """By type, the pool's over the cluster's. What the cluster says of networks is no concern of a machine's."""
    return {type_: dict(values) for type_, values in pool.spec.overrides.items()}


def _free(pool: str, taken: set[str], count: int) -> list[str]:
    names: list[str] = []
    slot = 0
    while len(names) < count:
        if f"{pool}-{slot}" not in taken:
            names.append(f"{pool}-{slot}")
        slot += 1
    return names


def _some(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 5 else f"{', '.join(names[:5])} and {len(names) - 5} more"


def _news(new: NodePoolStatus, old: NodePoolStatus) -> bool:
    """Whether more than counts changed."""
    return [(c.type, c.status, c.reason) for c in new.conditions] != [(c.type, c.status, c.reason) for c in old.conditions]
