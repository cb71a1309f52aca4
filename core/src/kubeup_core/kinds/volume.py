"""Volume: a disk with a life of its own, that machines come and go under."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..objects import Model, Resource, Size, Status, parse_size
from ..statuses import Cause
from .cluster import Overrides
from .kind import AGE, Column, Kind, ready

FINALIZER = "kubeup.dev/volume"


class Attach(Model):
    """A machine by name, or the machine that holds a slot of a pool (its successor takes the volume over)."""

    machine: str | None = Field(default=None, description="Name of a Machine")
    pool: str | None = Field(default=None, description="Name of a NodePool")
    slot: int | None = Field(default=None, ge=0, description="Slot in that pool, from 0")
    read_only: bool = False


class VolumeSpec(Model):
    cluster: str = Field(description="Name of the Cluster. Immutable")
    provider: str | None = Field(default=None, description="Name of a Provider; absent: the machine's, else the cluster's")
    size: Size = Field(description="Grows only")
    class_: Literal["standard", "fast"] = Field(default="standard", alias="class", description="Kind of disk")
    attach: Attach | None = Field(default=None, description="Where it is attached")
    filesystem: Literal["ext4", "xfs", "none"] = Field(default="none", description="Made only on what is blank")
    mount_path: str | None = Field(default=None, pattern=r"^/", description="Where it is mounted")
    on_delete: Literal["Delete", "Retain"] = Field(default="Delete", description="What happens to the disk with the object")
    overrides: Overrides = Field(default_factory=dict)
    paused: bool = False
    protect: bool = False


class AttachLimit(Model):
    used: int = 0
    max: int | None = None


class VolumeStatus(Status):
    provider: str | None = Field(default=None, description="The Provider that it was made at")
    id: str | None = None
    zone: str | None = Field(default=None, description="Zone or host that it is pinned to")
    size: str | None = None
    attached_to: str | None = Field(default=None, description="Name of the Machine")
    device: str | None = Field(default=None, description="Stable path in the guest")
    state: Literal["Creating", "Available", "Attaching", "Attached", "Detaching", "Resizing", "Deleting", "Unknown"] = (
        "Creating"
    )
    attach_limit: AttachLimit | None = None


class Volume(Resource):
    """A disk with a life of its own."""

    kind: str = "Volume"
    spec: VolumeSpec
    status: VolumeStatus = Field(default_factory=VolumeStatus)


def rules(new: Volume, old: Volume | None) -> list[Cause]:
    causes: list[Cause] = []
    if old is not None and parse_size(new.spec.size) < parse_size(old.spec.size):
        message = f'Invalid value: "{new.spec.size}": a volume only grows; it has {old.spec.size}'
        causes.append(Cause("FieldValueInvalid", message, "spec.size"))
    attach = new.spec.attach
    if attach is not None and (attach.machine is None) == (attach.pool is None):
        causes.append(Cause("FieldValueInvalid", "Invalid value: give either machine, or pool and slot", "spec.attach"))
    elif attach is not None and attach.pool is not None and attach.slot is None:
        causes.append(Cause("FieldValueRequired", "Required value: which slot of the pool, from 0", "spec.attach.slot"))
    return causes


KIND = Kind(
    "Volume",
    "volumes",
    Volume,
    short_names=("vol",),
    categories=("all", "kubeup"),
    columns=(
        Column("Cluster", ".spec.cluster", description="The Cluster it belongs to"),
        Column("Size", ".status.size", description="Size it has"),
        Column("State", ".status.state", description="Where it is in its life"),
        Column("Machine", ".status.attachedTo", description="Machine that it is attached to"),
        ready(),
        Column("Zone", ".status.zone", priority=1, description="Zone or host that it is pinned to"),
        Column("ID", ".status.id", priority=1, description="The place's own id"),
        AGE,
    ),
    immutable=("spec.cluster", "spec.provider", "spec.class"),
    rules=rules,
    description="A disk with a life of its own",
)
