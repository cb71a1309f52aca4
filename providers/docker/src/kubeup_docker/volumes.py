"""Data disks of machines: volumes of the engine, each with one file in it that is the disk.

A machine gets its volumes when it is made, as an engine gives a running container none (`attach: launch`). In the guest the disk is a
file, which mkfs, blkid and `mount -o loop` take like a block device: it has the size that was asked for, its loop device goes
with the mount, and what is on it outlives the machine. The file is made by the machine that first has it (guest.py).

Labels of a volume never change, but `keep` and the size may. What was changed stands on a note: an empty volume beside it, made
before the former note goes, removed before its volume. So one listing tells all, and nothing is left over.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from kubeup_core import (
    Blocked,
    InvalidSpec,
    Mark,
    NotFound,
    NotReady,
    Phase,
    Ref,
    Scope,
    Snapshot,
    SupplierError,
    Taken,
    Unknown,
    VolumeSpec,
    VolumeState,
)

from . import guest, marks
from .client import Engine
from .config import overrides
from .limits import Limits
from .records import Container, Volume

SIZE = f"{marks.PREFIX}size"
NOTE_OF = f"{marks.PREFIX}note-of"
KIND = f"{marks.PREFIX}kind"
NOTE = "VolumeNote"
GROW_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Disk:
    """A volume with what its notes say. mark: with `keep` as it is now."""

    name: str
    mark: Mark
    size: int
    notes: tuple[str, ...]


class DockerVolumes:
    """The volumes of one engine. Thread-safe."""

    def __init__(self, engine: Engine, limits: Limits, same: Callable[[], None]) -> None:
        self._engine = engine
        self._limits = limits
        self._same = same

    def ensure(self, want: VolumeSpec) -> VolumeState:
        self._same()
        if want.overrides:
            parsed = overrides(want.overrides)
            if isinstance(parsed, list):
                raise InvalidSpec(parsed[0].message, path=parsed[0].path, remedy=parsed[0].remedy)
        named = marks.name(want.name, want.mark)
        found = self._disk(want.mark) or self._create(named, want)
        if want.size < found.size and want.mark.keep == found.mark.keep:
            raise InvalidSpec(f"volume {found.name} has {found.size} bytes and never shrinks", path="spec.size")
        size = max(want.size, found.size)
        holders = self._engine.with_volume(found.name)
        if size > found.size:
            self._grow(found, size, holders)
        if (size, want.mark.keep) != (found.size, found.mark.keep):
            self._note(found, size, want.mark)
            found = replace(found, size=size, mark=want.mark)
        return self._state(found, holders)

    def attach(self, volume: Ref, machine: Ref) -> None:
        raise InvalidSpec(
            "a container gets its volumes when it is made",
            remedy="delete the machine: its successor starts with the volume",
        )

    def detach(self, volume: Ref, machine: Ref) -> None:
        disk = self._owned(volume)
        if machine.id in (c.id for c in self._engine.with_volume(disk.name)):
            raise Blocked("a container keeps its volumes until it is removed", by=(machine.id,))

    def observe(self, scope: Scope) -> Snapshot[VolumeState]:
        self._same()
        labels = marks.of_scope(scope, "Volume")
        disks = _disks(self._engine.volumes({k: v for k, v in labels.items() if k != KIND}))
        machines = self._engine.containers(marks.of_scope(scope, "Machine")) if disks else []
        listed = {disk.name for disk in disks}
        for name in (ref.id for ref in scope.doubt if ref.id not in listed):
            disks += self._named(name)
        return Snapshot(
            items=tuple(
                self._state(disk, [c for c in machines if disk.name in c.volumes]) for disk in disks if scope.covers(disk.mark)
            )
        )

    def delete(self, ref: Ref) -> None:
        try:
            disk = self._owned(ref)
        except NotFound as error:
            if error.code == marks.FOREIGN:
                raise
            return
        if holders := self._engine.with_volume(disk.name):
            names = ", ".join(sorted(c.name for c in holders))
            raise Blocked(f"volume {disk.name} is attached to {names}", by=tuple(c.id for c in holders))
        for name in (*disk.notes, disk.name):
            try:
                self._engine.remove_volume(name)
            except NotFound:
                continue

    def _create(self, named: str, want: VolumeSpec) -> Disk:
        made = self._engine.create_volume(named, {**marks.labels(want.mark), SIZE: str(want.size)})
        found = _disks([made])
        if not found or not found[0].mark.same(want.mark):
            raise Taken(
                f"a volume called {named} exists already",
                by=marks.owner(marks.mark_of(made.labels)),
                remedy=f"docker volume rm {named}",
            )
        return found[0]

    def _grow(self, disk: Disk, size: int, holders: Sequence[Container]) -> None:
        """The file of a volume that is attached grows at once; of any other when a machine starts with it."""
        for holder in holders:
            if holder.state != "running":
                raise NotReady(f"volume {disk.name} grows when its machine {holder.name} runs")
            script = f"truncate -s {size} {shlex.quote(guest.disk_path(disk.name))}"
            *said, code = self._engine.execute(holder.id, script, b"", GROW_SECONDS)
            if code != 0:
                text = b"".join(part for part in said if isinstance(part, bytes)).decode(errors="replace").strip()
                raise Unknown(f"volume {disk.name} could not grow in {holder.name}: {text}")

    def _note(self, disk: Disk, size: int, mark: Mark) -> None:
        name = f"{disk.name}.{size}{'.keep' if mark.keep else ''}"
        labels = {**marks.labels(mark), KIND: NOTE, NOTE_OF: disk.name, SIZE: str(size)}
        self._engine.create_volume(name, labels)
        for former in disk.notes:
            if former != name:
                try:
                    self._engine.remove_volume(former)
                except SupplierError:
                    continue  # the larger one counts; the next change, or the end, takes it away

    def _disk(self, mark: Mark) -> Disk | None:
        labels = {k: v for k, v in marks.of_maker(mark).items() if k != KIND}
        return next((disk for disk in _disks(self._engine.volumes(labels)) if disk.mark.same(mark)), None)

    def _named(self, name: str) -> list[Disk]:
        try:
            volume = self._engine.volume(name)
        except NotFound:
            return []
        return _with_notes(self._engine, [volume])

    def _owned(self, ref: Ref) -> Disk:
        """The volume, when it carries the mark; else NotFound."""
        found = self._named(ref.id)
        if not found and self._engine.volume(ref.id):  # raises when there is none
            raise NotFound(f"volume {ref.id} belongs to somebody else, not kubeup", code=marks.FOREIGN)
        if not found[0].mark.same(ref.mark):
            raise NotFound(f"volume {ref.id} belongs to {marks.owner(found[0].mark)}", code=marks.FOREIGN)
        return found[0]

    def _state(self, disk: Disk, holders: Iterable[Container]) -> VolumeState:
        return VolumeState(
            ref=Ref(id=disk.name, mark=disk.mark),
            phase=Phase.RUNNING,
            size=disk.size,
            reach=frozenset({self._limits.key}),
            device=guest.disk_path(disk.name),
            attached=tuple(sorted(c.id for c in holders)),
        )


def binds(engine: Engine, launch: Mark, names: Sequence[str]) -> tuple[tuple[str, str, bool], ...]:
    """How these volumes come into a machine that is being made. Raises when one is not there, not ours, or at another machine: the
    engine itself would make a new one, or let two machines write to one disk."""
    found = []
    for name in names:
        try:
            mark = marks.mark_of(engine.volume(name).labels)
        except NotFound as error:
            raise InvalidSpec(f"volume {name} is gone", remedy="delete the Volume and create it again") from error
        if mark is None or mark.installation != launch.installation:
            raise Taken(f"volume {name} belongs to somebody else", by=marks.owner(mark))
        if holders := engine.with_volume(name):
            raise Taken(f"volume {name} is attached to {holders[0].name}", by=holders[0].id)
        found.append((name, guest.disk_path(name).rpartition("/")[0], False))
    return tuple(found)


def sizes(engine: Engine, launch: Mark, names: Sequence[str]) -> list[tuple[str, int]]:
    """Volume and bytes, for the machine that makes the files."""
    disks = _disks(engine.volumes({f"{marks.PREFIX}installation": launch.installation}))
    known = {disk.name: disk.size for disk in disks}
    return [(name, known[name]) for name in names if name in known]


def _with_notes(engine: Engine, volumes: Sequence[Volume]) -> list[Disk]:
    notes = [note for v in volumes for note in engine.volumes({NOTE_OF: v.name})]
    return _disks([*volumes, *notes])


def _disks(listed: Iterable[Volume]) -> list[Disk]:
    """Volumes of ours, each with its notes, which may stand anywhere in the listing."""
    notes: dict[str, list[Volume]] = {}
    found = []
    for volume in listed:
        if volume.labels.get(KIND) == NOTE:
            notes.setdefault(volume.labels.get(NOTE_OF, ""), []).append(volume)
        elif volume.labels.get(KIND) == "Volume" and volume.labels.get(SIZE, "").isdigit():
            found.append(volume)
    disks = []
    for volume in found:
        mark = marks.mark_of(volume.labels)
        if mark is None:
            continue
        said = notes.get(volume.name, [])
        size = max(int(v.labels[SIZE]) for v in (volume, *said) if v.labels.get(SIZE, "").isdigit())
        keep = any(note.labels.get(f"{marks.PREFIX}keep") == "true" for note in said) if said else mark.keep
        disks.append(Disk(name=volume.name, mark=replace(mark, keep=keep), size=size, notes=tuple(n.name for n in said)))
    return disks
