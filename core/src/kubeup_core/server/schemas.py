"""Schemas of the kinds as Kubernetes writes them, out of the pydantic models: the source for OpenAPI and for `kubectl explain`.

pydantic speaks JSON Schema; OpenAPI 3.0 has no null type, no const and no siblings of $ref, and kubectl prints no anyOf. What is
optional is simply not required. Names follow the packages of Kubernetes, so that clients that know ObjectMeta find it.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from ..kinds import Kind
from ..objects import GROUP, VERSION

META = "io.k8s.apimachinery.pkg.apis.meta.v1"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"

_DROPPED = ("title", "examples", "default", "additionalProperties")
_PACKAGES = {
    GROUP: f"dev.kubeup.{VERSION}",
    "": "io.k8s.api.core.v1",
    "coordination.k8s.io": "io.k8s.api.coordination.v1",
    "events.k8s.io": "io.k8s.api.events.v1",
}
_SHARED = {"ObjectMeta": f"{META}.ObjectMeta", "OwnerReference": f"{META}.OwnerReference"}

_COMMON = {
    "apiVersion": (
        "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas "
        "to the latest internal value, and may reject unrecognized values. More info: "
        "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources"
    ),
    "kind": (
        "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint "
        "the client submits requests to. Cannot be updated. In CamelCase. More info: "
        "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"
    ),
    "metadata": "Standard object's metadata: name, namespace, labels, annotations",
    "spec": "What is wanted",
    "status": "What is observed; written by kubeup",
}
_META_TEXTS = {
    "name": "Name of the object, unique in its namespace. Cannot be changed",
    "generateName": "Prefix of a name that the server completes, when name is absent",
    "namespace": "Room in which the name is unique. Cannot be changed",
    "uid": "Unique in time and space; set by the server",
    "resourceVersion": "Changes with every write; set by the server. Send it back to write only when nobody else did",
    "generation": "Counts the changes of what is wanted; set by the server",
    "creationTimestamp": "When it was created; set by the server",
    "deletionTimestamp": "When its deletion was asked for; it goes when the last finalizer is gone",
    "deletionGracePeriodSeconds": "Always 0",
    "labels": "Keys and values to select objects by",
    "annotations": "Keys and values that say something about the object and are not selected by",
    "finalizers": "What must be done before the object goes; each entry is removed by who has done it",
    "ownerReferences": "Objects that this one depends on; it is deleted when all of them are gone",
    "managedFields": "Who set which field; kept by the server for server-side apply",
    "selfLink": "Not used any more",
}


def schema_name(kind: Kind, model: str) -> str:
    """As it stands under components.schemas, such as `dev.kubeup.v1alpha1.Cluster`."""
    return _SHARED.get(model) or f"{_PACKAGES[kind.group]}.{model}"


@cache
def definitions(kind: Kind) -> dict[str, Any]:
    """All schemas that a kind needs, by name: its own, its list's, those of its parts and of metadata. Not to be changed."""
    raw = kind.model.model_json_schema(by_alias=True)
    found = {schema_name(kind, name): _convert(kind, schema) for name, schema in raw.pop("$defs", {}).items()}
    root = _convert(kind, raw)
    # The model's own name may be another than the kind's, as for the second shape of events.
    root.setdefault("description", kind.description)
    for name, text in _COMMON.items():
        if name in root["properties"]:
            root["properties"][name] = _described(root["properties"][name], text)
    gvk = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    root["x-kubernetes-group-version-kind"] = [gvk]
    own = schema_name(kind, kind.kind)
    found[own] = root
    found[f"{own}List"] = _list(kind, own)
    meta = found[_SHARED["ObjectMeta"]]
    for name, text in _META_TEXTS.items():
        if name in meta["properties"]:
            meta["properties"][name] = _described(meta["properties"][name], text)
    found |= _COMPONENTS
    if kind.scale:
        found |= _SCALE
    return found


