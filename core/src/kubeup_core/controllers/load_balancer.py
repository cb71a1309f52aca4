"""Load balancers: made where they belong, kept in front of the machines that are wanted, and removed with proof.

The supplier is given the whole wish each time: `members.py` chooses it, `balancer_status.py` says what came of it, and
`deregistration.py` lets machines go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..client import Event
from ..errors import SupplierError
from ..kinds import Cluster, Launch, LoadBalancer, Machine, Provider
from ..kinds.load_balancer import FINALIZER
from ..kinds.nodepool import parse_duration
from ..plugins import InvalidConfig
from ..runtime.calls import InProgress
from ..runtime.controller import Controller, Env, Key, Result, Watch
from ..runtime.places import Place
from ..supplier import Listener, LoadBalancerSpec, LoadBalancerState, Mark, Phase
from .balancer_status import describe
from .deregistration import DEREGISTERED, Deregistration
from .marks import ref_of
from .members import Backend, Chosen, choose
from .network import network_data
from .single import STEP, NotYet, Single
from .troubles import (
    Trouble,
    busy,
    hold,
    let_go,
    not_usable,
    note,
    obstacle,
    paused,
    sooner,
    tell,
    trouble,
    usable,
    write_status,
)


class LoadBalancerController(Controller):
    name = "loadbalancer"
    kind = LoadBalancer

    def __init__(self, env: Env) -> None:
        self.watches = (
            Watch(Machine, self._of_machine),
            Watch(Cluster, lambda event: self._of_cluster(event.object.namespace, event.object.name)),
            Watch(Provider, lambda event: [_key(b) for b in env.cache.list(LoadBalancer)]),
        )
        super().__init__(env)
        self.single: Single[LoadBalancerState] = Single(env, "load_balancers", self.name)
        env.inventory.on_change("load_balancers", self._of_mark)
        self.deregistration = Deregistration(env)

    def reconcile(self, key: Key) -> Result:
        balancer = self.env.cache.get(LoadBalancer, key.name, key.namespace)
        if balancer is None:
            return Result()
        cluster = self.env.cache.get(Cluster, balancer.spec.cluster, key.namespace)
        if balancer.deleting:
            return self._delete(balancer, cluster) if FINALIZER in balancer.finalizers else Result()
        found = obstacle(self.env, balancer, cluster)
        if found is None and cluster is not None:
            place, found = self._place(balancer, cluster)
            if place is not None:
                return self._keep(balancer, cluster, place)
        assert found is not None
        after = self.deregistration.check(balancer, self._machines(balancer), None)
        return self._tell(balancer, found, after)

    # -- living ----------------------------------------------------------------------------------------------------------

    def _place(self, balancer: LoadBalancer, cluster: Cluster) -> tuple[Place | None, Trouble | None]:
        """What `auto` means: the Provider that the cluster names, else the cluster's own. Once made, it stays where it is."""
        named = [n for n in (balancer.spec.provider, cluster.spec.load_balancers.provider) if n != "auto"]
        name = named[0] if named else balancer.status.provider or cluster.spec.provider
        place, found = usable(self.env, name)
        if place is None:
            return None, found
        if not (place.may_change if balancer.status.id else place.may_create):
            return None, not_usable(name, place)
        if place.suppliers.load_balancers is None:
            others = sorted(p.name for p in self.env.places.all() if p.usable and p.suppliers.load_balancers is not None)
            remedy = (
                f"set spec.provider to one that has them: {', '.join(others)}" if others else "none that is set up has them"
            )
            return None, Trouble(reason="NotOffered", message=f"Provider {name} has no load balancers; {remedy}", stalled=True)
        if place.capabilities.hosts > 0:
            message = (
                f"load balancers of Provider {name} run on {place.capabilities.hosts} machines of their own, and this version of "
                "kubeup lends no machines to a balancer; set spec.provider to a Provider with load balancers of its own"
            )
            return None, Trouble(reason="HostsNotOffered", message=message, stalled=True)
        return place, None

    def _keep(self, balancer: LoadBalancer, cluster: Cluster, place: Place) -> Result:
        old = balancer.status.provider
        if old is not None and old != place.name:
            return self._move(balancer, cluster, old)
        data = network_data(cluster, place)
        if data is None:
            found = Trouble(
                reason="NetworkNotReady", message=f"waits for the network of Cluster {cluster.name} at {place.name}"
            )
            after = self.deregistration.check(balancer, self._machines(balancer), None)
            return self._tell(balancer, found, after)
        mark = mark_of(self.env, balancer, cluster)
        if old is None:
            balancer = self._begin(balancer, place, mark)
        return self._serve(balancer, cluster, place, mark, data)

    def _begin(self, balancer: LoadBalancer, place: Place, mark: Mark) -> LoadBalancer:
        """The finalizer, and where it is going to be made: both are stored before anything is."""
        balancer = hold(self.env, balancer, FINALIZER)
        status = balancer.status.model_copy(deep=True)
        status.provider = place.name
        balancer = write_status(self.env, balancer, status)
        self.single.began(place, mark)
        return balancer

    def _serve(self, balancer: LoadBalancer, cluster: Cluster, place: Place, mark: Mark, data: Mapping[str, str]) -> Result:
        supplier = place.suppliers.load_balancers
        assert supplier is not None
        machines = self._machines(balancer)
        chosen = self._choose(balancer, cluster, place, machines, mark)
        status = balancer.status.model_copy(deep=True)
        state: LoadBalancerState | None = None
        error: SupplierError | None = None
        found: Trouble | None = None
        after: float | None = None
        try:
            wish = self._wish(balancer, place, mark, chosen, data)
            state = self.single.ensure(
                place, mark, lambda: supplier.ensure(wish), wish=wish, key=_key(balancer), id=status.id or ""
            )
            error = state.error
            if state.phase is not Phase.RUNNING or {"initial", "draining"} & set(state.members.values()):
                self.env.inventory.want(place, "load_balancers", soon=True)
                after = STEP
            if _moving(state):
                self.env.inventory.want(place, "load_balancers", soon=True)
                after = STEP
        except NotYet as wait:
            after = wait.after
            found = _unseen(wait, place) if wait.why or status.id else None
        except InProgress as running:
            after = running.after
            found = busy(after) if status.last_error is not None else None
        except InvalidConfig as invalid:
            found = Trouble(reason="InvalidOverrides", message=str(invalid), stalled=True)
        except SupplierError as raised:
            error = raised
        after = sooner(after, self.deregistration.check(balancer, machines, state))
        now = self.env.clock.wall()
        note(status, error, now)
        progress = describe(balancer, status, chosen, state or self.single.look(place, mark), now)
        if error is not None:
            found = trouble(error, place.name)
        return tell(self.env, balancer, status, found or progress, after)

    def _move(self, balancer: LoadBalancer, cluster: Cluster, old: str) -> Result:
        """The spec names another Provider than the one it was made at: it is deleted there, and then made anew."""
        done, found = self._remove(balancer, cluster, old, lambda: self._unchanged(balancer))
        if not done:
            return self._tell(balancer, found, None) if found is not None else Result()
        status = balancer.status.model_copy(deep=True)
        status.provider = status.id = status.address = status.hostname = None
        write_status(self.env, balancer, status)
        return Result(after=0.0)

    # -- the end ---------------------------------------------------------------------------------------------------------

    def _delete(self, balancer: LoadBalancer, cluster: Cluster | None) -> Result:
        for machine in self._machines(balancer):
            if machine.deleting and not machine.status.is_true(DEREGISTERED):
                self.deregistration.release(balancer, machine)
        if balancer.status.provider is not None:
            held = paused(balancer, cluster)
            if held is not None:
                return self._tell(balancer, held, None)
            done, found = self._remove(balancer, cluster, balancer.status.provider, lambda: self._still_deleting(balancer))
            if not done:
                return self._tell(balancer, found, None) if found is not None else Result()
        let_go(self.env, balancer, FINALIZER)
        self.deregistration.forget(balancer)
        return Result()

    def _remove(
        self, balancer: LoadBalancer, cluster: Cluster | None, provider: str, guard: Callable[[], bool]
    ) -> tuple[bool, Trouble | None]:
        """-> (proven to be gone, what stands in the way or is going on)."""
        place, found = usable(self.env, provider)
        if place is None or place.suppliers.load_balancers is None or not place.may_delete:
            return False, found or not_usable(provider, place)
        delete, mark = place.suppliers.load_balancers.delete, mark_of(self.env, balancer, cluster)
        going = f"it is being deleted at {provider}; it goes when observation proves that"
        try:
            id_ = balancer.status.id or ""
            return self.single.remove(place, mark, delete, key=_key(balancer), id=id_, guard=guard), None
        except NotYet as wait:
            return False, Trouble(reason="Deleting", message=going, after=wait.after)
        except InProgress as running:
            return False, busy(running.after)
        except SupplierError as error:
            return False, trouble(error, provider)

    def _still_deleting(self, balancer: LoadBalancer) -> bool:
        stored = self.env.client.find(LoadBalancer, balancer.name, balancer.namespace)
        return stored is not None and stored.uid == balancer.uid and stored.deleting

    def _unchanged(self, balancer: LoadBalancer) -> bool:
        stored = self.env.client.find(LoadBalancer, balancer.name, balancer.namespace)
        return stored is not None and stored.uid == balancer.uid and stored.spec.provider == balancer.spec.provider

    # -- what to ask for -------------------------------------------------------------------------------------------------

    def _choose(self, balancer: LoadBalancer, cluster: Cluster, place: Place, machines: list[Machine], mark: Mark) -> Chosen:
        state = self.single.look(place, mark)
        serving = {name for name, how in state.members.items() if how != "unused"} if state is not None else set()
        return choose(
            balancer,
            cluster,
            place.name,
            machines,
            members_by=place.capabilities.members_by,
            serving=serving,
            backend=lambda machine: self._backend(machine, place),
        )

    def _backend(self, machine: Machine, place: Place) -> Backend | None:
        status = machine.status
        launch = self.env.cache.get(Launch, status.launch, machine.namespace) if status.launch else None
        if launch is None or not status.id:
            return None
        if launch.spec.identity != place.identity.key:
            return Backend(machine=machine, provider=launch.spec.provider, ref=None)
        ref = ref_of(self.env.installation, launch, status.index or 0, status.id)
        return Backend(machine=machine, provider=launch.spec.provider, ref=ref)

    def _wish(
        self, balancer: LoadBalancer, place: Place, mark: Mark, chosen: Chosen, data: Mapping[str, str]
    ) -> LoadBalancerSpec:
        """Raises InvalidConfig, with the path, for overrides that the plugin refuses."""
        spec, type_ = balancer.spec, place.provider.spec.type
        overrides = spec.overrides.get(type_, {})
        if overrides:
            self.env.plugins.overrides(type_, overrides)
        return LoadBalancerSpec(
            mark=mark,
            name=balancer.name,
            internal=spec.exposure == "internal",
            listeners=tuple(_listeners(balancer)),
            members=chosen.wish,
            network=dict(data),
            allow_from=tuple(spec.allow_from),
            address=spec.address or "",
            overrides=overrides,
        )

    # -- below -----------------------------------------------------------------------------------------------------------

    def _tell(self, balancer: LoadBalancer, found: Trouble, after: float | None) -> Result:
        return tell(self.env, balancer, balancer.status.model_copy(deep=True), found, after)

    def _machines(self, balancer: LoadBalancer) -> list[Machine]:
        return self.env.cache.by(Machine, "cluster", f"{balancer.namespace}/{balancer.spec.cluster}")

    def _of_cluster(self, namespace: str, cluster: str) -> list[Key]:
        return [_key(b) for b in self.env.cache.by(LoadBalancer, "cluster", f"{namespace}/{cluster}")]

    def _of_machine(self, event: Event[Any]) -> Iterator[Key]:
        new, old = event.object, event.old
        if old is not None and event.type == "MODIFIED" and _relevant(new) == _relevant(old):
            return
        yield from self._of_cluster(new.namespace, new.spec.cluster)

    def _of_mark(self, mark: Mark) -> tuple[str, Key] | None:
        balancer = self.env.cache.uid(LoadBalancer, mark.maker)
        return (self.name, _key(balancer)) if balancer is not None else None


