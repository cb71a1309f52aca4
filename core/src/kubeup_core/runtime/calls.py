"""Calls to suppliers and to workload clusters, in bounded threads per identity, so that no reconcile ever waits for anybody.

A controller calls `do` and reads on as if it were synchronous: the first time, `do` hands the call to a thread and leaves the
reconcile with InProgress; when the call has ended the key is woken, and the same `do` then returns the value or raises the error.
Python threads cannot be killed, so a call that takes too long is *abandoned*, not finished: its target takes no other mutating
call before the thread has returned. What is decided from results is in the controllers.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar, cast

from ..errors import Denied, NoCapacity, NotReady, SupplierError, Unknown
from .clock import Clock
from .controller import Key
from .places import Place, Places

T = TypeVar("T")
Wakes = tuple[str, Key]

WIDTH = 8
"""Threads per identity. An abandoned call keeps its thread, so a place that hangs exhausts its own."""

STALE = 30.0
"""A guarded call that had to wait longer than this for a thread is dropped: what it was decided on is too old."""

FORGOTTEN = 600.0
"""A result that nobody has asked for in so long is dropped."""

log = logging.getLogger(__name__)


class InProgress(Exception):
    """The call runs; the key is woken when it has ended. `after`: when to look whether it takes too long."""

    def __init__(self, after: float | None = None) -> None:
        super().__init__("a call to the provider is under way")
        self.after = after


class Dropped(Exception):
    """The guard said no, or the decision was too old: decide again."""


@dataclass(eq=False)
class _Call:
    pool: str
    target: str
    verb: str
    token: str
    wake: Wakes
    mutating: bool
    submitted: float
    limit: float
    run: Callable[[], Any]
    guard: Callable[[], bool] | None
    place: Place | None
    done: bool = False
    abandoned: bool = False
    value: Any = None
    error: BaseException | None = None
    ended: float = 0.0
    waiting: set[Wakes] = field(default_factory=set)

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.pool, self.target, self.verb)

    @property
    def whom(self) -> str:
        """Who is asked, for people."""
        return self.place.name if self.place is not None else self.target


class Calls:
    """Thread-safe. inline: run every call at once in the calling thread (tests)."""

    def __init__(self, clock: Clock, places: Places, wake: Callable[[str, Key], None], *, inline: bool = False) -> None:
        self._clock = clock
        self._places = places
        self._wake = wake
        self._inline = inline
        self._lock = threading.Lock()
        self._calls: dict[tuple[str, str, str], _Call] = {}
        self._busy: dict[tuple[str, str], _Call] = {}
        self._pools: dict[str, _Pool] = {}
        self._pruned = 0.0
        self.strike: Callable[[str, str], None] | None = None
        """Called before and after each supplier call with its verb ("launch") and the moment ("before", "after"): for tests
        that crash there."""

    def do(
        self,
        place: Place,
        target: str,
        verb: str,
        fn: Callable[[], T],
        *,
        wake: Wakes,
        token: str = "",
        mutating: bool = True,
        limit: float = 60.0,
        guard: Callable[[], bool] | None = None,
    ) -> T:
        """The value of fn(), or the SupplierError it raised (any other exception arrives as Unknown).

        target  what is acted on; one mutating call per target at a time
        token   what the call is about; a finished result of another token is dropped and fn runs anew
        limit   seconds after which the call is abandoned: Unknown, once
        guard   asked again right before fn, in its thread; False, or more than 30 s of waiting: Dropped
        Raises InProgress while it runs.
        """
        call = _Call(
            pool=place.identity.key,
            target=target,
            verb=verb,
            token=token,
            wake=wake,
            mutating=mutating,
            submitted=self._clock.awake(),
            limit=limit,
            run=fn,
            guard=guard,
            place=place,
        )
        return cast(T, self._collect(call))

    def background(
        self, pool: str, target: str, verb: str, fn: Callable[[], T], *, wake: Wakes, token: str = "", limit: float = 60.0
    ) -> T:
        """As `do`, for what is asked of no place: a workload's API, a URL. The value of fn(), or what it raised, as it is.

        pool    whose threads: one that hangs holds up nobody else's. `end` lets them go
        target  what is asked, for people and to tell calls apart; several of different verbs or targets run side by side
        limit   seconds after which the call is abandoned: Unknown, once
        Raises InProgress while it runs.
        """
        now = self._clock.awake()
        call = _Call(pool, target, verb, token, wake, False, now, limit, fn, None, None)
        return cast(T, self._collect(call))

    def end(self, pool: str) -> None:
        """Nobody will ask there any more: its threads end, results that nobody has collected are dropped."""
        with self._lock:
            ended = self._pools.pop(pool, None)
            for key in [key for key in self._calls if key[0] == pool]:
                del self._calls[key]
        if ended is not None:
            ended.close()

    def busy(self, place: Place, target: str) -> bool:
        """Whether a mutating call on the target has not returned, abandoned or not."""
        with self._lock:
            return (place.identity.key, target) in self._busy

    def close(self) -> None:
        """Let the threads end. A call that hangs is left to end with the process."""
        with self._lock:
            pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            pool.close()

    # -- in the caller's thread ------------------------------------------------------------------------------------------

    def _collect(self, call: _Call) -> Any:
        if self._inline:
            self._run(call)
            return self._outcome(call)
        with self._lock:
            known = self._calls.get(call.key)
            if known is not None and not known.done:
                self._still(known, call.wake)
            if known is not None:
                del self._calls[call.key]
                if known.token == call.token:
                    return self._outcome(known)
            self._submit(call)
        raise InProgress(call.limit)

    def _still(self, call: _Call, wake: Wakes) -> NoReturn:
        taken = self._clock.awake() - call.submitted
        if taken < call.limit:
            call.waiting.add(wake)
            raise InProgress(call.limit - taken)
        call.abandoned = True
        del self._calls[call.key]
        if call.place is not None:
            call.place.last_unknown = self._clock.awake()
        log.warning("%s at %s has not answered for %.0f s; its outcome is unknown", call.verb, call.whom, taken)
        raise Unknown(f"{call.whom} did not answer {call.verb} within {call.limit:.0f} s", code="Timeout")

    def _submit(self, call: _Call) -> None:
        if call.mutating:
            other = self._busy.get((call.pool, call.target))
            if other is not None:
                other.waiting.add(call.wake)
                raise InProgress(None)
            self._busy[(call.pool, call.target)] = call
        self._calls[call.key] = call
        pool = self._pools.get(call.pool)
        if pool is None:
            pool = self._pools[call.pool] = _Pool(call.pool)
        pool.submit(lambda: self._thread(call))

    def _outcome(self, call: _Call) -> Any:
        if call.error is not None:
            raise call.error
        return call.value

    # -- in the call's thread --------------------------------------------------------------------------------------------

    def _thread(self, call: _Call) -> None:
        self._run(call)
        with self._lock:
            call.done = True
            call.ended = self._clock.awake()
            if self._busy.get((call.pool, call.target)) is call:
                del self._busy[(call.pool, call.target)]
            wakes = {call.wake, *call.waiting}
            self._prune()
        for controller, key in wakes:
            self._wake(controller, key)

    def _run(self, call: _Call) -> None:
        try:
            if call.guard is not None:
                late = self._clock.awake() - call.submitted > STALE
                if late or not call.guard():
                    raise Dropped
            if self.strike is not None and call.mutating:
                self.strike(call.verb, "before")
            call.value = call.run()
            if self.strike is not None and call.mutating:
                self.strike(call.verb, "after")
        except Dropped as dropped:
            call.error = dropped
        except SupplierError as error:
            call.error = error
            if call.place is not None:
                self.note(call.place, error)
        except Exception as error:
            if call.place is None:
                call.error = error
                return
            # An AttributeError while a successful reply is parsed must not lead to a second machine.
            unknown = Unknown(f"{call.verb} at {call.place.name} failed inside the provider: {type(error).__name__}")
            unknown.__cause__ = error
            call.error = unknown
            self.note(call.place, unknown)
            log.warning("%s at %s raised %s, which is not a SupplierError", call.verb, call.place.name, type(error).__name__)
        finally:
            if call.place is not None and call.verb in ("launch", "ensure"):
                call.place.last_made = self._clock.awake()

    def note(self, place: Place, error: SupplierError) -> None:
        """What an error, raised or in a result, says about the place as a whole."""
        match error:
            case Denied():
                remedy = error.remedy or f"check the credentials of Provider {place.name}"
                if not place.denied:
                    place.denied = f"{place.name} refuses: {error.message}; {remedy}"
                    self._places.changed(place.name)
            case NoCapacity():
                self._places.cooldowns.note(place.identity.key, error)
            case NotReady(throttled=True) if place.budget is not None:
                place.budget.throttled(error.retry_after)
            case Unknown():
                place.last_unknown = self._clock.awake()

    def _prune(self) -> None:
        now = self._clock.awake()
        if now - self._pruned < FORGOTTEN:
            return
        self._pruned = now
        for key, call in list(self._calls.items()):
            if call.done and now - call.ended > FORGOTTEN:
                del self._calls[key]


class _Pool:
    """Daemon threads, so that a call that hangs does not keep the process."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = 0
        self._open = 0  # works that are not over: there are as many threads, so none waits behind one that hangs
        self._lock = threading.Lock()

    def submit(self, work: Callable[[], None]) -> None:
        with self._lock:
            self._work.put(work)
            self._open += 1
            if self._open > self._threads and self._threads < WIDTH:
                self._threads += 1
                threading.Thread(target=self._loop, name=f"calls-{self._name}-{self._threads}", daemon=True).start()

    def close(self) -> None:
        with self._lock:
            for _ in range(self._threads):
                self._work.put(None)

    def _loop(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            finally:
                with self._lock:
                    self._open -= 1
