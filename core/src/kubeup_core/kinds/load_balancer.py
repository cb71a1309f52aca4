"""LoadBalancer: listeners in front of machines, chosen by selector or by name, across providers by address."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..objects import Model, Resource, Status
from ..statuses import Cause
from .cluster import Cidr, Overrides
from .durations import Duration
from .kind import AGE, Column, Kind, ready

FINALIZER = "kubeup.dev/load-balancer"


class ListenerSpec(Model):
    name: str = Field(default="", description="Name of the listener")
    port: int = Field(ge=1, le=65535, description="Port that clients connect to")
    target_port: int | None = Field(default=None, ge=1, le=65535, description="Port of the members; absent: the same")
    protocol: Literal["TCP", "UDP"] = "TCP"


class Members(Model):
    """One of selector, machines."""

    selector: dict[str, str] | None = Field(default=None, description="Labels that a Machine must carry")
    machines: list[str] | None = Field(default=None, description="Names of Machines")


class Health(Model):
    protocol: Literal["TCP", "HTTP", "HTTPS"] = "TCP"
    port: int | None = Field(default=None, ge=1, le=65535, description="Absent: the target port")
    path: str = "/"
    interval: Duration = "10s"
    timeout: Duration = "5s"
    healthy: int = Field(default=2, ge=1)
    unhealthy: int = Field(default=3, ge=1)


class LoadBalancerSpec(Model):
    cluster: str = Field(description="Name of the Cluster. Immutable")
    provider: str = Field(default="auto", description="Name of a Provider; auto: the cluster's choice")
    exposure: Literal["public", "internal"] = "public"
    allow_from: list[Cidr] = Field(
        default_factory=lambda: ["0.0.0.0/0"], description="Networks that may connect, to it and past it to its members' ports"
    )
    listeners: list[ListenerSpec] = Field(min_length=1)
    members: Members = Field(default_factory=Members)
    health: Health = Field(default_factory=Health)
    drain: Duration = Field(default="30s", description="How long connections may finish")
    address: str | None = Field(default=None, description="A fixed address, where the provider can")
    overrides: Overrides = Field(default_factory=dict)
    paused: bool = False
    protect: bool = False


class ListenerStatus(Model):
    port: int
    target_port: int
    protocol: str


class LBMemberStatus(Model):
    machine: str
    address: str = ""
    state: Literal["initial", "healthy", "unhealthy", "draining", "unused"] = "initial"
    reason: str | None = None


class MemberCounts(Model):
    total: int = 0
    healthy: int = 0
    draining: int = 0


class LoadBalancerStatus(Status):
    provider: str | None = Field(default=None, description="The Provider that auto became")
    id: str | None = None
    pool: str | None = Field(
        default=None, description="The NodePool of the machines that it runs on, where it runs on machines"
    )
    address: str | None = None
    hostname: str | None = None
    listeners: list[ListenerStatus] = Field(default_factory=list)
    counts: MemberCounts = Field(default_factory=MemberCounts)
    members: list[LBMemberStatus] = Field(default_factory=list, description="The first 20 that are not healthy")


class LoadBalancer(Resource):
    """Listeners in front of machines."""

    kind: str = "LoadBalancer"
    spec: LoadBalancerSpec
    status: LoadBalancerStatus = Field(default_factory=LoadBalancerStatus)


def rules(new: LoadBalancer, old: LoadBalancer | None) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[tuple[int, str]] = set()
    for i, listener in enumerate(new.spec.listeners):
        key = (listener.port, listener.protocol)
        if key in seen:
            causes.append(
                Cause("FieldValueDuplicate", f"Duplicate value: {listener.port}/{listener.protocol}", f"spec.listeners[{i}]")
            )
        seen.add(key)
    if new.spec.members.selector is not None and new.spec.members.machines is not None:
        causes.append(Cause("FieldValueForbidden", "Forbidden: give either selector or machines", "spec.members.machines"))
    return causes


KIND = Kind(
    "LoadBalancer",
    "loadbalancers",
    LoadBalancer,
    short_names=("lb",),
    categories=("all", "kubeup"),
    columns=(
        Column("Cluster", ".spec.cluster", description="The Cluster it belongs to"),
        Column("Address", ".status.address", description="Where clients connect"),
        ready(),
        Column("Members", ".status.counts.total", "integer", description="Machines behind it"),
        Column("Healthy", ".status.counts.healthy", "integer", description="Members that take traffic"),
        Column("Provider", ".status.provider", priority=1, description="Who supplies it"),
        AGE,
    ),
    immutable=("spec.cluster",),
    rules=rules,
    description="Listeners in front of machines",
)
