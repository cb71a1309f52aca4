"""Request budgets: token buckets, charged by suppliers before each request (`Context.charge`).

A supplier never sleeps: when a bucket is empty it gets NotReady at once, with the time at which it will do. Sizes come from
`Capabilities.budgets`; these buckets belong to an identity, because it is the account that a place throttles, whichever Provider asks.
`Provider.spec.limits.requestsPerSecond` is of one Provider. What a place says itself (NotReady with `throttled`) empties the bucket
that was charged for it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from ..errors import NotReady
from .clock import Clock

ALL = "*"

PAUSE = 1.0
"""Seconds without a request when a place throttles and does not say for how long."""


class Budgets:
    """The budget of each identity. One for all controllers; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: dict[str, Budget] = {}

    def of(self, identity: str, clock: Clock) -> Budget:
        with self._lock:
            return self._of.setdefault(identity, Budget(clock))


class Meter:
    """What one Provider's suppliers charge, through all their builds: what the Provider may, and then what its identity may.

    shared  None until it is known whose account it is
    """

    def __init__(self, clock: Clock) -> None:
        self.own = Budget(clock)
        self.shared: Budget | None = None

    def charge(self, bucket: str, cost: float) -> None:
        """Raises NotReady when there is not enough left; then nothing is charged."""
        self.own.charge(ALL, cost)
        if self.shared is not None:
            try:
                self.shared.charge(bucket, cost)
            except NotReady:
                self.own.charge(ALL, -cost)
                raise


class Budget:
    """Some buckets. Without limits until `limit` was called. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._limits: dict[str, tuple[float, float]] = {}
        self._left: dict[str, tuple[float, float]] = {}
        self._closed: dict[str, float] = {}
        self._asked = threading.local()

    def limit(self, limits: Mapping[str, tuple[float, float]], requests_per_second: float | None = None) -> None:
        """bucket -> (size, refill per second); requests_per_second bounds all of them together."""
        with self._lock:
            self._limits = dict(limits)
            if requests_per_second is not None:
                self._limits[ALL] = (max(1.0, requests_per_second), requests_per_second)

    def charge(self, bucket: str, cost: float) -> None:
        """Raises NotReady when there is not enough left; then nothing is charged."""
        now = self._clock.awake()
        self._asked.bucket = bucket
        with self._lock:
            if now < self._closed.get(bucket, 0.0):
                raise NotReady("the place throttles its callers", retry_after=self._closed[bucket] - now, code="Budget")
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

    def throttled(self, seconds: float | None) -> None:
        """The place itself said that it was asked too much, in the call that this thread is in: nobody takes from the bucket that was
        charged last for so long, and then it fills up from nothing."""
        now, bucket = self._clock.awake(), getattr(self._asked, "bucket", None)
        if bucket is None:
            return
        with self._lock:
            until = self._closed[bucket] = max(self._closed.get(bucket, 0.0), now + (PAUSE if seconds is None else seconds))
            if bucket in self._limits:
                self._left[bucket] = (0.0, until)

    def _now(self, name: str, now: float) -> float:
        size, refill = self._limits[name]
        left, at = self._left.get(name, (size, now))
        return min(size, left + max(0.0, now - at) * refill)
