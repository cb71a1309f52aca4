"""Slots of a pool: which of its N places a machine fills, so that what belongs to a place outlives the machine in it.

A machine's name cannot say it: the successor is made while its predecessor is still going, under another name. So the pool controller
labels each machine that it creates with a slot (`free`), and a volume that names a slot finds its machine here (`machine_in`). Pure.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from ..kinds import Machine
from ..kinds.machine import SLOT_LABEL


def slot_of(machine: Machine) -> int | None:
    """The slot that a machine was made for; None for one that belongs to no pool."""
    label = machine.labels.get(SLOT_LABEL, "")
    if label.isdecimal():
        return int(label)
    number = machine.name.rpartition("-")[2]
    return int(number) if machine.spec.pool and number.isdecimal() else None


def free(machines: Iterable[Machine], updated: Iterable[Machine], replicas: int, count: int) -> list[int]:
    """Slots for `count` new machines.

    machines  those of the pool that stay for now; updated: those of them that have the current template
    Empty slots below `replicas` first. Then, when a new template is rolled out with surge, the slots of outdated machines, which go
    as soon as their successors are there. No two machines of the current template ever share one.
    """
    taken, final = {slot_of(m) for m in machines}, {slot_of(m) for m in updated}
    empty = [slot for slot in range(replicas) if slot not in taken]
    outdated = sorted(slot for slot in taken - final if slot is not None)
    found = [*empty, *outdated][:count]
    beyond = (slot for slot in itertools.count(replicas) if slot not in taken)
    return found + list(itertools.islice(beyond, count - len(found)))


def machine_in(slot: int, replicas: int, machines: Sequence[Machine], holder: str | None) -> Machine | None:
    """The machine that fills a slot now; one that is on its way out only when nothing else is there.

    holder  name of the machine that has what belongs to the slot: it keeps it as long as it stays
    After a scale-down, slots may be empty while higher ones are filled: those machines stand in, in order.
    """
    mine = sorted((m for m in machines if slot_of(m) == slot), key=_age)
    staying = [m for m in mine if not m.deleting]
    if staying:
        return next((m for m in staying if m.name == holder), staying[0])
    alive = [m for m in machines if not m.deleting]
    filled = {slot_of(m) for m in alive}
    empty = [n for n in range(replicas) if n not in filled]
    spare = sorted((m for m in alive if (slot_of(m) or 0) >= replicas), key=lambda m: (slot_of(m) or 0, _age(m)))
    stands_in = dict(zip(empty, spare, strict=False)).get(slot)
    return stands_in or (mine[0] if mine else None)


def _age(machine: Machine) -> tuple[str, str]:
    return machine.metadata.creation_timestamp or "", machine.name
