"""What the machine controllers remember together, in memory: how far open launches are, what was deleted, why a pool gets nothing.

All of it is found out again after a restart, by repeating calls with their tokens and by observing; keeping it here is what makes a
Launch cost two writes and a Machine three. One instance per process: `env.shared(Book)`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import SupplierError
from ..runtime.controller import Key
from ..supplier import Outcome, Ref, Result

RESOLVED = (Outcome.MADE, Outcome.REFUSED, Outcome.DEAD)


@dataclass
class Progress:
    """How far an open Launch is.

    fresh     it was written by this process, and was never submitted
    doubtful  a call may have made something that no result has told: a refusal then proves nothing
    results   by index: what calls said; MADE, REFUSED and DEAD do not change any more
    refusal   a refusal of the whole call, while it has to be proven
    submitted awake time at which the last launch call returned: proofs of absence begin there
    sending   a launch call was handed over and has not been answered; before: whether it was doubtful then
    again     awake time before which it is not called again
    """

    fresh: bool = False
    doubtful: bool = True
    results: dict[int, Result] = field(default_factory=dict)
    refusal: SupplierError | None = None
    submitted: float = 0.0
    sending: bool = False
    before: bool = True
    failures: int = 0
    again: float = 0.0

    def resolved(self, index: int) -> bool:
        found = self.results.get(index)
        return found is not None and found.outcome in RESOLVED

    def take(self, index: int, result: Result) -> bool:
        """Keep what is final. True when it became final just now."""
        if self.resolved(index):
            return False
        self.results[index] = result
        return self.resolved(index)


@dataclass(frozen=True)
class Verdict:
    """Why no machine is launched for a pool or a Machine now. until: epoch seconds of the next try."""

    reason: str
    message: str
    until: float | None = None
    stalled: bool = False


@dataclass
class Removal:
    """A ref that is to be deleted. wanted: asked again right before the call. at: awake time of the last call's return."""

    ref: Ref
    wanted: Callable[[], bool]
    wake: tuple[str, Key]
    decided: float


@dataclass
class Book:
    """`placing` is held while offers are chosen and a Launch is written: limits and slots are counted over all pools."""

    placing: threading.RLock = field(default_factory=threading.RLock)
    lock: threading.Lock = field(default_factory=threading.Lock)
    open: dict[str, Progress] = field(default_factory=dict)
    verdicts: dict[Key, tuple[Verdict, ...]] = field(default_factory=dict)
    creating: set[Key] = field(default_factory=set)
    proven: set[tuple[str, int]] = field(default_factory=set)
    removals: dict[str, dict[tuple[str, int, str], Removal]] = field(default_factory=dict)
    removed: dict[tuple[str, int, str], tuple[float, Result]] = field(default_factory=dict)

    def progress(self, launch_uid: str) -> Progress:
        with self.lock:
            return self.open.setdefault(launch_uid, Progress())

    def result(self, launch_uid: str, index: int) -> Result | None:
        with self.lock:
            progress = self.open.get(launch_uid)
        return progress.results.get(index) if progress else None

    def fresh(self, launch_uid: str) -> None:
        """This process has just written it, so nobody has submitted it."""
        with self.lock:
            self.open[launch_uid] = Progress(fresh=True, doubtful=False)

    def forget(self, launch_uid: str, members: int) -> None:
        with self.lock:
            self.open.pop(launch_uid, None)
            for index in range(members):
                self.proven.discard((launch_uid, index))

    def say(self, key: Key, verdicts: tuple[Verdict, ...]) -> bool:
        """Keep why nothing is launched; True when that is news (times do not count)."""
        with self.lock:
            before = self.verdicts.get(key, ())
            if verdicts:
                self.verdicts[key] = verdicts
            else:
                self.verdicts.pop(key, None)
        return [(v.reason, v.message) for v in before] != [(v.reason, v.message) for v in verdicts]
