"""What is known to be gone, as AWS itself said so: for observations, which may then say GONE instead of nothing. Pure; thread-safe.

AWS may hide for minutes what was just made, so "not found" alone proves nothing. It does for what was there before: when all that an
object was known to be made of had its deletion accepted, or is asked for by id some seconds apart and never found again. What this
process has not seen itself is not known here; the core then waits for as long as listings may lag.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from kubeup_core import Mark

APART = 5.0
"""Seconds between two answers that something seen before is not there, until they are believed."""


class Departures:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._parts: dict[str, set[str]] = {}
        self._deleted: set[str] = set()
        self._missed: dict[str, float] = {}

    def seen(self, mark: Mark, ids: Iterable[str]) -> None:
        """These are there, and of that object."""
        ids = list(ids)
        with self._lock:
            self._parts.setdefault(mark.maker, set()).update(ids)
            for id in ids:
                self._missed.pop(id, None)

    def deleted(self, id: str) -> None:
        """Its deletion was accepted, or it was gone when it was asked for."""
        with self._lock:
            self._deleted.add(id)

    def known(self, mark: Mark, id: str) -> bool:
        """Whether it was seen as a part of that object."""
        with self._lock:
            return id in self._parts.get(mark.maker, ())

    def over(self, mark: Mark) -> bool:
        """All that was known of the object was deleted. For who does not find any of it now."""
        with self._lock:
            parts = self._parts.get(mark.maker, set())
            return bool(parts) and parts <= self._deleted

    def missing(self, mark: Mark, id: str) -> bool:
        """It is not found by its id. -> whether that is believed."""
        with self._lock:
            if id not in self._parts.get(mark.maker, ()):
                return False
            if id in self._deleted:
                return True
            return self._clock() - self._missed.setdefault(id, self._clock()) >= APART
