"""What a bootstrapper is told: the plan of a cluster and of a machine, from objects. No calls; reads the cache only.

Used where steps are made: by `bootstrapping.py`, by whatever runs a later task, and by `kubeup steps`.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..bootstrapper import Archive, ClusterPlan, NodePlan, Peer, Taint
from ..kinds import Cluster, LoadBalancer, Machine, NodePool
from ..runtime.controller import Known
from .bootstraps import Bootstraps
from .certificates import authority_of
from .endpoint import API_PORT, SUFFIX, reaches_itself
from .members import address_of
from .nodes import Nodes


def cluster_plan(env: Known, cluster: Cluster, machine: Machine | None = None, version: str = "") -> ClusterPlan:
    """machine: whose steps it is for; a control plane that joins cannot reach itself through some balancers, so it does through a
    peer. version: absent, the one that machines are made with now."""
    kubernetes, network = cluster.spec.kubernetes, cluster.spec.network
    assert kubernetes is not None
    version = version or made_with(env, cluster, machine)
    status = cluster.status.control_plane
    kept = status.bundle if status is not None and version == status.version != kubernetes.version else None
    bundle = kept or kubernetes.bundle
    peers = tuple(
        Peer(name=m.name, address=address_of(m))
        for m in control_planes(env, cluster)
        if env.shared(Bootstraps).joined(m) and not m.deleting and (machine is None or m.uid != machine.uid)
    )
    host, port = _endpoint(env, cluster, machine, peers)
    return ClusterPlan(
        name=cluster.name,
        version=version,
        host=host,
        port=port,
        names=names(env, cluster),
        pod_cidr=network.pod_cidr,
        service_cidr=network.service_cidr,
        cni=cluster.status.resolved.cni if cluster.status.resolved and cluster.status.resolved.cni else "none",
        source=kubernetes.source,
        repository=kubernetes.repository or "",
        bundle=Archive(path=bundle.path, sha256=bundle.sha256) if bundle is not None else None,
        config=kubernetes.config,
        schedulable=schedulable(cluster, env.cache.by(NodePool, "cluster", f"{cluster.namespace}/{cluster.name}")),
        ca=authority_of(env, cluster),
        control_planes=peers,
    )


def made_with(env: Known, cluster: Cluster, machine: Machine | None) -> str:
    """The version that a machine gets which joins now: what all control planes have. A control plane gets the next one as soon as
    another has it, since kubeadm's settings in the cluster are of that version then, and an older kubeadm does not read them."""
    status, kubernetes = cluster.status.control_plane, cluster.spec.kubernetes
    assert kubernetes is not None
    if status is None or not status.version:
        return kubernetes.version
    joins = machine is not None and machine.spec.role == "controlPlane" and not env.shared(Bootstraps).joined(machine)
    if not joins or status.next in ("", status.version):
        return status.version
    planes = {m.name for m in control_planes(env, cluster) if not m.deleting}
    ahead = any(n.name in planes and n.kubelet_version == status.next for n in env.shared(Nodes).all(cluster))
    return status.next if ahead else status.version


def _endpoint(env: Known, cluster: Cluster, machine: Machine | None, peers: tuple[Peer, ...]) -> tuple[str, int]:
    """Host and port of the API for a machine's steps."""
    joins = machine is not None and machine.spec.role == "controlPlane" and not env.shared(Bootstraps).joined(machine)
    if joins and peers and not reaches_itself(env, cluster):
        return peers[0].address, API_PORT
    endpoint = cluster.status.endpoint
    return (endpoint.host, endpoint.port) if endpoint is not None else ("", cluster.spec.endpoint.port)


def node_plan(env: Known, cluster: Cluster, machine: Machine, *, first: bool | None = None) -> NodePlan:
    """first: absent, whether it is the machine that begins the cluster."""
    status, resolved = cluster.status.control_plane, machine.status.resolved
    pool = env.cache.get(NodePool, machine.spec.pool, machine.namespace) if machine.spec.pool else None
    taints = pool.spec.taints if pool is not None else []
    return NodePlan(
        name=machine.name,
        role="controlPlane" if machine.spec.role == "controlPlane" else "worker",
        address=address_of(machine),
        provider_id=machine.status.provider_id or "",
        arch=(resolved.arch if resolved is not None else "") or "amd64",
        labels=dict(pool.spec.labels) if pool is not None else {},
        taints=tuple(Taint(key=t.key, value=t.value or "", effect=t.effect) for t in taints),
        first=(status is not None and status.first_uid == machine.uid) if first is None else first,
    )


def control_planes(env: Known, cluster: Cluster) -> list[Machine]:
    """Those that there are, the one that began the cluster first."""
    status = cluster.status.control_plane
    first = status.first_uid if status is not None else ""
    machines = env.cache.by(Machine, "cluster", f"{cluster.namespace}/{cluster.name}")
    found = [m for m in machines if m.spec.role == "controlPlane"]
    return sorted(found, key=lambda m: (m.uid != first, m.metadata.creation_timestamp or "", m.name))


def schedulable(cluster: Cluster, pools: Iterable[NodePool]) -> bool:
    """Whether control planes run workloads; auto: when nobody else could."""
    wish = cluster.spec.control_plane.schedulable
    return not any(p.spec.role == "worker" and not p.deleting for p in pools) if wish == "auto" else wish == "true"


def names(env: Known, cluster: Cluster) -> tuple[str, ...]:
    """Beyond its own addresses, what the API may be called: the endpoint, and whatever its balancer is known by."""
    found = [cluster.spec.endpoint.host if cluster.spec.endpoint.host != "auto" else ""]
    balancer = env.cache.get(LoadBalancer, cluster.name + SUFFIX, cluster.namespace)
    if balancer is not None:
        found += [balancer.status.address or "", balancer.status.hostname or ""]
    found += [cluster.status.endpoint.host if cluster.status.endpoint is not None else "", "localhost", "127.0.0.1"]
    return tuple(dict.fromkeys(name for name in found if name))
