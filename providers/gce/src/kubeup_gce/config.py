"""What people write for this provider: `Provider.spec.config`, and `overrides.gce` in clusters, pools, machines and volumes.

No field of the config is required: project and region come from the environment where Google's own tools take them from.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated

from kubeup_core import InvalidSpec, Problem
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

PATH = "spec.overrides.gce"
PROJECT = ("GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT")
REGION = ("GOOGLE_CLOUD_REGION", "CLOUDSDK_COMPUTE_REGION")
_MODEL = ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_camel, populate_by_name=True)


def _endpoint(value: str) -> str:
    if not re.fullmatch(r"https?://[^/\s]+", value):
        raise ValueError("an endpoint looks like https://compute.googleapis.com")
    return value


def _name(value: str) -> str:
    if not re.fullmatch(r"[a-z]([-a-z0-9:.]{0,61}[a-z0-9])?", value):
        raise ValueError("lower case letters, digits and dashes, beginning with a letter")
    return value


Name = Annotated[str, AfterValidator(_name)]


class GceConfig(BaseModel):
    """One region of one project."""

    model_config = _MODEL

    project: Name | None = Field(
        default=None, description="Project id; null is GOOGLE_CLOUD_PROJECT, CLOUDSDK_CORE_PROJECT, or the credentials' own"
    )
    region: Name | None = Field(default=None, description="Region; null is GOOGLE_CLOUD_REGION or CLOUDSDK_COMPUTE_REGION")
    endpoint: Annotated[str, AfterValidator(_endpoint)] | None = Field(
        default=None, description="Another server than Google's. http:// gets no credentials, as they could be read on the way"
    )
    external_addresses: bool = Field(
        default=True, description="Whether machines get an external address; without, they need Cloud NAT to reach anything"
    )
    settle: float = Field(
        default=10,
        ge=0,
        le=3600,
        description="Seconds for which a listing may lag. Google documents none; less only where it is another API",
    )
    ssh_user: Name = Field(default="kubeup", description="The user that the guest agent makes for the cluster's ssh keys")


class GceOverrides(BaseModel):
    """What only this provider knows. `network`, `subnetwork` belong to a Cluster, `diskType` also to a Volume."""

    model_config = _MODEL

    machine_type: Annotated[str, AfterValidator(_name)] | None = Field(
        default=None, description="Such as n2-standard-4, or e2-custom-4-8192: 4 cores and 8192 MiB"
    )
    image: str | None = Field(
        default=None, min_length=1, description="projects/P/global/images/I, or projects/P/global/images/family/F"
    )
    disk_type: Name | None = Field(default=None, description="Type of boot and data disks; null is pd-balanced")
    network: Name | None = Field(default=None, description="A network of the project to use instead of making one")
    subnetwork: Name | None = Field(default=None, description="Which subnetwork of it, where the region has several")
    service_account: str | None = Field(
        default=None, min_length=3, description="Email of the service account that machines act as; null is none at all"
    )
    tags: list[Name] = Field(default_factory=list, max_length=50, description="More network tags")


def project(config: GceConfig, of_credentials: str | None) -> str:
    return config.project or _from_environment(PROJECT) or of_credentials or _missing("project", PROJECT)


def region(config: GceConfig) -> str:
    return config.region or _from_environment(REGION) or _missing("region", REGION)


def overrides(value: Mapping[str, object]) -> GceOverrides | list[Problem]:
    """The overrides, or what is wrong with them."""
    try:
        return GceOverrides.model_validate(dict(value))
    except ValidationError as error:
        return [
            Problem(
                path=".".join([PATH, *(str(part) for part in detail["loc"])]),
                message=detail["msg"],
                remedy=f"known fields: {', '.join(f.alias or n for n, f in GceOverrides.model_fields.items())}",
            )
            for detail in error.errors(include_url=False, include_context=False, include_input=False)
        ]


def required(value: Mapping[str, object]) -> GceOverrides:
    """The overrides; raises InvalidSpec for the first thing that is wrong with them."""
    found = overrides(value)
    if isinstance(found, list):
        raise InvalidSpec(found[0].message, path=found[0].path, remedy=found[0].remedy)
    return found


def _from_environment(names: tuple[str, ...]) -> str | None:
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def _missing(field: str, names: tuple[str, ...]) -> str:
    raise InvalidSpec(
        f"no {field} is known for the provider type gce",
        path=f"spec.config.{field}",
        remedy=f"set spec.config.{field} in the Provider, or {names[0]} where kubeup runs",
    )
