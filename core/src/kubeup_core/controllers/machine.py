"""A Machine from its Launch to Ready, and while it lives: what was observed becomes its status, with as few writes as there is news.

In life order: waiting for a launch, made, provisioned (running, address known), Ready, and what may befall it: stopped, unreachable,
lost, failed. Which machines are replaced is the pool's decision (`nodepool.py`); how one goes is in `machine_end.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..client import Event
from ..errors import SupplierError
from ..kinds import Cluster, Launch, LoadBalancer, Machine, NodePool, Provider, Volume
from ..kinds.durations import parse_duration
from ..kinds.machine import FINALIZER, NODE_ROLES, AccessStatus, MachineStatus
from ..kinds.nodepool import Repair
from ..objects import parse_timestamp, timestamp
from ..runtime.controller import Controller, Env, Key, Result, Watch
from ..runtime.places import Place
from ..supplier import MachineState, Mark, Outcome, Phase
from .book import Book
from .bootstrapping import Bootstrapping
from .bootstraps import Bootstrapped
from .deregistration import DEREGISTERED
from .machine_end import MachineEnd
from .marks import access, addresses, index_of, last_error, launch_mark, made_by, place_of, resolved, same_error
from .member_status import Standing, describe, standing
from .nodes import Nodes, Told
from .placement import placement_key

PROGRESS = 15.0
"""Awake seconds between two writes of a status that tell no more than how far the steps are."""

PATIENCE = 5.0
"""Awake seconds between looks at a machine that is on its way; its changes wake it earlier."""


@dataclass(frozen=True)
class Made:
    """Where a machine came from. id: "" as long as only the launch's other members are known. dead: it was made and is over."""

    launch: Launch
    index: int
    id: str
    dead: bool = False
    error: SupplierError | None = None


