"""What is known of machines on their way into their Kubernetes cluster. In memory, one book per process: `env.shared(Bootstraps)`.

Written by `bootstrapping.py`; read by whoever decides about a machine or its cluster. All of it is found out again after a restart.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from ..bootstrapper import Bootstrapper
from ..kinds import Cluster, Machine
from ..runtime.controller import Env
from .nodes import Told


@dataclass(frozen=True, kw_only=True)
class Bootstrapped:
    """How far a machine is on its way into its cluster.

    done      INIT or JOIN has succeeded
    joining   it is its turn: INIT or JOIN is being done
    held      it waits for its turn, or for something else than itself: no deadline runs
    lost      it can never join any more: it has to be replaced
    since     awake seconds from which on it counts as slow; None: from its launch
    reachable, bootstrapped   for the conditions
    step, exit_code, tail     of the step that runs, or that failed; number: how many steps of the task are over
    """

    done: bool
    reachable: Told
    bootstrapped: Told
    joining: bool = False
    held: bool = False
    lost: bool = False
    stalled: bool = False
    since: float | None = None
    step: str = ""
    number: int = 0
    total: int = 0
    exit_code: int | None = None
    tail: str = field(default="", repr=False)
    after: float | None = None


class Bootstraps:
    """The newest word about each machine of this process's time, by uid. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, Bootstrapped] = {}
        self._turns: dict[str, float] = {}
        self._paused: dict[str, float] = {}

    def of(self, machine: Machine) -> Bootstrapped | None:
        """None: nothing is known of it since this process started. One whose condition Bootstrapped is True has joined all the same."""
        with self._lock:
            return self._known.get(machine.uid)

    def joined(self, machine: Machine) -> bool:
        """INIT or JOIN has succeeded on it."""
        known = self.of(machine)
        return machine.status.is_true("Bootstrapped") or (known is not None and known.done)

    def say(self, machine: Machine, report: Bootstrapped) -> bool:
        """Keep it. True when it has just become done."""
        with self._lock:
            before = self._known.get(machine.uid)
            self._known[machine.uid] = report
        return report.done and not (before is not None and before.done)

    def turn(self, machine: Machine, now: float) -> float:
        """Since when it has had its turn, in this process."""
        with self._lock:
            return max(self._turns.setdefault(machine.uid, now), self._paused.get(machine.uid, 0.0))

    def pause(self, machine: Machine, now: float) -> None:
        """Nothing may be done to it: time begins anew."""
        with self._lock:
            self._paused[machine.uid] = now

    def paused(self, machine: Machine) -> float | None:
        """Until when it was paused at least, in this process."""
        with self._lock:
            return self._paused.get(machine.uid)

    def forget(self, uid: str) -> None:
        with self._lock:
            self._known.pop(uid, None)
            self._turns.pop(uid, None)
            self._paused.pop(uid, None)


def bootstrapper_of(env: Env, cluster: Cluster) -> Bootstrapper:
    """The cluster's bootstrapper. Raises PluginError."""
    kubernetes = cluster.spec.kubernetes
    assert kubernetes is not None
    return env.plugins.bootstrapper(kubernetes.bootstrapper).made
