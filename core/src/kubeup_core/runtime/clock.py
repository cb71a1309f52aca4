"""Time. Everything that waits, times out or backs off asks a Clock; nothing in core calls time.sleep or time.time.

`wall` is epoch seconds, for what is written into objects. `awake` is monotonic and stands still while the machine sleeps: every
window, back-off and deadline is counted in it. A deadline that starts from a stored time goes through `elapsed`, which never
counts time in which this process was not running and awake: after a laptop slept for the night, nothing has timed out.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

JUMP = 5.0
"""Seconds by which wall time may run ahead of awake time before it counts as a jump (sleep, or somebody set the clock)."""


class Clock(Protocol):
    def wall(self) -> float:
        """Epoch seconds."""
        ...

    def awake(self) -> float:
        """Monotonic seconds that do not count a suspended machine. Only differences mean anything."""
        ...

    def elapsed(self, since: float) -> float:
        """Awake seconds since `since` (epoch), of which this process can be sure: from its start or the last jump on."""
        ...

    def jumps(self) -> int:
        """How often the clock has jumped; a window that began under another count starts anew."""
        ...

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        """Wait on a condition that is held, for at most so many awake seconds."""
        ...


class SystemClock:
    """The machine's clocks. CLOCK_MONOTONIC does not advance while a Linux machine is suspended (clock_gettime(2))."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jumps = 0
        self._sure_since = time.time()
        self._offset = self._sure_since - time.monotonic()

    def wall(self) -> float:
        self._look()
        return time.time()

    def awake(self) -> float:
        self._look()
        return time.monotonic()

    def elapsed(self, since: float) -> float:
        self._look()
        return max(0.0, time.time() - max(since, self._sure_since))

    def jumps(self) -> int:
        self._look()
        return self._jumps

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        condition.wait(timeout)

    def _look(self) -> None:
        now, offset = time.time(), time.time() - time.monotonic()
        if abs(offset - self._offset) > JUMP:
            with self._lock:
                if abs(offset - self._offset) > JUMP:
                    self._offset, self._sure_since = offset, now
                    self._jumps += 1


class FakeClock:
    """For tests: stands still until told. `now` is what the simulator reads."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._wall = start
        self._awake = 0.0
        self._sure_since = start
        self._jumps = 0

    def wall(self) -> float:
        return self._wall

    now = wall

    def awake(self) -> float:
        return self._awake

    def elapsed(self, since: float) -> float:
        return max(0.0, self._wall - max(since, self._sure_since))

    def jumps(self) -> int:
        return self._jumps

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        raise AssertionError("a test with a fake clock steps the manager; nothing may wait")

    def advance(self, seconds: float) -> None:
        """The machine is awake and so many seconds pass."""
        self._wall += seconds
        self._awake += seconds

    def jump(self, seconds: float) -> None:
        """The machine sleeps for so many seconds."""
        self._wall += seconds
        self._sure_since = self._wall
        self._jumps += 1
