"""Launch: one stored, immutable, idempotent request for machines. Internal: made by the core, readable with kubectl.

It is written before anything is asked of a provider, and its uid is the token. A member's index is its place in the list.
Another attempt is another Launch, of those members that the former is known not to have made.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ..objects import LastError, Model, Resource, Status
from .kind import AGE, Column, Kind

FINALIZER = "kubeup.dev/launch"


class LaunchTemplate(Model):
    cpu: float
    memory: int
    disk: int
    arch: str
    image: str
    spot: bool = False
    public_address: bool | None = None
    overrides: dict[str, Any] = Field(default_factory=dict, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})


class LaunchOffer(Model):
    place: str
    machine_type: str
    arch: str
    spot: bool
    cpu: float
    memory: int
    image: str
    price_per_hour: float | None = None
    reach: list[str] = Field(default_factory=list)
    max_volumes: int | None = None


class LaunchMember(Model):
    name: str = Field(description="Name of the Machine")
    uid: str = Field(description="Uid of the Machine")
    slot: str = Field(default="", description="Host that the core picked, in an inventory")
    volumes: list[str] = Field(default_factory=list, description="Ids of volumes attached at launch")
    address: str = Field(default="", description="Internal address that it should have")


class LaunchSpec(Model):
    cluster: str = Field(description="Name of the Cluster")
    cluster_uid: str = Field(alias="clusterUID")
    pool: str | None = Field(default=None, description="Name of the NodePool")
    provider: str = Field(description="Name of the Provider")
    identity: str = Field(description="The Provider's identity when it was written; it is submitted to no other")
    offer: LaunchOffer
    template: LaunchTemplate
    role: str
    members: list[LaunchMember]
    network: dict[str, str] = Field(default_factory=dict)
    user_data_digest: str = Field(default="", description="sha256 of the user-data")


class MemberStatus(Model):
    """One member, once it is settled: Made, Refused or Dead."""

    index: int
    id: str = ""
    outcome: Literal["Made", "Refused", "Dead", "Absent"] = "Made"
    error: LastError | None = None


class LaunchStatus(Status):
    phase: Literal["Open", "Settled"] = "Open"
    made: int = 0
    refused: int = 0
    members: list[MemberStatus] = Field(default_factory=list)
    settled_at: str | None = None


class Launch(Resource):
    """One stored, idempotent request for machines. Internal."""

    kind: str = "Launch"
    spec: LaunchSpec
    status: LaunchStatus = Field(default_factory=LaunchStatus)


KIND = Kind(
    "Launch",
    "launches",
    Launch,
    categories=("kubeup",),
    columns=(
        Column("Provider", ".spec.provider", description="Where it was asked"),
        Column("Place", ".spec.offer.place", description="Zone or host"),
        Column("Type", ".spec.offer.machineType", description="Machine type"),
        Column("Phase", ".status.phase", description="Open until every member is settled"),
        Column("Made", ".status.made", "integer", description="Members made"),
        Column("Refused", ".status.refused", "integer", description="Members refused"),
        AGE,
    ),
    immutable=("spec",),
    description="One stored, idempotent request for machines (internal)",
)
