"""A machine leaves its load balancers before it goes: who says so, and who waits.

The load balancer controller alone writes the condition `Deregistered` of a Machine, when every balancer of the cluster is done with
it; the machine's controller asks `leaving_balancers` and waits. A balancer is done with a machine when a wish that leaves it out,
or lets it drain, was delivered and the machine takes no traffic any more; or when the drain time since the deletion is over.
"""

from __future__ import annotations

import threading
from collections.abc import Collection

from ..kinds import LoadBalancer, Machine
from ..kinds.durations import parse_duration
from ..objects import parse_timestamp
from ..runtime.controller import Env
from ..statuses import Conflict
from ..supplier import LoadBalancerState
from .members import matches
from .single import STEP
from .troubles import sooner

DEREGISTERED = "Deregistered"
TRIES = 5


def leaving_balancers(env: Env, machine: Machine) -> bool:
    """Whether a machine that is being deleted has to stay for now, because a balancer may still send it connections.

    For the machine's controller. It becomes False by a change of the Machine's own status, so nothing else need be watched. A
    balancer that is itself being deleted is not waited for, and a machine that was never launched waits for none.
    """
    if machine.status.launch is None or machine.status.is_true(DEREGISTERED):
        return False
    return bool(_living(env, machine))


def announce(env: Env, machine: Machine, message: str) -> None:
    """Write the condition. A Machine's status has other writers: read the newest, change one condition, write; again on conflict."""
    for attempt in range(1, TRIES + 1):
        stored = env.client.find(Machine, machine.name, machine.namespace)
        if stored is None or stored.uid != machine.uid or stored.status.is_true(DEREGISTERED):
            return
        changed = stored.model_copy(deep=True)
        now, generation = env.clock.wall(), stored.metadata.generation
        changed.status.set_condition(DEREGISTERED, True, "Drained", message, now=now, generation=generation)
        try:
            env.client.update_status(changed)
        except Conflict:
            if attempt == TRIES:
                raise
        else:
            return


class Deregistration:
    """Which balancer is done with which machine: in memory, because each finds that again after a restart. Thread-safe."""

    def __init__(self, env: Env) -> None:
        self.env = env
        self._lock = threading.Lock()
        self._done: dict[str, set[str]] = {}

    def check(self, balancer: LoadBalancer, machines: Collection[Machine], state: LoadBalancerState | None) -> float | None:
        """Look at each machine on its way out. -> awake seconds until another look makes sense.

        state  the balancer after the current wish was delivered; None when it could not be delivered
        """
        self._keep_only(balancer, {m.uid for m in machines})
        after: float | None = None
        for machine in machines:
            if not machine.deleting or machine.status.is_true(DEREGISTERED):
                continue
            left = _time_left(self.env, balancer, machine)
            out = state is not None and state.members.get(machine.name, "unused") == "unused"
            if out or left <= 0 or balancer.status.provider is None:
                self.release(balancer, machine)
            else:
                after = sooner(after, left if state is None else min(left, STEP))
        return after

    def release(self, balancer: LoadBalancer, machine: Machine) -> None:
        """One balancer is done with it; the last one says so."""
        with self._lock:
            self._done.setdefault(balancer.uid, set()).add(machine.uid)
            others = [b for b in _living(self.env, machine) if b.uid != balancer.uid]
            last = all(machine.uid in self._done.get(b.uid, ()) for b in others)
        if last:
            announce(self.env, machine, "no load balancer sends it new connections")

    def forget(self, balancer: LoadBalancer) -> None:
        with self._lock:
            self._done.pop(balancer.uid, None)

    def _keep_only(self, balancer: LoadBalancer, machines: set[str]) -> None:
        with self._lock:
            if balancer.uid in self._done:
                self._done[balancer.uid] &= machines


def _living(env: Env, machine: Machine) -> list[LoadBalancer]:
    """Those that may send it connections. One that only runs on it does not, and its next machine waits for the end of this one."""
    found = env.cache.by(LoadBalancer, "cluster", f"{machine.namespace}/{machine.spec.cluster}")
    host = machine.spec.role == "loadBalancer"
    return [balancer for balancer in found if not balancer.deleting and (not host or matches(balancer, machine))]


def _time_left(env: Env, balancer: LoadBalancer, machine: Machine) -> float:
    asked = parse_timestamp(machine.metadata.deletion_timestamp or "")
    return parse_duration(balancer.spec.drain) - env.clock.elapsed(asked)
