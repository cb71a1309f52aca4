"""Where a cluster's API answers: a load balancer in front of its control planes, or the one control plane itself.

A part of the Cluster controller, the only writer of `status.endpoint`. Once a cluster has begun, its endpoint never changes: it is in
every kubeconfig and certificate. The LoadBalancer `<cluster>-api` is an object like any other; where it is made, and out of what, is
`load_balancer.py`'s and `balancer_hosts.py`'s.
"""

from __future__ import annotations

import ipaddress

from ..kinds import Cluster, LoadBalancer, Machine
from ..kinds.cluster import ClusterStatus, EndpointStatus, Resolved
from ..kinds.load_balancer import Health, ListenerSpec, LoadBalancerSpec, Members
from ..kinds.machine import CLUSTER_LABEL, ROLE_LABEL
from ..objects import ObjectMeta
from ..runtime.controller import Env, Known
from ..statuses import AlreadyExists
from .balancer_hosts import default_balancer_provider
from .members import address_of
from .network_rules import balanced
from .troubles import LATER, SOON, Trouble

SUFFIX = "-api"
API_PORT = 6443
"""Where API servers listen on their machines."""


def on_machine(cluster: Cluster, status: ClusterStatus) -> bool:
    """Whether the API's address is that of its only control plane, and is lost with that machine."""
    return cluster.spec.endpoint.host == "auto" and not balanced(cluster, status)


def reaches_itself(env: Known, cluster: Cluster) -> bool:
    """Whether a control plane that connects to the endpoint gets an answer also when the balancer chooses that very machine."""
    balancer = env.cache.get(LoadBalancer, cluster.name + SUFFIX, cluster.namespace)
    told = balancer.status.condition("SelfReach") if balancer is not None else None
    return told is None or told.status != "False"


def _begun(status: ClusterStatus) -> bool:
    return status.control_plane is not None and status.control_plane.initialized


class Endpoints:
    def __init__(self, env: Env) -> None:
        self.env = env

    def check(self, cluster: Cluster, status: ClusterStatus) -> Trouble | None:
        """Why the API will never have an endpoint, told before machines are made for it."""
        if _begun(status) or not balanced(cluster, status) or self._made(cluster) is not None:
            return None
        provider = self._provider(cluster)
        if not isinstance(provider, Trouble) or not provider.stalled:
            return None
        message = (
            f"{provider.message}. The API of {cluster.spec.control_plane.replicas} control planes needs one in front of them: name a "
            "Provider that has load balancers in spec.endpoint.loadBalancer, or set it to none and spec.endpoint.host to a name of "
            "yours that leads to all of them"
        )
        return Trouble(reason=provider.reason, message=message, after=SOON, stalled=True)

    def step(self, cluster: Cluster, status: ClusterStatus, first: Machine | None) -> Trouble | None:
        """Bring status.endpoint nearer. first: the control plane that begins the cluster. None: the endpoint is known."""
        status.resolved = status.resolved or Resolved()
        if balanced(cluster, status):
            found = self._balancer(cluster, status)
            if isinstance(found, Trouble):
                return found
            host = found
        else:
            status.resolved.load_balancer = "none"
            host = _of_machine(cluster, first) if first is not None else ""
            if not host and not (status.endpoint and status.endpoint.host):
                return Trouble(
                    reason="WaitingForMachine", message="the endpoint is the first control plane, and that has no address yet"
                )
        self._settle(cluster, status, host)
        return None

    def _settle(self, cluster: Cluster, status: ClusterStatus, host: str) -> None:
        if _begun(status) and status.endpoint is not None and status.endpoint.host:
            return
        chosen = cluster.spec.endpoint.host if cluster.spec.endpoint.host != "auto" else host
        own = on_machine(cluster, status)
        port = API_PORT if own else cluster.spec.endpoint.port
        if chosen:
            status.endpoint = EndpointStatus(host=chosen, port=port)

    def _balancer(self, cluster: Cluster, status: ClusterStatus) -> str | Trouble:
        assert status.resolved is not None
        name, balancer = cluster.name + SUFFIX, self._made(cluster)
        if balancer is None:
            provider = self._provider(cluster)
            if isinstance(provider, Trouble):
                return provider
            try:
                self.env.client.create(_wanted(cluster, name, provider, self._shared(cluster, provider)))
            except AlreadyExists:
                return Trouble(
                    reason="EndpointTaken",
                    message=f"a LoadBalancer {name} is there already; give it another name, or delete it",
                    after=SOON,
                )
            status.resolved.load_balancer = provider
            return Trouble(reason="WaitingForBalancer", message=f"LoadBalancer {name} is being made at Provider {provider}")
        if not any(o.uid == cluster.uid for o in balancer.metadata.owner_references or ()):
            message = f"a LoadBalancer {name} that is not this cluster's is there already; rename one of the two"
            return Trouble(reason="EndpointTaken", message=message, stalled=True)
        status.resolved.load_balancer = balancer.spec.provider
        if moved := _moved(cluster, status, balancer):
            return moved
        host = balancer.status.address or balancer.status.hostname or ""
        if host:
            return host
        ready = balancer.status.condition("Ready")
        said = f": {ready.message}" if ready is not None and ready.message else ""
        stalled = balancer.status.is_true("Stalled")
        return Trouble(reason="WaitingForBalancer", message=f"LoadBalancer {name} has no address yet{said}", stalled=stalled)

    def _shared(self, cluster: Cluster, provider: str) -> str | None:
        """The address that the machines of the balancer share, where there are several: it is what the endpoint is called."""
        place, host = self.env.places.get(provider), cluster.spec.endpoint.host
        if place is None or place.capabilities.hosts < 2:
            return None
        try:
            return str(ipaddress.ip_address(host))
        except ValueError:
            return None

    def _made(self, cluster: Cluster) -> LoadBalancer | None:
        return self.env.cache.get(LoadBalancer, cluster.name + SUFFIX, cluster.namespace)

    def _provider(self, cluster: Cluster) -> str | Trouble:
        wish = cluster.spec.endpoint.load_balancer
        return default_balancer_provider(self.env, cluster) if wish == "auto" else wish


