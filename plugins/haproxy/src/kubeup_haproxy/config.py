"""What people write for this provider: `Provider.spec.config`, and `overrides.haproxy` of a LoadBalancer.

No field of the config is required, so a Provider called `haproxy` exists as soon as the plugin is installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from kubeup_core import InvalidSpec
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

PATH = "spec.overrides.haproxy"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_camel, populate_by_name=True)


class HaproxyConfig(_Model):
    """The machines are the cluster's; this says how many a load balancer has."""

    hosts: Literal[1, 2] = Field(
        default=1, description="2: a pair that shares the address of spec.address by keepalived, so that one of them may fail"
    )


class HostMachine(_Model):
    """What the machine under a balancer is; the core reads it. The fields of a pool's `machine`."""

    cpu: int | None = Field(default=None, ge=1, description="Cores, at least (1)")
    memory: str | int | None = Field(default=None, description="Memory, at least (512Mi)")
    disk: str | int | None = Field(default=None, description="Root disk, at least (8Gi)")
    arch: Literal["auto", "amd64", "arm64"] | None = Field(default=None, description="CPU architecture (auto)")
    image: str | None = Field(default=None, description="Image family; absent: the cluster's")
    spot: bool | None = Field(default=None, description="Take spare capacity that may be withdrawn (false)")
    public_address: Literal["auto", "true", "false"] | None = Field(
        default=None, description="Whether the machine gets a public address (auto)"
    )


class HaproxyOverrides(_Model):
    """Of one LoadBalancer."""

    machine: HostMachine = Field(default_factory=HostMachine, description="The machine that it runs on")
    source: Literal["apt", "packages", "preinstalled"] = Field(
        default="apt", description="Where HAProxy comes from, when it is not on the machine already"
    )
    packages: list[str] = Field(
        default_factory=list, description="With source: packages: .deb files where kubeup runs, in an order that dpkg can take"
    )
    listen: Literal["all", "address"] = Field(
        default="all", description="Listen on all addresses of the machine, or only on the one that clients are told"
    )
    balance: Literal["leastconn", "roundrobin", "source"] = Field(default="leastconn", description="How a member is chosen")
    idle_timeout: int = Field(default=3600, ge=1, description="Seconds after which a silent connection is closed")
    max_connections: int | None = Field(
        default=None,
        ge=1,
        description="Connections at a time, others wait; absent: as many as the machine's limit of files allows",
    )
    health_ca: str | None = Field(
        default=None,
        alias="healthCA",
        pattern=r"-----BEGIN CERTIFICATE-----",
        description="PEM of the authority that members' certificates are checked against; absent: HTTPS checks accept any",
    )


def overrides(value: Mapping[str, object]) -> HaproxyOverrides:
    """Raises InvalidSpec with the path of the first field that is wrong."""
    try:
        found = HaproxyOverrides.model_validate(dict(value))
    except ValidationError as error:
        detail = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = ".".join([PATH, *(str(part) for part in detail["loc"])])
        known = ", ".join(f.alias or n for n, f in HaproxyOverrides.model_fields.items())
        raise InvalidSpec(f"{path}: {detail['msg']}", path=path, remedy=f"known fields: {known}") from error
    if found.source == "packages" and not found.packages:
        path = f"{PATH}.packages"
        raise InvalidSpec(
            f"{path}: no file is named", path=path, remedy="name the .deb files of haproxy and what it depends on"
        )
    return found
