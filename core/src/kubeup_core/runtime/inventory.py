"""What is really there: one observation per identity and kind of thing, shared by all controllers of all clusters.

It is driven as a controller of its own (`manager.py` registers it): a key is (kind of thing, identity). Controllers say what they
want to know (`want`), read the newest observation (`snapshot`, `state`), and ask for proofs of absence (`absent`): one miss proves
nothing, because reads lag behind writes. A changed or vanished item wakes its owner. Nothing is concluded about a place that did not
answer, nor from an observation during which the clock jumped.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from ..errors import SupplierError
from ..supplier import Mark, Phase, Ref, Scope, SlotState, Snapshot
from .calls import Calls
from .clock import Clock
from .controller import Key, Result
from .places import Place, Places

if TYPE_CHECKING:
    from .controller import Wake

What = Literal["machines", "networks", "load_balancers", "volumes"]
T = TypeVar("T")
MarkId = tuple[str, int]
Owner = Callable[[Mark], "tuple[str, Key] | None"]

MISSES = 3
"""Completed observations that must miss a thing before it counts as absent."""

SOON = 1.0
"""Seconds between observations while something is in flight."""

SLOW = 30.0
"""Seconds between observations when nothing is."""

FORGOTTEN = 600.0
"""A question that nobody has repeated in so long is dropped."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Seen(Generic[T]):
    """One completed observation. started: awake time *before* the call. by_mark: (maker, index) -> state."""

    by_id: Mapping[str, T]
    by_mark: Mapping[MarkId, T]
    unreachable: frozenset[str]
    strays: tuple[Ref, ...]
    slots: tuple[SlotState, ...]
    started: float
    jumps: int

    @property
    def complete(self) -> bool:
        return not self.unreachable

    def reached(self, place: str) -> bool:
        """Whether that place answered. "" is a thing of which nobody knows the place: every place counts."""
        return not self.unreachable if not place else not self.unreachable & {place, "*"}


@dataclass
class _Doubt:
    """One question of absence, and the misses so far. over: the place itself said, of the id, that it is gone."""

    mark: Mark
    id: str
    place: str
    since: float
    asked: float
    misses: int = 0
    first: float = 0.0
    last: float = 0.0
    jumps: int = -1
    over: bool = False


@dataclass
class _Watched:
    """One identity and kind of thing."""

    seen: Seen[Any] | None = None
    wanted: bool = False
    soon: bool = False
    began: float | None = None
    failures: int = 0
    failure: str = ""
    doubts: dict[MarkId, _Doubt] = field(default_factory=dict)


