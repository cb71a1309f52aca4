"""NodePool: N machines made from one template, kept at N. Has /scale."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from ..objects import Model, Resource, Status
from ..statuses import Cause
from .cluster import Overrides
from .durations import Duration
from .kind import AGE, Column, Kind, ready
from .template import MachineTemplate

MAX_NAME = 45
"""Machine names are POOL-SLOT and at most 57 long, so that a provider can add a suffix and stay below 63."""

ADDRESS = "kubeup.dev/address"
"""Annotation of a pool of one machine: the internal address that this one and its successors should have."""


def _percent(value: str) -> str:
    if not re.fullmatch(r"\d{1,3}%|\d+", value) or (value.endswith("%") and int(value[:-1]) > 100):
        raise ValueError(f'{value!r} is neither a number nor a percentage: write for example 2 or "40%"')
    return value


Amount = Annotated[int, Field(ge=0)] | Annotated[str, AfterValidator(_percent)]


class OfferSpec(Model):
    """A place to get machines from, in order of preference."""

    provider: str = Field(description="Name of a Provider")
    zones: list[str] = Field(default_factory=list, description="Zones; empty for any")
    machine_type: str | None = Field(default=None, description="Machine type; absent: what cpu and memory need")
    spot: bool | None = Field(default=None, description="Spare capacity; absent: as the template says")
    max: int | None = Field(default=None, ge=0, description="Machines at most from here")


class Update(Model):
    strategy: Literal["Replace", "OnDelete"] = Field(default="Replace", description="What a changed template does")
    upgrade: Literal["InPlace", "Replace"] = Field(
        default="InPlace",
        description="How machines get another version of Kubernetes: emptied and upgraded, or replaced as by a changed template",
    )
    max_surge: Literal["auto"] | Amount = Field(
        default="auto", description="Machines above replicas; auto: 1 where they are made"
    )
    max_unavailable: Literal["auto"] | Amount = Field(
        default="auto", description="Machines below replicas; auto: 0, or 1 for a fixed inventory"
    )


class Repair(Model):
    enabled: bool = Field(default=True, description="Replace machines that fail or vanish")
    max_unhealthy: Amount = Field(default="40%", description="More unhealthy machines than this halt the repair")
    boot_timeout: Duration = Field(default="10m", description="Awake time from launch to Ready")
    unready_timeout: Duration = Field(default="5m", description="Awake time that a machine may be not Ready")


class Drain(Model):
    timeout: Duration = Field(default="10m", description="Awake time for a drain")
    on_timeout: Literal["Block", "Force"] = Field(default="Block", description="What then happens")


class Taint(Model):
    key: str
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


class NodePoolSpec(Model):
    cluster: str = Field(description="Name of the Cluster. Immutable")
    role: Literal["worker", "controlPlane", "loadBalancer"] = Field(
        default="worker",
        description="What its machines are for. kubeup itself makes the pools of control planes and of load balancers. Immutable",
    )
    replicas: int = Field(default=1, ge=0, le=100_000, description="Machines wanted")
    provider: str | None = Field(default=None, description="Name of a Provider; absent: the cluster's")
    machine: MachineTemplate = Field(
        default_factory=MachineTemplate, description="What is wanted of a machine; over the cluster's"
    )
    overrides: Overrides = Field(default_factory=dict)
    offers: list[OfferSpec] = Field(default_factory=list, description="Places in order; overrides provider")
    spread: Literal["zone", "none"] = Field(default="zone", description="Spread over zones")
    update: Update = Field(default_factory=Update, description="How a changed template is rolled out")
    repair: Repair = Field(default_factory=Repair, description="How failed machines are replaced")
    drain: Drain = Field(default_factory=Drain, description="How nodes are drained")
    labels: dict[str, str] = Field(default_factory=dict, description="Kept in step on Nodes")
    taints: list[Taint] = Field(default_factory=list, description="Kept in step on Nodes")
    paused: bool = Field(default=False, description="Stops every change to this pool")
    protect: bool = Field(default=False, description="The API refuses to delete it")


class OfferStatus(Model):
    provider: str
    place: str = ""
    machine_type: str = ""
    spot: bool = False
    state: str = "Available"
    cool_until: str | None = None
    message: str | None = None


class NodePoolStatus(Status):
    replicas: int = 0
    ready: int = 0
    updated: int = 0
    unavailable: int = 0
    selector: str | None = None
    template_hash: str | None = None
    arch: str | None = None
    offers: list[OfferStatus] = Field(default_factory=list)


class NodePool(Resource):
    """N machines made from one template."""

    kind: str = "NodePool"
    spec: NodePoolSpec
    status: NodePoolStatus = Field(default_factory=NodePoolStatus)


def rules(new: NodePool, old: NodePool | None) -> list[Cause]:
    causes: list[Cause] = []
    if old is None and len(new.name) > MAX_NAME:
        message = f'Invalid value: "{new.name}": at most {MAX_NAME} characters, because machines are named after their pool'
        causes.append(Cause("FieldValueInvalid", message, "metadata.name"))
    owners = {owner.kind for owner in new.metadata.owner_references or ()}
    if new.spec.role == "loadBalancer" and "LoadBalancer" not in owners:
        message = 'Invalid value: "loadBalancer": such pools are made by kubeup; create a LoadBalancer that runs on machines'
        causes.append(Cause("FieldValueInvalid", message, "spec.role"))
    if new.spec.role == "controlPlane" and "Cluster" not in owners:
        message = 'Invalid value: "controlPlane": such pools are made by kubeup; set spec.controlPlane.replicas of the Cluster'
        causes.append(Cause("FieldValueInvalid", message, "spec.role"))
    update = new.spec.update
    if _is_zero(update.max_surge) and _is_zero(update.max_unavailable):
        message = "Invalid value: 0: maxSurge and maxUnavailable cannot both be 0, no machine could ever be replaced"
        causes.append(Cause("FieldValueInvalid", message, "spec.update.maxUnavailable"))
    return causes


def _is_zero(value: Any) -> bool:
    return value in (0, "0", "0%")


KIND = Kind(
    "NodePool",
    "nodepools",
    NodePool,
    short_names=("np",),
    categories=("all", "kubeup"),
    columns=(
        Column("Cluster", ".spec.cluster", description="The Cluster it belongs to"),
        Column("Replicas", ".spec.replicas", "integer", description="Machines wanted"),
        Column("Current", ".status.replicas", "integer", description="Machines that exist"),
        Column("Up", ".status.ready", "integer", description="Machines that are Ready"),
        Column("Updated", ".status.updated", "integer", description="Machines of the current template"),
        ready(),
        Column("Message", '.status.conditions[?(@.type=="Ready")].message', priority=1, description="What it is doing"),
        AGE,
    ),
    scale=True,
    immutable=("spec.cluster", "spec.role"),
    rules=rules,
    description="N machines made from one template, kept at N",
)
