"""What people write for this provider: `Provider.spec.config`, and `overrides.docker` in clusters, pools and machines.

No field of the config is required, so a Provider called `docker` exists as soon as the plugin is installed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from kubeup_core import Problem
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

PATH = "spec.overrides.docker"


def _host(value: str) -> str:
    if not re.fullmatch(r"(unix:///.+|npipe://.+|tcp://[^/\s]+)", value):
        raise ValueError("a Docker host looks like unix:///var/run/docker.sock or tcp://127.0.0.1:2375")
    return value


def _capability(value: str) -> str:
    name = value.upper().removeprefix("CAP_")
    if not re.fullmatch(r"[A-Z_]+", name):
        raise ValueError("a capability looks like NET_ADMIN")
    return name


class DockerConfig(BaseModel):
    """One engine."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_camel, populate_by_name=True)

    host: Annotated[str, AfterValidator(_host)] | None = Field(
        default=None, description="The engine's URL; null is what the docker command uses: DOCKER_HOST, the context, the socket"
    )
    image: str | None = Field(
        default=None,
        min_length=1,
        description="Image of machines whose family Provider.spec.images does not name; null is the plugin's own table",
    )


class DockerOverrides(BaseModel):
    """What only this provider knows. `network` belongs to a Cluster, the others to machines."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_camel, populate_by_name=True)

    image: str | None = Field(default=None, min_length=1, description="Image to use, whatever the family")
    command: list[str] | None = Field(
        default=None, min_length=1, description="Process number 1, such as [/sbin/init]; null is a shell that only waits"
    )
    capabilities: list[Annotated[str, AfterValidator(_capability)]] = Field(
        default_factory=list, description="Linux capabilities to add, such as NET_ADMIN"
    )
    security_options: list[str] = Field(default_factory=list, description="Such as seccomp=unconfined")
    network: str | None = Field(default=None, min_length=1, description="An existing network to use instead of making one")


def overrides(value: Mapping[str, object]) -> DockerOverrides | list[Problem]:
    """The overrides, or what is wrong with them."""
    try:
        return DockerOverrides.model_validate(dict(value))
    except ValidationError as error:
        return [
            Problem(
                path=".".join([PATH, *(str(part) for part in detail["loc"])]),
                message=detail["msg"],
                remedy=f"known fields: {', '.join(f.alias or n for n, f in DockerOverrides.model_fields.items())}",
            )
            for detail in error.errors(include_url=False, include_context=False, include_input=False)
        ]
