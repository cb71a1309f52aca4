"""Drives an open Launch until the fate of every member is known, then settles it with one write; lets it go when all is gone.

The normal answer to an unknown outcome is the same call with the same token, as long as a member is still wanted and the token is
honoured; otherwise the members are looked up. A member counts as not made only by the supplier's word for a call that nobody can
have made before, or by proof of absence. Launches are written by `placement.py`; what becomes of the machines is in `machine.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from ..client import Event
from ..errors import Denied, NoCapacity, NotReady, SupplierError, Unknown
from ..errors import Place as Reach
from ..kinds import Cluster, Installation, Launch, Machine, NodePool, Provider
from ..kinds.installation import NAME
from ..kinds.launch import FINALIZER, MemberStatus
from ..kinds.machine import ABANDON
from ..objects import parse_timestamp, timestamp
from ..runtime.calls import InProgress
from ..runtime.controller import Controller, Env, Key, Result, Watch
from ..runtime.places import Place
from ..statuses import NotFound
from ..supplier import Outcome
from ..supplier import Result as Told
from .book import Book, Progress
from .marks import last_error, launch_mark, place_of, to_launch
from .pauses import paused
from .user_data import drop_user_data, stored_user_data

LOOK = 2.0
"""Awake seconds between two looks at members that are on their way."""

LONGEST = 30.0
TRIES = 8
"""Calls that a place was not ready for before its machines may go elsewhere."""

RETAINED = 3600.0
"""Seconds for which the record of a launch whose machines are gone stays readable, at most."""

_WORDS: dict[Outcome, Any] = {
    Outcome.MADE: "Made",
    Outcome.REFUSED: "Refused",
    Outcome.DEAD: "Dead",
    Outcome.ABSENT: "Absent",
}


class LaunchController(Controller):
    name = "launch"
    kind = Launch

    def __init__(self, env: Env) -> None:
        self.watches = (Watch(Machine, self._of_machine), Watch(Provider, self._of_provider), Watch(Cluster, self._of_cluster))
        super().__init__(env)
        self.book = env.shared(Book)

    def reconcile(self, key: Key) -> Result:
        launch = self.env.cache.get(Launch, key.name, key.namespace)
        if launch is None:
            return Result()
        if launch.status.phase == "Settled":
            return self._let_go(launch)
        place = self.env.places.get(launch.spec.provider)
        if place is None or not place.usable or place.identity.key != launch.spec.identity:
            return self._abandoned(launch) or Result()
        return self._drive(launch, place, key)

    # -- open ------------------------------------------------------------------------------------------------------------

    def _drive(self, launch: Launch, place: Place, key: Key) -> Result:
        progress = self.book.progress(launch.uid)
        self.env.inventory.want(place, "machines", soon=True)
        wanted = [machine for machine in self._machines(launch) if not machine.deleting]
        if place.pause or (wanted and paused(self.env, wanted[0])):
            return Result()
        if not wanted and progress.fresh and not self.env.calls.busy(place, launch.uid):
            self._all(launch, progress, Told(id="", outcome=Outcome.ABSENT))
            return self._settle(launch, place, progress)
        if self.env.calls.busy(place, launch.uid):
            progress.submitted = self.env.clock.awake()  # it may make something as long as it has not returned
        wait = progress.again - self.env.clock.awake()
        if wait > 0:
            return Result(after=wait)
        if progress.refusal is not None:
            return self._prove(launch, place, progress)
        unknown = [i for i in range(len(launch.spec.members)) if not progress.resolved(i) and not self._pending(progress, i)]
        submit = bool(wanted) and bool(unknown) and self._honoured(launch, place)
        submit = submit and stored_user_data(self.env, launch) is not None  # another call under its token would make others
        if submit and not place.may_create:
            return Result(after=60.0, slow=True)
        return self._call(launch, place, progress, key, submit)

    def _call(self, launch: Launch, place: Place, progress: Progress, key: Key, submit: bool) -> Result:
        try:
            results = self._submit(launch, place, progress, key) if submit else self._look_up(launch, place, key)
        except InProgress:
            raise
        except SupplierError as error:
            return self._refused(launch, place, progress, error, submit)
        if len(results) != len(launch.spec.members):
            progress.doubtful = True
            return self._later(progress)
        return self._take(launch, place, progress, results, submit)

    def _submit(self, launch: Launch, place: Place, progress: Progress, key: Key) -> Sequence[Told]:
        """Until the answer is here, whatever happens to this call, something may have been made."""
        wanted = to_launch(self.env.installation, launch, stored_user_data(self.env, launch) or b"")
        machines = place.suppliers.machines
        if not progress.sending:
            progress.before, progress.sending, progress.doubtful, progress.fresh = progress.doubtful, True, True, False
        try:
            results = self.env.calls.do(
                place, launch.uid, "launch", lambda: machines.launch(wanted), wake=(self.name, key),
                guard=lambda: self._still_wanted(launch), limit=120.0,
            )  # fmt: skip
        except Unknown:
            progress.sending, progress.submitted = False, self.env.clock.awake()
            raise
        except SupplierError:
            progress.sending, progress.doubtful = False, progress.before
            progress.submitted = self.env.clock.awake()
            raise
        progress.sending, progress.submitted = False, self.env.clock.awake()
        progress.failures = 0
        return results

    def _look_up(self, launch: Launch, place: Place, key: Key) -> Sequence[Told]:
        wanted = to_launch(self.env.installation, launch, stored_user_data(self.env, launch) or b"")
        machines = place.suppliers.machines
        return self.env.calls.do(
            place, launch.uid, "lookup", lambda: machines.lookup(wanted), wake=(self.name, key), mutating=False
        )

    def _take(self, launch: Launch, place: Place, progress: Progress, results: Sequence[Told], submit: bool) -> Result:
        """Keep what is final, wake the machines concerned, settle when nothing is open."""
        if submit and all(r.outcome is not Outcome.UNKNOWN for r in results):
            progress.doubtful = False
        news = [i for i, result in enumerate(results) if progress.take(i, result)]
        for index in news:
            error = results[index].error
            if isinstance(error, NoCapacity | Denied):
                self.env.calls.note(place, error)
        open_ = [i for i in range(len(results)) if not progress.resolved(i)]
        if not submit:
            open_ = [i for i in open_ if not self._proven_absent(launch, place, progress, i)]
        if not open_:
            return self._settle(launch, place, progress)
        for index in news:
            self.env.wake("machine", Key(launch.namespace, launch.spec.members[index].name))
        unsure = any(not self._pending(progress, i) for i in open_)
        if unsure and submit:
            return self._later(progress)
        return Result(after=LOOK)

    def _refused(self, launch: Launch, place: Place, progress: Progress, error: SupplierError, submit: bool) -> Result:
        """A raise other than Unknown means that this call made nothing; only where no earlier one may have is that the end."""
        match error:
            case Unknown():
                return self._later(progress)
            case NotReady() if submit and not progress.doubtful and progress.failures >= TRIES:
                for slot in {member.slot or None for member in launch.spec.members}:
                    reach = Reach(place=launch.spec.offer.place or None, slot=slot)
                    elsewhere = NoCapacity(error.message, scope=reach, retry_after=60.0)
                    self.env.calls.note(place, elsewhere)  # nothing was made: its machines may try another zone meanwhile
            case NotReady():
                return self._later(progress, error.retry_after)
            case Denied():
                return self._later(progress, 60.0)
        if not submit:
            return self._later(progress)
        progress.refusal = error
        if progress.doubtful:
            return self._prove(launch, place, progress)
        self._all(launch, progress, Told(id="", outcome=Outcome.REFUSED, error=error))
        return self._settle(launch, place, progress)

    def _prove(self, launch: Launch, place: Place, progress: Progress) -> Result:
        """The call was refused, but an earlier one may have landed: what observation shows is there, the rest is refused."""
        open_ = False
        for index in range(len(launch.spec.members)):
            if progress.resolved(index):
                continue
            mark = launch_mark(self.env.installation, launch, index)
            state = self.env.inventory.state(place, "machines", mark)
            if state is not None:
                progress.refusal, progress.doubtful = None, True  # the first call did land: look it up from now on
                progress.results.clear()
                progress.again = self.env.clock.awake() + LOOK
                return Result(after=LOOK)
            gone = self.env.inventory.absent(
                place, "machines", mark, place_name=place_of(launch, index), since=progress.submitted
            )
            if gone:
                progress.take(index, Told(id="", outcome=Outcome.REFUSED, error=progress.refusal))
            else:
                open_ = True
        return Result(after=LOOK) if open_ else self._settle(launch, place, progress)

    def _proven_absent(self, launch: Launch, place: Place, progress: Progress, index: int) -> bool:
        """For members that nobody wants any more, or whose token is over."""
        found = progress.results.get(index)
        if found is None or found.outcome is not Outcome.ABSENT:
            return False
        mark = launch_mark(self.env.installation, launch, index)
        return bool(
            self.env.inventory.absent(place, "machines", mark, place_name=place_of(launch, index), since=progress.submitted)
        )

    def _settle(self, launch: Launch, place: Place, progress: Progress) -> Result:
        """The second and last write."""
        if self.env.calls.busy(place, launch.uid):
            return Result(after=LOOK)  # an abandoned call has not returned: it may yet make something
        now = self.env.clock.wall()
        changed = self.env.cache.copy(launch)
        status = changed.status
        status.phase, status.settled_at = "Settled", timestamp(now)
        status.members = []
        first: SupplierError | None = None
        for index in range(len(launch.spec.members)):
            told = progress.results.get(index) or Told(id="", outcome=Outcome.ABSENT)
            first = first or told.error
            error = last_error(told.error, now) if told.error is not None else None
            status.members.append(MemberStatus(index=index, id=told.id, outcome=_WORDS[told.outcome], error=error))
        status.made = sum(1 for m in status.members if m.outcome == "Made")
        status.refused = sum(1 for m in status.members if m.outcome == "Refused")
        status.last_error = last_error(first, now) if first is not None else None
        self.env.client.update_status(changed)
        with self.book.lock:
            self.book.open.pop(launch.uid, None)
        for index in range(len(launch.spec.members)):
            mark = launch_mark(self.env.installation, launch, index)
            self.env.inventory.settled(place, "machines", mark)
        self._tell(changed, first)
        return Result()

    def _tell(self, launch: Launch, error: SupplierError | None) -> None:
        """One event for all members."""
        pool = self.env.cache.get(NodePool, launch.spec.pool, launch.namespace) if launch.spec.pool else None
        machines = list(self._machines(launch))
        about = pool or (machines[0] if machines else launch)
        offer, total = launch.spec.offer, len(launch.spec.members)
        where = f"{offer.machine_type or 'machines'} at {launch.spec.provider} {offer.place}".rstrip()
        if launch.status.made == total:
            self.env.events.event(about, "Normal", "Launched", f"{total} x {where}")
            return
        why = f": {error.message}" if error is not None else ""
        remedy = f"; {error.remedy}" if error is not None and error.remedy else "; the rest is tried elsewhere or later"
        self.env.events.event(about, "Warning", "LaunchRefused", f"{launch.status.made} of {total} x {where}{why}{remedy}")

    # -- settled ---------------------------------------------------------------------------------------------------------

    def _let_go(self, launch: Launch) -> Result:
        """The record holds its Provider until every machine it made is proven gone; then it is only a record."""
        if any(True for _ in self._machines(launch)):
            return Result()
        place = self.env.places.get(launch.spec.provider)
        if FINALIZER in launch.finalizers:
            if place is None or not place.usable or place.identity.key != launch.spec.identity:
                return self._abandoned(launch) or Result()
            if not self._all_gone(launch, place):
                return self._abandoned(launch) or Result(after=LOOK, slow=not self.env.inventory.quiet(place))
            changed = self.env.cache.copy(launch)
            changed.metadata.finalizers = [f for f in launch.finalizers if f != FINALIZER] or None
            launch = self.env.client.update(changed)
            self.book.forget(launch.uid, len(launch.spec.members))
            if launch.deleting:
                return Result()
        cluster = self.env.cache.get(Cluster, launch.spec.cluster, launch.namespace)
        life = place.capabilities.token_life if place is not None else 0.0
        age = self.env.clock.wall() - parse_timestamp(launch.status.settled_at or launch.metadata.creation_timestamp or "")
        left = min(life, RETAINED) - age
        if cluster is not None and not cluster.deleting and cluster.uid == launch.spec.cluster_uid and left > 0:
            return Result(after=left, slow=True)
        with suppress(NotFound):
            self.env.client.delete(Launch, launch.name, launch.namespace, uid=launch.uid)
        drop_user_data(self.env, launch)
        return Result()

    def _all_gone(self, launch: Launch, place: Place) -> bool:
        gone = True
        for member in launch.status.members:
            if member.outcome not in ("Made", "Dead") or (launch.uid, member.index) in self.book.proven:
                continue
            mark = launch_mark(self.env.installation, launch, member.index)
            place_name = place_of(launch, member.index)
            gone = bool(self.env.inventory.absent(place, "machines", mark, id=member.id, place_name=place_name)) and gone
        return gone

    def _abandoned(self, launch: Launch) -> Result | None:
        """A person gives up what a place that never answers may still hold."""
        if ABANDON not in launch.annotations or FINALIZER not in launch.finalizers:
            return None
        changed = self.env.cache.copy(launch)
        changed.metadata.finalizers = [f for f in launch.finalizers if f != FINALIZER] or None
        self.env.client.update(changed)
        return Result()

    # -- below -----------------------------------------------------------------------------------------------------------

    def _machines(self, launch: Launch) -> Iterator[Machine]:
        """The members that exist, by uid: a namesake is another machine."""
        for member in launch.spec.members:
            machine = self.env.cache.get(Machine, member.name, launch.namespace)
            if machine is not None and machine.uid == member.uid:
                yield machine

    def _honoured(self, launch: Launch, place: Place) -> bool:
        """Whether the token is young enough, and not from before a restore: what it made may have been replaced since."""
        created = parse_timestamp(launch.metadata.creation_timestamp or "")
        installation = self.env.cache.get(Installation, NAME)
        restored = installation.status.restored_at if installation is not None else None
        if restored is not None and created <= parse_timestamp(restored):
            return False
        return self.env.clock.wall() - created < place.capabilities.token_life

    def _still_wanted(self, launch: Launch) -> bool:
        """Read from the store, in the thread of the call."""
        stored = self.env.client.find(Launch, launch.name, launch.namespace)
        if stored is None or stored.uid != launch.uid or stored.status.phase != "Open":
            return False
        for member in launch.spec.members:
            machine = self.env.client.find(Machine, member.name, launch.namespace)
            if machine is not None and machine.uid == member.uid and not machine.deleting:
                return True
        return False

    @staticmethod
    def _pending(progress: Progress, index: int) -> bool:
        found = progress.results.get(index)
        return found is not None and found.outcome is Outcome.PENDING

    @staticmethod
    def _all(launch: Launch, progress: Progress, told: Told) -> None:
        for index in range(len(launch.spec.members)):
            progress.take(index, told)

    def _later(self, progress: Progress, after: float | None = None) -> Result:
        """The same call again, later and later. `again` keeps wakes in between from hurrying it."""
        progress.failures += 1
        wait = after if after is not None else min(2.0 ** (progress.failures - 1), LONGEST)
        progress.again = self.env.clock.awake() + wait
        return Result(after=wait)

    def _of_machine(self, event: Event[Any]) -> Iterator[Key]:
        if event.type == "DELETED" or event.object.deleting:
            for launch in self.env.cache.by(Launch, "member", event.object.uid):
                yield Key(launch.namespace, launch.name)

    def _of_provider(self, event: Event[Any]) -> Iterator[Key]:
        for launch in self.env.cache.by(Launch, "provider", event.object.name):
            if launch.status.phase == "Open" or not any(True for _ in self._machines(launch)):
                yield Key(launch.namespace, launch.name)

    def _of_cluster(self, event: Event[Any]) -> Iterator[Key]:
        old = event.old
        if event.type == "MODIFIED" and old is not None:
            unchanged = (old.spec.paused, old.deleting) == (event.object.spec.paused, event.object.deleting)
            if unchanged:
                return
        for launch in self.env.cache.by(Launch, "cluster", f"{event.object.namespace}/{event.object.name}"):
            yield Key(launch.namespace, launch.name)
