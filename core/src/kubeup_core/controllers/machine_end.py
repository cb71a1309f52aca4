"""How a Machine goes: out of its load balancers, its Node drained, out of etcd, its volumes let go, cleaned where its host is used
again, deleted at the place, proven gone, its Node deleted, and then the finalizer.

Called by `machine.py` for a Machine that is being deleted. A machine whose Launch is open waits for it (it is looked up there, not
made again), one that was never made goes at once. Calls are collected by `deleter.py`, so that many machines are one call.
"""

from __future__ import annotations

from ..errors import Blocked
from ..kinds import Cluster, Launch, Machine
from ..kinds.machine import ABANDON, FINALIZER
from ..objects import parse_timestamp
from ..runtime.controller import Env, Key, Result
from ..runtime.places import Place
from ..statuses import NotFound
from ..supplier import Outcome, Phase, Ref
from ..supplier import Result as Told
from .attachment import volumes_hold
from .book import Book, Removal
from .cleaning import CLEANED, Cleaned, Cleaning
from .deregistration import leaving_balancers
from .drain import DRAINED, Drains, Progress
from .etcd import Members
from .marks import launch_mark, made_by, place_of
from .pauses import held

LOOK = 2.0
AGAIN = 30.0
"""Awake seconds after which a machine that a delete call did not move is deleted again."""

DETACH = 600.0
"""Awake seconds for which volumes may hold a machine back; then deleting it is what frees them."""


