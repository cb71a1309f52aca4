"""Tables: what `kubectl get` prints. Columns come from Kind.columns, cells from the stored objects.

Only the subset of JSONPath that printer columns use: fields, indexes, and one filter `[?(@.type=="Ready")]`. Ages are printed
here, as kube-apiserver does. The two kinds that kube-apiserver prints by code rather than by path, Event and Secret, are too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from ..kinds import Column, Kind
from ..kinds.builtins import EVENT, SECRET
from ..objects import parse_timestamp

Object = Mapping[str, Any]
Cell = Callable[[Object, float], Any]
"""cell(object, now) -> what stands in the column; None prints as nothing."""

_NAME = {
    "name": "Name",
    "type": "string",
    "format": "name",
    "description": "Name must be unique within a namespace",
    "priority": 0,
}
_STEP = re.compile(r'\.((?:\\.|[^.\[\\])+)|\[(\d+)\]|\[\?\(@\.(\w+)\s*==\s*["\']([^"\']*)["\']\)\]')


class Table:
    """The columns of one kind, compiled."""

    def __init__(self, kind: Kind) -> None:
        if kind.resource == EVENT.resource:
            columns = _EVENT_COLUMNS
        elif kind.resource == SECRET.resource:
            columns = [(column, _count if column.path == ".data" else _cell(column)) for column in kind.columns]
        else:
            columns = [(column, _cell(column)) for column in kind.columns]
        named = kind.resource == EVENT.resource
        self._cells = ([] if named else [_name]) + [cell for _, cell in columns]
        self.definitions = ([] if named else [_NAME]) + [_definition(column) for column, _ in columns]

    def encode(
        self,
        objects: Iterable[bytes],
        metadata: Mapping[str, Any],
        *,
        now: float,
        include: str = "Metadata",
        version: str = "v1",
        definitions: bool = True,
    ) -> bytes:
        """A Table as JSON. `include`: what of each object goes with its row: None, Metadata or Object."""
        table = {
            "kind": "Table",
            "apiVersion": f"meta.k8s.io/{version}",
            "metadata": metadata,
            "columnDefinitions": self.definitions if definitions else [],
            "rows": [self._row(data, now, include, version) for data in objects],
        }
        return orjson.dumps(table)

    def _row(self, data: bytes, now: float, include: str, version: str) -> dict[str, Any]:
        obj = orjson.loads(data)
        row: dict[str, Any] = {"cells": [cell(obj, now) for cell in self._cells]}
        if include == "Object":
            row["object"] = orjson.Fragment(data)
        elif include != "None":
            row["object"] = partial(obj, version)
        return row


def partial(obj: Object, version: str = "v1") -> dict[str, Any]:
    """PartialObjectMetadata of an object."""
    return {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{version}", "metadata": obj["metadata"]}


def _definition(column: Column) -> dict[str, Any]:
    # Dates travel as text that is printed already.
    kind = "string" if column.type == "date" else column.type
    return {
        "name": column.name,
        "type": kind,
        "format": "",
        "description": column.description or f"{column.name} of the object",
        "priority": column.priority,
    }


def _cell(column: Column) -> Cell:
    find = compile_path(column.path)
    if column.type == "date":
        return lambda obj, now: _age(find(obj), now)
    if column.type == "string":
        return lambda obj, now: _text(find(obj))
    return lambda obj, now: find(obj)


def _text(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value).decode()


def _name(obj: Object, now: float) -> Any:
    return obj["metadata"].get("name")


def _count(obj: Object, now: float) -> Any:
    return len(obj.get("data") or ())


def compile_path(path: str) -> Callable[[Object], Any]:
    """A function that follows a JSONPath; None where it leads nowhere."""
    steps: list[Any] = []
    at = 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            raise ValueError(f"{path!r} is not a path that a column can have")
        field, index, key, value = match.groups()
        steps.append(field.replace("\\.", ".") if field else int(index) if index else (key, value))
        at = match.end()

    def find(obj: Object) -> Any:
        value: Any = obj
        for step in steps:
            value = _follow(value, step)
        return value

    return find


def _follow(value: Any, step: Any) -> Any:
    if isinstance(step, str):
        return value.get(step) if isinstance(value, dict) else None
    if not isinstance(value, list):
        return None
    if isinstance(step, int):
        return value[step] if step < len(value) else None
    key, wanted = step
    return next((item for item in value if isinstance(item, dict) and item.get(key) == wanted), None)


# -- ages --------------------------------------------------------------------------------------------------------------


def _age(text: Any, now: float) -> str | None:
    if not isinstance(text, str):
        return None
    try:
        return duration(now - parse_timestamp(text))
    except ValueError:
        return "<invalid>"


def duration(seconds: float) -> str:
    """Two units at most, as apimachinery's HumanDuration prints them."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 120:
        return f"{max(whole, 0)}s"
    minutes, hours = whole // 60, whole // 3600
    days = hours // 24
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return _two(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    if days < 2920:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(large: int, unit: str, small: int, smaller: str) -> str:
    return f"{large}{unit}{small}{smaller}" if small else f"{large}{unit}"


# -- events ------------------------------------------------------------------------------------------------------------


def _last_seen(obj: Object, now: float) -> Any:
    series = obj.get("series") or {}
    times = (series.get("lastObservedTime"), obj.get("lastTimestamp"), obj.get("eventTime"), obj.get("firstTimestamp"))
    return _age(next((t for t in times if t), None), now) or "<unknown>"


def _first_seen(obj: Object, now: float) -> Any:
    return _age(obj.get("firstTimestamp") or obj.get("eventTime"), now) or "<unknown>"


def _object(obj: Object, now: float) -> Any:
    involved = obj.get("involvedObject") or {}
    return f"{str(involved.get('kind') or '').lower()}/{involved.get('name') or ''}"


def _source(obj: Object, now: float) -> Any:
    source = obj.get("source") or {}
    component = source.get("component") or obj.get("reportingComponent") or ""
    return f"{component}, {source['host']}" if source.get("host") else component


def _times(obj: Object, now: float) -> Any:
    series = obj.get("series") or {}
    return series.get("count") or obj.get("count") or 1


def _message(obj: Object, now: float) -> Any:
    return (obj.get("message") or "").strip()


_EVENT_COLUMNS: list[tuple[Column, Cell]] = [
    (Column("Last Seen", "", description="Time since it happened last"), _last_seen),
    (Column("Type", "", description="Normal or Warning"), lambda obj, now: obj.get("type")),
    (Column("Reason", "", description="What happened, in one word"), lambda obj, now: obj.get("reason")),
    (Column("Object", "", description="What it happened to"), _object),
    (Column("Subobject", "", priority=1, description="Part of the object"),
     lambda obj, now: (obj.get("involvedObject") or {}).get("fieldPath")),
    (Column("Source", "", priority=1, description="Who says so"), _source),
    (Column("Message", "", description="What happened, in a sentence"), _message),
    (Column("First Seen", "", priority=1, description="Time since it happened first"), _first_seen),
    (Column("Count", "", "integer", priority=1, description="How often"), _times),
    (Column("Name", "", priority=1, description="Name of the event"), _name),
]  # fmt: skip
