"""Installation: this state store, as an object. There is one, named `kubeup`; it is made by the core.

It says whose marks are ours, and it pauses everything when the store is found to have lost memory (a restored backup, or a
resource that carries our mark and that nothing here ever asked for). A person un-pauses it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..objects import Model, Resource, Status
from ..statuses import Cause
from .kind import AGE, Column, Kind, ready

NAME = "kubeup"


class InstallationSpec(Model):
    paused: bool = Field(default=False, description="No change is made anywhere; everything is still observed")
    unknown_resources: Literal["Pause", "Report", "Delete"] = Field(
        default="Pause",
        description="What to do with a resource that carries our mark and that no stored object asked for: it proves that "
        "the store lost memory. Delete is for after a restore, once you have looked at them",
    )
    unknown_resources_at: list[str] = Field(
        default_factory=list, description="With Delete: only what is at these Providers; empty: at all of them"
    )

    def deletes_unknown(self, provider: str) -> bool:
        return self.unknown_resources == "Delete" and (not self.unknown_resources_at or provider in self.unknown_resources_at)


class UnknownResource(Model):
    """cluster: the name in its mark, "" for what belonged to none. price_per_hour: where the provider lists one."""

    provider: str
    kind: str
    id: str
    cluster: str = ""
    price_per_hour: float | None = None


class InstallationStatus(Status):
    id: str | None = Field(default=None, description="Random id; part of every mark")
    restored_at: str | None = Field(default=None, description="When this store was found to be a restored copy")
    unknown_resources: list[UnknownResource] = Field(
        default_factory=list, description="What carries our mark and nothing here ever asked for; the first 100"
    )
    kept_volumes: list[UnknownResource] = Field(
        default_factory=list, description="Volumes that outlived their objects on purpose (onDelete: Retain); the first 100"
    )


class Installation(Resource):
    """This state store, as an object."""

    kind: str = "Installation"
    spec: InstallationSpec = Field(default_factory=InstallationSpec)
    status: InstallationStatus = Field(default_factory=InstallationStatus)


def rules(new: Installation, old: Installation | None) -> list[Cause]:
    if new.name != NAME:
        message = f'Invalid value: "{new.name}": there is one Installation, named {NAME}, and the core makes it'
        return [Cause("FieldValueInvalid", message, "metadata.name")]
    return []


KIND = Kind(
    "Installation",
    "installations",
    Installation,
    namespaced=False,
    categories=("kubeup",),
    columns=(
        Column("ID", ".status.id", description="Part of every mark"),
        Column("Paused", ".spec.paused", "boolean", description="Whether all changes are stopped"),
        ready(),
        AGE,
    ),
    rules=rules,
    description="This state store, as an object",
)