class Inventory:
    """Thread-safe. `name` is what its keys are queued under."""

    name = "inventory"

    def __init__(self, clock: Clock, places: Places, calls: Calls, wake: Wake, installation: str) -> None:
        self._clock = clock
        self._places = places
        self._calls = calls
        self._wake = wake
        self._installation = installation
        self._lock = threading.RLock()
        self._watched: dict[Key, _Watched] = {}
        self._owners: dict[What, list[Owner]] = {}
        self._listeners: list[Callable[[What, str], Iterable[tuple[str, Key]]]] = []

    # -- for controllers -------------------------------------------------------------------------------------------------

    def want(self, place: Place, what: What, soon: bool = False) -> None:
        """Keep observing it; soon: something is in flight, so look within a second or two."""
        if not place.usable:
            return
        key = self._key(place, what)
        with self._lock:
            watched = self._watched.setdefault(key, _Watched())
            first = not watched.wanted
            watched.wanted = True
            if not first and not (soon and not watched.soon):
                return
            watched.soon = watched.soon or soon
            after = 0.0 if watched.began is None else max(0.0, watched.began + SOON - self._clock.awake())
        self._wake(self.name, key, after)

    def snapshot(self, place: Place, what: What) -> Seen[Any] | None:
        """The newest completed observation, None before the first. Shared: not to be changed."""
        with self._lock:
            watched = self._watched.get(self._key(place, what))
            return watched.seen if watched else None

    def state(self, place: Place, what: What, mark: Mark, id: str = "") -> Any | None:
        """The newest state seen of what carries this mark."""
        seen = self.snapshot(place, what)
        if seen is None:
            return None
        found = seen.by_mark.get((mark.maker, mark.index))
        if found is None and id:
            by_id = seen.by_id.get(id)
            found = by_id if by_id is not None and by_id.ref.mark.same(mark) else None
        return found

    def failing(self, place: Place, what: What) -> str:
        """Why the last observations failed; "" when they do not."""
        with self._lock:
            watched = self._watched.get(self._key(place, what))
            return watched.failure if watched and watched.failures >= MISSES else ""

    def absent(
        self, place: Place, what: What, mark: Mark, *, id: str = "", place_name: str = "", since: float = 0.0
    ) -> bool | None:
        """Whether a thing is proven not to be there.

        True: three completed observations, all begun after `since` (awake seconds; the return of the last call that might have
        made it) and over at least `settle` seconds, missed it by mark and by id, its place answered, the clock did not jump; or one
        of them shows that very id as GONE, which is the place's own word.
        False: it is there. None: nobody can tell yet; the observations that will tell are under way.
        """
        if not place.usable:
            return None
        now = self._clock.awake()
        name = (mark.maker, mark.index)
        with self._lock:
            watched = self._watched.setdefault(self._key(place, what), _Watched())
            doubt = watched.doubts.get(name)
            if doubt is None or since > doubt.since:
                doubt = watched.doubts[name] = _Doubt(mark, id, place_name, max(since, 0.0) if doubt else (since or now), now)
            doubt.asked, doubt.id, doubt.place = now, id or doubt.id, place_name
            if self._proven(doubt, place.capabilities.settle):
                return True
            seen = watched.seen
            if seen is not None and seen.started >= doubt.since and name in seen.by_mark:
                return None if _over(seen.by_mark[name]) else False
        self.want(place, what, soon=True)
        return None

    def settled(self, place: Place, what: What, mark: Mark) -> None:
        """Nobody asks any more about it."""
        with self._lock:
            watched = self._watched.get(self._key(place, what))
            if watched is not None:
                watched.doubts.pop((mark.maker, mark.index), None)

    def quiet(self, place: Place) -> bool:
        """Whether nothing may still turn up from a call with an unknown outcome: `settle` seconds are over since the last one."""
        last = place.last_unknown
        return last is None or self._clock.awake() - last >= place.capabilities.settle

    def on_change(self, what: What, owner: Owner) -> None:
        """owner(mark) -> the controller and key to wake when an item with that mark changed, came or vanished; or None."""
        self._owners.setdefault(what, []).append(owner)

    def on_snapshot(self, listener: Callable[[What, str], Iterable[tuple[str, Key]]]) -> None:
        """listener(what, identity key) -> the controllers and keys to wake after each completed observation."""
        self._listeners.append(listener)

    # -- driven by the manager -------------------------------------------------------------------------------------------

    def reconcile(self, key: Key) -> Result:
        """Observe once, tell who is concerned, and say when to look again."""
        what, identity = key
        place = next((p for p in self._places.of_identity(identity)), None)
        with self._lock:
            watched = self._watched.setdefault(key, _Watched())
            if place is None:
                watched.wanted = watched.soon = False
                return Result()
            scope = self._scope(watched)
        observe = self._observer(place, what)
        if observe is None:
            self._take_over(key, Snapshot(items=()), self._clock.awake(), self._clock.jumps())
            return Result(after=SLOW, slow=True)

        def call() -> tuple[float, int, Snapshot[Any]]:
            with self._lock:
                watched.began, watched.soon = self._clock.awake(), False
                started, jumps = watched.began, self._clock.jumps()
            return started, jumps, observe(scope)

        wake = (self.name, key)
        try:
            started, jumps, snapshot = self._calls.do(
                place, f"observe {what}", "observe", call, wake=wake, mutating=False, limit=120.0
            )
        except SupplierError as error:
            return self._failed(watched, place, error)
        self._take_over(key, snapshot, started, jumps)
        with self._lock:
            watched.failures, watched.failure = 0, ""
            pace = self._pace(watched, place)
        return Result(after=pace, slow=pace == SLOW)

    def _failed(self, watched: _Watched, place: Place, error: SupplierError) -> Result:
        with self._lock:
            watched.failures += 1
            watched.failure = error.message
            in_flight = bool(watched.doubts) or watched.soon
            after = getattr(error, "retry_after", None) or min(2.0**watched.failures, 60.0)
        log.debug("observing %s failed: %s", place.name, error)
        return Result(after=after, slow=not in_flight)

    def _scope(self, watched: _Watched) -> Scope:
        doubts = tuple(Ref(id=d.id, mark=d.mark) for d in watched.doubts.values() if d.id)
        return Scope(installation=self._installation, doubt=doubts)

    def _observer(self, place: Place, what: str) -> Callable[[Scope], Snapshot[Any]] | None:
        supplier = getattr(place.suppliers, what)
        return supplier.observe if supplier is not None else None

    def _take_over(self, key: Key, snapshot: Snapshot[Any], started: float, jumps: int) -> None:
        what: Any = key.namespace
        seen: Seen[Any] = Seen(
            by_id={item.ref.id: item for item in snapshot.items},
            by_mark=_by_mark(snapshot.items),
            unreachable=snapshot.unreachable,
            strays=snapshot.strays,
            slots=snapshot.slots,
            started=started,
            jumps=jumps,
        )
        jumped = self._clock.jumps() != jumps
        with self._lock:
            watched = self._watched[key]
            before, watched.seen = watched.seen, seen
            answered = [] if jumped else self._count(watched, seen)
        marks = {(m.maker, m.index): m for m in (*_changed(before, seen), *answered)}
        for mark in marks.values():
            for owner in self._owners.get(what, ()):
                woken = owner(mark)
                if woken is not None:
                    self._wake(*woken)
        for listener in self._listeners:
            for controller, listening in listener(what, key.name):
                self._wake(controller, listening)

    def _count(self, watched: _Watched, seen: Seen[Any]) -> list[Mark]:
        """Count the misses of every question; returns the marks whose owners should ask again."""
        again = []
        now = self._clock.awake()
        for name, doubt in list(watched.doubts.items()):
            if now - doubt.asked > FORGOTTEN:
                del watched.doubts[name]
                continue
            if seen.started < doubt.since or not seen.reached(doubt.place):
                continue
            by_id = seen.by_id.get(doubt.id) if doubt.id else None
            found = seen.by_mark.get(name) or (by_id if by_id is not None and by_id.ref.mark.same(doubt.mark) else None)
            if found is not None and _over(found) and found.ref.id == doubt.id:
                doubt.over = True
            elif found is not None and not _over(found):
                del watched.doubts[name]  # it is there: who doubts it again asks again
            else:
                if doubt.misses == 0 or doubt.jumps != seen.jumps:
                    doubt.misses, doubt.first, doubt.jumps = 0, seen.started, seen.jumps
                doubt.misses += 1
                doubt.last = seen.started
            again.append(doubt.mark)
        return again

    def _proven(self, doubt: _Doubt, settle: float) -> bool:
        if doubt.over:
            return True
        steady = doubt.jumps == self._clock.jumps()
        return steady and doubt.misses >= MISSES and doubt.last - doubt.first >= settle

    def _pace(self, watched: _Watched, place: Place) -> float:
        if not watched.doubts:
            return SOON if watched.soon else SLOW
        # Most questions are answered after `settle`; asking a large place every second for minutes is no use to anybody.
        return max(SOON, min(place.capabilities.settle / (MISSES + 1), 10.0))

    @staticmethod
    def _key(place: Place, what: What) -> Key:
        return Key(what, place.identity.key)


