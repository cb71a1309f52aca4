"""Networks with their firewall and keys. Names are unique, so that a create that is repeated is refused and finds its first try."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import physics
from .errors import CloudError
from .records import Balancer, Machine, Network, carries
from .views import Expect

if TYPE_CHECKING:
    from .account import Cloud


class Networking:
    """`cloud.networking`."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def create(self, name: str, cidr: str, tags: Mapping[str, str]) -> Network:
        """cidr "": the cloud chooses. Raises NameInUse with the id of the holder."""
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.write():
            living = [n for n in cloud.state.table(Network).values() if physics.network_phase(n, now)]
            for network in living:
                if network.name == name:
                    raise CloudError("NameInUse", f"a network named {name} exists", by=network.id)
            settings = cloud.settings
            id = cloud.new_id("net")
            network = Network(
                id=id,
                name=name,
                tags=dict(tags),
                created_at=now,
                visible_at=now + settings.settle * physics.draw(settings.seed, f"seen/{id}"),
                cidr=self._cidr(cidr, living),
                ready_at=now + settings.network_seconds,
            )
            cloud.state.put(network)
            return network

    def set_firewall(self, target: Expect, rules: Sequence[Sequence[Any]], ssh_keys: Sequence[str]) -> Network:
        """The whole wish. Raises NetworkNotReady while the network is being made, InvalidNetwork.NotFound."""
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.write():
            network = self._expected(target)
            if physics.network_phase(network, now) != physics.RUNNING:
                raise CloudError("NetworkNotReady", f"network {network.id} is still changing", retryAfter=1.0)
            network = replace(network, rules=[list(rule) for rule in rules], ssh_keys=list(ssh_keys))
            cloud.state.put(network)
            return network

    def find(self, tags: Mapping[str, str]) -> list[tuple[Network, str]]:
        """With these tags, each with its phase."""
        cloud, now = self._cloud, self._cloud.now()
        newest = now
        with cloud.state.read():
            if (stale := cloud.faults.take(("staleList",), "list", "Network")) is not None:
                newest = now - stale.seconds
            return [
                (network, phase)
                for network in cloud.state.table(Network).values()
                if (phase := physics.network_phase(network, now))
                and network.visible_at <= now
                and network.created_at <= newest
                and carries(network.tags, tags)
            ]

    def get(self, id: str) -> tuple[Network, str] | None:
        with self._cloud.state.read():
            network = self._cloud.state.table(Network).get(id)
            phase = network and physics.network_phase(network, self._cloud.now())
            return (network, phase) if network and phase else None

    def delete(self, target: Expect) -> str | None:
        """Ask for it; it is over delete_seconds later: None, or its phase until then.

        Raises InvalidNetwork.NotFound, and DependencyViolation with the ids of what is still in it: machines, balancers, the
        lingering interfaces of deleted balancers.
        """
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.write():
            network = self._expected(target)
            if network.gone_at is not None:
                return physics.DELETING
            if users := self._users(network.id, now):
                raise CloudError("DependencyViolation", f"network {network.id} is used by {', '.join(users[:5])}", ids=users)
            gone_at = now + cloud.settings.delete_seconds + cloud.faults.extra_delay("Network")
            if gone_at <= now:
                cloud.state.remove(network)
                return None
            cloud.state.put(replace(network, gone_at=gone_at))
            return physics.DELETING

    def _users(self, id: str, now: float) -> list[str]:
        cloud, settings = self._cloud, self._cloud.settings
        machines = (m for m in cloud.state.table(Machine).values() if m.network == id)
        users = [m.id for m in machines if physics.machine_phase(m, settings, now) in physics.ALIVE]
        for balancer in cloud.state.table(Balancer).values():
            if balancer.network == id and (phase := physics.balancer_phase(balancer, settings, now)):
                users.append(balancer.id if phase != physics.DELETING else f"{balancer.id}/interface")
        return users

    def _expected(self, target: Expect) -> Network:
        network = self._cloud.state.table(Network).get(target.id)
        if network is None or physics.network_phase(network, self._cloud.now()) is None:
            raise CloudError("InvalidNetwork.NotFound", f"there is no network {target.id}")
        target.check(network)
        return network

    @staticmethod
    def _cidr(cidr: str, living: Sequence[Network]) -> str:
        if cidr:
            try:
                network = ipaddress.IPv4Network(cidr)
            except ValueError as error:
                raise CloudError("InvalidNetwork.Range", f"{cidr} is no IPv4 network: {error}") from error
            if not 16 <= network.prefixlen <= 27:
                raise CloudError("InvalidNetwork.Range", f"{cidr} is not between /16 and /27")
            return cidr
        used = {network.cidr for network in living}
        return next(c for n in range(4096) if (c := f"10.{16 + n % 64}.{n // 64 * 4}.0/22") not in used)
