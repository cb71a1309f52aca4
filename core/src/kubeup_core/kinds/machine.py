"""Machine: what a provider rents, boots or reaches. Made by a pool; a person may create one too."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ..objects import Model, Resource, Status
from ..statuses import Cause
from .cluster import Overrides
from .kind import AGE, Column, Kind, ready
from .template import MachineTemplate

State = Literal["Pending", "Launching", "Running", "Joining", "Ready", "Draining", "Deleting", "Unknown", "Failed"]
Role = Literal["worker", "controlPlane", "plain", "loadBalancer"]

NODE_ROLES: tuple[Role, ...] = ("controlPlane", "worker")
"""Those that become nodes of a Kubernetes cluster."""

POOL_LABEL = "kubeup.dev/pool"
CLUSTER_LABEL = "kubeup.dev/cluster"
ROLE_LABEL = "kubeup.dev/role"
TEMPLATE_LABEL = "kubeup.dev/template-hash"
SLOT_LABEL = "kubeup.dev/slot"
"""Which of its pool's places a machine fills; its successor there carries the same."""

FINALIZER = "kubeup.dev/machine"
ABANDON = "kubeup.dev/abandon"
"""Annotation, with a reason: give up a machine whose place will never answer again."""


class MachineSpec(Model):
    cluster: str = Field(description="Name of the Cluster")
    pool: str | None = Field(default=None, description="Name of the NodePool it was made for")
    role: Role = Field(default="plain", description="What it is for")
    provider: str | None = Field(default=None, description="Name of a Provider; absent: chosen from the pool's offers")
    machine: MachineTemplate = Field(default_factory=MachineTemplate, description="What is wanted of it")
    overrides: Overrides = Field(default_factory=dict)
    paused: bool = Field(default=False, description="Stops every change to this machine")
    protect: bool = Field(default=False, description="The API refuses to delete it")


class Address(Model):
    type: Literal["InternalIP", "ExternalIP", "Hostname"]
    address: str


class AccessStatus(Model):
    kind: str = "none"
    address: str = ""
    port: int = 22
    user: str = ""
    host_key: str = ""
    via: str = ""
    via_host_key: str = ""


class ResolvedMachine(Model):
    provider: str = ""
    machine_type: str = ""
    zone: str = ""
    image: str = ""
    arch: str = ""
    cpu: float = 0
    memory: str = ""
    spot: bool = False
    price_per_hour: float | None = None


class Bootstrap(Model):
    """What the steps that make it a member of its cluster came to. Written when they end or fail, and now and then between."""

    step: str = Field(default="", description="The one that runs, failed, or was the last")
    done: int = Field(default=0, description="Steps of the task that are over")
    total: int = Field(default=0, description="Steps of the task")
    exit_code: int | None = Field(default=None, description="Of a step that failed")
    log_tail: str = Field(default="", description="The end of what a failed step printed")
    at: str | None = Field(default=None, description="When this was written")


class MachineStatus(Status):
    state: State = "Pending"
    launch: str | None = Field(default=None, description="The Launch that it is a member of")
    index: int | None = Field(default=None, description="Its place in that Launch")
    id: str | None = Field(default=None, description="The place's own id")
    provider_id: str | None = Field(default=None, alias="providerID", description="What the kubelet registers")
    addresses: list[Address] = Field(default_factory=list)
    access: AccessStatus | None = None
    resolved: ResolvedMachine | None = None
    bootstrap: Bootstrap | None = None
    node_ref: dict[str, Any] | None = None
    volumes: list[str] = Field(default_factory=list)
    boot_id: str | None = None
    leaving_at: str | None = None


class Machine(Resource):
    """What a provider rents, boots or reaches: a VM, a container, a bare-metal host."""

    kind: str = "Machine"
    spec: MachineSpec
    status: MachineStatus = Field(default_factory=MachineStatus)


def rules(new: Machine, old: Machine | None) -> list[Cause]:
    if old is None and len(new.name) > 57:
        message = f'Invalid value: "{new.name}": at most 57 characters, because providers add a suffix'
        return [Cause("FieldValueInvalid", message, "metadata.name")]
    return []


KIND = Kind(
    "Machine",
    "machines",
    Machine,
    short_names=("ma",),
    categories=("all", "kubeup"),
    columns=(
        Column("Cluster", ".spec.cluster", description="The Cluster it belongs to"),
        Column("Pool", ".spec.pool", description="The NodePool it was made for"),
        Column("State", ".status.state", description="Where it is in its life"),
        ready(),
        Column("Address", ".status.addresses[0].address", description="First address"),
        Column("Provider", ".status.resolved.provider", priority=1, description="Where it runs"),
        Column("Zone", ".status.resolved.zone", priority=1, description="Zone or host"),
        Column("Type", ".status.resolved.machineType", priority=1, description="Machine type"),
        Column("ID", ".status.id", priority=1, description="The place's own id"),
        Column("Launch", ".status.launch", priority=1, description="The request that it came from"),
        Column("Message", '.status.conditions[?(@.type=="Ready")].message', priority=1, description="What it is doing"),
        AGE,
    ),
    immutable=("spec.cluster", "spec.pool", "spec.role", "spec.provider", "spec.machine", "spec.overrides"),
    rules=rules,
    description="What a provider rents, boots or reaches",
)
