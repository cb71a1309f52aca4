"""What the status of a Machine says about its membership in a Kubernetes cluster. Pure; called by `machine.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..kinds import Machine
from ..kinds.machine import Bootstrap, MachineStatus
from ..objects import timestamp
from .bootstraps import Bootstrapped
from .nodes import NodeView, Told

Set = Callable[[str, bool | None, str, str], None]
"""(type, value, reason, message) of a condition."""

PLAIN = ("StepFailed", "StepRetried")


@dataclass(frozen=True)
class Standing:
    """ready: it may be used. why: a reason and a sentence for the condition Ready. held: it waits for others, no deadline runs."""

    ready: bool
    reason: str
    message: str
    held: bool = False


def standing(machine: Machine, report: Bootstrapped | None, health: Told) -> Standing:
    """report: None for a machine that has joined long ago."""
    if report is not None and not report.done:
        told = report.bootstrapped if report.reachable.ok is not False else report.reachable
        return Standing(False, told.reason, told.message, report.held)
    if health.ok:
        return Standing(True, "NodeReady", health.message)
    return Standing(False, health.reason, health.message, held=health.ok is None)


def describe(
    status: MachineStatus, report: Bootstrapped | None, health: Told, node: NodeView | None, now: float, say: Set
) -> None:
    """Conditions Reachable, Bootstrapped and NodeHealthy, what the steps came to, and the Node. Ready is the caller's."""
    if report is not None:
        say("Reachable", *_of(report.reachable))
        say("Bootstrapped", *_of(report.bootstrapped))
        bootstrap = Bootstrap(
            step=report.step, done=report.number, total=report.total, exit_code=report.exit_code, log_tail=report.tail
        )
        bootstrap.at = status.bootstrap.at if status.bootstrap is not None else None
        if bootstrap != status.bootstrap:
            bootstrap.at = timestamp(now)
            status.bootstrap = bootstrap
    if report is None or report.done:
        say("NodeHealthy", *_of(health))
    if node is not None:
        status.node_ref = {"name": node.name, "uid": node.uid}


def _of(told: Told) -> tuple[bool | None, str, str]:
    return told.ok, told.reason, told.message
