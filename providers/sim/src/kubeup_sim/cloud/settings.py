"""How a simulated account behaves: times, limits, capacity. Part of the Provider's config, and kept with the account's state.

The account keeps the settings: a second Provider (or another installation) on the same account that says nothing gets those that
are there; one that names a field changes that field for all.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel


class Camel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class Capacity(Camel):
    """What a zone has left of a machine type; absent: no limit. The narrowest entry that fits counts."""

    place: str = Field(default="*", description="Zone, * for each of them")
    machine_type: str = Field(default="*", description="Machine type, * for each of them")
    spot: bool | None = Field(default=None, description="Only spot, or only on demand; absent: both together")
    machines: int = Field(ge=0, description="Machines that run there at most")


class Quota(Camel):
    """What the account may have at most; only a person can raise it."""

    machines: int | None = Field(default=None, ge=0, description="Machines")
    volumes: int | None = Field(default=None, ge=0, description="Volumes")
    load_balancers: int | None = Field(default=None, ge=0, description="Load balancers")


class Settings(Camel):
    """All times are seconds; 0 makes the thing instant."""

    seed: int = Field(default=1, description="Of every random draw: the same seed gives the same times")
    boot_seconds: tuple[float, float] = Field(default=(1.0, 3.0), description="A machine boots for between so long and so long")
    delete_seconds: float = Field(default=0.5, ge=0, description="Between the request to delete something and its end")
    gone_seconds: float = Field(default=30.0, ge=0, description="A machine that is over stays listed for so long")
    network_seconds: float = Field(default=0.2, ge=0, description="Until a network can be used")
    balancer_seconds: float = Field(default=0.5, ge=0, description="Until a load balancer works")
    health_seconds: float = Field(default=1.0, ge=0, description="Until a new member of a balancer is judged")
    volume_seconds: float = Field(default=0.2, ge=0, description="Until a volume exists, or has grown")
    attach_seconds: float = Field(default=0.2, ge=0, description="Attaching and detaching a volume")
    linger_seconds: float = Field(
        default=0.0, ge=0, description="The interfaces of a deleted balancer hold its network so long"
    )
    settle: float = Field(default=0.0, ge=0, description="A listing may miss what was made in the last so many seconds")
    token_life: float = Field(default=86400.0, gt=0, description="A launch repeated with its token is recognised so long")
    batch_limit: int = Field(default=1000, ge=1, description="Machines in one request")
    page_size: int = Field(default=1000, ge=1, description="Items on one page of a listing")
    user_data_limit: int = Field(default=16384, ge=0, description="Bytes; 0: the place knows no user-data")
    create: Literal["single", "steps"] = Field(
        default="single", description="single: one request makes machines. steps: disks, then machines, then their start"
    )
    access: Literal["execute", "ssh", "none"] = Field(
        default="execute", description="How commands get into a machine. ssh: it says so, and nobody answers there"
    )
    attach: Literal["none", "launch", "live"] = Field(default="live", description="When volumes can be attached")
    console: bool = Field(default=True, description="Machines have a console to read")
    self_reach: bool = Field(default=True, description="A member reaches itself through its balancer")
    flat: bool = Field(default=True, description="A network is one L2 segment")
    requests_per_second: float | None = Field(default=None, gt=0, description="The budget that the place grants")
    hosts: tuple[str, ...] = Field(default=(), description="A fixed inventory of hosts, instead of machines made on demand")
    capacity: tuple[Capacity, ...] = Field(default=(), description="What zones have of machine types; absent: no limit")
    quota: Quota = Field(default_factory=Quota, description="What the account may have at most")

    @model_validator(mode="after")
    def _in_order(self) -> Settings:
        low, high = self.boot_seconds
        if not 0 <= low <= high:
            raise ValueError("bootSeconds is [shortest, longest], neither below zero")
        if len(set(self.hosts)) != len(self.hosts):
            raise ValueError("hosts are named twice")
        return self
