"""events.k8s.io/v1: the second shape of the one event store. client-go's recorder writes it, `kubectl events` may read it.

Both shapes have the same fields under different names, so bodies, patches and answers are renamed on their way. Everything
else about events is in `verbs` and in kinds/builtins.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from pydantic import Field

from ..kinds import Kind
from ..kinds.builtins import EVENT, EventSeries, EventSource, ObjectReference
from ..objects import Resource
from ..statuses import Cause, Invalid

GROUP = "events.k8s.io"

_NAMES = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_BACK = {new: old for old, new in _NAMES.items()}
_REQUIRED = ("eventTime", "reportingController", "reportingInstance", "action", "reason")


class NewEvent(Resource):
    """Something that happened to an object."""

    api_version: str = "events.k8s.io/v1"
    kind: str = "Event"
    event_time: str | None = Field(default=None, description="When it happened first")
    series: EventSeries | None = None
    reporting_controller: str = Field(default="", description="Who says so")
    reporting_instance: str = ""
    action: str | None = None
    reason: str | None = Field(default=None, description="What happened, in one word")
    regarding: ObjectReference = Field(default_factory=ObjectReference, description="What it happened to")
    related: ObjectReference | None = None
    note: str | None = Field(default=None, description="What happened, in a sentence")
    type: str | None = Field(default=None, description="Normal or Warning")
    deprecated_source: EventSource = Field(default_factory=EventSource)
    deprecated_first_timestamp: str | None = None
    deprecated_last_timestamp: str | None = None
    deprecated_count: int | None = None


NEW_EVENT = replace(EVENT, group=GROUP, model=NewEvent)


@dataclass(frozen=True)
class Served:
    """A kind as clients see it, and as it is stored. For all but events.k8s.io these are one."""

    kind: Kind
    stored: Kind

    @property
    def converted(self) -> bool:
        return self.kind is not self.stored

    def outward(self, data: bytes) -> bytes:
        return to_new(data) if self.converted else data

    def inward(self, obj: Any, *, create: bool = False) -> Any:
        """A body in the stored shape. Raises Invalid for a new event that lacks what this API wants."""
        if not self.converted or not isinstance(obj, dict):
            return obj
        if create:
            _check(obj)
        return from_new(obj)

    def inward_patch(self, patch: Any) -> Any:
        if not self.converted:
            return patch
        return [_operation(op) for op in patch] if isinstance(patch, list) else from_new(patch)


def served(kinds: Sequence[Kind]) -> list[Served]:
    """All kinds, and events a second time."""
    found = [Served(kind, kind) for kind in kinds]
    return [*found, Served(NEW_EVENT, EVENT)] if EVENT in kinds else found


def to_new(data: bytes) -> bytes:
    obj = {_NAMES.get(key, key): value for key, value in orjson.loads(data).items()}
    return orjson.dumps(obj | {"apiVersion": f"{GROUP}/v1"})


def from_new(obj: dict[str, Any]) -> dict[str, Any]:
    renamed = {_BACK.get(key, key): value for key, value in obj.items()}
    if renamed.get("apiVersion") == f"{GROUP}/v1":
        renamed["apiVersion"] = "v1"
    return renamed


def _operation(op: Any) -> Any:
    if not isinstance(op, dict):
        return op
    return op | {key: _pointer(op[key]) for key in ("path", "from") if isinstance(op.get(key), str)}


def _pointer(path: str) -> str:
    first, slash, rest = path[1:].partition("/")
    return f"/{_BACK.get(first, first)}{slash}{rest}"


def _check(obj: dict[str, Any]) -> None:
    causes = [Cause("FieldValueRequired", "Required value", field) for field in _REQUIRED if not obj.get(field)]
    if causes:
        metadata = obj.get("metadata")
        name = metadata.get("name", "") if isinstance(metadata, dict) else ""
        text = ", ".join(f"{cause.field}: {cause.message}" for cause in causes)
        text = text if len(causes) == 1 else f"[{text}]"
        raise Invalid(f'Event.{GROUP} "{name}" is invalid: {text}', name=str(name), group=GROUP, kind="Event", causes=causes)
