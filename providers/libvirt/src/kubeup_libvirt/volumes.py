"""Data disks: thin qcow2 files in the storage pool, attached to machines while they run.

A storage volume has no metadata, so its name is its mark (marks.py), and `keep` is an empty volume beside it. What is attached where
stands in the domains. A disk that is attached grows through its machine, which sees it at once; any other in the pool.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from kubeup_core import (
    Blocked,
    InvalidSpec,
    Mark,
    NoCapacity,
    NotFound,
    NotReady,
    Phase,
    Ref,
    Scope,
    Snapshot,
    Taken,
    VolumeSpec,
    VolumeState,
)

from . import marks, xml
from .client import Hypervisor
from .config import overrides
from .machines import MAX_VOLUMES
from .records import Domain, Place, Volume

BY_ID = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class LibvirtVolumes:
    """The volumes of one storage pool. Thread-safe."""

    def __init__(self, hypervisor: Hypervisor, place: Place, pool: str) -> None:
        self._hypervisor = hypervisor
        self._place = place
        self._pool = pool

    def ensure(self, want: VolumeSpec) -> VolumeState:
        parsed = overrides(want.overrides)
        if isinstance(parsed, list):
            raise InvalidSpec(parsed[0].message, path=parsed[0].path, remedy=parsed[0].remedy)
        names = self._hypervisor.volume_names()
        name = next((n for n, mark in _ours(names).items() if mark.same(want.mark)), "")
        if not name:
            name = marks.volume_name(want.mark, marks.DATA)
            self._room_for(want.size)
            with suppress(Taken):  # by the same call in another thread: the name is the mark
                self._hypervisor.create_volume(xml.volume(name, want.size))
        try:
            volume = self._hypervisor.volume(name)
        except NotFound as error:
            raise NotReady(f"volume {want.name} is being made, or deleted", code=error.code) from error
        kept = _keep(name) in names
        if want.size < volume.size and want.mark.keep == kept:
            raise InvalidSpec(f"volume {want.name} has {volume.size} bytes and never shrinks", path="spec.size")
        holders = self._holders(volume.path)
        if want.size > volume.size:
            self._grow(volume, want.size, holders)
        if want.mark.keep != kept:
            self._mark_kept(name, want.mark.keep)
        return self._state(replace(volume, size=max(volume.size, want.size)), want.mark, holders)

    def attach(self, volume: Ref, machine: Ref) -> None:
        disk, domain = self._owned(volume), self._machine(machine)
        for holder in self._holders(disk.path):
            if holder.uuid == machine.id:
                return
            raise Taken(f"volume {disk.name} is attached to {holder.name}", by=holder.uuid)
        taken = {d.target for d in domain.disks}
        free = [f"sd{letter}" for letter in LETTERS[:MAX_VOLUMES] if f"sd{letter}" not in taken]
        if not free:
            raise NoCapacity(f"machine {domain.name} has {MAX_VOLUMES} volumes, which is all that it takes")
        self._hypervisor.attach(machine.id, xml.data_disk(disk.path, free[0], marks.serial_of(volume.mark)))

    def detach(self, volume: Ref, machine: Ref) -> None:
        disk, domain = self._owned(volume), self._machine(machine)
        for held in domain.disks:
            if held.path == disk.path:
                self._hypervisor.detach(machine.id, held.target)

    def observe(self, scope: Scope) -> Snapshot[VolumeState]:
        names = self._hypervisor.volume_names()
        ours = {name: mark for name, mark in _ours(names).items() if scope.covers(mark)}
        domains = self._hypervisor.domains() if ours else []
        items = []
        for name, mark in ours.items():
            try:
                volume = self._hypervisor.volume(name)
            except NotFound:  # gone in between
                continue
            mark = replace(mark, keep=_keep(name) in names)
            items.append(self._state(volume, mark, _holding(domains, volume.path)))
        strays = [
            Ref(id=name, mark=found[0])
            for name in names
            if (found := marks.of_volume(name))
            and found[1] == f"{marks.DATA}.{marks.KEEP}"
            and name.removesuffix(f".{marks.KEEP}") not in names
            and scope.covers(found[0])
        ]
        return Snapshot(items=tuple(items), strays=tuple(strays))

    def delete(self, ref: Ref) -> None:
        try:
            volume = self._owned(ref)
        except NotFound as error:
            if error.code == marks.FOREIGN:
                raise
            return
        if holders := self._holders(volume.path):
            names = ", ".join(sorted(d.name for d in holders))
            raise Blocked(f"volume {volume.name} is attached to {names}", by=tuple(d.uuid for d in holders))
        for name in (_keep(ref.id), ref.id):
            try:
                self._hypervisor.delete_volume(name)
            except NotFound:
                continue

    def _room_for(self, size: int) -> None:
        if (free := self._hypervisor.space()) < size:
            raise NoCapacity(
                f"storage pool {self._pool} has {free >> 20} MiB free, the volume needs {size >> 20}",
                person=True,
                remedy="free space in the storage pool, or name another one in the Provider's config",
            )

    def _grow(self, volume: Volume, size: int, holders: list[Domain]) -> None:
        self._room_for(size - volume.size)
        if holders and not holders[0].active:
            raise NotReady(f"volume {volume.name} grows when its machine {holders[0].name} runs")
        if holders:
            self._hypervisor.resize_live(holders[0].uuid, volume.path, size)
        else:
            self._hypervisor.resize_volume(volume.name, size)

    def _mark_kept(self, name: str, keep: bool) -> None:
        try:
            if keep:
                self._hypervisor.create_volume(xml.volume(_keep(name), 0, "raw"))
            else:
                self._hypervisor.delete_volume(_keep(name))
        except (Taken, NotFound):  # it is so already
            return

    def _owned(self, ref: Ref) -> Volume:
        """The volume, when its name is the mark; else NotFound."""
        volume = self._hypervisor.volume(ref.id)
        found = marks.of_volume(ref.id)
        if found is None or not found[0].same(ref.mark):
            raise NotFound(f"volume {ref.id} belongs to {marks.owner(found[0] if found else None)}", code=marks.FOREIGN)
        return volume

    def _machine(self, ref: Ref) -> Domain:
        domain = self._hypervisor.domain(ref.id)
        if domain.mark is None or not domain.mark.same(ref.mark):
            raise NotFound(f"virtual machine {domain.name} belongs to {marks.owner(domain.mark)}", code=marks.FOREIGN)
        return domain

    def _holders(self, path: str) -> list[Domain]:
        return _holding(self._hypervisor.domains(), path)

    def _state(self, volume: Volume, mark: Mark, holders: list[Domain]) -> VolumeState:
        return VolumeState(
            ref=Ref(id=volume.name, mark=mark),
            phase=Phase.RUNNING,
            size=volume.size,
            reach=frozenset({self._place.identity}),
            device=f"{BY_ID}{marks.serial_of(mark)}",
            attached=tuple(sorted(d.uuid for d in holders)),
        )


def _ours(names: list[str]) -> dict[str, Mark]:
    """Data volumes by name."""
    found = {name: marks.of_volume(name) for name in names}
    return {name: said[0] for name, said in found.items() if said and said[1] == marks.DATA}


def _keep(name: str) -> str:
    return f"{name}.{marks.KEEP}"


def _holding(domains: list[Domain], path: str) -> list[Domain]:
    return [d for d in domains if any(disk.path == path for disk in d.disks)]
