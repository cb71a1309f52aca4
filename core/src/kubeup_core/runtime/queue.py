"""The work queue: which controller has to look at which key, and when.

Used by `manager.py`. An item that is added twice is worked on once; an item that is being worked on is not handed out again until
it is done; failures are repeated later and later. All times are awake seconds of the injected clock.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import zlib

from .clock import Clock
from .controller import Key

Item = tuple[str, Key]
"""Name of a controller, and the key."""

SHORTEST = 0.001
FIRST_RETRY = 0.1
LONGEST_RETRY = 120.0
SHORTEST = 0.001


class Queue:
    """Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._due: dict[Item, tuple[float, bool]] = {}
        self._heap: list[tuple[float, int, Item]] = []
        self._active: set[Item] = set()
        self._failures: dict[Item, int] = {}
        self._order = itertools.count()
        self._closed = False

    def add(self, item: Item, after: float = 0.0, *, slow: bool = False) -> None:
        """Work on it in so many seconds, or earlier when that was said before."""
        # Never a rounding error ahead: with a clock that stands still that would be now, again and again.
        at = self._clock.awake() + (max(after, SHORTEST) if after > 0 else 0.0)
        with self._changed:
            before = self._due.get(item)
            if before is not None and before[0] <= at:
                if before[1] and not slow:
                    self._due[item] = (before[0], False)
                return
            self._due[item] = (at, slow)
            if item not in self._active:
                heapq.heappush(self._heap, (at, next(self._order), item))
                self._changed.notify()

    def retry(self, item: Item) -> float:
        """Work on it again after a failure. Returns in how many seconds."""
        with self._changed:
            count = self._failures[item] = self._failures.get(item, 0) + 1
        delay = min(FIRST_RETRY * 2.0 ** min(count - 1, 16), LONGEST_RETRY)
        delay *= 1 + zlib.crc32(repr(item).encode()) % 100 / 500  # spread, and the same in every run
        self.add(item, delay)
        return delay

    def forget(self, item: Item) -> None:
        """It went well."""
        with self._changed:
            self._failures.pop(item, None)

    def poll(self) -> Item | None:
        """What is due now, if anything; it is active until `done`."""
        with self._changed:
            return self._pop()

    def take(self) -> Item | None:
        """Wait for what is due. None: closed."""
        with self._changed:
            while not self._closed:
                item = self._pop()
                if item is not None:
                    return item
                timeout = max(0.0, self._heap[0][0] - self._clock.awake()) if self._heap else None
                self._clock.wait(self._changed, timeout)
            return None

    def done(self, item: Item) -> None:
        with self._changed:
            self._active.discard(item)
            due = self._due.get(item)
            if due is not None:
                heapq.heappush(self._heap, (due[0], next(self._order), item))
                self._changed.notify()

    def next_due(self, *, slow: bool = False) -> float | None:
        """Awake time at which the next item is due; mere periodic looks count only with `slow`."""
        with self._changed:
            return min((at for at, is_slow in self._due.values() if slow or not is_slow), default=None)

    def waiting(self) -> dict[Item, float]:
        """What is due when (awake time), without mere periodic looks: for diagnosis."""
        with self._changed:
            return {item: at for item, (at, slow) in self._due.items() if not slow}

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _pop(self) -> Item | None:
        now = self._clock.awake()
        while self._heap and self._heap[0][0] <= now:
            at, _, item = heapq.heappop(self._heap)
            due = self._due.get(item)
            if due is None or due[0] != at or item in self._active:
                continue  # said anew since, or handed out: `done` puts it back
            del self._due[item]
            self._active.add(item)
            return item
        return None
