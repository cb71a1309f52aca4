"""What a network must let through, and which networks reach each other. Pure functions on objects; no calls.

`network.py` hands `rules` to the supplier; the pool, placement and load balancer controllers ask `reachable` before they put
something where the rest of the cluster cannot talk to it. Roles are those of Machines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..kinds import Cluster, LoadBalancer, Machine, NodePool
from ..kinds.cluster import ClusterStatus, NetworkRecord
from ..kinds.machine import ROLE_LABEL
from ..supplier import Problem, Rule

ANYONE = "*"
ALL_PORTS = (0, 65535)
EVERYWHERE = ("0.0.0.0/0",)


def roles(cluster: Cluster, balancers: Iterable[LoadBalancer] = ()) -> tuple[str, ...]:
    """The roles that machines of this cluster have. Some are there to run load balancers only where a balancer runs on machines."""
    hosts = ("loadBalancer",) if any(balancer.status.pool for balancer in balancers) else ()
    return (*(("controlPlane", "worker") if cluster.spec.kubernetes else ("plain",)), *hosts)


def rules(
    cluster: Cluster, balancers: Iterable[LoadBalancer], machines: Iterable[Machine] = (), ssh_port: int | None = None
) -> tuple[Rule, ...]:
    """Sorted and without duplicates, so that an unchanged cluster gives an equal answer.

    machines  those that load balancers may name; ssh_port  where the place's machines are logged in to, None where they are not
    """
    balancers = list(balancers)
    there = roles(cluster, balancers)
    wanted = set(_inside(there))
    if ssh_port is not None:
        wanted.update(_tcp(ANYONE, role, ssh_port) for role in there)
    if cluster.spec.kubernetes and cluster.spec.endpoint.exposure == "public":
        # Without a balancer nodes come to the machine's own public address, from theirs, which nobody can list in allowFrom.
        sources = _sources(cluster.spec.endpoint.allow_from) if balanced(cluster, cluster.status) else EVERYWHERE
        wanted.add(_tcp(ANYONE, "controlPlane", cluster.spec.endpoint.port, sources))
    by_name = {machine.name: machine for machine in machines}
    for balancer in balancers:
        if not balancer.deleting:
            wanted.update(_balanced(cluster, balancer, by_name))
    useful = (rule for rule in wanted if rule.sources)
    return tuple(sorted(useful, key=lambda r: (r.from_role, r.to_role, r.protocol, r.low, r.high, r.sources)))


def balanced(cluster: Cluster, status: ClusterStatus) -> bool:
    """Whether a load balancer stands before the API. auto: when there is more than one control plane as the cluster begins."""
    begun = status.control_plane is not None and status.control_plane.initialized
    if begun and status.resolved is not None and status.resolved.load_balancer is not None:
        return status.resolved.load_balancer != "none"
    wish = cluster.spec.endpoint.load_balancer
    return cluster.spec.control_plane.replicas > 1 if wish == "auto" else wish != "none"


def fabric(cluster: Cluster, provider: str) -> str:
    """What is equal for two Providers whose machines reach each other by internal address.

    A place that has no networks, or does not say, reaches itself only.
    """
    record = next((n for n in cluster.status.networks if n.provider == provider), None)
    return (record.fabric if record else "") or f"only {provider}"


def known(cluster: Cluster, provider: str) -> bool:
    """Whether the fabric of this Provider's network is final."""
    record: NetworkRecord | None = next((n for n in cluster.status.networks if n.provider == provider), None)
    return record is None or bool(record.fabric)


def providers_of(cluster: Cluster, pool: NodePool) -> tuple[str, ...]:
    """The Providers that a pool may get machines from, in its order."""
    named = [offer.provider for offer in pool.spec.offers] or [pool.spec.provider or cluster.spec.provider]
    return tuple(dict.fromkeys(named))


def reachable(cluster: Cluster, pool: NodePool, provider: str | None = None) -> Problem | None:
    """Why machines of this pool (at one of its Providers, or at any) could not work with the rest of the cluster; None: they can.

    Only Kubernetes needs it: nodes must reach the control plane and each other. Plain machines need not reach each other, so a
    plain cluster may spread over any Providers; what a load balancer needs is checked with its members.
    """
    if cluster.spec.kubernetes is None or cluster.spec.network.routed:
        return None
    home = cluster.spec.provider
    for name in (provider,) if provider else providers_of(cluster, pool):
        if name == home or not (known(cluster, home) and known(cluster, name)):
            continue
        here, there = fabric(cluster, name), fabric(cluster, home)
        if here != there:
            field = "offers" if pool.spec.offers else "provider"
            return Problem(
                path=f"spec.{field}",
                message=f"pool {pool.name} ({here}) and the control plane ({there}) cannot reach each other",
                remedy=f"connect them and set network.routed: true in Cluster {cluster.name}, or use two clusters",
            )
    return None


def _inside(there: tuple[str, ...]) -> Iterator[Rule]:
    """Machines of one cluster trust each other: pods, overlays and node ports use any protocol between them."""
    for a in there:
        for b in there:
            yield Rule(from_role=a, to_role=b, protocol="all", low=ALL_PORTS[0], high=ALL_PORTS[1])


def _balanced(cluster: Cluster, balancer: LoadBalancer, machines: dict[str, Machine]) -> Iterator[Rule]:
    """A balancer may keep the client's address, so its members' ports are open to whom it allows, or inside only for an internal one.
    One that runs on machines is the client of its members: nobody else needs their ports, and its own are opened.
    """
    if balancer.spec.exposure == "internal":
        return
    sources = _sources(balancer.spec.allow_from)
    if balancer.status.pool:
        for listener in balancer.spec.listeners:
            yield _open("loadBalancer", listener.protocol, listener.port, sources)
        return
    for role in _member_roles(cluster, balancer, machines):
        for listener in balancer.spec.listeners:
            yield _open(role, listener.protocol, listener.target_port or listener.port, sources)
        if balancer.spec.health.port is not None:
            yield _tcp(ANYONE, role, balancer.spec.health.port, sources)


def _member_roles(cluster: Cluster, balancer: LoadBalancer, machines: dict[str, Machine]) -> tuple[str, ...]:
    """Decided by the wish, not by which machines there are just now, so that the rules do not come and go with machines."""
    if balancer.spec.members.machines is not None:
        found = {machines[name].spec.role for name in balancer.spec.members.machines if name in machines}
        return tuple(sorted(found))
    selected = (balancer.spec.members.selector or {}).get(ROLE_LABEL)
    return (selected,) if selected else ("worker",) if cluster.spec.kubernetes else ("plain",)


def _sources(allowed: Iterable[str]) -> tuple[str, ...]:
    """Equal for lists that say the same."""
    networks = set(allowed)
    return EVERYWHERE if networks.issuperset(EVERYWHERE) else tuple(sorted(networks))


def _open(to_role: str, protocol: str, port: int, sources: tuple[str, ...]) -> Rule:
    return Rule(from_role=ANYONE, to_role=to_role, protocol=protocol.lower(), low=port, high=port, sources=sources)


def _tcp(from_role: str, to_role: str, port: int, sources: tuple[str, ...] = EVERYWHERE) -> Rule:
    return Rule(from_role=from_role, to_role=to_role, protocol="tcp", low=port, high=port, sources=sources)
