"""Decodes the protobuf request bodies that kubectl's typed clients send for a few built-in kinds. Answers are always JSON.

kubectl sends `create namespace`, `create secret` and the reviews this way and does not fall back when they are refused. The
messages below carry the field numbers of Kubernetes' generated.proto files; an unknown field is skipped, as protobuf wants it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson

from ..statuses import BadRequest, UnsupportedMediaType

MAGIC = b"k8s\x00"

# How a field becomes JSON. Plain kinds are left out when empty, because the wire format of Kubernetes always writes them;
# the "kept" ones are pointers in Go, where zero means something.
STRING, INT, KEPT_INT, BOOL, TIME, MICRO_TIME = "string", "int", "kept int", "bool", "time", "micro time"
STRINGS, MAP, BYTES_MAP, RAW_JSON = "strings", "map", "bytes map", "raw JSON"

Message = dict[int, tuple[str, Any]]
"""Field number -> (JSON name, one of the words above, a Message, or a list of one Message)."""

_OWNER: Message = {
    1: ("kind", STRING), 3: ("name", STRING), 4: ("uid", STRING), 5: ("apiVersion", STRING), 6: ("controller", BOOL),
    7: ("blockOwnerDeletion", BOOL),
}  # fmt: skip
_MANAGED: Message = {
    1: ("manager", STRING), 2: ("operation", STRING), 3: ("apiVersion", STRING), 4: ("time", TIME), 6: ("fieldsType", STRING),
    7: ("fieldsV1", RAW_JSON), 8: ("subresource", STRING),
}  # fmt: skip
_META: Message = {
    1: ("name", STRING), 2: ("generateName", STRING), 3: ("namespace", STRING), 5: ("uid", STRING),
    6: ("resourceVersion", STRING), 7: ("generation", INT), 8: ("creationTimestamp", TIME), 9: ("deletionTimestamp", TIME),
    10: ("deletionGracePeriodSeconds", KEPT_INT), 11: ("labels", MAP), 12: ("annotations", MAP),
    13: ("ownerReferences", [_OWNER]), 14: ("finalizers", STRINGS), 17: ("managedFields", [_MANAGED]),
}  # fmt: skip
_REFERENCE: Message = {
    1: ("kind", STRING), 2: ("namespace", STRING), 3: ("name", STRING), 4: ("uid", STRING), 5: ("apiVersion", STRING),
    6: ("resourceVersion", STRING), 7: ("fieldPath", STRING),
}  # fmt: skip
_SOURCE: Message = {1: ("component", STRING), 2: ("host", STRING)}
_SERIES: Message = {1: ("count", INT), 2: ("lastObservedTime", MICRO_TIME)}
_RESOURCE_ATTRIBUTES: Message = {
    1: ("namespace", STRING), 2: ("verb", STRING), 3: ("group", STRING), 4: ("version", STRING), 5: ("resource", STRING),
    6: ("subresource", STRING), 7: ("name", STRING),
}  # fmt: skip

_EVENT: Message = {
    1: ("metadata", _META), 2: ("involvedObject", _REFERENCE), 3: ("reason", STRING), 4: ("message", STRING),
    5: ("source", _SOURCE), 6: ("firstTimestamp", TIME), 7: ("lastTimestamp", TIME), 8: ("count", INT), 9: ("type", STRING),
    10: ("eventTime", MICRO_TIME), 11: ("series", _SERIES), 12: ("action", STRING), 13: ("related", _REFERENCE),
    14: ("reportingComponent", STRING), 15: ("reportingInstance", STRING),
}  # fmt: skip
_NEW_EVENT: Message = {
    1: ("metadata", _META), 2: ("eventTime", MICRO_TIME), 3: ("series", _SERIES), 4: ("reportingController", STRING),
    5: ("reportingInstance", STRING), 6: ("action", STRING), 7: ("reason", STRING), 8: ("regarding", _REFERENCE),
    9: ("related", _REFERENCE), 10: ("note", STRING), 11: ("type", STRING), 12: ("deprecatedSource", _SOURCE),
    13: ("deprecatedFirstTimestamp", TIME), 14: ("deprecatedLastTimestamp", TIME), 15: ("deprecatedCount", INT),
}  # fmt: skip

MESSAGES: dict[tuple[str, str], Message] = {
    ("v1", "Namespace"): {
        1: ("metadata", _META), 2: ("spec", {1: ("finalizers", STRINGS)}), 3: ("status", {1: ("phase", STRING)}),
    },
    ("v1", "Secret"): {
        1: ("metadata", _META), 2: ("data", BYTES_MAP), 3: ("type", STRING), 4: ("stringData", MAP), 5: ("immutable", BOOL),
    },
    ("v1", "Event"): _EVENT,
    ("events.k8s.io/v1", "Event"): _NEW_EVENT,
    ("coordination.k8s.io/v1", "Lease"): {
        1: ("metadata", _META),
        2: ("spec", {
            1: ("holderIdentity", STRING), 2: ("leaseDurationSeconds", KEPT_INT), 3: ("acquireTime", MICRO_TIME),
            4: ("renewTime", MICRO_TIME), 5: ("leaseTransitions", KEPT_INT), 6: ("strategy", STRING),
            7: ("preferredHolder", STRING),
        }),
    },
    ("autoscaling/v1", "Scale"): {1: ("metadata", _META), 2: ("spec", {1: ("replicas", KEPT_INT)})},
    ("authorization.k8s.io/v1", "SelfSubjectAccessReview"): {
        1: ("metadata", _META),
        2: ("spec", {
            1: ("resourceAttributes", _RESOURCE_ATTRIBUTES),
            2: ("nonResourceAttributes", {1: ("path", STRING), 2: ("verb", STRING)}),
        }),
    },
    ("authorization.k8s.io/v1", "SelfSubjectRulesReview"): {
        1: ("metadata", _META), 2: ("spec", {1: ("namespace", STRING)}),
    },
    ("authentication.k8s.io/v1", "SelfSubjectReview"): {1: ("metadata", _META)},
}  # fmt: skip

_DELETE_OPTIONS: Message = {
    1: ("gracePeriodSeconds", KEPT_INT), 2: ("preconditions", {1: ("uid", STRING), 2: ("resourceVersion", STRING)}),
    3: ("orphanDependents", BOOL), 4: ("propagationPolicy", STRING), 5: ("dryRun", STRINGS),
}  # fmt: skip

_TYPE_META: Message = {1: ("apiVersion", STRING), 2: ("kind", STRING)}


def decode(data: bytes) -> dict[str, Any]:
    """The object in a `runtime.Unknown` frame. Raises BadRequest for what is broken, UnsupportedMediaType for other kinds."""
    if not data.startswith(MAGIC):
        raise BadRequest("the body is not Kubernetes protobuf: it does not start with its four magic bytes")
    try:
        type_meta: dict[str, Any] = {}
        raw = b""
        for number, value in _fields(data[len(MAGIC) :]):
            if number == 1:
                type_meta = _message(_bytes(value), _TYPE_META)
            elif number == 2:
                raw = _bytes(value)
        key = (type_meta.get("apiVersion", ""), type_meta.get("kind", ""))
        # DeleteOptions travel under the group of whatever is deleted.
        message = _DELETE_OPTIONS if key[1] == "DeleteOptions" else MESSAGES.get(key)
        if message is None:
            raise UnsupportedMediaType(f"protobuf is not accepted for {key[1] or 'this kind'} of {key[0]!r}; send JSON")
        return {"apiVersion": key[0], "kind": key[1], **_message(raw, message)}
    except (ValueError, IndexError, OverflowError, OSError) as error:
        raise BadRequest(f"the protobuf body cannot be decoded: {error}") from None


def _message(data: bytes, message: Message) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for number, value in _fields(data):
        if number in message:
            name, kind = message[number]
            _put(out, name, kind, value)
    return out


def _put(out: dict[str, Any], name: str, kind: Any, value: int | bytes) -> None:
    if isinstance(kind, dict):
        out[name] = _message(_bytes(value), kind)
    elif isinstance(kind, list):
        out.setdefault(name, []).append(_message(_bytes(value), kind[0]))
    elif kind == STRINGS:
        out.setdefault(name, []).append(_bytes(value).decode())
    elif kind in (MAP, BYTES_MAP):
        entry = {1: b"", 2: b""} | {number: _bytes(part) for number, part in _fields(_bytes(value))}
        text = base64.b64encode(entry[2]).decode() if kind == BYTES_MAP else entry[2].decode()
        out.setdefault(name, {})[entry[1].decode()] = text
    elif kind == BOOL:
        out[name] = bool(value)
    elif (plain := _scalar(kind, value)) is not None:
        out[name] = plain


def _scalar(kind: str, value: int | bytes) -> Any:
    if kind == STRING:
        return _bytes(value).decode() or None
    if kind in (INT, KEPT_INT):
        if not isinstance(value, int):
            raise ValueError("a number was expected")
        signed = value - (1 << 64) if value >= 1 << 63 else value
        return signed if signed or kind == KEPT_INT else None
    if kind in (TIME, MICRO_TIME):
        parts = {number: part for number, part in _fields(_bytes(value)) if isinstance(part, int)}
        if not parts:
            return None
        at = datetime.fromtimestamp(parts.get(1, 0), UTC)
        micro = f".{parts.get(2, 0) // 1000:06d}" if kind == MICRO_TIME else ""
        return at.strftime("%Y-%m-%dT%H:%M:%S") + micro + "Z"
    raw = dict(_fields(_bytes(value))).get(1, b"{}")
    return orjson.loads(_bytes(raw))


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a length-delimited field was expected")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value): an int for varints and fixed widths, bytes for what is length-delimited."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} is unknown")
        if at + size > end:
            raise ValueError("the body ends inside a field")
        part = data[at : at + size]
        at += size
        yield number, part if wire == 2 else int.from_bytes(part, "little")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number is longer than 64 bits")
