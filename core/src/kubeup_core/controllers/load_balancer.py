"""Load balancers: made where they belong, kept in front of the machines that are wanted, and removed with proof.

The supplier is given the whole wish each time: `members.py` chooses it, `balancer_status.py` says what came of it, and
`deregistration.py` lets machines go. Where it is made, and the machines that some run on, is in `balancer_hosts.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..client import Event
from ..errors import SupplierError
from ..kinds import Cluster, Launch, LoadBalancer, Machine, NodePool, Provider
from ..kinds.load_balancer import FINALIZER
from ..objects import parse_timestamp
from ..plugins import InvalidConfig
from ..runtime.calls import InProgress
from ..runtime.controller import Controller, Env, Key, Result, Watch
from ..runtime.places import Place
from ..supplier import Host, LoadBalancerSpec, LoadBalancerState, Mark, Phase
from .balancer_hosts import BalancerHosts, default_balancer_provider, mark_of, neighbours, not_offered, pool_name
from .balancer_status import ADDRESS_FIXED, describe, follow
from .deregistration import DEREGISTERED, Deregistration
from .marks import ref_of
from .members import Backend, Chosen, choose, listeners
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

PATIENCE = 60.0
"""Awake seconds for which the removal from machines that are deleted next is tried."""


@dataclass(frozen=True, kw_only=True)
class _Scene:
    """What a wish is made of besides the spec. home: whose network it is in. hosts: the machines that it runs on."""

    home: Place
    mark: Mark
    data: Mapping[str, str]
    hosts: tuple[Host, ...]


class LoadBalancerController(Controller):
    name = "loadbalancer"
    kind = LoadBalancer

    def __init__(self, env: Env) -> None:
        self.watches = (
            Watch(Machine, self._of_machine),
            Watch(Cluster, lambda event: self._of_cluster(event.object.namespace, event.object.name)),
            Watch(NodePool, self._of_pool),
            Watch(Provider, lambda event: [_key(b) for b in env.cache.list(LoadBalancer)]),
        )
        super().__init__(env)
        self.single: Single[LoadBalancerState] = Single(env, "load_balancers", self.name)
        env.inventory.on_change("load_balancers", self._of_mark)
        self.deregistration = Deregistration(env)
        self.hosts = BalancerHosts(env)
        self._runs_on: dict[str, tuple[str, ...]] = {}  # ids of the machines that took its wish last, by its uid

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
        name = named[0] if named else balancer.status.provider or default_balancer_provider(self.env, cluster)
        if isinstance(name, Trouble):
            return None, name
        place, found = usable(self.env, name)
        if place is None:
            return None, found
        # What runs on lent machines names its Provider first, and that holds the Provider.
        free = place.ok if place.capabilities.hosts else place.may_create
        if not (place.may_change if balancer.status.id else free):
            return None, not_usable(name, place)
        if place.suppliers.load_balancers is None:
            return None, not_offered(self.env, name)
        return place, None

    def _keep(self, balancer: LoadBalancer, cluster: Cluster, place: Place) -> Result:
        old = balancer.status.provider
        if old is not None and old != place.name:
            return self._move(balancer, cluster, old)
        home, found = self.hosts.home(balancer, cluster, place)
        data = network_data(cluster, home) if home is not None else None
        if home is not None and data is None:
            found = Trouble(reason="NetworkNotReady", message=f"waits for the network of Cluster {cluster.name} at {home.name}")
        if home is None or data is None:
            return self._held_up(balancer, found)
        mark = mark_of(self.env, balancer, cluster)
        if old is None:
            balancer = self._begin(balancer, place, mark)
        try:
            hosts, found = self.hosts.keep(balancer, cluster, place, home)
        except InvalidConfig as invalid:
            hosts, found = (), Trouble(reason="InvalidOverrides", message=str(invalid), stalled=True)
        if found is not None:
            return self._held_up(balancer, found)
        return self._serve(balancer, cluster, place, _Scene(home=home, mark=mark, data=data, hosts=hosts))

    def _held_up(self, balancer: LoadBalancer, found: Trouble | None) -> Result:
        """Nothing can be asked of the supplier: machines that leave are let go when their time is over."""
        assert found is not None
        return self._tell(balancer, found, self.deregistration.check(balancer, self._machines(balancer), None))

    def _begin(self, balancer: LoadBalancer, place: Place, mark: Mark) -> LoadBalancer:
        """The finalizer, and where it is going to be made: both are stored before anything is."""
        balancer = hold(self.env, balancer, FINALIZER)
        status = balancer.status.model_copy(deep=True)
        status.provider = place.name
        status.pool = pool_name(balancer) if place.capabilities.hosts else None
        balancer = write_status(self.env, balancer, status)
        self.single.began(place, mark)
        return balancer

    def _serve(self, balancer: LoadBalancer, cluster: Cluster, place: Place, scene: _Scene) -> Result:
        supplier, mark = place.suppliers.load_balancers, scene.mark
        assert supplier is not None
        machines = self._machines(balancer)
        chosen = self._choose(balancer, cluster, place, machines, scene)
        machine_ids = tuple(host.ref.id for host in scene.hosts)
        status = balancer.status.model_copy(deep=True)
        state: LoadBalancerState | None = None
        error: SupplierError | None = None
        found: Trouble | None = None
        after: float | None = None
        try:
            wish = self._wish(balancer, place, chosen, scene)
            state = self.single.ensure(
                place, mark, lambda: supplier.ensure(wish), wish=wish, key=_key(balancer), id=status.id or ""
            )
            self._runs_on[balancer.uid] = machine_ids
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
        # What was seen on a machine that has been replaced says nothing of its successor.
        moves = self._runs_on.get(balancer.uid, machine_ids) != machine_ids
        seen = state if state is not None or moves else self.single.look(place, mark)
        progress = describe(balancer, status, chosen, seen, now)
        if scene.hosts and place.capabilities.hosts == 1:
            follow(balancer, status, scene.hosts, now, kept=self.hosts.handed_on(balancer, scene.home, scene.hosts))
            self._say_moved(balancer, status.address)
        if error is not None:
            found = trouble(error, place.name)
        return tell(self.env, balancer, status, found or progress, after)

    def _move(self, balancer: LoadBalancer, cluster: Cluster, old: str) -> Result:
        """The spec names another Provider than the one it was made at: it is deleted there, and then made anew."""
        done, found = self._remove(balancer, cluster, old, lambda: self._unchanged(balancer))
        if not done:
            return self._tell(balancer, found, None) if found is not None else Result()
        self._release(balancer)
        found = self.hosts.release(balancer)
        if found is not None:
            return self._tell(balancer, found, None)
        status = balancer.status.model_copy(deep=True)
        status.provider = status.id = status.address = status.hostname = status.pool = None
        status.drop_condition(ADDRESS_FIXED)
        write_status(self.env, balancer, status)
        return Result(after=0.0)

    # -- the end ---------------------------------------------------------------------------------------------------------

    def _delete(self, balancer: LoadBalancer, cluster: Cluster | None) -> Result:
        self._release(balancer)
        if balancer.status.provider is not None:
            held = paused(balancer, cluster)
            if held is not None:
                return self._tell(balancer, held, None)
            done, found = self._remove(balancer, cluster, balancer.status.provider, lambda: self._still_deleting(balancer))
            if not done and not self._goes_with_its_machines(balancer):
                after = STEP if balancer.status.pool else None
                return self._tell(balancer, found, after) if found is not None else Result(after=after)
            found = self.hosts.release(balancer)
            if found is not None:
                return self._tell(balancer, found, None)
        let_go(self.env, balancer, FINALIZER)
        self.deregistration.forget(balancer)
        self._runs_on.pop(balancer.uid, None)
        return Result()

    def _release(self, balancer: LoadBalancer) -> None:
        """It sends nothing to anybody any more."""
        for machine in self._machines(balancer):
            if machine.deleting and not machine.status.is_true(DEREGISTERED):
                self.deregistration.release(balancer, machine)

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

    def _goes_with_its_machines(self, balancer: LoadBalancer) -> bool:
        """It is nowhere but on machines that are its own: one that does not answer for so long is deleted with all that is on it."""
        asked = parse_timestamp(balancer.metadata.deletion_timestamp or "")
        return balancer.status.pool is not None and self.env.clock.elapsed(asked) >= PATIENCE

    def _still_deleting(self, balancer: LoadBalancer) -> bool:
        stored = self.env.client.find(LoadBalancer, balancer.name, balancer.namespace)
        return stored is not None and stored.uid == balancer.uid and stored.deleting

    def _unchanged(self, balancer: LoadBalancer) -> bool:
        stored = self.env.client.find(LoadBalancer, balancer.name, balancer.namespace)
        return stored is not None and stored.uid == balancer.uid and stored.spec.provider == balancer.spec.provider

    # -- what to ask for -------------------------------------------------------------------------------------------------

    def _choose(self, balancer: LoadBalancer, cluster: Cluster, place: Place, machines: list[Machine], scene: _Scene) -> Chosen:
        state = self.single.look(place, scene.mark)
        serving = {name for name, how in state.members.items() if how != "unused"} if state is not None else set()
        return choose(
            balancer,
            cluster,
            scene.home.name,
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

    def _wish(self, balancer: LoadBalancer, place: Place, chosen: Chosen, scene: _Scene) -> LoadBalancerSpec:
        """Raises InvalidConfig, with the path, for overrides that the plugin refuses."""
        spec, type_ = balancer.spec, place.provider.spec.type
        overrides = spec.overrides.get(type_, {})
        if overrides:
            self.env.plugins.overrides(type_, overrides)
        return LoadBalancerSpec(
            mark=scene.mark,
            name=balancer.name,
            internal=spec.exposure == "internal",
            listeners=listeners(balancer),
            members=chosen.wish,
            network=dict(scene.data),
            hosts=scene.hosts,
            neighbours=neighbours(self.env, balancer) if place.capabilities.hosts > 1 else (),
            allow_from=tuple(spec.allow_from),
            address=spec.address or "",
            overrides=overrides,
        )

    # -- below -----------------------------------------------------------------------------------------------------------

    def _say_moved(self, balancer: LoadBalancer, address: str | None) -> None:
        before = balancer.status.address
        if before and address != before:
            message = f"it runs on another machine now, so its address changed from {before} to {address}"
            self.env.events.event(balancer, "Warning", "AddressChanged", message)

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

    def _of_pool(self, event: Event[Any]) -> Iterator[Key]:
        """The pool of the machines that one runs on."""
        owners = event.object.metadata.owner_references or ()
        yield from (Key(event.object.namespace, owner.name) for owner in owners if owner.kind == "LoadBalancer")

    def _of_mark(self, mark: Mark) -> tuple[str, Key] | None:
        balancer = self.env.cache.uid(LoadBalancer, mark.maker)
        return (self.name, _key(balancer)) if balancer is not None else None


def _unseen(wait: NotYet, place: Place) -> Trouble:
    """It was made, and this process has not seen it yet: nothing is said, unless the place cannot be observed at all."""
    if not wait.why:
        return Trouble(reason="", message="")
    return Trouble(reason="CannotObserve", message=f"Provider {place.name} cannot be observed: {wait.why}")


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
