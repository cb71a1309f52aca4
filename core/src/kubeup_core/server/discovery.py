"""Discovery: which kinds there are, with which verbs, in the plain and in the aggregated form. Built once, from KINDS.

kubectl asks `/api` and `/apis` in the aggregated form first; other clients read the plain lists. Both carry an ETag.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

import orjson

from ..kinds import Kind
from .http import JSON, Request, Send, answer_cached, etag_of

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

_REVIEWS = (
    ("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview"),
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    ("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
)
_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


class Discovery:
    """All discovery documents by path."""

    def __init__(self, kinds: Sequence[Kind], address: str) -> None:
        resources: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for kind in kinds:
            resources.setdefault((kind.group, kind.version), []).append(_resource(kind))
        for group, version, plural, name in _REVIEWS:
            resources.setdefault((group, version), []).append(_review(group, version, plural, name))
        groups = sorted((key for key in resources if key[0]), key=lambda key: (key[0] != "kubeup.dev", key))
        self._plain: dict[str, tuple[bytes, str]] = {}
        self._aggregated: dict[str, tuple[bytes, str]] = {}
        cidrs = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
        self._add("/api", {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": cidrs})
        listed = [_group(group, version) for group, version in groups]
        self._add("/apis", {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed})
        for (group, version), found in resources.items():
            path = f"/apis/{group}/{version}" if group else f"/api/{version}"
            plain = [entry for resource in found for entry in _plain(resource)]
            gv = f"{group}/{version}" if group else version
            self._add(path, {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": gv, "resources": plain})
            if group:
                self._add(f"/apis/{group}", {"kind": "APIGroup", "apiVersion": "v1", **_group(group, version)})
        self._aggregate("/api", [("", "v1", resources["", "v1"])])
        self._aggregate("/apis", [(*key, resources[key]) for key in groups])

    def has(self, path: str) -> bool:
        return path.rstrip("/") in self._plain

    async def answer(self, request: Request, send: Send) -> None:
        """The document of this path, in the form that was asked for first."""
        path = request.path.rstrip("/")
        if path in self._aggregated and _wants_aggregated(request.header(b"accept")):
            body, etag = self._aggregated[path]
            await answer_cached(send, request, body, AGGREGATED, etag)
            return
        body, etag = self._plain[path]
        await answer_cached(send, request, body, JSON, etag)

    def _add(self, path: str, document: dict[str, Any]) -> None:
        body = orjson.dumps(document)
        self._plain[path] = body, etag_of(body)

    def _aggregate(self, path: str, groups: Sequence[tuple[str, str, list[dict[str, Any]]]]) -> None:
        items = [
            {
                "metadata": {"name": group, "creationTimestamp": None} if group else {"creationTimestamp": None},
                "versions": [{"version": version, "freshness": "Current", "resources": found}],
            }
            for group, version, found in groups
        ]
        document = {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}
        body = orjson.dumps(document)
        self._aggregated[path] = body, etag_of(body)


def verbs_of(kind: Kind) -> list[str]:
    return [verb for verb in _VERBS if kind.deletecollection or verb != "deletecollection"]


def _wants_aggregated(accept: str) -> bool:
    for clause in accept.split(","):
        parts = {part.strip() for part in clause.split(";")}
        if {"as=APIGroupDiscoveryList", "g=apidiscovery.k8s.io", "v=v2", JSON} <= parts:
            return True
        if parts == {JSON}:
            return False
    return False


def _group(group: str, version: str) -> dict[str, Any]:
    said = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [said], "preferredVersion": said}


def _resource(kind: Kind) -> dict[str, Any]:
    """One entry of the aggregated form; the plain one is made of it."""
    subresources = []
    response = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    if kind.has_status:
        subresources.append({"subresource": "status", "responseKind": response, "verbs": ["get", "patch", "update"]})
    if kind.scale:
        scale = {"group": "autoscaling", "version": "v1", "kind": "Scale"}
        subresources.append({"subresource": "scale", "responseKind": scale, "verbs": ["get", "patch", "update"]})
    entry: dict[str, Any] = {
        "resource": kind.plural,
        "responseKind": response,
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular_name,
        "verbs": verbs_of(kind),
    }
    for key, value in (("shortNames", kind.short_names), ("categories", kind.categories), ("subresources", subresources)):
        if value:
            entry[key] = list(value)
    return entry


def _review(group: str, version: str, plural: str, kind: str) -> dict[str, Any]:
    response = {"group": group, "version": version, "kind": kind}
    singular = kind.lower()
    return {
        "resource": plural,
        "responseKind": response,
        "scope": "Cluster",
        "singularResource": singular,
        "verbs": ["create"],
    }


def _plain(entry: dict[str, Any]) -> list[dict[str, Any]]:
    name, response, namespaced = entry["resource"], entry["responseKind"], entry["scope"] == "Namespaced"
    main: dict[str, Any] = {
        "name": name,
        "singularName": entry["singularResource"],
        "namespaced": namespaced,
        "kind": response["kind"],
        "verbs": entry["verbs"],
        **{key: entry[key] for key in ("shortNames", "categories") if key in entry},
    }
    if "watch" in entry["verbs"]:
        named = f"{response['group']}/{response['version']}/{response['kind']}".encode()
        main["storageVersionHash"] = base64.b64encode(hashlib.sha256(named).digest()[:8]).decode()
    found: list[dict[str, Any]] = [main]
    for sub in entry.get("subresources", ()):
        below = {
            "name": f"{name}/{sub['subresource']}",
            "singularName": "",
            "namespaced": namespaced,
            "kind": sub["responseKind"]["kind"],
            "verbs": sub["verbs"],
        }
        if sub["subresource"] == "scale":
            below |= {"group": "autoscaling", "version": "v1"}
        found.append(below)
    return found
