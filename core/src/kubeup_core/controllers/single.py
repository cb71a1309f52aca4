"""One resource at a place: made once, found again after a crash, removed with proof. For networks, load balancers and volumes.

Machines come in batches and are journalled as Launches; these three are single, and the journal is their own object: before the
first call its status says where it is going to be made. So after a crash, or after a reply that was lost, a resource that may
or may not exist is looked for by its mark until it is seen, or until observation proves that it is not there; only then is it
asked for again. What is kept here in memory only saves calls and waiting: all of it is found again by observing.

Called by `network.py`, `load_balancer.py` and `volume.py`. What to ask for, and what to tell people, is theirs.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar, cast

from ..errors import Blocked, InvalidSpec, NotFound, SupplierError, Unknown
from ..runtime.controller import Env, Key
from ..runtime.inventory import What
from ..runtime.places import Place
from ..supplier import Mark, Phase, Ref
from .troubles import SOON, trouble

_ON_THE_WAY = (Phase.PARTIAL, Phase.PENDING, Phase.DELETING)

STEP = 2.0
"""Awake seconds between two steps of something that is not finished: `ensure` and `delete` do one step per call."""

RETRY = 1.0
"""Awake seconds after which a call with an unknown outcome may be made again, where that is safe."""

UNLISTED = 600.0
"""Awake seconds after which what observation does not show is looked at again by `ensure`."""


class State(Protocol):
    """What the states of the three have in common."""

    @property
    def ref(self) -> Ref: ...
    @property
    def phase(self) -> Phase: ...


S = TypeVar("S", bound=State)
T = TypeVar("T")


class NotYet(Exception):
    """Nothing can be decided before the place has been observed again; look again after so many awake seconds.
    why: what keeps it from being observed, "" when only time does."""

    def __init__(self, why: str = "", after: float = STEP) -> None:
        super().__init__(why or f"looks again in {after:g} s")
        self.after = after
        self.why = why


@dataclass(frozen=True)
class _Failure:
    """until: awake seconds. about: the wish or token that failed, and when the place was built: for another one it does not count."""

    about: tuple[str, float]
    error: SupplierError
    until: float


@dataclass
class _Memory(Generic[S]):
    """What this process knows of one resource at one place. All stamps are awake seconds.

    sure      no creating call with an unknown outcome is about
    since     from when a proof of absence has to start
    answer    what `ensure` said, `answered` then, for the wish with this digest
    missing   id of an answer that observation disproved
    unlisted  `ensure` says again that `missing` is there: it is somebody else's, named by the overrides, and never listed as ours
    failed    the last error of a call, by verb: it is not repeated before its time
    deleted   the last delete that was accepted; acted: the last call of another kind
    """

    sure: bool = False
    since: float = 0.0
    wish: str = ""
    answer: S | None = None
    answered: float = float("-inf")
    missing: str = ""
    unlisted: bool = False
    failed: dict[str, _Failure] = field(default_factory=dict)
    deleted: float | None = None
    acted: float = float("-inf")


class Single(Generic[S]):
    """The resources of one sort (`networks`, `load_balancers` or `volumes`) at all places. Thread-safe."""

    def __init__(self, env: Env, what: What, controller: str) -> None:
        self.env = env
        self.what = what
        self.controller = controller
        self._memory: dict[tuple[str, str], _Memory[S]] = {}
        self._lock = threading.Lock()

    def look(self, place: Place, mark: Mark) -> S | None:
        """The newest that is known of it: an answer of `ensure`, until an observation that began later is there."""
        memory = self._of(place, mark)
        self.env.inventory.want(place, self.what)
        snapshot = self.env.inventory.snapshot(place, self.what)
        seen = cast("S | None", self.env.inventory.state(place, self.what, mark))
        if seen is not None and seen.phase is Phase.GONE:
            seen = None  # the place's word that it is over: a proof, which `_absent` takes
        if seen is not None:
            self.env.inventory.settled(place, self.what, mark)
            if seen.phase in _ON_THE_WAY or bool(getattr(seen, "busy", "")):
                self.env.inventory.want(place, self.what, soon=True)
        if memory.answer is None or (seen is not None and snapshot is not None and snapshot.started > memory.answered):
            return seen
        if seen is None and not memory.unlisted and self._absent(place, mark, memory.answer.ref.id, memory.answered):
            memory.missing, memory.answer, memory.wish = memory.answer.ref.id, None, ""
        return memory.answer

    def fresh(self, place: Place, mark: Mark) -> bool:
        """Whether what `look` says was seen after the last call of this process that changed something."""
        memory = self._of(place, mark)
        snapshot = self.env.inventory.snapshot(place, self.what)
        return max(memory.answered, snapshot.started if snapshot is not None else float("-inf")) > memory.acted

    def gone(self, place: Place, mark: Mark, id: str) -> bool:
        """Proven to be gone, although nobody here asked for that."""
        return self.look(place, mark) is None and self._absent(place, mark, id, self._of(place, mark).since)

    def began(self, place: Place, mark: Mark) -> None:
        """The object now says, durably, that it is going to be made here, and nobody can have asked for it before."""
        self._of(place, mark).sure = True

    def ensure(self, place: Place, mark: Mark, make: Callable[[], S], *, wish: object, key: Key, id: str = "") -> S:
        """Bring it one step nearer to `wish` where it is not there yet, and say how it is.

        id  the place's id, where the object knows it
        Raises NotYet, InProgress, and the SupplierErrors of the call, also of the last one while it is too early for another.
        """
        memory, digest = self._of(place, mark), _digest(wish)
        state = self.look(place, mark)
        if state is not None:
            memory.sure = True
            if state.phase is Phase.DELETING:
                raise self._not_yet(place)  # somebody else deletes it; it comes again when that is over
            if memory.wish == digest and self._enough(state, memory):
                return state
        elif not memory.sure:
            if not self._absent(place, mark, id, memory.since):
                raise self._not_yet(place)
            memory.sure = True
        return self._send(place, mark, make, memory, digest, key)

    def call(self, place: Place, mark: Mark, verb: str, act: Callable[[], T], *, key: Key, token: str = "") -> T:
        """Another mutating call on the same resource (attach, detach). What is remembered of it is looked at anew."""
        memory = self._of(place, mark)
        try:
            return self._do(place, mark, verb, act, memory, token, key)
        finally:
            self.env.inventory.want(place, self.what, soon=True)
            memory.answer, memory.acted = None, self.env.clock.awake()

    def remove(
        self, place: Place, mark: Mark, delete: Callable[[Ref], None], *, key: Key, id: str = "", guard: Callable[[], bool]
    ) -> bool:
        """One step of removing it; True when observation has proven that it is gone.

        guard  re-reads the decision from the store just before the call
        Raises NotYet, InProgress, Blocked and the other SupplierErrors of the call.
        """
        memory = self._of(place, mark)
        self.env.inventory.want(place, self.what, soon=True)
        state = self.look(place, mark) if not memory.unlisted else None
        known = state.ref.id if state is not None else id
        if state is None and self._absent(place, mark, known, memory.since):
            self.forget(mark)
            return True
        if not known:
            raise self._not_yet(place)
        if memory.deleted is not None and not self._lingers(place, memory.deleted, state):
            raise self._not_yet(place)
        ref = Ref(id=known, mark=mark)
        try:
            self._do(place, mark, "delete", lambda: delete(ref), memory, known, key, guard)
        except NotFound:
            pass  # gone, or not ours: either way the proof decides
        except Blocked as error:
            if set(error.by) - {known}:
                raise  # something else is in the way; it is itself when a deletion only takes its time
        memory.deleted = memory.since = self.env.clock.awake()
        memory.answer, memory.wish = None, ""
        raise self._not_yet(place)

    def forget(self, mark: Mark) -> None:
        with self._lock:
            for key in [k for k in self._memory if k[1] == mark.maker]:
                del self._memory[key]

    # -- below -----------------------------------------------------------------------------------------------------------

    def _send(self, place: Place, mark: Mark, make: Callable[[], S], memory: _Memory[S], digest: str, key: Key) -> S:
        try:
            state = self._do(place, mark, "ensure", make, memory, digest, key)
        except Unknown:
            memory.sure, memory.wish, memory.answer = False, "", None
            memory.since = max(memory.since, memory.failed["ensure"].until - RETRY)
            raise
        except SupplierError:
            memory.wish = ""
            raise
        memory.sure, memory.wish, memory.answer = True, digest, state
        memory.answered = memory.since = self.env.clock.awake()
        memory.deleted = None
        memory.unlisted = state.ref.id == memory.missing
        if state.phase is not Phase.RUNNING:
            self.env.inventory.want(place, self.what, soon=True)
        return state

    def _do(
        self,
        place: Place,
        mark: Mark,
        verb: str,
        act: Callable[[], T],
        memory: _Memory[S],
        token: str,
        key: Key,
        guard: Callable[[], bool] | None = None,
    ) -> T:
        """A call that failed is not made again before its time: whatever wakes the object in between gets the same error."""
        about, failed = (token, place.built_at), memory.failed.get(verb)
        if failed is not None and failed.about == about and self.env.clock.awake() < failed.until:
            raise failed.error
        try:
            result = self.env.calls.do(place, mark.maker, verb, act, wake=(self.controller, key), token=token, guard=guard)
        except SupplierError as error:
            memory.failed[verb] = _Failure(about, error, self.env.clock.awake() + _patience(error))
            raise
        memory.failed.pop(verb, None)
        return result

    def _enough(self, state: S, memory: _Memory[S]) -> bool:
        """Finished, or asked a moment ago. What is never listed is asked for now and then, to see whether it is there."""
        age = self.env.clock.awake() - memory.answered
        return age < (UNLISTED if memory.unlisted else float("inf") if state.phase is Phase.RUNNING else STEP)

    def _lingers(self, place: Place, deleted: float, state: S | None) -> bool:
        """Still there in an observation that began after the last delete: another pass is due."""
        snapshot = self.env.inventory.snapshot(place, self.what)
        if state is None or snapshot is None or snapshot.started <= deleted:
            return False
        return state.phase is not Phase.DELETING or self.env.clock.awake() >= deleted + 5 * STEP

    def _not_yet(self, place: Place) -> NotYet:
        self.env.inventory.want(place, self.what, soon=True)
        return NotYet(self.env.inventory.failing(place, self.what))

    def _absent(self, place: Place, mark: Mark, id: str, since: float) -> bool:
        return self.env.inventory.absent(place, self.what, mark, id=id, since=since) is True

    def _of(self, place: Place, mark: Mark) -> _Memory[S]:
        with self._lock:
            return self._memory.setdefault((place.identity.key, mark.maker), _Memory(since=self.env.clock.awake()))


def _patience(error: SupplierError) -> float:
    """Seconds until the same call makes sense again."""
    if isinstance(error, Unknown):
        return RETRY
    if isinstance(error, InvalidSpec):
        return float("inf")
    after = trouble(error, "").after
    return SOON if after is None else after


def _digest(wish: object) -> str:
    """Of a frozen dataclass; repr is exact for these, and hides nothing that matters here (networks hold no secrets)."""
    return hashlib.sha256(repr(wish).encode()).hexdigest()
