"""The scale subresource: autoscaling/v1 Scale as kubectl scale and autoscalers read and write it, over `spec.replicas`.

`verbs` calls it for kinds with `Kind.scale`. A Scale is a view: only its spec.replicas is ever written.
"""

from __future__ import annotations

from typing import Any

import orjson

from .kinds import Kind
from .statuses import BadRequest, Cause, UnsupportedMediaType
from .validation import invalid, text_of


def of(obj: dict[str, Any]) -> bytes:
    """The Scale of an object. Kubernetes leaves out replicas that are 0 in spec."""
    metadata = obj["metadata"]
    kept = {k: metadata[k] for k in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp") if k in metadata}
    status = obj.get("status") or {}
    replicas = obj["spec"].get("replicas", 0)
    return orjson.dumps({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": kept,
        "spec": {"replicas": replicas} if replicas else {},
        "status": {"replicas": status.get("replicas", 0), **({"selector": s} if (s := status.get("selector")) else {})},
    })  # fmt: skip


def onto(kind: Kind, obj: dict[str, Any], scale: Any) -> dict[str, Any]:
    """The object with the replicas of a Scale, at the resourceVersion that the Scale names, if it names one."""
    name = obj["metadata"]["name"]
    if not isinstance(scale, dict) or scale.get("kind", "Scale") != "Scale":
        raise BadRequest("the body must be an autoscaling/v1 Scale")
    metadata, spec = scale.get("metadata") or {}, scale.get("spec") or {}
    if not isinstance(metadata, dict) or not isinstance(spec, dict):
        raise BadRequest("metadata and spec of a Scale must be objects")
    if metadata.get("name") not in (None, "", name):
        raise BadRequest(f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})")
    replicas = spec.get("replicas", 0)
    if isinstance(replicas, bool) or not isinstance(replicas, int) or replicas < 0:
        message = f"Invalid value: {text_of(replicas)}: must be a whole number, 0 or more"
        raise invalid(kind, name, [Cause("FieldValueInvalid", message, "spec.replicas")])
    read = {key: metadata[key] for key in ("resourceVersion", "uid") if metadata.get(key)}
    kept = {key: value for key, value in obj["metadata"].items() if key not in ("resourceVersion", "uid")}
    return {**obj, "metadata": {**kept, **read}, "spec": {**obj["spec"], "replicas": replicas}}


def patch_type(given: str) -> str:
    """How a Scale may be patched: it is no kind with merge keys, and nobody owns fields of a view."""
    if given in ("json", "merge"):
        return given
    raise UnsupportedMediaType("a Scale takes application/json-patch+json and application/merge-patch+json")