class MachineEnd:
    def __init__(self, env: Env, controller: str) -> None:
        self.env = env
        self.controller = controller
        self.book = env.shared(Book)
        self.drains = Drains(env, controller)
        self.members = Members(env, controller)
        self.cleaning = Cleaning(env, controller)
        self._out_of_etcd: set[str] = set()

    def step(self, machine: Machine, key: Key) -> Result:
        if FINALIZER not in machine.finalizers:
            return Result()
        stop = held(self.env, machine)
        if stop:
            return self._say(
                machine, "Paused", f"it is to be deleted, but {stop} is paused; set spec.paused: false to let it go"
            )
        launches = self.env.cache.by(Launch, "member", machine.uid)
        if any(launch.status.phase == "Open" for launch in launches):
            return self._waits_for_launch(machine, launches)
        made = self._made(machine, launches)
        if made is None:
            return self._finish(machine)
        launch, index, id_ = made
        place = self.env.places.get(launch.spec.provider)
        if place is None or not place.usable or place.identity.key != launch.spec.identity:
            why = place.why if place is not None else "there is no such Provider"
            return self._cannot(machine, launch, f"Provider {launch.spec.provider} cannot be asked: {why}")
        if machine.status.launch is None:
            return self._adopt(machine, launch, index, id_)
        pointless = self.drains.pointless(machine)
        if pointless is not None:
            machine = self._drained(machine, pointless)
        if leaving_balancers(self.env, machine):
            return self._say(machine, "Deregistering", "its load balancers let its connections finish")
        drain = self.drains.step(machine, key)
        if drain is not None and not drain.over:
            return self._draining(machine, drain)
        if drain is not None:
            machine = self._drained(machine, drain)
        if machine.uid not in self._out_of_etcd:
            trouble = self.members.leaving(machine, self.env.cache.get(Cluster, machine.spec.cluster, machine.namespace), key)
            if trouble is not None:
                return self._say(machine, trouble.reason, trouble.message, after=trouble.after)
            self._out_of_etcd.add(machine.uid)
        if volumes_hold(self.env, machine) and self._patient(machine):
            return self._say(machine, "Detaching", "its volumes are being detached", after=LOOK)
        state = self.env.inventory.state(place, "machines", launch_mark(self.env.installation, launch, index), id_)
        cleaned = self.cleaning.step(machine, place, launch, state, key)
        if cleaned is not None and not cleaned.over:
            return self._cleaning(machine, launch, cleaned)
        if cleaned is not None:
            machine = self._cleaned(machine, cleaned)
        return self._delete(machine, launch, index, id_, place, key)

    # -- steps -----------------------------------------------------------------------------------------------------------

    def _waits_for_launch(self, machine: Machine, launches: list[Launch]) -> Result:
        open_ = next(launch for launch in launches if launch.status.phase == "Open")
        place = self.env.places.get(open_.spec.provider)
        if place is None or not place.usable:
            why = place.why if place is not None else "there is no such Provider"
            return self._cannot(machine, open_, f"its launch cannot be looked up, Provider {open_.spec.provider}: {why}")
        return Result()  # `launch.py` settles it, and that wakes this key

    def _delete(self, machine: Machine, launch: Launch, index: int, id_: str, place: Place, key: Key) -> Result:
        mark = launch_mark(self.env.installation, launch, index)
        self.env.inventory.want(place, "machines", soon=True)
        state = self.env.inventory.state(place, "machines", mark, id_)
        seen = self.env.inventory.snapshot(place, "machines")
        where = place_of(launch, index)
        known = state.ref.id if state is not None else id_
        name = (mark.maker, mark.index, known)
        sent = self.book.removed.get(name)
        if state is not None and state.phase is Phase.GONE:
            return self._gone(machine, launch, index, name, key)
        if sent is not None and state is None:
            if self.env.inventory.absent(place, "machines", mark, id=known, place_name=where, since=sent[0]):
                return self._gone(machine, launch, index, name, key)
            if seen is not None and not seen.reached(where):
                return self._cannot(machine, launch, f"{where} at Provider {place.name} does not answer")
        if self._due(sent, state.phase if state is not None else None):
            self._ask(machine, place, Ref(id=known, mark=mark), key)
        blocked = sent[1].error if sent is not None and isinstance(sent[1].error, Blocked) else None
        said = f"{blocked.message}; {blocked.remedy}" if blocked else f"Provider {place.name} is deleting it"
        self._say(machine, "Deleting", said)
        return Result(after=LOOK)

    def _due(self, sent: tuple[float, Told] | None, phase: Phase | None) -> bool:
        """Not asked yet (by this process), the answer was no answer, or nothing came of it."""
        if sent is None:
            return True
        at, told = sent
        waited = self.env.clock.awake() - at
        if told.outcome in (Outcome.MADE, Outcome.PENDING):
            return phase not in (None, Phase.DELETING) and waited >= AGAIN
        return bool(waited >= min(getattr(told.error, "retry_after", None) or LOOK, AGAIN))

    def _ask(self, machine: Machine, place: Place, ref: Ref, key: Key) -> None:
        def still_wanted() -> bool:
            stored = self.env.client.find(Machine, machine.name, machine.namespace)
            return stored is not None and stored.uid == machine.uid and stored.deleting

        removal = Removal(ref, still_wanted, (self.controller, key), self.env.clock.awake())
        with self.book.lock:
            self.book.removals.setdefault(place.name, {})[(ref.mark.maker, ref.mark.index, ref.id)] = removal
        self.env.wake("deleter", Key("", place.name), 0.02)

    def _gone(self, machine: Machine, launch: Launch, index: int, name: tuple[str, int, str], key: Key) -> Result:
        self.drains.delete_node(machine, key)
        self._out_of_etcd.discard(machine.uid)
        self.book.proven.add((launch.uid, index))
        self.book.removed.pop(name, None)
        place = self.env.places.get(launch.spec.provider)
        if place is not None:
            self.env.inventory.settled(place, "machines", launch_mark(self.env.installation, launch, index))
        return self._finish(machine)

    def _cannot(self, machine: Machine, launch: Launch, why: str, told: str = "CannotDelete") -> Result:
        """Nothing is concluded about a place that did not answer. Giving a machine up is a person's word."""
        reason = machine.annotations.get(ABANDON)
        if reason is not None:
            later = f"Launch {launch.name} stays, so that it is deleted if it is seen again"
            message = f"given up ({reason or 'no reason given'}) although {why}; {later}"
            self.env.events.event(machine, "Warning", "Abandoned", message)
            return self._finish(machine)
        message = (
            f"it cannot be deleted: {why}. It goes when the place answers; to give it up: "
            f"kubectl annotate machine {machine.name} -n {machine.namespace} {ABANDON}=REASON"
        )
        return self._say(machine, told, message)

    # -- below -----------------------------------------------------------------------------------------------------------

    @staticmethod
    def _made(machine: Machine, launches: list[Launch]) -> tuple[Launch, int, str] | None:
        """The launch that made it, or None: nothing was ever made for it."""
        for launch in launches:
            member = made_by(launch, machine)
            if member is not None:
                return launch, member.index, member.id or machine.status.id or ""
        return None

    def _adopt(self, machine: Machine, launch: Launch, index: int, id_: str) -> Result:
        """Made, but never seen Ready: the status says where it is before the load balancers are asked."""
        changed = self.env.cache.copy(machine)
        changed.status.launch, changed.status.index, changed.status.id = launch.name, index, id_ or None
        self._deleting(changed, "Deleting", "it is being deleted")
        self.env.client.update_status(changed)
        return Result(after=0.0)

    def _patient(self, machine: Machine) -> bool:
        drained = machine.status.condition(DRAINED)
        began = drained.last_transition_time if drained is not None else machine.metadata.deletion_timestamp
        return self.env.clock.elapsed(parse_timestamp(began or "")) < DETACH

    def _draining(self, machine: Machine, drain: Progress) -> Result:
        changed = self.env.cache.copy(machine)
        self._deleting(changed, drain.reason, drain.message)
        changed.status.state = "Draining"
        now, generation = self.env.clock.wall(), machine.metadata.generation
        changed.status.set_condition(DRAINED, False, drain.reason, drain.message, now=now, generation=generation)
        if drain.stalled:
            changed.status.set_condition("Stalled", True, drain.reason, drain.message, now=now, generation=generation)
        else:
            changed.status.drop_condition("Stalled")
        if changed.status != machine.status:
            self.env.client.update_status(changed)
        return Result(after=drain.after)

    def _drained(self, machine: Machine, drain: Progress) -> Machine:
        """Stored, so that what was skipped or forced is not begun anew after a crash."""
        changed = self.env.cache.copy(machine)
        self._deleting(changed, "Deleting", "it is being deleted")
        changed.status.drop_condition("Stalled")
        now, generation = self.env.clock.wall(), machine.metadata.generation
        changed.status.set_condition(DRAINED, True, drain.reason, drain.message, now=now, generation=generation)
        return self.env.client.update_status(changed)

    def _cleaning(self, machine: Machine, launch: Launch, cleaned: Cleaned) -> Result:
        """A host that cannot be cleaned is held back by its Machine, which says why: nothing else is put on it."""
        if not cleaned.lost:
            return self._say(machine, cleaned.reason, cleaned.message, after=cleaned.after)
        host = launch.spec.members[machine.status.index or 0].slot or machine.name
        self._cannot(machine, launch, f"{host} cannot be cleaned, so it is kept back: {cleaned.message}", cleaned.reason)
        return Result(after=cleaned.after)

    def _cleaned(self, machine: Machine, cleaned: Cleaned) -> Machine:
        """Stored: after a crash its host may be somebody else's already."""
        changed = self.env.cache.copy(machine)
        self._deleting(changed, "Deleting", "it is being deleted")
        now, generation = self.env.clock.wall(), machine.metadata.generation
        changed.status.set_condition(CLEANED, True, cleaned.reason, cleaned.message, now=now, generation=generation)
        return self.env.client.update_status(changed)

    def _say(self, machine: Machine, reason: str, message: str, after: float | None = None) -> Result:
        changed = self.env.cache.copy(machine)
        self._deleting(changed, reason, message)
        if changed.status != machine.status:
            self.env.client.update_status(changed)
        return Result(after=after)

    def _deleting(self, machine: Machine, reason: str, message: str) -> None:
        machine.status.state = "Deleting"
        now, generation = self.env.clock.wall(), machine.metadata.generation
        machine.status.set_condition("Ready", False, reason, message, now=now, generation=generation)

    def _finish(self, machine: Machine) -> Result:
        changed = self.env.cache.copy(machine)
        changed.metadata.finalizers = [f for f in machine.finalizers if f != FINALIZER] or None
        self.cleaning.forget(machine.uid)
        try:
            self.env.client.update(changed)
        except NotFound:
            self.env.cache.forget(Machine, machine.name, machine.namespace)
        return Result()
