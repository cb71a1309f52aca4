"""EBS volumes: the supplier. Attaching asks, and `observe` tells when it is true.

A volume is found by its tags; creating it carries a token as well, so that a lost answer makes no second one. Its path in the guest
follows from its id, as Nitro instances show volumes as NVMe disks with the id as their serial number.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from kubeup_core import (
    Blocked,
    InvalidSpec,
    Mark,
    NoCapacity,
    NotFound,
    NotReady,
    Phase,
    Place,
    Ref,
    Scope,
    Snapshot,
    Taken,
    VolumeSpec,
    VolumeState,
)

from . import marks
from .catalog import Catalog
from .client import Aws
from .config import overrides
from .departures import Departures
from .machines import Owned

GiB = 1024**3
CLASSES = {"standard": "gp3", "fast": "io2"}
"""Volume.spec.class -> volume type, where overrides.aws.volumeType names none."""

IOPS = {"io1": 3000, "io2": 3000}
"""Types that must be told, and what they are told where nobody says."""

PHASES = {
    "creating": Phase.PENDING,
    "available": Phase.RUNNING,
    "in-use": Phase.RUNNING,
    "deleting": Phase.DELETING,
    "deleted": Phase.GONE,
    "error": Phase.FAILED,
}
MODIFYING = {"IncorrectModificationState", "VolumeModificationRateExceeded"}
DETACHED = ("detached",)
IN_USE = "already in use"
"""In EC2's message for a device name that another volume has: another process chose it."""


