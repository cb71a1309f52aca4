"""Provider: a configured account or place that machines come from. Cluster-scoped."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field

from ..objects import Model, Resource, Status
from ..statuses import Cause
from .kind import AGE, Column, Kind, ready

AUTO_LABEL = "kubeup.dev/auto"
"""On Providers that were made because the plugin's config needs no field."""

LOOK_AROUND = "kubeup.dev/look-around"
"""Annotation: whenever its value changes, it is looked what other installations have at the place. `kubeup leaks` writes it."""


class SecretRefName(Model):
    namespace: str = Field(description="Namespace of the Secret")
    name: str = Field(description="Name of the Secret")


class Credentials(Model):
    """Where credentials come from; never inline."""

    source: Literal["ambient", "secret", "profile"] = Field(
        default="ambient", description="ambient: what the SDK finds by itself (environment, files, instance role)"
    )
    secret_ref: SecretRefName | None = Field(default=None, description="With source: secret")
    profile: str | None = Field(default=None, description="With source: profile")


class AccessSpec(Model):
    """How machines of this place are reached."""

    kind: Literal["auto", "none"] = Field(
        default="auto",
        description="auto: as the place offers, its own execute or SSH. none: not at all; workers join by their user-data alone",
    )
    address: Literal["auto", "public", "private"] = Field(default="auto", description="Which address to use")
    user: str = Field(default="kubeup", description="Login name")
    port: int = Field(default=22, ge=1, le=65535, description="SSH port")
    via: str | None = Field(default=None, description="Jump host: user@host:port, or the name of a Machine")
    via_host_key: str | None = Field(default=None, description="The jump host's public key, `type base64`, when via is a host")
    host_keys: Literal["pinned", "firstUse"] = Field(
        default="pinned",
        description="What to do with a host key that neither the provider nor the console tells. pinned: refuse. "
        "firstUse: believe the first one, and keep to it",
    )


class Limits(Model):
    """Guards against too large a blast and too large a bill."""

    machines: int = Field(default=100, ge=0, description="Machines at most, over all clusters")
    requests_per_second: float | None = Field(default=None, gt=0, description="API requests at most")


class ProviderSpec(Model):
    type: str = Field(description="The plugin's type, as `kubeup providers` lists them. Immutable")
    config: dict[str, Any] = Field(
        default_factory=dict,
        description="The plugin's own settings; `kubeup providers TYPE` shows them",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )
    credentials: Credentials = Field(default_factory=Credentials, description="Where credentials come from; never inline")
    zones: list[str] = Field(default_factory=list, description="Zones that may be used; empty for all usable")
    images: dict[str, str] = Field(default_factory=dict, description="Image family to the place's own id")
    machine_types: list[str] = Field(default_factory=list, description="Globs of machine types that cpu and memory may become")
    access: AccessSpec = Field(default_factory=AccessSpec, description="How machines are reached")
    limits: Limits = Field(default_factory=Limits, description="Guards against too large a blast and too large a bill")
    paused: bool = Field(default=False, description="No change is made at the place; it is still observed")


class PluginInfo(Model):
    distribution: str = ""
    version: str = ""
    contract: int = 0


class HostStatus(Model):
    """A host of an inventory, as it was last seen."""

    name: str = Field(description="As the inventory calls it")
    state: str = Field(
        description="Free; Claimed, by a machine of ours; Taken, by another installation; KeptBack, as it is not clean; Unreachable"
    )
    zone: str | None = Field(default=None, description="As the inventory says")
    machine: str | None = Field(default=None, description="The machine that has it")
    message: str | None = Field(default=None, description="Why it is kept back, or cannot be reached, and what to do")
    facts: dict[str, str] = Field(default_factory=dict, description="What was found: cpu, memory, disk, arch, os")


class ForeignResource(Model):
    """What carries the mark of another installation. cluster: the name in its mark."""

    installation: str
    kind: str
    id: str
    cluster: str = ""
    price_per_hour: float | None = None


class Around(Model):
    """What a look at everybody's marks has shown."""

    asked: str = Field(description="The annotation kubeup.dev/look-around that this answers")
    foreign: list[ForeignResource] = Field(default_factory=list, description="Of other installations; the first 100")
    count: int = Field(default=0, description="How many there are")
    message: str | None = Field(default=None, description="Why it could not be looked")


class ProviderStatus(Status):
    identity: str | None = Field(default=None, description="Account and region, engine id or inventory; fixed at first use")
    principal: str | None = Field(default=None, description="As whom kubeup acts there")
    capabilities: dict[str, Any] | None = Field(
        default=None, description="What the place can do", json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}
    )
    zones: list[str] | None = Field(default=None, description="Zones seen")
    machines: int | None = Field(default=None, description="Machines that count against limits.machines")
    plugin: PluginInfo | None = Field(default=None, description="The plugin that serves it")
    hosts: list[HostStatus] | None = Field(default=None, description="Of an inventory, all its hosts")
    around: Around | None = Field(default=None, description="What other installations have there, when somebody asked last")


class Provider(Resource):
    """A configured account or place that machines come from: the one line that is swapped."""

    kind: str = "Provider"
    spec: ProviderSpec
    status: ProviderStatus = Field(default_factory=ProviderStatus)


_VIA = re.compile(r"([^@\s]+@)?(\[[0-9A-Fa-f:.%]+\]|[^@:\s\[\]]+)(:[0-9]{1,5})?")
_PUBLIC_KEY = re.compile(r"[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,2}( .*)?")


def rules(new: Provider, old: Provider | None) -> list[Cause]:
    return [*_credentials(new.spec.credentials), *_access(new.spec.access)]


def _access(access: AccessSpec) -> list[Cause]:
    causes = []
    if access.via is not None and not _VIA.fullmatch(access.via):
        message = f"Invalid value: {access.via!r}: write user@host:port, [address]:port for IPv6, or the name of a Machine"
        causes.append(Cause("FieldValueInvalid", message, "spec.access.via"))
    if access.via_host_key is not None and not _PUBLIC_KEY.fullmatch(access.via_host_key):
        message = (
            "Invalid value: write it as in a .pub file (`ssh-ed25519 AAAA...`); ssh-keyscan HOST shows it, prove it before use"
        )
        causes.append(Cause("FieldValueInvalid", message, "spec.access.viaHostKey"))
    return causes


def _credentials(credentials: Credentials) -> list[Cause]:
    if credentials.source == "secret" and credentials.secret_ref is None:
        return [
            Cause("FieldValueRequired", "Required value: with source: secret, name the Secret", "spec.credentials.secretRef")
        ]
    if credentials.source == "profile" and not credentials.profile:
        return [
            Cause("FieldValueRequired", "Required value: with source: profile, name the profile", "spec.credentials.profile")
        ]
    return []


KIND = Kind(
    "Provider",
    "providers",
    Provider,
    namespaced=False,
    short_names=("prov",),
    categories=("kubeup",),
    columns=(
        Column("Type", ".spec.type", description="The plugin's type"),
        ready(),
        Column("Machines", ".status.machines", "integer", description="Machines that this Provider has"),
        Column("Identity", ".status.identity", description="Account and region, engine or inventory"),
        Column("Principal", ".status.principal", priority=1, description="As whom kubeup acts there"),
        AGE,
    ),
    immutable=("spec.type",),
    rules=rules,
    description="A configured account or place that machines come from",
)
