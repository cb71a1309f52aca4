"""What a client wants to be answered in, and what it has sent: Accept and Content-Type.

Answers are JSON or YAML, whole objects, Tables (what `kubectl get` prints) or metadata only. The order of an Accept header
decides, as kube-apiserver has it; weights (q=) are not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from ..statuses import NotAcceptable, UnsupportedMediaType
from .http import JSON, YAML

Shape = Literal["", "Table", "PartialObjectMetadata", "PartialObjectMetadataList"]

PATCHES: dict[str, Literal["json", "merge", "strategic", "apply"]] = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
}
PROTOBUF = "application/vnd.kubernetes.protobuf"
_ACCEPTED = f"{JSON}, {YAML}"


@dataclass(frozen=True)
class Wanted:
    """The answer's form. `version` is that of meta.k8s.io for Tables and metadata."""

    yaml: bool = False
    shape: Shape = ""
    version: str = "v1"

    @property
    def content_type(self) -> bytes:
        return b"application/yaml" if self.yaml else b"application/json"


PLAIN = Wanted()
OBJECT: tuple[Shape, ...] = ("", "Table", "PartialObjectMetadata")
LIST: tuple[Shape, ...] = ("", "Table", "PartialObjectMetadataList")


@lru_cache(maxsize=256)
def negotiate(accept: str, shapes: tuple[Shape, ...]) -> Wanted:
    """The first of the accepted forms that there is. Raises NotAcceptable."""
    for clause in accept.split(",") if accept.strip() else ("*/*",):
        media, *parameters = (part.strip() for part in clause.split(";"))
        if media not in (JSON, YAML, "*/*", "application/*"):
            continue
        values = dict(p.split("=", 1) for p in parameters if "=" in p)
        asked = values.get("as", "")
        if asked == "":
            return Wanted(yaml=media == YAML)
        shape = next((shape for shape in shapes if shape == asked), None)
        if shape and values.get("g") == "meta.k8s.io" and values.get("v") in ("v1", "v1beta1"):
            return Wanted(yaml=media == YAML, shape=shape, version=values["v"])
    raise NotAcceptable(f"only the following media types are accepted: {_ACCEPTED}")


def body_type(header: str, *, protobuf: bool) -> str:
    """Media type of a body: JSON when the header is absent. Raises UnsupportedMediaType."""
    media = header.partition(";")[0].strip().lower() or JSON
    if media in (JSON, YAML) or (protobuf and media == PROTOBUF):
        return media
    accepted = f"{_ACCEPTED}, {PROTOBUF}" if protobuf else _ACCEPTED
    raise UnsupportedMediaType(f"the body of the request was in an unknown format - accepted media types include: {accepted}")


def patch_type(header: str, *, strategic: bool) -> Literal["json", "merge", "strategic", "apply"]:
    """How a PATCH body is meant; strategic merge is for built-in kinds only. Raises UnsupportedMediaType."""
    found = PATCHES.get(header.partition(";")[0].strip().lower())
    if found is None or (found == "strategic" and not strategic):
        accepted = ", ".join(media for media, kind in PATCHES.items() if strategic or kind != "strategic")
        raise UnsupportedMediaType(
            f"the body of the request was in an unknown format - accepted media types include: {accepted}"
        )
    return found