def _wanted(cluster: Cluster, name: str, provider: str, address: str | None) -> LoadBalancer:
    endpoint = cluster.spec.endpoint
    return LoadBalancer(
        metadata=ObjectMeta(
            name=name, namespace=cluster.namespace, labels={CLUSTER_LABEL: cluster.name}, owner_references=[cluster.reference()]
        ),
        spec=LoadBalancerSpec(
            cluster=cluster.name,
            provider=provider,
            address=address,
            exposure=endpoint.exposure,
            allow_from=list(endpoint.allow_from),
            listeners=[ListenerSpec(name="api", port=endpoint.port, target_port=API_PORT)],
            members=Members(selector={ROLE_LABEL: "controlPlane"}),
            health=Health(protocol="HTTPS", path="/readyz", interval="1s", timeout="2s", healthy=1, unhealthy=2),
            drain="10s",
        ),
    )


def _moved(cluster: Cluster, status: ClusterStatus, balancer: LoadBalancer) -> Trouble | None:
    """One that somebody deleted comes back elsewhere, and nothing that knows the cluster finds it there."""
    now, known = (
        (balancer.status.address, balancer.status.hostname),
        status.endpoint.host if status.endpoint is not None else "",
    )
    if not _begun(status) or cluster.spec.endpoint.host != "auto" or not any(now) or known in now:
        return None
    where = now[0] or now[1]
    message = (
        f"LoadBalancer {balancer.name} is at {where} now, but certificates, kubeconfigs and machines of this cluster know {known}; was "
        "it deleted? Give it that address back where its Provider can (spec.address), else make the cluster anew"
    )
    return Trouble(reason="EndpointMoved", message=message, after=LATER, stalled=True)


def _of_machine(cluster: Cluster, machine: Machine) -> str:
    """From outside where the API is public and the machine has such an address, else from inside."""
    external = next((a.address for a in machine.status.addresses if a.type == "ExternalIP"), "")
    return external if external and cluster.spec.endpoint.exposure == "public" else address_of(machine)
