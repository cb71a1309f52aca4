"""OpenAPI v3 of the API: an index and one document per group and version, generated from the pydantic models.

`kubectl explain` reads the schemas, `kubectl apply` looks in the paths whether the server validates fields. Documents are built
when they are first asked for and kept. The shape is that of kube-apiserver: OpenAPI 3.0.0, schemas named by their package.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import orjson

from ..kinds import Kind
from .events import Served
from .http import JSON, Request, Send, answer_cached, answer_text, etag_of
from .schemas import META, definitions, schema_name

_PARAMETERS = {
    "dryRun": ("string", "When present, indicates that modifications should not be persisted. Only All is accepted"),
    "fieldManager": ("string", "Name of the actor that is making these changes"),
    "fieldValidation": ("string", "What to do with unknown and duplicate fields: Ignore, Warn or Strict"),
    "force": ("boolean", "Take fields over that another manager owns. For apply patches only"),
    "pretty": ("string", "Accepted and ignored"),
    "labelSelector": ("string", "Restricts the objects by their labels"),
    "fieldSelector": ("string", "Restricts the objects by their fields"),
    "limit": ("integer", "Objects at most in one answer"),
    "continue": ("string", "Token of the last answer, to get the next"),
    "resourceVersion": ("string", "What state to list, or where to start to watch"),
    "resourceVersionMatch": ("string", "How resourceVersion is meant"),
    "timeoutSeconds": ("integer", "How long to watch"),
    "watch": ("boolean", "Stream changes instead of a list"),
    "allowWatchBookmarks": ("boolean", "Whether bookmarks may be sent"),
    "propagationPolicy": ("string", "Background, Foreground or Orphan"),
}
_WRITE = ("dryRun", "fieldManager", "fieldValidation", "pretty")
_LIST = (
    "labelSelector", "fieldSelector", "limit", "continue", "resourceVersion", "resourceVersionMatch", "timeoutSeconds", "watch",
    "allowWatchBookmarks", "pretty",
)  # fmt: skip


class OpenAPI:
    """All documents. `title` and `version` are what the documents say of the server."""

    def __init__(self, served: Sequence[Served], version: str) -> None:
        self._version = version
        self._groups: dict[str, list[Kind]] = {}
        for one in served:
            kind = one.kind
            key = f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"
            self._groups.setdefault(key, []).append(kind)

    async def answer(self, request: Request, send: Send) -> None:
        """`/openapi/v3` and below. There is no v2: kubectl needs it only where there is no v3."""
        path = request.path.rstrip("/")
        if path == "/openapi/v3":
            await answer_cached(send, request, self._index, JSON, etag_of(self._index))
        elif (found := self._documents.get(path.removeprefix("/openapi/v3/"))) is not None:
            body, etag = found
            await answer_cached(send, request, body, JSON, etag)
        else:
            await answer_text(send, 404, "404 page not found\n")

    @cached_property
    def whole(self) -> dict[str, Any]:
        """One document of everything, for the docs page."""
        paths: dict[str, Any] = {}
        schemas: dict[str, Any] = {}
        for kinds in self._groups.values():
            document = self._document(kinds)
            paths |= document["paths"]
            schemas |= document["components"]["schemas"]
        return self._wrap(paths, schemas)

    @cached_property
    def _documents(self) -> dict[str, tuple[bytes, str]]:
        encoded = {key: orjson.dumps(self._document(kinds)) for key, kinds in self._groups.items()}
        return {key: (body, etag_of(body)) for key, body in encoded.items()}

    @cached_property
    def _index(self) -> bytes:
        paths = {
            key: {"serverRelativeURL": f"/openapi/v3/{key}?hash={etag.strip(chr(34))}"}
            for key, (_, etag) in self._documents.items()
        }
        return orjson.dumps({"paths": paths})

    def _document(self, kinds: Sequence[Kind]) -> dict[str, Any]:
        paths: dict[str, Any] = {}
        schemas: dict[str, Any] = {}
        for kind in kinds:
            schemas |= definitions(kind)
            paths |= _paths(kind)
        return self._wrap(paths, schemas)

    def _wrap(self, paths: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
        return {
            "openapi": "3.0.0",
            "info": {"title": "kubeup", "version": self._version},
            "paths": paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {"BearerToken": {"type": "http", "scheme": "bearer"}},
            },
            "security": [{"BearerToken": []}],
        }


def _paths(kind: Kind) -> dict[str, Any]:
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    inside = f"{root}/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else f"{root}/{kind.plural}"
    paths: dict[str, Any] = {}
    if kind.namespaced:
        paths[f"{root}/{kind.plural}"] = {"get": _operation(kind, "list", "", _LIST, answer="List")}
    collection: dict[str, Any] = {
        "get": _operation(kind, "list", "", _LIST, answer="List"),
        "post": _operation(kind, "post", "", _WRITE, body=(JSON,)),
    }
    if kind.deletecollection:
        collection["delete"] = _operation(kind, "deletecollection", "", (*_LIST, "dryRun"), answer="Status")
    paths[inside] = _with_parameters(collection, inside)
    one = f"{inside}/{{name}}"
    paths[one] = _with_parameters(
        _read_write(kind, "")
        | {"delete": _operation(kind, "delete", "", ("dryRun", "propagationPolicy", "pretty"), answer="Status")},
        one,
    )
    for subresource, present in (("status", kind.has_status), ("scale", kind.scale)):
        if present:
            paths[f"{one}/{subresource}"] = _with_parameters(_read_write(kind, subresource), one)
    return paths


def _read_write(kind: Kind, subresource: str) -> dict[str, Any]:
    patches = ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"]
    if kind.builtin:
        patches.append("application/strategic-merge-patch+json")
    return {
        "get": _operation(kind, "get", subresource, ("pretty",)),
        "put": _operation(kind, "put", subresource, _WRITE, body=(JSON,)),
        "patch": _operation(kind, "patch", subresource, (*_WRITE, "force"), body=patches),
    }


def _operation(
    kind: Kind, action: str, subresource: str, query: Sequence[str], *, body: Sequence[str] = (), answer: str = ""
) -> dict[str, Any]:
    scale = subresource == "scale"
    gvk = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    if scale:
        gvk = {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    name = "io.k8s.api.autoscaling.v1.Scale" if scale else schema_name(kind, kind.kind)
    answered = f"{META}.Status" if answer == "Status" else f"{name}List" if answer == "List" else name
    reference = {"$ref": f"#/components/schemas/{answered}"}
    operation: dict[str, Any] = {
        "tags": [kind.plural],
        "description": f"{action} {kind.plural}{f' ({subresource})' if subresource else ''}",
        "operationId": f"{action}_{kind.group or 'core'}_{kind.version}_{kind.plural}_{subresource}".strip("_"),
        "parameters": [
            {"name": name, "in": "query", "description": _PARAMETERS[name][1], "schema": {"type": _PARAMETERS[name][0]}}
            for name in query
        ],
        "responses": {
            "200": {"description": "OK", "content": {JSON: {"schema": reference}}},
            "401": {"description": "Unauthorized"},
        },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": gvk,
    }
    if action == "post":
        operation["responses"]["201"] = {"description": "Created", "content": {JSON: {"schema": reference}}}
    if body:
        whole = {"$ref": f"#/components/schemas/{name}"}
        patch = {"$ref": f"#/components/schemas/{META}.Patch"}
        operation["requestBody"] = {
            "content": {media: {"schema": patch if action == "patch" else whole} for media in body},
            "required": True,
        }
    return operation


def _with_parameters(item: dict[str, Any], path: str) -> dict[str, Any]:
    names = [name for name in ("namespace", "name") if f"{{{name}}}" in path]
    item["parameters"] = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    return item