def mark_of(env: Env, balancer: LoadBalancer, cluster: Cluster | None) -> Mark:
    return Mark(
        installation=env.installation,
        cluster=cluster.uid if cluster else "",
        cluster_name=balancer.spec.cluster,
        kind="LoadBalancer",
        maker=balancer.uid,
    )


def _unseen(wait: NotYet, place: Place) -> Trouble:
    """It was made, and this process has not seen it yet: nothing is said, unless the place cannot be observed at all."""
    if not wait.why:
        return Trouble(reason="", message="")
    return Trouble(reason="CannotObserve", message=f"Provider {place.name} cannot be observed: {wait.why}")


def _listeners(balancer: LoadBalancer) -> Iterator[Listener]:
    spec, health = balancer.spec, balancer.spec.health
    for listener in spec.listeners:
        target = listener.target_port or listener.port
        yield Listener(
            port=listener.port,
            target=target,
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


def _relevant(machine: Machine) -> tuple[Any, ...]:
    status = machine.status
    addresses = [a.address for a in status.addresses]
    return machine.labels, machine.deleting, status.state, status.id, addresses, status.is_true(DEREGISTERED)


def _moving(state: LoadBalancerState) -> bool:
    """Health or draining is on its way, and somebody waits for it."""
    members = state.members.values()
    return any(m in ("initial", "draining") for m in members) or (bool(members) and "healthy" not in members)


def _key(balancer: LoadBalancer) -> Key:
    return Key(balancer.namespace, balancer.name)
