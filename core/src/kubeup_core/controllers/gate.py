"""The functional check of a workload cluster: a Service that is made now gets Endpoints. Called by `node.py`, for `Nodes.gate`.

All Nodes can be Ready while watches of one API server are silently dead: then controllers no longer see what changes, and nothing
that is made from now on works. Such a cluster must get no further members.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from ..errors import SupplierError
from ..runtime.controller import Env, Key
from ..statuses import StatusError
from .nodes import Known, Nodes, Told, pool_of

T = TypeVar("T")

LOOK = 0.3
PATIENCE = 30.0
"""Awake seconds within which Endpoints have to be there; a controller that sees the Service takes one or two."""

AGAIN = 10.0
"""Awake seconds between a check that failed and the next one."""


@dataclass(frozen=True)
class _Check:
    """service "": one is being made. look: awake time of the next look."""

    round: str
    began: float
    service: str = ""
    look: float = 0.0
    ended: bool = False


class Gates:
    """For the NodesController."""

    def __init__(self, env: Env, nodes: Nodes, controller: str) -> None:
        self.env = env
        self.nodes = nodes
        self.controller = controller
        self._checks: dict[str, _Check] = {}

    def step(self, uid: str, known: Known, key: Key) -> float | None:
        """One step of the check that was asked for last. -> awake seconds until the next. Raises InProgress."""
        round_ = known.gate_round
        if round_ is None or known.workload is None or known.api.ok is not True:
            return None
        now = self.env.clock.awake()
        check = self._checks.get(uid)
        if check is None or check.round != round_:
            check = self._checks[uid] = _Check(round_, now)
        if check.ended and known.gate.ok:
            return self._clean(uid, known, key, check)
        if now < check.look:
            return check.look - now
        try:
            return self._look(uid, known, key, check)
        except (StatusError, SupplierError) as error:
            self._checks[uid] = replace(check, look=now + AGAIN)
            self._tell(known, Told(ok=False, reason="NotChecked", message=f"a Service cannot be made or read: {error.message}"))
            return AGAIN

    def forget(self, uid: str) -> None:
        self._checks.pop(uid, None)

    def _look(self, uid: str, known: Known, key: Key, check: _Check) -> float | None:
        workload, now = known.workload, self.env.clock.awake()
        assert workload is not None
        if not check.service:
            service = self._ask(uid, key, "gate start", workload.gate_start, check.round)
            check = self._checks[uid] = _Check(check.round, self.env.clock.awake(), service)
        name = check.service
        if self._ask(uid, key, "gate look", lambda: workload.gate_look(name), name):
            self._checks[uid] = replace(check, ended=True)
            self._tell(known, Told(ok=True, reason="Works", message="a Service that was made just now got its Endpoints"))
            return 0.0
        if now - check.began < PATIENCE:
            self._checks[uid] = replace(check, look=now + LOOK)
            return LOOK
        self._checks[uid] = _Check(check.round, now, look=now + AGAIN)  # the next one takes the old Service away
        message = (
            f"a Service that was made {PATIENCE:.0f} s ago has no Endpoints, so the cluster's controllers do not see what changes, "
            "whatever its Nodes say; it is checked again by itself. If it stays so, restart kube-apiserver on the first control plane"
        )
        self._tell(known, Told(ok=False, reason="NoEndpoints", message=message))
        return AGAIN

    def _clean(self, uid: str, known: Known, key: Key, check: _Check) -> float | None:
        """A Service that stays behind is harmless; the next check takes it away."""
        if check.service and known.workload is not None:
            name, workload = check.service, known.workload
            try:
                self._ask(uid, key, "gate end", lambda: workload.gate_end(name), name)
            except (StatusError, SupplierError):
                return None
            self._checks[uid] = replace(check, service="")
        return None

    def _ask(self, uid: str, key: Key, verb: str, fn: Callable[[], T], token: str) -> T:
        return self.env.calls.background(
            pool_of(uid), f"the API of {key.name}", verb, fn, wake=(self.controller, key), token=token, limit=20
        )

    def _tell(self, known: Known, told: Told) -> None:
        with self.nodes.lock:
            news = known.gate != told
            known.gate = told
            waiting = set(known.waiting) if news else set()
        for controller, key in waiting:
            self.env.wake(controller, key)