class AwsVolumes:
    """The volumes of one account in one region. Thread-safe."""

    def __init__(self, aws: Aws, catalog: Catalog, machine: Owned) -> None:
        self._aws = aws
        self._catalog = catalog
        self._machine = machine
        self._lock = threading.Lock()
        self._made: dict[str, str] = {}
        self._lock_devices = threading.Lock()
        self._devices: dict[str, dict[str, str]] = {}  # machine -> volume -> the name that it was given
        self._departures = Departures()

    def ensure(self, want: VolumeSpec) -> VolumeState:
        with self._lock:
            found = self._one(want.mark) or self._create(want)
        size = _gib(want.size)
        busy = ""
        if size > found["Size"]:
            busy = "resizing"
            self._grow(found, size)
        elif size < found["Size"] and found["Size"] * GiB - want.size >= GiB:
            raise InvalidSpec(f"volume {found['VolumeId']} has {found['Size']} GiB and never shrinks", path="spec.size")
        mark = marks.mark_of(marks.as_dict(found.get("Tags")))
        if mark is None or mark.keep != want.mark.keep:
            tag = {f"{marks.PREFIX}keep": "true" if want.mark.keep else "false"}
            self._aws.call("ec2", "create_tags", Resources=[found["VolumeId"]], Tags=marks.as_list(tag))
        return _state(found, want.mark, busy)

    def attach(self, volume: Ref, machine: Ref) -> None:
        disk, instance = self._owned(volume), self._machine(machine)
        holders = [a for a in disk.get("Attachments", ()) if a["State"] not in DETACHED]
        if any(a["InstanceId"] == machine.id and a["State"] != "detaching" for a in holders):
            return
        if holders:
            raise Taken(f"volume {volume.id} is attached to {holders[0]['InstanceId']}", by=holders[0]["InstanceId"])
        used = {mapping["DeviceName"] for mapping in instance.get("BlockDeviceMappings", ())}
        kind, limit = instance.get("InstanceType", ""), self._catalog.limit(instance.get("InstanceType", ""))
        if len(used) > limit:  # the root disk is one of them
            message = f"{machine.id} ({kind}) has the {limit} data volumes that it can have"
            raise NoCapacity(message, scope=Place(machine_type=kind), code="AttachmentLimitExceeded")
        device = self._device(machine.id, volume.id, used)
        if device is None:
            raise NoCapacity(f"{machine.id} has no device name left", scope=Place(machine_type=kind))
        try:
            self._aws.call("ec2", "attach_volume", VolumeId=volume.id, InstanceId=machine.id, Device=device)
        except InvalidSpec as error:
            self._release(machine.id, volume.id)
            if IN_USE not in error.message:
                raise
            raise NotReady(error.message, retry_after=2, code=error.code, request_id=error.request_id) from error

    def detach(self, volume: Ref, machine: Ref) -> None:
        disk = self._owned(volume)
        self._release(machine.id, volume.id)
        if not any(
            a["InstanceId"] == machine.id and a["State"] not in ("detaching", *DETACHED) for a in disk.get("Attachments", ())
        ):
            return
        try:
            self._aws.call("ec2", "detach_volume", VolumeId=volume.id, InstanceId=machine.id)
        except NotReady as error:
            if error.code != "IncorrectState":  # which says that it is detached already
                raise

    def observe(self, scope: Scope) -> Snapshot[VolumeState]:
        found = self._aws.pages("ec2", "describe_volumes", "Volumes", Filters=marks.of_scope(scope, "Volume"), MaxResults=500)
        known = {volume["VolumeId"] for volume in found}
        items = []
        for ref in scope.doubt:
            if ref.id not in known:
                named = self._by_id(ref.id)
                found += named
                if not named and self._departures.missing(ref.mark, ref.id):
                    items.append(VolumeState(ref=ref, phase=Phase.GONE, size=0, reach=frozenset()))
        for volume in found:
            mark = marks.mark_of(marks.as_dict(volume.get("Tags")))
            if mark is not None and mark.kind == "Volume" and scope.covers(mark):
                self._departures.seen(mark, [volume["VolumeId"]])
                items.append(_state(volume, mark))
        return Snapshot(items=tuple(items))

    def delete(self, ref: Ref) -> None:
        try:
            volume = self._owned(ref)
        except NotFound as error:
            if error.code == marks.FOREIGN:
                raise
            return
        if holders := tuple(a["InstanceId"] for a in volume.get("Attachments", ()) if a["State"] not in DETACHED):
            raise Blocked(f"volume {ref.id} is attached to {holders[0]}", by=holders)
        if volume["State"] not in ("deleting", "deleted"):
            with suppress(NotFound):
                self._aws.call("ec2", "delete_volume", VolumeId=ref.id)
        self._departures.seen(ref.mark, [ref.id])
        self._departures.deleted(ref.id)

    # -- names of devices ------------------------------------------------------------------------------------------------

    def _device(self, machine: str, volume: str, used: set[str]) -> str | None:
        """A name that no other volume has, nor was given a moment ago, as the machine's description shows it late."""
        with self._lock_devices:
            given = self._devices.setdefault(machine, {})
            others = {name for id, name in given.items() if id != volume}
            free = [name for name in _devices() if name not in used]
            name = next((name for name in free if name not in others), next(iter(free), None))
            if name is not None:
                given[volume] = name
            return name

    def _release(self, machine: str, volume: str) -> None:
        with self._lock_devices:
            given = self._devices.get(machine, {})
            given.pop(volume, None)
            if not given:
                self._devices.pop(machine, None)

    # -- below -------------------------------------------------------------------------------------------------------------

    def _create(self, want: VolumeSpec) -> dict[str, Any]:
        over = overrides(want.overrides)
        kind = over.volume_type or CLASSES.get(want.klass)
        if kind is None:
            raise InvalidSpec(
                f"there is no class {want.klass} of volumes", path="spec.class", remedy=f"use one of {', '.join(CLASSES)}"
            )
        given: dict[str, Any] = {"Iops": over.iops or IOPS.get(kind), "Throughput": over.throughput, "KmsKeyId": over.kms_key}
        made = self._aws.call(
            "ec2",
            "create_volume",
            ClientToken=want.token[:64],
            AvailabilityZone=want.place or self._catalog.zones()[0],
            Size=_gib(want.size),
            VolumeType=kind,
            Encrypted=True,
            TagSpecifications=[{"ResourceType": "volume", "Tags": marks.as_list(marks.tags(want.mark, want.name))}],
            **{key: value for key, value in given.items() if value is not None},
        )
        self._made[want.mark.maker] = made["VolumeId"]  # EC2 may not list it for a while
        return made

    def _grow(self, volume: dict[str, Any], size: int) -> None:
        """EC2 changes a volume once in six hours: until then the wish stands, and it stays busy."""
        try:
            self._aws.call("ec2", "modify_volume", VolumeId=volume["VolumeId"], Size=size)
        except NotReady as error:
            if error.code not in MODIFYING:
                raise

    def _one(self, mark: Mark) -> dict[str, Any] | None:
        found = self._aws.pages("ec2", "describe_volumes", "Volumes", Filters=marks.of_maker(mark))
        if not found and mark.maker in self._made:
            found = self._by_id(self._made[mark.maker])
        alive = [volume for volume in found if volume["State"] not in ("deleting", "deleted")]
        return min(alive, key=lambda volume: str(volume["VolumeId"]), default=None)

    def _by_id(self, id: str) -> list[dict[str, Any]]:
        try:
            return list(self._aws.read("ec2", "describe_volumes", VolumeIds=[id])["Volumes"])
        except (NotFound, InvalidSpec):  # an id that cannot be one
            return []

    def _owned(self, ref: Ref) -> dict[str, Any]:
        """The volume, when it is there and carries the mark; else NotFound."""
        found = self._by_id(ref.id)
        if not found:
            raise NotFound(f"there is no volume {ref.id}")
        mark = marks.mark_of(marks.as_dict(found[0].get("Tags")))
        if mark is None or not mark.same(ref.mark):
            raise NotFound(f"volume {ref.id} belongs to {marks.owner(mark)}", code=marks.FOREIGN)
        return found[0]


def _state(volume: dict[str, Any], mark: Mark, busy: str = "") -> VolumeState:
    attachments = [a for a in volume.get("Attachments", ()) if a["State"] not in DETACHED]
    moving = [a["State"] for a in attachments if a["State"] in ("attaching", "detaching", "busy")]
    id = volume["VolumeId"]
    return VolumeState(
        ref=Ref(id=id, mark=mark),
        phase=PHASES.get(volume["State"], Phase.UNKNOWN),
        size=volume["Size"] * GiB,
        reach=frozenset({volume["AvailabilityZone"]}),
        device=f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{id.replace('-', '')}",
        attached=tuple(sorted(a["InstanceId"] for a in attachments)),
        busy=busy or ("detaching" if moving == ["busy"] else "".join(moving[:1])),
    )


def _gib(size: int) -> int:
    return max(1, -(-size // GiB))


def _devices() -> Iterator[str]:
    """Names for attachments; the guest does not see them."""
    yield from (f"/dev/sd{letter}" for letter in "fghijklmnop")
    yield from (f"/dev/xvd{first}{second}" for first in "bcd" for second in "abcdefghijklmnopqrstuvwxyz")
