"""The VolumeSupplier: logical volumes where the host has a group for them, else files on loop devices. They never leave their host.

A volume's record lies beside it on the host, with its mark; attaching makes it a device there, detaching takes that away.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from kubeup_core import (
    InvalidSpec,
    NoCapacity,
    NotFound,
    NotReady,
    Phase,
    Place,
    Ref,
    Scope,
    Snapshot,
    SupplierError,
    Taken,
    VolumeSpec,
    VolumeState,
)

from .fleet import Fleet
from .inventory import Host
from .looks import Look, VolumeLook, key_of, record_text
from .machines import slot_of

LINKS = "/dev/kubeup"


class SshVolumes:
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def ensure(self, want: VolumeSpec) -> VolumeState:
        if want.overrides:
            raise InvalidSpec("volumes of ssh know no overrides", path="spec.overrides.ssh", remedy="leave them out")
        host = self._home(want)
        id_ = f"{want.name[:24]}-{want.mark.maker[:8]}"
        size = -(-want.size // 4096) * 4096
        call = shlex.join(["make", host.volume_folder, id_, str(size), host.volume_group])
        self._fleet.change(host, call, record_text(want.mark, size, host.volume_group))
        look = self._fleet.look([host.name])[host.name]
        if isinstance(look, SupplierError):
            raise look
        found = next((v for v in look.volumes if v.mark.same(want.mark)), None)
        if found is None:
            raise NotFound(f"volume {want.name} vanished from host {host.name} right after it was made")
        return _state(host, found)

    def observe(self, scope: Scope) -> Snapshot[VolumeState]:
        found = self._fleet.look()
        items = [_state(host, volume) for host, volume in self._all(found) if scope.covers(volume.mark)]
        unreachable = {name for name, look in found.items() if isinstance(look, SupplierError)}
        unreachable |= {slot_of(ref.id) for ref in scope.doubt} - set(self._fleet.hosts)
        return Snapshot(items=tuple(items), unreachable=frozenset(unreachable))

    def attach(self, volume: Ref, machine: Ref) -> None:
        host = self._of(volume)
        if slot_of(machine.id) != host.name:
            raise Taken(
                f"volume {volume.id} lies on host {host.name}, and does not leave it",
                by=host.name,
                remedy=f"attach it to a machine on {host.name}",
            )
        call = ["up", host.volume_folder, _own(volume), machine.id, key_of(volume.mark), key_of(machine.mark)]
        self._fleet.change(host, shlex.join(call))

    def detach(self, volume: Ref, machine: Ref) -> None:
        host = self._of(volume)
        call = ["down", host.volume_folder, _own(volume), machine.id, key_of(volume.mark)]
        self._fleet.change(host, shlex.join(call))

    def delete(self, ref: Ref) -> None:
        host = self._of(ref)
        self._fleet.change(host, shlex.join(["remove", host.volume_folder, _own(ref), key_of(ref.mark)]))

    # -- below -----------------------------------------------------------------------------------------------------------

    def _home(self, want: VolumeSpec) -> Host:
        """The host that has it already, the one that it must be on, or the one with the most room."""
        if want.place:
            if want.place not in self._fleet.hosts:
                raise InvalidSpec(
                    f"{want.place} is no host of the inventory", path="spec.zone", remedy="kubeup providers hosts"
                )
            return self._fleet.hosts[want.place]
        found = self._fleet.look(sized=True)
        for host, volume in self._all(found):
            if volume.mark.same(want.mark):
                return host
        silent = sorted(name for name, look in found.items() if isinstance(look, SupplierError))
        if silent:
            raise NotReady(f"host {silent[0]} does not answer, and may have this volume already", retry_after=10.0)
        rooms = {name: look.room for name, look in found.items() if isinstance(look, Look)}
        best = max(rooms, key=lambda name: rooms[name])
        if rooms[best] < want.size:
            raise NoCapacity(f"no host has room for {want.size} bytes; {best} has the most, {rooms[best]}", scope=Place())
        return self._fleet.hosts[best]

    def _all(self, found: dict[str, Look | SupplierError]) -> Iterator[tuple[Host, VolumeLook]]:
        for name, look in found.items():
            if isinstance(look, Look):
                for volume in look.volumes:
                    yield self._fleet.hosts[name], volume

    def _of(self, volume: Ref) -> Host:
        try:
            return self._fleet.host(slot_of(volume.id))
        except NotFound as error:
            raise NotReady(error.message, retry_after=60.0, remedy=error.remedy) from error


def _own(ref: Ref) -> str:
    """The volume's name on its host."""
    return ref.id.rpartition("/")[2]


def _state(host: Host, volume: VolumeLook) -> VolumeState:
    return VolumeState(
        ref=Ref(id=f"{host.name}/{volume.id}", mark=volume.mark),
        phase=Phase.RUNNING if volume.size else Phase.PARTIAL,
        size=volume.size,
        reach=frozenset({host.name}),
        device=f"{LINKS}/{volume.id}",
        attached=(volume.attached,) if volume.attached else (),
    )
