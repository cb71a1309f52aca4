"""The built-in kinds that are served as Kubernetes has them: Namespace, Secret, Event, Lease.

Only the fields that kubectl, client-go and kubeup itself read. Timestamps with fractions (MicroTime) stay text.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from pydantic import Field

from ..objects import Model, Resource
from ..statuses import Cause
from .kind import AGE, Column, Kind


class NamespaceSpec(Model):
    finalizers: list[str] = Field(default_factory=lambda: ["kubernetes"])


class NamespaceStatus(Model):
    phase: str = "Active"
    conditions: list[dict[str, Any]] | None = None


class Namespace(Resource):
    """A room for names."""

    api_version: str = "v1"
    kind: str = "Namespace"
    spec: NamespaceSpec = Field(default_factory=NamespaceSpec)
    status: NamespaceStatus = Field(default_factory=NamespaceStatus)


class Secret(Resource):
    """Values that are not printed. `data` is base64."""

    api_version: str = "v1"
    kind: str = "Secret"
    data: dict[str, str] | None = Field(default=None, description="base64 values", repr=False)
    string_data: dict[str, str] | None = Field(default=None, description="Plain values, merged into data", repr=False)
    type: str = "Opaque"
    immutable: bool | None = None


class ObjectReference(Model):
    kind: str | None = None
    namespace: str | None = None
    name: str | None = None
    uid: str | None = None
    api_version: str | None = None
    resource_version: str | None = None
    field_path: str | None = None


class EventSource(Model):
    component: str | None = None
    host: str | None = None


class EventSeries(Model):
    count: int | None = None
    last_observed_time: str | None = None


class Event(Resource):
    """Something that happened to an object."""

    api_version: str = "v1"
    kind: str = "Event"
    involved_object: ObjectReference = Field(default_factory=ObjectReference)
    reason: str | None = None
    message: str | None = None
    source: EventSource = Field(default_factory=EventSource)
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    count: int | None = None
    type: str | None = None
    event_time: str | None = None
    series: EventSeries | None = None
    action: str | None = None
    related: ObjectReference | None = None
    reporting_component: str = ""
    reporting_instance: str = ""


class LeaseSpec(Model):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = Field(default=None, ge=1)
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None
    preferred_holder: str | None = None
    strategy: str | None = None


class Lease(Resource):
    """Who leads."""

    api_version: str = "coordination.k8s.io/v1"
    kind: str = "Lease"
    spec: LeaseSpec = Field(default_factory=LeaseSpec)


_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_MAX_ENCODED = 4 * 2**20 // 3
"""base64 of 1 MiB."""


def secret_rules(new: Secret, old: Secret | None) -> list[Cause]:
    causes = []
    data = new.data or {}
    if sum(len(value) for value in data.values()) > _MAX_ENCODED:
        causes.append(Cause("FieldValueTooLong", "Too long: may not be more than 1048576 bytes", "data"))
    for key, value in data.items():
        if not _DATA_KEY.fullmatch(key) or key in (".", ".."):
            message = f"Invalid value: {key!r}: a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
            causes.append(Cause("FieldValueInvalid", message, f"data[{key}]"))
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            message = "Invalid value: not base64; put plain text under stringData"
            causes.append(Cause("FieldValueInvalid", message, f"data[{key}]"))
    if old is not None and old.immutable and (new.data, new.immutable) != (old.data, old.immutable):
        causes.append(Cause("FieldValueForbidden", "Forbidden: field is immutable when `immutable` is set", "data"))
    return causes


NAMESPACE = Kind(
    "Namespace", "namespaces", Namespace, group="", version="v1", namespaced=False, short_names=("ns",), builtin=True,
    deletecollection=False, columns=(Column("Status", ".status.phase", description="Active or Terminating"), AGE),
    description="A room for names",
)  # fmt: skip
SECRET = Kind(
    "Secret", "secrets", Secret, group="", version="v1", has_status=False, builtin=True, rules=secret_rules,
    immutable=("type",), columns=(Column("Type", ".type"), Column("Data", ".data", "integer"), AGE),
    description="Values that are not printed",
)  # fmt: skip
EVENT = Kind(
    "Event", "events", Event, group="", version="v1", short_names=("ev",), has_status=False, builtin=True,
    columns=(
        Column("Last Seen", ".lastTimestamp", "date"), Column("Type", ".type"), Column("Reason", ".reason"),
        Column("Object", ".involvedObject.name"), Column("Message", ".message"),
    ), description="Something that happened to an object",
)  # fmt: skip
LEASE = Kind(
    "Lease", "leases", Lease, group="coordination.k8s.io", version="v1", has_status=False, builtin=True,
    columns=(Column("Holder", ".spec.holderIdentity"), AGE), description="Who leads",
)  # fmt: skip