def _convert(kind: Kind, schema: Any) -> Any:
    """One JSON schema of pydantic's as OpenAPI 3.0 has it."""
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        reference = {"$ref": f"#/components/schemas/{schema_name(kind, schema['$ref'].rpartition('/')[2])}"}
        # 3.0 ignores what stands beside a $ref.
        return _described(reference, schema["description"]) if "description" in schema else reference
    if "anyOf" in schema:
        return _union(kind, schema)
    out = {key: value for key, value in schema.items() if key not in _DROPPED}
    if "const" in out:
        out["enum"] = [out.pop("const")]
        out.setdefault("type", "string" if isinstance(out["enum"][0], str) else "integer")
    for limit in ("Minimum", "Maximum"):
        # A number in JSON Schema, a flag in OpenAPI 3.0; kubectl drops the whole document otherwise.
        if (exclusive := out.pop(f"exclusive{limit}", None)) is not None:
            out |= {limit.lower(): exclusive, f"exclusive{limit}": True}
    if out.get("x-kubernetes-int-or-string") is False:
        del out["x-kubernetes-int-or-string"]
    if "properties" in out:
        out["properties"] = {name: _convert(kind, value) for name, value in out["properties"].items()}
    if "items" in out:
        out["items"] = _convert(kind, out["items"])
    values = schema.get("additionalProperties")
    if out.get("type") == "object" and "properties" not in out:
        if isinstance(values, dict):
            out["additionalProperties"] = _convert(kind, values)
        else:
            out["x-kubernetes-preserve-unknown-fields"] = True
    default = schema.get("default")
    if default is not None and default not in ({}, []) and not isinstance(default, dict):
        out["default"] = default
    if "description" in out:
        out["description"] = _plain(out["description"])
    return out


def _union(kind: Kind, schema: dict[str, Any]) -> dict[str, Any]:
    arms = [_convert(kind, arm) for arm in schema["anyOf"] if arm.get("type") != "null"]
    if len(arms) == 1:
        out = arms[0]
    elif {arm.get("type") for arm in arms} == {"string"}:
        # `auto` or a text of some form: an enum would hide the form.
        out = {"type": "string"}
    elif {arm.get("type") for arm in arms} == {"string", "integer"}:
        out = {"$ref": f"#/components/schemas/{_INT_OR_STRING}"}
    else:
        out = {"x-kubernetes-preserve-unknown-fields": True}
    default = schema.get("default")
    if default is not None and "$ref" not in out:
        out["default"] = default
    return _described(out, schema["description"]) if "description" in schema else out


def _described(schema: dict[str, Any], text: str) -> dict[str, Any]:
    if "$ref" in schema:
        return {"allOf": [{"$ref": schema["$ref"]}], "description": _plain(text)}
    return {**schema, "description": _plain(text)}


def _plain(text: str) -> str:
    """Docstrings come with line breaks and back-quotes; a terminal wants neither."""
    return re.sub(r"\s+", " ", text.replace("`", ""))


def _list(kind: Kind, own: str) -> dict[str, Any]:
    gvk = {"group": kind.group, "version": kind.version, "kind": f"{kind.kind}List"}
    return {
        "type": "object",
        "description": f"A list of {kind.plural}",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": _COMMON["apiVersion"]},
            "kind": {"type": "string", "description": _COMMON["kind"]},
            "metadata": {"$ref": f"#/components/schemas/{META}.ListMeta"},
            "items": {"type": "array", "items": {"$ref": f"#/components/schemas/{own}"}},
        },
        "x-kubernetes-group-version-kind": [gvk],
    }


_TEXT = {"type": "string"}
_COMPONENTS: dict[str, Any] = {
    _INT_OR_STRING: {
        "description": "A whole number, or a text such as a percentage",
        "format": "int-or-string",
        "oneOf": [{"type": "integer"}, {"type": "string"}],
    },
    f"{META}.ListMeta": {
        "type": "object",
        "description": "Metadata of a list",
        "properties": {"continue": _TEXT, "resourceVersion": _TEXT, "remainingItemCount": {"type": "integer"}},
    },
    f"{META}.Patch": {"type": "object", "description": "A patch in the form that the content type names"},
    f"{META}.Status": {
        "type": "object",
        "description": "The outcome of a call that returns no object",
        "properties": {
            "apiVersion": _TEXT,
            "kind": _TEXT,
            "status": _TEXT,
            "message": _TEXT,
            "reason": _TEXT,
            "code": {"type": "integer"},
            "details": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
        "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Status"}],
    },
}
_SCALE: dict[str, Any] = {
    "io.k8s.api.autoscaling.v1.Scale": {
        "type": "object",
        "description": "How many there should be",
        "properties": {
            "apiVersion": _TEXT,
            "kind": _TEXT,
            "metadata": {"$ref": f"#/components/schemas/{META}.ObjectMeta"},
            "spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
            "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "selector": _TEXT}},
        },
        "x-kubernetes-group-version-kind": [{"group": "autoscaling", "version": "v1", "kind": "Scale"}],
    }
}
