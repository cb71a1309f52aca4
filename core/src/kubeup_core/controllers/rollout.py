"""What a pool does next, as numbers and names: pure, called by `nodepool.py` with the machines as they are.

Scaling, replacing what failed, and rolling to a new template are one decision, so that they never work against each other: how many
machines to create now, and which to delete now.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..kinds import Machine, NodePool


@dataclass(frozen=True)
class View:
    """A machine of the pool. launched: 0 in no Launch, 1 in an open one, 2 made. order: larger is newer. price: per hour.
    why: it is not updated, in words."""

    machine: Machine
    updated: bool
    launched: int
    order: str
    price: float
    why: str = "is of an older template"

    @property
    def ready(self) -> bool:
        return self.machine.status.is_true("Ready")

    @property
    def failed(self) -> bool:
        return self.machine.status.state == "Failed"

    @property
    def gone(self) -> bool:
        """It is over at its place: nothing can be saved there."""
        condition = self.machine.status.condition("Ready")
        return condition is not None and condition.reason in ("Lost", "DeletedElsewhere", "Died")

    @property
    def joined(self) -> bool:
        return self.machine.status.is_true("Bootstrapped")

    @property
    def unhealthy(self) -> bool:
        """Failed, or in a place that does not answer. The latter are never deleted, but they count against a halt."""
        return self.failed or self.machine.status.state == "Unknown"


@dataclass
class Plan:
    """create: how many machines. delete: which, with the reason for people. halted: repair is stopped because of this."""

    create: int = 0
    delete: list[tuple[View, str]] = field(default_factory=list)
    halted: str = ""


def plan(pool: NodePool, views: Sequence[View], *, fixed: bool, may_create: bool, may_repair: bool, leaving: int = 0) -> Plan:
    """views: the machines that are not being deleted; leaving: how many are. fixed: they come from an inventory. may_repair: no
    back-off is running."""
    if pool.spec.role == "controlPlane":
        return _one_at_a_time(_plan(pool, views, fixed, may_create, may_repair and not leaving), views, leaving)
    return _plan(pool, views, fixed, may_create, may_repair)


def _one_at_a_time(wanted: Plan, views: Sequence[View], leaving: int) -> Plan:
    """Each control plane that goes is a member that etcd loses: the next one when that is over, and only while all others work.
    One that never joined is no member, and one that failed is chosen by `_spared`."""
    for index, (view, _) in enumerate(wanted.delete):
        others = [v for v in views if v is not view]
        if not leaving and (view.failed or all(v.ready for v in others if v.joined)):
            return Plan(max(0, wanted.create - len(wanted.delete) + 1), [wanted.delete[index]], wanted.halted)
    return Plan(max(0, wanted.create - len(wanted.delete)), [], wanted.halted)


def _plan(pool: NodePool, views: Sequence[View], fixed: bool, may_create: bool, may_repair: bool) -> Plan:
    result = Plan()
    alive = _repair(pool, list(views), result, may_repair)
    alive = _scale_down(pool, alive, result, fixed)
    outdated = [v for v in alive if not v.updated]
    rolling = bool(outdated) and pool.spec.update.strategy == "Replace"
    surge, unavailable = amounts(pool, fixed)
    if rolling:
        _roll(pool, alive, outdated, unavailable, result)
    if may_create:
        gone = {id(view) for view, _ in result.delete}
        left = [v for v in alive if id(v) not in gone]
        updated = sum(1 for v in left if v.updated)
        room = pool.spec.replicas + (surge if rolling else 0) - len(left)
        lacking = pool.spec.replicas - updated if rolling else pool.spec.replicas - len(left)
        result.create = max(0, min(room, lacking))
    return result


def amounts(pool: NodePool, fixed: bool) -> tuple[int, int]:
    """maxSurge and maxUnavailable as numbers: percentages of the replicas, surge rounded up, unavailable down; never both 0."""
    update, replicas = pool.spec.update, pool.spec.replicas
    surge = (0 if fixed else 1) if update.max_surge == "auto" else amount(update.max_surge, replicas, math.ceil)
    down = (1 if fixed else 0) if update.max_unavailable == "auto" else amount(update.max_unavailable, replicas, math.floor)
    if surge == 0 and down == 0:
        down = 1
    return surge, down


def amount(value: int | str, of: int, rounding: Callable[[float], int]) -> int:
    """A number, or a percentage of something."""
    if isinstance(value, str) and value.endswith("%"):
        return rounding(of * int(value[:-1]) / 100)
    return int(value)


def _repair(pool: NodePool, views: list[View], result: Plan, may_repair: bool) -> list[View]:
    """Take away what failed, unless so much is unhealthy that the cause must be elsewhere."""
    failed = [v for v in views if v.failed]
    if not failed or not pool.spec.repair.enabled:
        return views
    unhealthy = sum(1 for v in views if v.unhealthy)
    most = pool.spec.repair.max_unhealthy
    allowed = amount(most, max(pool.spec.replicas, len(views)), math.floor)
    if most not in (0, "0", "0%"):
        allowed = max(1, allowed)  # 40 % of one machine is that machine
    if unhealthy > allowed:
        result.halted = (
            f"{unhealthy} of {len(views)} machines are unhealthy, more than repair.maxUnhealthy ({most}), so none is replaced; look "
            "for a common cause (kubectl describe machine), then delete the machines that should be replaced, or raise maxUnhealthy"
        )
        return views
    if not may_repair:
        return views
    if pool.spec.role == "controlPlane":
        failed = _spared(views, failed, result)
    for view in failed:
        condition = view.machine.status.condition("Ready")
        result.delete.append((view, f"replaces {view.machine.name}: {condition.reason if condition else 'it failed'}"))
    gone = {id(view) for view, _ in result.delete}
    return [v for v in views if id(v) not in gone]


def _spared(views: list[View], failed: list[View], result: Plan) -> list[View]:
    """Which failed control planes are replaced: one at a time; and not one that is still there while no other works, because etcd is
    on it, and whoever brings it back brings the cluster back."""
    if any(v.ready for v in views):
        return failed[:1]
    lost = [v for v in failed if v.gone or not v.joined]
    kept = [v.machine.name for v in failed if not (v.gone or not v.joined)]
    if kept and not lost:
        result.halted = (
            f"{', '.join(kept)} does not work, but the cluster's data is on it and no other control plane works, so it is not "
            "replaced; bring it back, or delete the Machine and create the cluster anew"
        )
    return lost[:1]


def _scale_down(pool: NodePool, alive: list[View], result: Plan, fixed: bool) -> list[View]:
    """Down to the replicas, plus the surge while a template is rolled out."""
    rolling = pool.spec.update.strategy == "Replace" and any(not v.updated for v in alive)
    surge = amounts(pool, fixed)[0] if rolling else 0
    excess = len(alive) - pool.spec.replicas - surge
    if excess <= 0:
        return alive
    victims = sorted(alive, key=_victim)[:excess]
    result.delete += [(view, "is one too many") for view in victims]
    chosen = {id(v) for v in victims}
    return [v for v in alive if id(v) not in chosen]


def _victim(view: View) -> tuple[object, ...]:
    """Cheapest to lose first: in no Launch, in an open one, not Ready, outdated, then the most expensive and the newest."""
    return (view.launched, view.ready, view.updated, -view.price, _newest_first(view.order))


def _newest_first(order: str) -> tuple[int, ...]:
    return tuple(-ord(c) for c in order)


def _roll(pool: NodePool, alive: list[View], outdated: list[View], unavailable: int, result: Plan) -> None:
    """Delete outdated machines as far as enough others are Ready. Those that are not Ready are no loss."""
    budget = sum(1 for v in alive if v.ready) - (pool.spec.replicas - unavailable)
    for view in sorted(outdated, key=_victim):
        if view.ready:
            if budget <= 0:
                continue
            budget -= 1
        result.delete.append((view, view.why))
