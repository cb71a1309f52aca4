"""EC2's request limits as its documentation publishes them ("Request throttling for the Amazon EC2 API"), for `StrictAws.buckets`.

Written apart from what kubeup believes about them. Who takes more than there is gets RequestLimitExceeded, and is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

REQUESTS = {"RunInstances": (5.0, 2.0), "TerminateInstances": (100.0, 5.0)}
MACHINES = {"RunInstances": (1000.0, 2.0), "TerminateInstances": (1000.0, 20.0)}
READS, CHANGES = (100.0, 20.0), (50.0, 5.0)
"""(size, refill per second): of single actions, of the machines that they are about, of all that reads, of all else."""


class Buckets:
    """clock: seconds. throttled: how many requests were refused."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}
        self.throttled = 0

    def refuses(self, seen: Any) -> bool:
        """Whether this request is one too many; else it is counted."""
        if seen.service != "ec2":
            return False
        action = seen.action
        wanted = {f"{action} machines": (_machines(seen.params), MACHINES[action])} if action in MACHINES else {}
        if action in REQUESTS:
            wanted[action] = 1.0, REQUESTS[action]
        else:
            read = action.startswith(("Describe", "Get"))
            wanted["reads" if read else "changes"] = 1.0, READS if read else CHANGES
        there = {name: self._there(name, *bucket) for name, (_, bucket) in wanted.items()}
        if any(there[name] < cost for name, (cost, _) in wanted.items()):
            self.throttled += 1
            return True
        for name, (cost, _) in wanted.items():
            self._left[name] = there[name] - cost, self._clock()
        return False

    def _there(self, name: str, size: float, refill: float) -> float:
        left, since = self._left.get(name, (size, self._clock()))
        return min(size, left + (self._clock() - since) * refill)


def _machines(params: dict[str, str]) -> float:
    named = sum(1 for key in params if key.startswith("InstanceId."))
    return float(named or params.get("MaxCount", 1))
