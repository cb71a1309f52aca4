"""MachineTemplate: what is wanted of a machine, in neutral words. Used by Cluster, NodePool and Machine.

In a Cluster and a NodePool every field may be absent: the pool's value wins over the cluster's, and DEFAULTS fills the rest when
the pool controller makes a Machine. A Machine always has them all.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ..objects import Model, Size, parse_size

MIN_MEMORY = 64 * 2**20


def _enough(value: str) -> str:
    if parse_size(value) < MIN_MEMORY:
        raise ValueError(f'{value!r} is less than 64Mi; did you mean "{value.rstrip("kKMi")}Gi"?')
    return value


class SecretKeyRef(Model):
    """One key of a Secret."""

    namespace: str | None = Field(default=None, description="Namespace of the Secret; the object's own when absent")
    name: str = Field(description="Name of the Secret")
    key: str = Field(description="Key in the Secret's data")


class FileSpec(Model):
    """A file that is put on the machine."""

    path: str = Field(description="Absolute path", pattern=r"^/")
    mode: str = Field(default="0644", description="Octal mode", pattern=r"^0[0-7]{3}$")
    content: str | None = Field(default=None, description="Literal content")
    secret_ref: SecretKeyRef | None = Field(default=None, description="Content from a Secret, never copied into user-data")


class MachineTemplate(Model):
    """What is wanted of a machine. Sizes are nominal minimums: a host that reports 10 % less still matches."""

    cpu: int | None = Field(default=None, ge=1, description="Cores, at least (2)")
    memory: Annotated[Size, AfterValidator(_enough)] | None = Field(default=None, description="Memory, at least (4Gi)")
    disk: Annotated[Size, AfterValidator(_enough)] | None = Field(default=None, description="Root disk, at least (20Gi)")
    arch: Literal["auto", "amd64", "arm64"] | None = Field(
        default=None, description="CPU architecture (auto: fixed per pool at its first launch, shown in its status)"
    )
    image: str | None = Field(default=None, description="Image family (debian-12); ids go into the Provider or overrides")
    spot: bool | None = Field(
        default=None, description="Take spare capacity that may be withdrawn, where it is offered (false)"
    )
    public_address: Literal["auto", "true", "false"] | None = Field(
        default=None,
        description="Whether a cloud gives the machine a public address; what is no cloud ignores it (auto: as the place has it)",
    )
    ssh_keys: list[str] | None = Field(default=None, description="Public keys allowed to log in")
    files: list[FileSpec] | None = Field(default=None, description="Files put on the machine")

    def over(self, *below: MachineTemplate) -> MachineTemplate:
        """This template with gaps filled from the next ones, in order."""
        values = {k: v for layer in (*reversed(below), self) for k, v in layer if v is not None}
        return MachineTemplate.model_construct(**values)


DEFAULTS = MachineTemplate(
    cpu=2, memory="4Gi", disk="20Gi", arch="auto", image="debian-12", spot=False, public_address="auto", ssh_keys=[], files=[]
)
