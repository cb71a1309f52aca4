"""The proof that nothing of a cluster is left at a place: what the end of a Cluster waits for. Called by `cluster.py`.

One listing proves nothing: reads lag behind writes, a part of the place may not have answered, and a call whose outcome is unknown
may still bear fruit. So several complete observations, begun after everything was asked to go and over at least the place's
`settle` seconds, have to show nothing with the cluster's mark. Where nothing was made for that long, the seconds are over already: what
a read does not show then was not there a moment ago. Volumes marked to be kept are not in the way.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..runtime.controller import Env
from ..runtime.inventory import MISSES, SOON, Seen, What
from ..runtime.places import Place
from ..supplier import Phase

SORTS: tuple[tuple[What, str], ...] = (
    ("machines", "machine"),
    ("networks", "network"),
    ("load_balancers", "load balancer"),
    ("volumes", "volume"),
)


@dataclass
class _Count:
    """Clean observations in a row, of one sort of thing."""

    clean: int = 0
    first: float = 0.0
    last: float = float("-inf")
    jumps: int = -1


@dataclass
class _Case:
    """One cluster at one identity. since: awake stamp; only observations begun later count."""

    since: float
    counts: dict[str, _Count] = field(default_factory=dict)
    found: str = ""


class Proof:
    """Thread-safe. What it counted is lost at a restart, and counted again."""

    def __init__(self, env: Env) -> None:
        self.env = env
        self._began = env.clock.awake()
        self._lock = threading.Lock()
        self._cases: dict[tuple[str, str], _Case] = {}

    def empty(self, place: Place, cluster: str) -> bool:
        """Whether it is proven that nothing of the cluster (uid) is left there. Asks for the observations that it needs."""
        key = (cluster, place.identity.key)
        with self._lock:
            case = self._cases.setdefault(key, _Case(since=self.env.clock.awake()))
        case.found = ""
        done = True
        for what, name in SORTS:
            if getattr(place.suppliers, what) is None:
                continue
            self.env.inventory.want(place, what, soon=True)
            seen = self.env.inventory.snapshot(place, what)
            left = sorted(_left(seen, cluster)) if seen is not None else []
            if left:
                case.found = f"{name} {', '.join(left[:3])}{', ...' if len(left) > 3 else ''} is still there"
            elif seen is not None and seen.unreachable:
                case.found = f"{', '.join(sorted(seen.unreachable))} did not answer when {name}s were listed"
            done = self._count(case, what, seen, bool(left), place) and done
        if not self.env.inventory.quiet(place):
            case.found = case.found or "a request got no answer, and what it asked for may still turn up"
            return False
        return done

    def why(self, place: Place, cluster: str) -> str:
        """What the proof waits for, in words."""
        case = self._cases.get((cluster, place.identity.key))
        failing = next((f for what, _ in SORTS if (f := self.env.inventory.failing(place, what))), "")
        if failing:
            return f"it cannot be listed: {failing}"
        return (case.found if case else "") or "so far nothing is; it is looked at several times, because listings lag"

    def forget(self, cluster: str) -> None:
        with self._lock:
            for key in [k for k in self._cases if k[0] == cluster]:
                del self._cases[key]

    def _count(self, case: _Case, what: str, seen: Seen[object] | None, left: bool, place: Place) -> bool:
        count = case.counts.setdefault(what, _Count())
        if seen is None or seen.started < case.since:
            return False
        if left or not seen.complete or (count.clean and count.jumps != seen.jumps):
            case.counts[what] = _Count(last=seen.started)
            return False
        if seen.started > count.last:
            if not count.clean:
                count.first, count.jumps = seen.started, seen.jumps
            count.clean, count.last = count.clean + 1, seen.started
        since = min(count.first, self._made(place))
        return count.clean >= MISSES and count.last - since >= place.capabilities.settle

    def _made(self, place: Place) -> float:
        """Awake time since when nothing was made there, by whatever Provider; as far as this process knows."""
        made = [p.last_made for p in self.env.places.of_identity(place.identity.key) if p.last_made is not None]
        return max([self._began, *made])

    @staticmethod
    def after() -> float:
        return SOON


def _left(seen: Seen[object], cluster: str) -> Iterator[str]:
    for id_, item in seen.by_id.items():
        mark, phase = item.ref.mark, item.phase  # type: ignore[attr-defined]
        if mark.cluster == cluster and phase is not Phase.GONE and not mark.keep:
            yield id_
    yield from (ref.id for ref in seen.strays if ref.mark.cluster == cluster)
