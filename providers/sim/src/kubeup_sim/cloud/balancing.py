"""Load balancers: listeners, members with their health, draining, and interfaces that outlive the balancer.

Health follows the machine: a member is healthy when its machine has run for long enough, is plugged in and serves. Nothing is
counted in checks; `Settings.health_seconds` stands for interval times threshold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from . import physics
from .errors import CloudError
from .records import Balancer, Machine, carries
from .views import Expect

if TYPE_CHECKING:
    from .account import Cloud

INITIAL, HEALTHY, UNHEALTHY, DRAINING, UNUSED = "initial", "healthy", "unhealthy", "draining", "unused"


class BalancerView(NamedTuple):
    """health: of each member, by key."""

    balancer: Balancer
    phase: str
    health: Mapping[str, str]


class Balancing:
    """`cloud.balancing`."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def create(self, name: str, internal: bool, network: str, address: str, tags: Mapping[str, str]) -> BalancerView:
        """Its address is known at once; address "" leaves it to the cloud.

        Raises NameInUse with the id of the holder, QuotaExceeded.
        """
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.write():
            settings = cloud.settings
            living = [b for b in cloud.state.table(Balancer).values() if physics.balancer_phase(b, settings, now)]
            for balancer in living:
                if balancer.name == name:
                    raise CloudError("NameInUse", f"a load balancer named {name} exists", by=balancer.id)
            full = settings.quota.load_balancers is not None and len(living) >= settings.quota.load_balancers
            if full or cloud.faults.take(("quota",), "create", "LoadBalancer"):
                raise CloudError("QuotaExceeded", f"the account {cloud.account} has reached its quota of load balancers")
            id = cloud.new_id("lb")
            number = int(id[-7:], 16) % 65536
            balancer = Balancer(
                id=id,
                name=name,
                tags=dict(tags),
                created_at=now,
                visible_at=now + settings.settle * physics.draw(settings.seed, f"seen/{id}"),
                internal=internal,
                network=network,
                address=address or f"{'172.30' if internal else '198.19'}.{number >> 8}.{number & 255}",
                ready_at=now + settings.balancer_seconds,
            )
            cloud.state.put(balancer)
            return self._view(balancer, now)

    def set_listeners(self, target: Expect, listeners: Sequence[Mapping[str, Any]]) -> None:
        """The whole wish."""
        with self._cloud.state.write():
            balancer = self._expected(target)
            self._cloud.state.put(replace(balancer, listeners=[dict(listener) for listener in listeners]))

    def set_members(self, target: Expect, members: Mapping[str, Mapping[str, Any]]) -> BalancerView:
        """The whole wish: key -> {machine: id or "", address, drain: bool}. What is left out drains first."""
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.write():
            balancer = self._expected(target)
            drain = max((float(listener["drain"]) for listener in balancer.listeners), default=0.0)
            new: dict[str, dict[str, Any]] = {}
            for key, member in members.items():
                old = balancer.members.get(key)
                since = old["since"] if old and not old["left"] and old["drain_until"] is None else now
                until = (old["drain_until"] if old else None) or now + drain if member["drain"] else None
                same = {"machine": member["machine"], "address": member["address"]}
                new[key] = {**same, "since": since, "drain_until": until, "left": False}
            for key, old in balancer.members.items():
                until = old["drain_until"] if old["drain_until"] is not None else now + drain
                if key not in new and now < until:
                    new[key] = {**old, "drain_until": until, "left": True}
            if new != balancer.members:
                balancer = replace(balancer, members=new)
                cloud.state.put(balancer)
            return self._view(balancer, now)

    def find(self, tags: Mapping[str, str]) -> list[BalancerView]:
        cloud, now = self._cloud, self._cloud.now()
        newest = now
        with cloud.state.read():
            if (stale := cloud.faults.take(("staleList",), "list", "LoadBalancer")) is not None:
                newest = now - stale.seconds
            return [
                self._view(balancer, now)
                for balancer in cloud.state.table(Balancer).values()
                if balancer.visible_at <= now
                and balancer.created_at <= newest
                and carries(balancer.tags, tags)
                and physics.balancer_phase(balancer, cloud.settings, now)
            ]

    def get(self, id: str) -> BalancerView | None:
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.read():
            balancer = cloud.state.table(Balancer).get(id)
            known = balancer is not None and physics.balancer_phase(balancer, cloud.settings, now)
            return self._view(balancer, now) if balancer is not None and known else None

    def delete(self, target: Expect) -> BalancerView | None:
        """Ask for it; what is left of it now, None when nothing is. Raises InvalidLoadBalancer.NotFound."""
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.write():
            balancer = self._expected(target)
            if balancer.gone_at is None:
                gone_at = now + cloud.settings.delete_seconds + cloud.faults.extra_delay("LoadBalancer")
                balancer = replace(balancer, gone_at=gone_at, members={})
                cloud.state.put(balancer)
            if physics.balancer_phase(balancer, cloud.settings, now) is None:
                cloud.state.remove(balancer)
                return None
            return self._view(balancer, now)

    def _expected(self, target: Expect) -> Balancer:
        balancer = self._cloud.state.table(Balancer).get(target.id)
        if balancer is None or physics.balancer_phase(balancer, self._cloud.settings, self._cloud.now()) is None:
            raise CloudError("InvalidLoadBalancer.NotFound", f"there is no load balancer {target.id}")
        target.check(balancer)
        return balancer

    def _view(self, balancer: Balancer, now: float) -> BalancerView:
        phase = physics.balancer_phase(balancer, self._cloud.settings, now) or physics.OVER
        health = {key: word for key, member in balancer.members.items() if (word := self._health(balancer, member, now))}
        return BalancerView(balancer, phase, health)

    def _health(self, balancer: Balancer, member: Mapping[str, Any], now: float) -> str:
        """ "" for a member that was left out and has drained."""
        settings, machine = self._cloud.settings, self._machine(member)
        phase = machine and physics.machine_phase(machine, settings, now)
        serves = machine is not None and phase == physics.RUNNING and not machine.unplugged and not machine.sick
        if member["drain_until"] is not None:
            # A member without connections has nothing to drain: that of a dead machine is done at once.
            if serves and now < member["drain_until"]:
                return DRAINING
            return "" if member["left"] else UNUSED
        if phase in (None, physics.DELETING, physics.OVER):
            return UNUSED if member["machine"] else UNHEALTHY
        assert machine is not None
        up_since = max(member["since"], balancer.ready_at, (machine.started_at or now) + machine.boot)
        if phase == physics.PENDING or now < up_since + settings.health_seconds:
            return INITIAL
        return HEALTHY if serves else UNHEALTHY

    def _machine(self, member: Mapping[str, Any]) -> Machine | None:
        """By id, else by address: machines that nobody registered by id can be members by address."""
        table = self._cloud.state.table(Machine)
        if member["machine"]:
            return table.get(member["machine"])
        addresses = (m for m in table.values() if member["address"] in (m.internal, m.external))
        return max(addresses, key=lambda machine: machine.id, default=None)