class MachineController(Controller):
    name = "machine"
    kind = Machine

    def __init__(self, env: Env) -> None:
        self.watches = (
            Watch(Cluster, self._of_cluster),
            Watch(Launch, self._of_launch),
            Watch(Provider, self._of_provider),
            Watch(Volume, self._of_volume),
            Watch(LoadBalancer, self._of_balancer),
        )
        super().__init__(env)
        self.book = env.shared(Book)
        self.end = MachineEnd(env, self.name)
        self.bootstrapping = Bootstrapping(env, self.name)
        self.nodes = env.shared(Nodes)
        self._agreed: dict[Key, tuple[str | None, MachineState, Told | None]] = {}
        self._told: dict[Key, float] = {}
        env.inventory.on_change("machines", self._owner)

    def reconcile(self, key: Key) -> Result:
        machine = self.env.cache.get(Machine, key.name, key.namespace)
        if machine is None:
            self._agreed.pop(key, None)
            self._told.pop(key, None)
            return Result()
        if machine.deleting:
            self.bootstrapping.forget(machine.uid)
            return self.end.step(machine, key)
        if FINALIZER not in machine.finalizers:
            machine = self._hold(machine)
        made = self._made(machine)
        if made is None:
            return self._waiting(machine)
        if made.dead:
            message = f"it was over before it was Ready: {made.error.message if made.error else 'the provider ended it'}"
            return self._fail(machine, made, None, "Died", message, made.error)
        return self._living(machine, made)

    # -- before it exists ------------------------------------------------------------------------------------------------

    def _made(self, machine: Machine) -> Made | None:
        """From the stored status, else from its newest launch: stored when settled, in memory while it is open."""
        if machine.status.launch is not None and machine.status.index is not None:
            launch = self.env.cache.get(Launch, machine.status.launch, machine.namespace)
            return Made(launch, machine.status.index, machine.status.id or "") if launch is not None else None
        for launch in self.env.cache.by(Launch, "member", machine.uid):
            index = index_of(launch, machine)
            if index is None:
                continue
            told = self.book.result(launch.uid, index) if launch.status.phase == "Open" else None
            if told is not None and told.outcome in (Outcome.MADE, Outcome.DEAD):
                return Made(launch, index, told.id, told.outcome is Outcome.DEAD, told.error)
            stored = made_by(launch, machine)
            if stored is not None:
                return Made(launch, index, stored.id, stored.outcome == "Dead")
        return None

    def _waiting(self, machine: Machine) -> Result:
        """Nothing is written while all goes well. A machine without a pool shows itself what is in its way."""
        if machine.spec.pool:
            return Result()
        verdicts = self.book.verdicts.get(placement_key(machine), ())
        status = self._copy(machine)
        if verdicts:
            first = verdicts[0]
            self._set(machine, status, "Ready", False, first.reason, first.message)
            self._set(machine, status, "Launched", False, first.reason, first.message)
            self._stalled(machine, status, first.reason if first.stalled else "", first.message)
        elif not status.conditions:
            return Result()
        elif not status.is_true("Launched"):
            self._set(machine, status, "Ready", False, "Launching", "a machine is being requested")
            self._set(machine, status, "Launched", False, "Launching", "a machine is being requested")
            self._stalled(machine, status, "", "")
        self._write(machine, status)
        return Result()

    # -- while it lives --------------------------------------------------------------------------------------------------

    def _living(self, machine: Machine, made: Made) -> Result:
        place = self.env.places.get(made.launch.spec.provider)
        if place is None or not place.usable or place.identity.key != made.launch.spec.identity:
            return Result()  # nothing is concluded about a place that cannot be asked
        self.env.inventory.want(place, "machines", soon=not machine.status.is_true("Ready"))
        mark = launch_mark(self.env.installation, made.launch, made.index)
        state = self.env.inventory.state(place, "machines", mark, made.id)
        if state is None:
            return self._unseen(machine, made, place, mark)
        match state.phase:
            case Phase.RUNNING if state.internal or state.external or state.access.kind == "none":
                cluster = self._kubernetes(machine)
                if cluster is not None:
                    return self._member(machine, made, state, cluster)
                return self._ready(machine, made, state)
            case Phase.STOPPED:
                return self._unready(
                    machine, made, state, "Stopped", "it is stopped at the provider; start it there, or delete it"
                )
            case Phase.GONE if state.error is not None:
                return self._fail(machine, made, state, "Died", state.error.message, state.error)
            case Phase.DELETING | Phase.GONE:
                message = "it was deleted at the provider, and not by kubeup"
                return self._fail(machine, made, state, "DeletedElsewhere", message, state.error)
            case Phase.FAILED:
                said = state.error.message if state.error else "the provider says that it failed"
                return self._fail(machine, made, state, "Failed", said, state.error)
            case Phase.UNKNOWN:
                return self._unknown(machine, made, "the provider does not know its state")
            case _:
                return self._unready(machine, made, state, "Booting", "it was made and is starting")

    def _unseen(self, machine: Machine, made: Made, place: Place, mark: Mark) -> Result:
        """Missing from the listing: unreachable, too young, or lost. One miss is none of these."""
        seen = self.env.inventory.snapshot(place, "machines")
        where = place_of(made.launch, made.index)
        if seen is not None and not seen.reached(where) and "*" not in seen.unreachable:
            return self._unknown(machine, made, f"{where} at Provider {place.name} does not answer")
        gone = self.env.inventory.absent(place, "machines", mark, id=made.id, place_name=where)
        if gone:
            message = f"it has vanished from Provider {place.name}: complete listings no longer show it"
            return self._fail(machine, made, None, "Lost", message, None)
        return Result(after=PATIENCE)

    def _ready(self, machine: Machine, made: Made, state: MachineState) -> Result:
        """A look that finds the same state at the same object is over at once: most looks are."""
        key, version = Key(machine.namespace, machine.name), machine.metadata.resource_version
        agreed = self._agreed.get(key)
        if agreed is not None and agreed[0] == version and agreed[1] is state:
            return Result()
        status = self._copy(machine)
        self._provisioned(status, made, state)
        status.state = "Ready"
        self._set(machine, status, "Launched", True, "Made", f"made by Launch {made.launch.name}")
        self._set(machine, status, "Ready", True, "Running", "it runs")
        self._stalled(machine, status, "", "")
        status.last_error = None
        self._agreed[key] = (self._write(machine, status).metadata.resource_version, state, None)
        return Result()

    # -- in a Kubernetes cluster -----------------------------------------------------------------------------------------

    def _kubernetes(self, machine: Machine) -> Cluster | None:
        """The cluster that it is to be a member of, where that is one of Kubernetes."""
        cluster = self.env.cache.get(Cluster, machine.spec.cluster, machine.namespace)
        wanted = cluster is not None and cluster.spec.kubernetes is not None and machine.spec.role in NODE_ROLES
        return cluster if wanted else None

    def _member(self, machine: Machine, made: Made, state: MachineState, cluster: Cluster) -> Result:
        """It runs: bootstrapped until it has joined, and then Ready as long as its Node is."""
        key, version = Key(machine.namespace, machine.name), machine.metadata.resource_version
        health, ever = self.nodes.health(machine), machine.status.is_true("Bootstrapped")
        if self._agreed.get(key) == (version, state, health):
            return Result()
        status = self._copy(machine)
        self._provisioned(status, made, state)
        seen = machine.model_copy(update={"status": status})
        report = None if ever else self.bootstrapping.step(seen, cluster, key)
        stands = standing(seen, report, health)
        if ever and stands.held:
            return Result()  # a silent API says nothing about a machine
        self._set(machine, status, "Launched", True, "Made", f"made by Launch {made.launch.name}")
        self._set(machine, status, "Ready", stands.ready, stands.reason, stands.message)
        describe(status, report, health, self.nodes.of(seen), self.env.clock.wall(), partial(self._set, machine, status))
        self._stalled(machine, status, stands.reason if report is not None and report.stalled else "", stands.message)
        if not stands.ready:
            return self._not_yet(machine, made, state, status, report, stands)
        status.state, status.last_error = "Ready", None
        self._agreed[key] = (self._write(machine, status).metadata.resource_version, state, health)
        self.bootstrapping.settled(machine.uid)
        return Result()

    def _not_yet(
        self,
        machine: Machine,
        made: Made,
        state: MachineState,
        status: MachineStatus,
        report: Bootstrapped | None,
        stands: Standing,
    ) -> Result:
        """On its way, or no longer Ready. What is news is written at once, mere progress now and then."""
        key, joining = Key(machine.namespace, machine.name), report is not None and (report.joining or report.done)
        after, slow = (report.after, False) if report is not None else (None, True)
        status.state = "Joining" if joining else "Running"
        if machine.status.state == "Failed":
            return Result(after=after, slow=slow)  # it had its time; Ready is what it can still become
        if report is not None and report.lost:
            return self._fail(machine, made, state, stands.reason, stands.message, state.error)
        if not stands.held:
            left = self._left(machine, made, report)
            if left <= 0:
                reason = "BootTimeout" if report is not None else "UnreadyTimeout"
                return self._fail(machine, made, state, reason, f"{stands.message}; it had enough time", state.error)
            after = left if after is None else min(after, left)
        was, now = machine.status.condition("Ready"), self.env.clock.awake()
        failed = stands.reason == "StepFailed" and (was is None or was.reason != stands.reason)
        if failed:
            self.env.events.event(machine, "Warning", stands.reason, stands.message)
        told = self._told.get(key)
        if failed or report is None or machine.status.launch is None or (told is not None and now - told >= PROGRESS):
            self._told[key] = now
            self._write(machine, status)
        elif told is None:
            self._told[key] = now
        return Result(after=PATIENCE if after is None and not slow else after, slow=slow)

    def _left(self, machine: Machine, made: Made, report: Bootstrapped | None) -> float:
        """Seconds until a machine that is not Ready counts as failed. Time in which it waited for others does not count."""
        if report is None:
            was, joined = machine.status.condition("Ready"), machine.status.condition("Bootstrapped")
            since = was.last_transition_time if was is not None and was.status == "False" else None
            began = parse_timestamp(since) if since else self.env.clock.wall()
            if joined is not None and joined.last_transition_time:  # the way there is not held against its Node
                began = max(began, parse_timestamp(joined.last_transition_time))
            return self._timeout(machine, "unready_timeout") - self.env.clock.elapsed(began)
        limit = self._timeout(machine, "boot_timeout")
        if report.since is not None:
            return limit - (self.env.clock.awake() - report.since)
        return limit - self.env.clock.elapsed(parse_timestamp(made.launch.metadata.creation_timestamp or ""))

    def _unready(self, machine: Machine, made: Made, state: MachineState, reason: str, message: str) -> Result:
        """Not Ready for so long that it counts as failed. Until it was Ready once, a look costs no write."""
        if machine.status.state == "Failed":
            return Result()  # it had its time; Ready is what it can still become
        was = machine.status.condition("Ready")
        ever = machine.status.launch is not None
        if self._kubernetes(machine) is not None:
            ever = machine.status.is_true("Bootstrapped")
        since = was.last_transition_time if ever and was and was.status == "False" else None
        if ever and since is None:
            since = timestamp(self.env.clock.wall())
        began = parse_timestamp(since or made.launch.metadata.creation_timestamp or "")
        limit = self._timeout(machine, "unready_timeout" if ever and reason != "Booting" else "boot_timeout")
        left = limit - self.env.clock.elapsed(began)
        if left <= 0:
            late = f"{message}; it has not been Ready for {limit:.0f} s"
            return self._fail(machine, made, state, "UnreadyTimeout" if ever else "BootTimeout", late, state.error)
        if ever:
            status = self._copy(machine)
            self._provisioned(status, made, state)
            status.state = "Running"
            self._set(machine, status, "Ready", False, reason, message)
            self._write(machine, status)
        return Result(after=left, slow=ever)

    def _unknown(self, machine: Machine, made: Made, why: str) -> Result:
        """Never leads to a deletion. Only a person can give it up: the annotation is the remedy."""
        status = self._copy(machine)
        status.launch, status.index = made.launch.name, made.index
        status.id = made.id or status.id
        status.resolved = status.resolved or resolved(made.launch, None)
        status.state = "Unknown"
        message = f"{why}, so nothing is known of it, and nothing is done to it; it is looked at again by itself"
        self._set(machine, status, "Ready", None, "Unreachable", message)
        self._write(machine, status)
        return Result()

    def _fail(
        self, machine: Machine, made: Made, state: MachineState | None, reason: str, message: str, error: SupplierError | None
    ) -> Result:
        status = self._copy(machine)
        if state is not None:
            self._provisioned(status, made, state)
        status.launch, status.index = made.launch.name, made.index
        status.id = made.id or status.id
        status.resolved = status.resolved or resolved(made.launch, state)
        status.state = "Failed"
        remedy = "its pool replaces it" if machine.spec.pool else "delete it: kubectl delete machine " + machine.name
        self._set(machine, status, "Ready", False, reason, f"{message}; {remedy}")
        new = last_error(error, self.env.clock.wall()) if error is not None else None
        if not same_error(status.last_error, new):
            status.last_error = new
        if machine.status.state != "Failed":
            self.env.events.event(machine, "Warning", reason, message)
        self._write(machine, status)
        return Result()

    def _provisioned(self, status: MachineStatus, made: Made, state: MachineState) -> None:
        """What observation says; equal when nothing changed, so that a re-check writes nothing."""
        status.launch, status.index = made.launch.name, made.index
        status.id = state.ref.id
        status.provider_id = state.provider_id or None
        status.boot_id = state.boot_id or None
        status.addresses = addresses(state)
        status.access = access(state)
        place = self.env.places.get(made.launch.spec.provider)
        if place is not None and place.provider.spec.access.kind == "none":
            status.access = AccessStatus(kind="none")
        status.resolved = resolved(made.launch, state)
        status.leaving_at = timestamp(state.leaving_at) if state.leaving_at is not None else None

    # -- below -----------------------------------------------------------------------------------------------------------

    def _timeout(self, machine: Machine, which: str) -> float:
        pool = self.env.cache.get(NodePool, machine.spec.pool, machine.namespace) if machine.spec.pool else None
        return parse_duration(getattr(pool.spec.repair if pool is not None else Repair(), which))

    def _hold(self, machine: Machine) -> Machine:
        changed = self.env.cache.copy(machine)
        changed.metadata.finalizers = [*machine.finalizers, FINALIZER]
        return self.env.client.update(changed)

    @staticmethod
    def _copy(machine: Machine) -> MachineStatus:
        return machine.status.model_copy(deep=True)

    def _set(self, machine: Machine, status: MachineStatus, type_: str, value: bool | None, reason: str, message: str) -> None:
        generation = machine.metadata.generation
        status.set_condition(type_, value, reason, message, now=self.env.clock.wall(), generation=generation)

    def _stalled(self, machine: Machine, status: MachineStatus, reason: str, message: str) -> None:
        if reason:
            self._set(machine, status, "Stalled", True, reason, message)
        else:
            status.drop_condition("Stalled")

    def _write(self, machine: Machine, status: MachineStatus) -> Machine:
        status.observed_generation = machine.metadata.generation
        if status == machine.status:
            return machine
        return self.env.client.update_status(machine.model_copy(update={"status": status}))

    # -- who is woken ----------------------------------------------------------------------------------------------------

    def _owner(self, mark: Mark) -> tuple[str, Key] | None:
        launch = self.env.cache.uid(Launch, mark.maker)
        if launch is None or mark.index >= len(launch.spec.members):
            return None
        return self.name, Key(launch.namespace, launch.spec.members[mark.index].name)

    @staticmethod
    def _of_launch(event: Event[Any]) -> Iterator[Key]:
        launch: Launch = event.object
        before = event.old.status.phase if event.old is not None else ""
        if launch.status.phase == "Settled" and before != "Settled":
            yield from (Key(launch.namespace, member.name) for member in launch.spec.members)

    def _of_cluster(self, event: Event[Any]) -> Iterator[Key]:
        """Its members that are not Ready: whose turn it is, and what their steps need, is decided there."""
        cluster: Cluster = event.object
        if cluster.spec.kubernetes is not None and event.type != "DELETED":
            for machine in self.env.cache.by(Machine, "cluster", f"{cluster.namespace}/{cluster.name}"):
                if machine.status.launch is not None and not machine.status.is_true("Ready"):
                    yield Key(machine.namespace, machine.name)

    def _of_provider(self, event: Event[Any]) -> Iterator[Key]:
        """Those that cannot wait for a periodic look: what is on its way in or out."""
        for launch in self.env.cache.by(Launch, "provider", event.object.name):
            for member in launch.spec.members:
                machine = self.env.cache.get(Machine, member.name, launch.namespace)
                if machine is not None and (machine.deleting or not machine.status.is_true("Ready")):
                    yield Key(machine.namespace, machine.name)

    def _of_volume(self, event: Event[Any]) -> Iterator[Key]:
        for volume in (event.object, event.old):
            name = volume.status.attached_to if volume is not None else None
            machine = self.env.cache.get(Machine, name, event.object.namespace) if name else None
            if machine is not None and machine.deleting:
                yield Key(machine.namespace, machine.name)

    def _of_balancer(self, event: Event[Any]) -> Iterator[Key]:
        if event.type != "DELETED" and not event.object.deleting:
            return
        for machine in self.env.cache.by(Machine, "cluster", f"{event.object.namespace}/{event.object.spec.cluster}"):
            if machine.deleting and not machine.status.is_true(DEREGISTERED):
                yield Key(machine.namespace, machine.name)
