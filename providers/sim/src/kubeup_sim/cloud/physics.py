"""What a record is at a moment: pure functions of the record, the settings and the time. Nothing runs while nobody looks.

`None` for a phase means that the place knows it no more. The words are the simulated vendor's own; `machines.py` and the others
beside this folder translate them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .records import Balancer, Machine, Network, Resource, Volume
from .settings import Settings

if TYPE_CHECKING:
    from .account import Cloud

HALF_MADE, PENDING, RUNNING, STOPPED = "half-made", "pending", "running", "stopped"
DELETING, OVER, REFUSED = "deleting", "over", "refused"
ALIVE = frozenset({HALF_MADE, PENDING, RUNNING, STOPPED, DELETING})
"""Phases in which a machine takes up capacity, quota, its name and its network."""


def draw(seed: int, what: str) -> float:
    """A number from 0 to below 1, the same for the same seed and words on every machine."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{what}".encode(), digest_size=4).digest(), "big") / 2**32


def machine_phase(machine: Machine, settings: Settings, now: float) -> str | None:
    if machine.lost_at is not None and now >= machine.lost_at:
        return None
    if machine.rollback_at is not None and now >= machine.rollback_at:
        return None
    over_at = machine.gone_at
    if machine.leaving_at is not None and (over_at is None or machine.leaving_at < over_at) and now >= machine.leaving_at:
        over_at = machine.leaving_at
    if over_at is not None:
        if now < over_at:
            return DELETING
        return OVER if now < over_at + settings.gone_seconds else None
    if machine.started_at is None:
        return HALF_MADE
    if machine.refuse_at is not None and now >= machine.refuse_at:
        return REFUSED
    if machine.stopped:
        return STOPPED
    return RUNNING if now >= machine.started_at + machine.boot else PENDING


def network_phase(network: Network, now: float) -> str | None:
    if network.gone_at is not None:
        return DELETING if now < network.gone_at else None
    return RUNNING if now >= network.ready_at else PENDING


def balancer_phase(balancer: Balancer, settings: Settings, now: float) -> str | None:
    """A deleted balancer is known until its last interface is gone."""
    if balancer.gone_at is not None:
        return DELETING if now < balancer.gone_at + settings.linger_seconds else None
    return RUNNING if now >= balancer.ready_at else PENDING


def volume_phase(volume: Volume, now: float) -> str | None:
    if volume.lost_at is not None and now >= volume.lost_at:
        return OVER
    if volume.gone_at is not None:
        return DELETING if now < volume.gone_at else None
    return RUNNING if now >= volume.ready_at else PENDING


def attachment(volume: Volume, machine: Machine | None, settings: Settings, now: float) -> tuple[str, str]:
    """(id of the machine or "", busy). A machine that is over or unknown has let go of its volumes."""
    if machine is None or machine_phase(machine, settings, now) in (None, OVER):
        return "", ""
    if volume.detaching:
        done = volume.detached_at is not None and now >= volume.detached_at
        return ("", "") if done else (machine.id, "detaching")
    if volume.attached_at is None or now < volume.attached_at:
        return machine.id, "attaching"
    return machine.id, ""


def exists(resource: Resource, now: float) -> bool:
    """For what has no states: a disk is there until its deletion is done."""
    return resource.gone_at is None or now < resource.gone_at


def living(cloud: Cloud, now: float) -> Iterator[Machine]:
    """Machines that take up room. Within read() or write()."""
    settings = cloud.settings
    for machine in cloud.state.table(Machine).values():
        if machine_phase(machine, settings, now) in ALIVE:
            yield machine
