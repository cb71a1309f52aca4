"""Which machines stand behind a load balancer, how each is named to the supplier, and the listeners. Pure; for `load_balancer.py`.

A machine that is being deleted is never added: it stays in the wish, draining, only as long as it is behind the balancer already.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from ..kinds import Cluster, LoadBalancer, Machine
from ..kinds.durations import parse_duration
from ..kinds.machine import CLUSTER_LABEL, POOL_LABEL, ROLE_LABEL
from ..supplier import LBMember, Listener, Ref
from .network_rules import fabric, known

OUT = ("Failed", "Deleting")
"""States of machines that are not added. Unknown is not among them: nothing is concluded about what cannot be seen."""


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A machine as a balancer sees it. `ref` is None where its provider is of another identity than the balancer's."""

    machine: Machine
    provider: str
    ref: Ref | None


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """wish: what the supplier is asked for, in the order of names. refused: machine -> why it cannot be behind this balancer."""

    wish: tuple[LBMember, ...]
    refused: dict[str, str]

    def adding(self) -> frozenset[str]:
        return frozenset(m.key for m in self.wish if not m.drain)


def matches(balancer: LoadBalancer, machine: Machine) -> bool:
    """Whether the balancer asks for this machine, in whatever state it is.

    Without a selector and without names it is every machine that is not a control plane. Machines that are there to run balancers
    are taken only where they are named, or their role is.
    """
    spec = balancer.spec
    if machine.spec.cluster != spec.cluster or machine.namespace != balancer.namespace:
        return False
    if spec.members.machines is not None:
        return machine.name in spec.members.machines
    if spec.members.selector is None:
        return machine.spec.role not in ("controlPlane", "loadBalancer")
    if machine.spec.role == "loadBalancer" and ROLE_LABEL not in spec.members.selector:
        return False
    labels = {CLUSTER_LABEL: machine.spec.cluster, ROLE_LABEL: machine.spec.role, POOL_LABEL: machine.spec.pool or ""}
    labels |= machine.labels
    return all(labels.get(key) == value for key, value in spec.members.selector.items())


def choose(
    balancer: LoadBalancer,
    cluster: Cluster,
    provider: str,
    machines: Iterable[Machine],
    *,
    members_by: Collection[str],
    serving: Collection[str],
    backend: Callable[[Machine], Backend | None],
) -> Chosen:
    """The wish of a balancer at `provider`.

    serving  keys that are behind the balancer now, or may be: seen there, or part of the last wish
    backend  the machine's place and mark; None while it has none
    """
    wish: list[LBMember] = []
    refused: dict[str, str] = {}
    for machine in sorted(machines, key=lambda m: m.name):
        if not matches(balancer, machine):
            continue
        if machine.deleting and machine.name not in serving:
            continue
        if not machine.deleting and machine.status.state in OUT:
            continue
        address, found = address_of(machine), backend(machine)
        if not address or found is None:
            continue
        why = _refusal(cluster, provider, found, members_by)
        if why:
            refused[machine.name] = why
            continue
        ref = found.ref if "machine" in members_by else None
        zone = machine.status.resolved.zone if machine.status.resolved else ""
        wish.append(LBMember(key=machine.name, ref=ref, address=address, place=zone, drain=machine.deleting))
    return Chosen(wish=tuple(wish), refused=refused)


def address_of(machine: Machine) -> str:
    """By which members are reached: the internal address, which is what one fabric means; else the first there is."""
    addresses = machine.status.addresses
    internal = next((a.address for a in addresses if a.type == "InternalIP"), "")
    return internal or (addresses[0].address if addresses else "")


def listeners(balancer: LoadBalancer) -> tuple[Listener, ...]:
    """As the supplier is told them: durations in seconds, as text, and the health check with every one."""
    spec, health = balancer.spec, balancer.spec.health
    return tuple(
        Listener(
            port=listener.port,
            target=(target := listener.target_port or listener.port),
            protocol=listener.protocol,
            health={
                "protocol": health.protocol,
                "port": str(health.port or target),
                "path": health.path,
                "interval": f"{parse_duration(health.interval):g}",
                "timeout": f"{parse_duration(health.timeout):g}",
                "healthy": str(health.healthy),
                "unhealthy": str(health.unhealthy),
            },
            drain=parse_duration(spec.drain),
        )
        for listener in spec.listeners
    )


def _refusal(cluster: Cluster, provider: str, backend: Backend, members_by: Collection[str]) -> str:
    name, theirs = backend.machine.name, backend.provider
    if theirs == provider or (backend.ref is not None and "machine" in members_by):
        return ""
    if backend.ref is None and "address" not in members_by:
        return (
            f"machine {name} is at {theirs}, and load balancers of {provider} take only machines of their own account; "
            "choose a load balancer whose provider takes members by address, or select only machines of one provider"
        )
    if cluster.spec.network.routed or not (known(cluster, provider) and known(cluster, theirs)):
        return ""
    here, there = fabric(cluster, provider), fabric(cluster, theirs)
    if here != there:
        return (
            f"machine {name} ({there}) and the load balancer ({here}) cannot reach each other; connect the networks and set "
            f"network.routed: true in Cluster {cluster.name}, or use a load balancer of {theirs}"
        )
    return ""
