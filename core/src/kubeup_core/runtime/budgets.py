"""Request budgets: token buckets per identity, charged by suppliers before each request (`Context.charge`).

A supplier never sleeps: when a bucket is empty it gets NotReady at once, with the time at which it will do. Sizes come from
`Capabilities.budgets`, and `*` from `Provider.spec.limits.requestsPerSecond`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from ..errors import NotReady
from .clock import Clock

ALL = "*"


class Budget:
    """The buckets of one Provider. Without limits until `limit` was called."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._limits: dict[str, tuple[float, float]] = {}
        self._left: dict[str, tuple[float, float]] = {}

    def limit(self, limits: Mapping[str, tuple[float, float]], requests_per_second: float | None = None) -> None:
        """bucket -> (size, refill per second); requests_per_second bounds all of them together."""
        with self._lock:
            self._limits = dict(limits)
            if requests_per_second is not None:
                self._limits[ALL] = (max(1.0, requests_per_second), requests_per_second)

    def charge(self, bucket: str, cost: float) -> None:
        """Raises NotReady when there is not enough left; then nothing is charged."""
        now = self._clock.awake()
        with self._lock:
            asked = [name for name in (bucket, ALL) if name in self._limits]
            left = {name: self._now(name, now) for name in asked}
            waits = [
                (min(cost, self._limits[name][0]) - left[name]) / self._limits[name][1]
                for name in asked
                if left[name] < min(cost, self._limits[name][0]) and self._limits[name][1] > 0
            ]
            if waits:
                raise NotReady(f"the budget of requests ({bucket}) is spent", retry_after=max(waits), code="Budget")
            for name in asked:
                self._left[name] = (left[name] - cost, now)

    def _now(self, name: str, now: float) -> float:
        size, refill = self._limits[name]
        left, at = self._left.get(name, (size, now))
        return min(size, left + (now - at) * refill)
