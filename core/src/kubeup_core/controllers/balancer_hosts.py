"""Where a load balancer is made; and the machines under one whose Provider makes balancers out of machines (`Capabilities.hosts`).

Such a Provider has no machines of its own: a NodePool of the cluster's Provider, owned by the LoadBalancer, keeps them and replaces
what fails, and its Ready machines are lent to the plugin as Hosts. Called by `load_balancer.py`; `endpoint.py` asks for the choice of
a Provider; `provider.py` tells plugins what is lent. Nothing is remembered here, so a restart changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from pydantic import ValidationError

from ..errors import Denied, NotReady, SupplierError
from ..kinds import Cluster, Launch, LoadBalancer, Machine, NodePool, Provider
from ..kinds.nodepool import ADDRESS, MAX_NAME, NodePoolSpec
from ..kinds.provider import AUTO_LABEL
from ..kinds.template import MachineTemplate
from ..objects import ObjectMeta
from ..plugins import InvalidConfig
from ..runtime.controller import Env
from ..runtime.places import Place
from ..statuses import AlreadyExists, Conflict, Forbidden, NotFound
from ..supplier import Host, Mark, Problem
from .access import Reach
from .marks import ref_of
from .network import record_of
from .single import STEP
from .ssh_keys import ensure_ssh_keys
from .troubles import LATER, Trouble, not_usable, trouble, usable

HOST = MachineTemplate(cpu=1, memory="512Mi", disk="8Gi")
"""What a host is where nobody says: forwarding connections takes little."""

SUFFIX = "-lb"
EXECUTE = 30.0
"""Seconds that a script may take: more is not possible at places that run scripts themselves."""


# -- where it is made ----------------------------------------------------------------------------------------------------


def default_balancer_provider(env: Env, cluster: Cluster) -> str | Trouble:
    """The Provider that `auto` means for load balancers of a cluster, its API endpoint's included; or why there is none.

    In this order: what the Cluster names; its own Provider, if it has load balancers; one that makes them out of machines.
    """
    if cluster.spec.load_balancers.provider != "auto":
        return cluster.spec.load_balancers.provider
    own, found = usable(env, cluster.spec.provider)
    if own is None:
        return found or not_usable(cluster.spec.provider, None)
    if own.suppliers.load_balancers is not None:
        return own.name
    rivals = sorted(env.places.all(), key=lambda p: (AUTO_LABEL not in p.provider.labels, p.name))
    makers = [p for p in rivals if p.usable and p.suppliers.load_balancers is not None and p.capabilities.hosts > 0]
    if makers:
        return makers[0].name
    starting = next((p for p in rivals if p.reason == "Starting"), None)
    if starting is not None:
        return not_usable(starting.name, starting)
    return not_offered(env, own.name)


def not_offered(env: Env, provider: str) -> Trouble:
    """For a Provider without load balancers: which ones have them."""
    others = sorted(p.name for p in env.places.all() if p.usable and p.suppliers.load_balancers is not None)
    remedy = (
        f"set spec.provider to one that has them: {', '.join(others)}"
        if others
        else "none that is set up has them; install a plugin that makes them out of machines, as kubeup-haproxy does"
    )
    return Trouble(reason="NotOffered", message=f"Provider {provider} has no load balancers; {remedy}", stalled=True)


# -- the machines under it -----------------------------------------------------------------------------------------------


def pool_name(balancer: LoadBalancer) -> str:
    """`front-lb` for `front`; a long name is cut, and told apart by a hash."""
    if len(balancer.name) + len(SUFFIX) <= MAX_NAME:
        return balancer.name + SUFFIX
    digest = hashlib.sha256(balancer.name.encode()).hexdigest()[:5]
    return f"{balancer.name[: MAX_NAME - len(SUFFIX) - 6].rstrip('-.')}-{digest}{SUFFIX}"


def lent(env: Env, type_: str) -> list[Host]:
    """All machines that are lent to balancers of Providers of this type: what their plugin looks at (`Context.hosts`)."""
    hosts: list[Host] = []
    for balancer in env.cache.list(LoadBalancer):
        provider = env.cache.get(Provider, balancer.status.provider or "")
        if balancer.status.pool and provider is not None and provider.spec.type == type_:
            hosts += _hosts(env, balancer)
    return hosts


class BalancerHosts:
    """For the load balancer controller."""

    def __init__(self, env: Env) -> None:
        self.env = env

    def home(self, balancer: LoadBalancer, cluster: Cluster, place: Place) -> tuple[Place | None, Trouble | None]:
        """Whose network a balancer made at `place` is in: the place itself, or where the machines under it come from."""
        if place.capabilities.hosts == 0:
            return place, None
        home, found = usable(self.env, cluster.spec.provider)
        if home is None:
            return None, found
        if home.access == "none":
            message = (
                f"Provider {home.name} offers no way into its machines, so no load balancer of Provider {place.name} can be set up on "
                "them; use a Provider whose machines are reached by ssh, or by its own execute"
            )
            return None, Trouble(reason="NoAccess", message=message, stalled=True)
        pair = place.capabilities.hosts > 1
        if balancer.spec.address and not home.capabilities.addresses and not pair:
            message = (
                f"machines of Provider {home.name} cannot be given an address, so a load balancer on one of them cannot have "
                f"{balancer.spec.address}; leave spec.address out"
            )
            return None, Trouble(reason="AddressNotOffered", message=message, stalled=True)
        record = record_of(cluster.status, home.name)
        if pair and record is not None and record.fabric and not record.flat:
            message = (
                f"{place.capabilities.hosts} machines share one address only where they are neighbours, and the network of Cluster "
                f"{cluster.name} at {home.name} is not one flat segment; use a Provider whose load balancers need one machine"
            )
            return None, Trouble(reason="NetworkNotFlat", message=message, stalled=True)
        if pair and not balancer.spec.address:
            message = (
                f"a load balancer of Provider {place.name} runs on {place.capabilities.hosts} machines that share one address; set "
                "spec.address to a free one of their network (for the API of a cluster: spec.endpoint.host of the Cluster)"
            )
            return None, Trouble(reason="AddressNeeded", message=message, stalled=True)
        return home, None

    def keep(
        self, balancer: LoadBalancer, cluster: Cluster, place: Place, home: Place
    ) -> tuple[tuple[Host, ...], Trouble | None]:
        """Keep the pool as the balancer wants it. -> as many Ready machines as it needs, or what they wait for. Of a pair that has
        begun to serve one is enough.

        Raises InvalidConfig, with the path, for a machine that the overrides describe wrongly.
        """
        count = place.capabilities.hosts
        if count == 0:
            return (), None
        if not place.held:
            return (), Trouble(reason="Starting", message=f"Provider {place.name} is being prepared; wait a moment", after=STEP)
        if home.access == "ssh":
            try:
                ensure_ssh_keys(self.env, cluster)  # hosts accept the cluster's key, in a plain cluster too
            except SupplierError as error:
                return (), trouble(error, home.name)
        wanted, name = self._spec(balancer, cluster, place), pool_name(balancer)
        pool = self.env.cache.get(NodePool, name, balancer.namespace)
        address = self._address_to_keep(balancer, place, home, pool)
        if pool is None:
            pool = self._make(balancer, name, wanted, address)
        if pool is None or not _owned(pool, balancer):
            message = f"NodePool {name} is not this balancer's; rename or delete it, or give the LoadBalancer another name"
            return (), Trouble(reason="PoolTaken", message=message, after=LATER, stalled=True)
        if pool.deleting:
            return (), Trouble(reason="HostsNotReady", message=f"waits for the end of NodePool {name}", after=STEP)
        asked = {field: getattr(wanted, field) for field in ("replicas", "provider", "machine", "overrides")}
        if any(getattr(pool.spec, field) != value for field, value in asked.items()) or _kept(pool) != address:
            changed = self.env.cache.copy(pool)
            changed.spec = pool.spec.model_copy(update=asked)
            others = {key: value for key, value in pool.annotations.items() if key != ADDRESS}
            changed.metadata.annotations = {**others, ADDRESS: address} if address else others
            pool = self.env.client.update(changed)
        hosts = _hosts(self.env, balancer)[:count]
        if len(hosts) < count and not (hosts and balancer.status.address):
            state = pool.status.condition("Ready")
            why = f": {state.message}" if state is not None and state.status != "True" else ""
            machines = "its machine" if count == 1 else f"its {count} machines"
            return (), Trouble(reason="HostsNotReady", message=f"waits for {machines}, NodePool {name}{why}", after=LATER)
        return tuple(hosts), None

    def release(self, balancer: LoadBalancer) -> Trouble | None:
        """Give the machines back. None when they are gone, with the proof that their own controller has."""
        name = balancer.status.pool
        if not name:
            return None
        pool = self.env.cache.get(NodePool, name, balancer.namespace)
        if pool is not None and _owned(pool, balancer) and not pool.deleting:
            try:
                self.env.client.delete(NodePool, pool.name, pool.namespace, uid=pool.uid)
            except (NotFound, Conflict):
                pass
            except Forbidden as error:
                return Trouble(reason="DeletionRefused", message=error.message, after=LATER, stalled=True)
        left = [m.name for m in _machines(self.env, balancer) if m.spec.role == "loadBalancer"]
        if not left:
            return None
        return Trouble(
            reason="Deleting", message=f"waits for the end of the machines that it ran on: {', '.join(left)}", after=STEP
        )

    def handed_on(self, balancer: LoadBalancer, home: Place, hosts: tuple[Host, ...]) -> bool:
        """Whether a machine that replaces the one under the balancer asks for the address that clients know."""
        return home.capabilities.addresses and hosts[0].address in self._inside(balancer)

    # -- below -----------------------------------------------------------------------------------------------------------

    def _address_to_keep(self, balancer: LoadBalancer, place: Place, home: Place, pool: NodePool | None) -> str:
        """What the one machine under a balancer and each successor should have: what the spec says, or what clients know.

        An external address is the provider's, and nobody asks for one.
        """
        if place.capabilities.hosts != 1 or not home.capabilities.addresses:
            return ""
        known = balancer.status.address if balancer.status.address in self._inside(balancer) else None
        return balancer.spec.address or known or (_kept(pool) if pool is not None else "")

    def _inside(self, balancer: LoadBalancer) -> set[str]:
        """The internal addresses of its machines."""
        return {a.address for m in _machines(self.env, balancer) for a in m.status.addresses if a.type == "InternalIP"}

    def _make(self, balancer: LoadBalancer, name: str, spec: NodePoolSpec, address: str) -> NodePool | None:
        """None when somebody else was faster with the name."""
        metadata = ObjectMeta(
            name=name,
            namespace=balancer.namespace,
            annotations={ADDRESS: address} if address else None,
            owner_references=[balancer.reference()],
        )
        try:
            return self.env.client.create(NodePool(metadata=metadata, spec=spec))
        except AlreadyExists:
            return None

    @staticmethod
    def _spec(balancer: LoadBalancer, cluster: Cluster, place: Place) -> NodePoolSpec:
        overrides = dict(balancer.spec.overrides)
        type_ = place.provider.spec.type
        own = overrides.pop(type_, {})
        try:
            machine = MachineTemplate.model_validate(own.get("machine") or {}).over(HOST)
        except ValidationError as error:
            problems = [
                Problem(
                    path=".".join(["spec.overrides", type_, "machine", *map(str, e["loc"])]),
                    message=e["msg"],
                    remedy="correct it",
                )
                for e in error.errors()
            ]
            raise InvalidConfig(problems) from error
        return NodePoolSpec(
            cluster=cluster.name,
            role="loadBalancer",
            replicas=place.capabilities.hosts,
            provider=cluster.spec.provider,
            machine=MachineTemplate(**dict(machine)),
            overrides=overrides,
        )


def neighbours(env: Env, balancer: LoadBalancer) -> tuple[str, ...]:
    """`LoadBalancerSpec.neighbours`: a machine that nobody reaches may hold what they share, until it is gone."""
    machines = [m for m in _machines(env, balancer) if m.spec.role == "loadBalancer"]
    machines.sort(key=_age)
    return tuple(address for m in machines if (address := address_of_host(m, internal=True)))


def _age(machine: Machine) -> tuple[str, str]:
    return machine.metadata.creation_timestamp or "", machine.name


def _kept(pool: NodePool) -> str:
    return pool.annotations.get(ADDRESS, "")


def address_of_host(machine: Machine, internal: bool) -> str:
    """By which clients reach a balancer on this machine: from outside where there is such an address, unless it is internal."""
    by_type = {a.type: a.address for a in reversed(machine.status.addresses)}
    order = ("InternalIP", "ExternalIP") if internal else ("ExternalIP", "InternalIP")
    return next((by_type[type_] for type_ in order if type_ in by_type), "")


def _owned(pool: NodePool, balancer: LoadBalancer) -> bool:
    return any(owner.uid == balancer.uid for owner in pool.metadata.owner_references or ())


def _machines(env: Env, balancer: LoadBalancer) -> list[Machine]:
    return env.cache.by(Machine, "pool", f"{balancer.namespace}/{balancer.spec.cluster}/{balancer.status.pool}")


def _hosts(env: Env, balancer: LoadBalancer) -> list[Host]:
    """The Ready machines of its pool; the one that serves already comes first, so that the balancer stays where it is."""
    cluster = env.cache.get(Cluster, balancer.spec.cluster, balancer.namespace)
    internal, mark = balancer.spec.exposure == "internal", mark_of(env, balancer, cluster)
    found = [(m, address_of_host(m, internal)) for m in _machines(env, balancer) if m.spec.role == "loadBalancer"]
    ready = [(m, a) for m, a in found if a and m.status.is_true("Ready") and not m.deleting]
    ready.sort(key=lambda one: (one[1] != balancer.status.address, *_age(one[0])))
    return list(_as_hosts(env, ready, mark))


def _as_hosts(env: Env, machines: list[tuple[Machine, str]], mark: Mark) -> Iterator[Host]:
    for machine, address in machines:
        status = machine.status
        launch = env.cache.get(Launch, status.launch, machine.namespace) if status.launch else None
        if launch is not None and status.id:
            ref = ref_of(env.installation, launch, status.index or 0, status.id)
            inside = address_of_host(machine, internal=True)
            yield Host(ref=ref, address=address, execute=_execute(env, machine), mark=mark, internal=inside)


def _execute(env: Env, machine: Machine) -> Callable[[str, bytes], tuple[int, bytes]]:
    reach = Reach(env, "loadbalancer")

    def execute(script: str, stdin: bytes = b"") -> tuple[int, bytes]:
        newest = env.cache.get(Machine, machine.name, machine.namespace)
        try:
            finished = reach.call(
                newest if newest is not None and newest.uid == machine.uid else machine, script, stdin, EXECUTE
            )
        except Denied as error:
            # What one machine refuses is no word about the Provider of load balancers, which a Denied would switch off.
            raise NotReady(f"{machine.name}: {error.message}", code=error.code, remedy=error.remedy) from error
        return finished.code, finished.output

    return execute


def mark_of(env: Env, balancer: LoadBalancer, cluster: Cluster | None) -> Mark:
    return Mark(
        installation=env.installation,
        cluster=cluster.uid if cluster else "",
        cluster_name=balancer.spec.cluster,
        kind="LoadBalancer",
        maker=balancer.uid,
    )
