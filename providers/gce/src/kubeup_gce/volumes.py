"""The VolumeSupplier: zonal persistent disks. Created, grown, re-marked, attached to running machines; never formatted or forced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kubeup_core import (
    Blocked,
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

from . import config, marks
from .client import Compute, Record
from .parts import Part, Parts

GiB = 1024**3
SMALLEST = 10 * GiB
"""Of a persistent disk."""

TYPES = {"standard": "pd-balanced", "fast": "pd-ssd"}
PHASES = {
    "CREATING": Phase.PENDING,
    "RESTORING": Phase.PENDING,
    "READY": Phase.RUNNING,
    "FAILED": Phase.FAILED,
    "UNAVAILABLE": Phase.UNKNOWN,
    "DELETING": Phase.DELETING,
}


class GceVolumes:
    def __init__(self, compute: Compute, zones: Sequence[str]) -> None:
        self._compute, self._zones = compute, tuple(zones)
        self._parts = Parts(compute)

    def ensure(self, want: VolumeSpec) -> VolumeState:
        """Pending as long as an operation of this process on the disk runs; raises, once, what one has failed with."""
        zone = want.place or self._zones[0]
        if zone not in self._zones:
            raise InvalidSpec(f"{self._compute.region} has no zone {zone}", remedy=f"zones: {', '.join(self._zones)}")
        name = marks.name(want.name, want.mark)
        changing = self._parts.changing(_part(zone, name))
        record = self._compute.get("Disks", zone=zone, disk=name)
        if record is None:
            if not changing:
                self._create(want, zone, name)
            return VolumeState(
                ref=Ref(id=f"{zone}/{name}", mark=want.mark),
                phase=Phase.PENDING,
                size=_rounded(want.size) * GiB,
                reach=frozenset({zone}),
                device=_device(name),
            )
        state = self._state(record)
        if state is None or not state.ref.mark.same(want.mark):
            by = marks.owner(state.ref.mark if state else None)
            raise Taken(f"the name {name} is held by a disk of {by}", by=by, code="alreadyExists", remedy="rename or remove it")
        if state.phase == Phase.RUNNING and not self._as_wished(want, zone, name, record, state):
            return replace(state, phase=Phase.PENDING)
        return state

    def attach(self, volume: Ref, machine: Ref) -> None:
        disk, instance = self._disk(volume), self._machine(machine)
        zone, name = _split(volume)
        at, host = _split(machine)
        users = _users(disk)
        if machine.id in users:
            return
        if users:
            raise Taken(f"volume {volume.id} is attached to {users[0]}", by=users[0], remedy="detach it there first")
        if zone != at:
            raise InvalidSpec(
                f"volume {volume.id} is in {zone}, machine {machine.id} in {at}", remedy="volumes are of one zone"
            )
        if any(_last(d.get("source", "")) == name for d in instance.get("disks", ())):
            return
        part = _part(zone, name, at=host)
        content = {
            "source": f"projects/{self._compute.project}/zones/{zone}/disks/{name}",
            "device_name": name,
            "auto_delete": False,
        }
        try:
            if not self._parts.changing(part):
                asked = self._compute.change("Instances", "attach_disk", zone=at, instance=host, attached_disk_resource=content)
                self._parts.begun(part, asked)
        except NoCapacity as error:
            scope = Place(place=at, machine_type=_last(instance.get("machine_type", "")))
            raise NoCapacity(
                f"machine {machine.id} takes no more volumes: {error.message}", scope=scope, code=error.code
            ) from error
        except Blocked as error:
            raise Taken(f"volume {volume.id} is attached elsewhere: {error.message}", code=error.code) from error

    def detach(self, volume: Ref, machine: Ref) -> None:
        self._disk(volume)
        instance = self._machine(machine)
        _, name = _split(volume)
        zone, host = _split(machine)
        device = next((d["device_name"] for d in instance.get("disks", ()) if _last(d.get("source", "")) == name), None)
        part = _part(zone, name, at=host)
        if device is None or self._parts.changing(part):
            return
        self._parts.begun(part, self._compute.change("Instances", "detach_disk", zone=zone, instance=host, device_name=device))

    def observe(self, scope: Scope) -> Snapshot[VolumeState]:
        listed, silent = self._compute.everywhere("Disks", "disks", filter=marks.filter_of(scope, "Volume"))
        states = tuple(state for record in listed if (state := self._state(record)) is not None)
        ours = tuple(state for state in states if state.ref.id.partition("/")[0] in self._zones)
        return Snapshot(items=ours, unreachable=frozenset(silent & set(self._zones)))

    def delete(self, ref: Ref) -> None:
        zone, name = _split(ref)
        record = self._compute.get("Disks", zone=zone, disk=name)
        if record is None:
            return
        state = self._state(record)
        if state is None or not state.ref.mark.same(ref.mark):
            by = marks.owner(state.ref.mark if state else None)
            raise NotFound(f"volume {ref.id} belongs to {by}", code="foreign mark")
        if state.attached:
            raise Blocked(f"volume {ref.id} is attached to {state.attached[0]}", by=state.attached)
        part = _part(zone, name, at="nowhere")
        if not self._parts.changing(part) and state.phase != Phase.DELETING:
            try:
                self._parts.begun(part, self._compute.change("Disks", "delete", zone=zone, disk=name))
            except NotFound:
                return

    def _create(self, want: VolumeSpec, zone: str, name: str) -> None:
        chosen = config.required(want.overrides)
        kind = chosen.disk_type or TYPES.get(want.klass, want.klass)
        content = {
            "name": name,
            "size_gb": _rounded(want.size),
            "type_": f"projects/{self._compute.project}/zones/{zone}/diskTypes/{kind}",
            "labels": marks.labels(want.mark),
        }
        try:
            self._parts.begun(_part(zone, name), self._compute.change("Disks", "insert", zone=zone, disk_resource=content))
        except Taken:  # another thread, or a call whose reply was lost: the next look tells whose it is
            return

    def _as_wished(self, want: VolumeSpec, zone: str, name: str, record: Record, state: VolumeState) -> bool:
        """Grows it, then sets its labels right, one operation after the other; a smaller wish is none."""
        part = _part(zone, name)
        if want.size > state.size:
            larger = {"size_gb": _rounded(want.size)}
            asked = self._compute.change("Disks", "resize", zone=zone, disk=name, disks_resize_request_resource=larger)
            self._parts.begun(part, asked)
            return False
        labels = {**record.get("labels", {}), **marks.labels(want.mark)}
        if labels == record.get("labels", {}):
            return True
        content = {"labels": labels, "label_fingerprint": record.get("label_fingerprint", "")}
        try:
            asked = self._compute.change(
                "Disks", "set_labels", zone=zone, resource=name, zone_set_labels_request_resource=content
            )
            self._parts.begun(part, asked)
        except NotReady as error:  # a stale fingerprint: labels change just now, and the next look sees them
            if error.code not in ("conditionNotMet", "CONDITION_NOT_MET"):
                raise
        return False

    def _disk(self, ref: Ref) -> Record:
        zone, name = _split(ref)
        record = self._compute.get("Disks", zone=zone, disk=name)
        found = self._state(record) if record is not None else None
        if record is None or found is None or not found.ref.mark.same(ref.mark):
            raise NotFound(f"there is no volume {ref.id} that carries this mark")
        return record

    def _machine(self, ref: Ref) -> Record:
        zone, name = _split(ref)
        record = self._compute.get("Instances", zone=zone, instance=name)
        mark = marks.mark_of(record.get("labels", {}), marks.index_of(name)) if record is not None else None
        if record is None or mark is None or not mark.same(ref.mark):
            raise NotFound(f"there is no machine {ref.id} that carries this mark")
        return record

    def _state(self, record: Record) -> VolumeState | None:
        mark = marks.mark_of(record.get("labels", {}))
        if mark is None or mark.kind != "Volume":
            return None
        zone, name = _last(record["zone"]), str(record["name"])
        phase = PHASES.get(str(record.get("status", "")), Phase.UNKNOWN)
        if phase == Phase.RUNNING and self._parts.begun_here(_part(zone, name)):
            phase = Phase.PENDING  # so that `ensure` is called until it knows how the operation ended
        failed: SupplierError | None = NotReady(f"Google could not make disk {name}") if phase == Phase.FAILED else None
        return VolumeState(
            ref=Ref(id=f"{zone}/{name}", mark=mark),
            phase=phase,
            size=int(record.get("size_gb", 0)) * GiB,
            reach=frozenset({zone}),
            device=_device(name),
            attached=_users(record),
            error=failed,
        )


def _part(zone: str, name: str, at: str = "") -> Part:
    """What an operation is remembered by. at: the machine that the disk is put to or taken from; "nowhere" when it is deleted."""
    return Part("Disks", "disk", at or "disk_resource", name, zone=zone)


def _users(record: Record) -> tuple[str, ...]:
    """`zone/name` of the machines that have it."""
    return tuple("/".join((link.split("/")[-3], link.split("/")[-1])) for link in record.get("users", ()))


def _device(name: str) -> str:
    """The guest agent's link for a disk that is attached under its own name."""
    return f"/dev/disk/by-id/google-{name}"


def _rounded(size: int) -> int:
    """Whole GiB."""
    return -(-max(size, SMALLEST) // GiB)


def _split(ref: Ref) -> tuple[str, str]:
    zone, _, name = ref.id.partition("/")
    return zone, name


def _last(link: str) -> str:
    return link.rpartition("/")[2]