def _by_mark(items: Iterable[Any]) -> dict[MarkId, Any]:
    """The living win over what is over: a place may list both for a while."""
    found: dict[MarkId, Any] = {}
    for item in items:
        name = (item.ref.mark.maker, item.ref.mark.index)
        other = found.get(name)
        if other is None or other.phase.value in ("Gone", "Deleting"):
            found[name] = item
    return found


def _over(item: Any) -> bool:
    return bool(item.phase is Phase.GONE)


def _changed(before: Seen[Any] | None, now: Seen[Any]) -> list[Mark]:
    if before is None:
        return [item.ref.mark for item in now.by_id.values()]
    marks = [item.ref.mark for id_, item in now.by_id.items() if not _alike(before.by_id.get(id_), item)]
    marks += [item.ref.mark for id_, item in before.by_id.items() if id_ not in now.by_id]
    if before.unreachable != now.unreachable:
        marks += [item.ref.mark for item in (*before.by_id.values(), *now.by_id.values())]
    return marks


def _alike(a: Any, b: Any) -> bool:
    """Equal, where two errors that say the same are equal (exceptions compare by identity)."""
    if a is b or a == b:
        return True
    if a is None or a.error is None or b.error is None:
        return False
    same = (type(a.error), a.error.message) == (type(b.error), b.error.message)
    return same and replace(a, error=None) == replace(b, error=None)
