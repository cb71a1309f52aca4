"""Marks as labels (of machines and disks) and as descriptions (of what has no labels), and names made from marks.

A name is the identity of a thing at this place, so each is derived from its mark: the same wish has the same name for ever, and a
namesake that is still going away is never in its way. The machines of one launch share their labels, so the index is in the name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from kubeup_core import EVERY, Mark, Scope

PREFIX = "kubeup-"
_FIELDS = {
    "installation": "installation",
    "cluster": "cluster",
    "cluster_name": "cluster-name",
    "kind": "kind",
    "maker": "maker",
}
_LONGEST = 63
WHOAMI = (
    "curl -sf -H 'Metadata-Flavor: Google' http://metadata.google.internal/computeMetadata/v1/instance/name"
    " | sed 's/.*-[0-9a-f]\\{5\\}//'"
)
"""In a guest: the index, which ends the machine's name."""


def labels(mark: Mark) -> dict[str, str]:
    found = {PREFIX + label: encoded(str(getattr(mark, field))) for field, label in _FIELDS.items()}
    return {**found, f"{PREFIX}keep": "true" if mark.keep else "false"}


def mark_of(labels: Mapping[str, str], index: int = 0) -> Mark | None:
    """The mark in these labels; None when this is not kubeup's."""
    try:
        fields: dict[str, Any] = {field: decoded(labels[PREFIX + label]) for field, label in _FIELDS.items()}
    except KeyError:
        return None
    return Mark(**fields, index=index, keep=labels.get(f"{PREFIX}keep") == "true")


def filter_of(scope: Scope, kind: str) -> str:
    """The filter of a listing."""
    wanted = {"kind": kind}
    if scope.installation != EVERY:
        wanted["installation"] = scope.installation
    if scope.cluster is not None:
        wanted["cluster"] = scope.cluster
    return _filter(wanted)


def filter_of_maker(mark: Mark) -> str:
    return _filter({"installation": mark.installation, "kind": mark.kind, "maker": mark.maker})


def text(mark: Mark, **more: str) -> str:
    """The description of a thing without labels. more: what cannot be read off the thing later."""
    fields = {field: getattr(mark, field) for field in _FIELDS}
    return "kubeup " + json.dumps({**fields, **more}, separators=(",", ":"))


def mark_in(description: str) -> tuple[Mark, dict[str, str]] | None:
    """The mark in a description, and what else stands there."""
    if not description.startswith("kubeup "):
        return None
    try:
        found = json.loads(description.removeprefix("kubeup "))
        fields: dict[str, Any] = {field: str(found.pop(field)) for field in _FIELDS}
        mark = Mark(**fields)
    except (ValueError, KeyError, AttributeError):
        return None
    return mark, {key: str(value) for key, value in found.items()}


def name(wanted: str, mark: Mark, room: int = 0) -> str:
    """What people chose, and 5 characters of the mark. room: characters that will be put behind it."""
    stem = re.sub(r"[^a-z0-9-]", "-", wanted.lower()).strip("-") or "kubeup"
    stem = stem if stem[0].isalpha() else f"k{stem}"
    return f"{stem[: _LONGEST - 6 - room].rstrip('-')}-{digest(mark)}"


def machine_name(wanted: str, mark: Mark) -> str:
    index = str(mark.index)
    return name(wanted, mark, len(index)) + index


def index_of(machine: str) -> int:
    """The index in a machine's name; -1 when it is none of ours."""
    tail = machine.rpartition("-")[2][5:]
    return int(tail) if tail.isdigit() else -1


def digest(mark: Mark) -> str:
    return hashlib.sha256("\0".join((mark.installation, mark.kind, mark.maker)).encode()).hexdigest()[:5]


def encoded(value: str) -> str:
    """As a label's value: lower case letters, digits and dashes stay, anything else is `_` and its number in hex."""
    parts = [c if re.fullmatch(r"[a-z0-9-]", c) else "".join(f"_{byte:02x}" for byte in c.encode()) for c in value]
    return "".join(parts)[:_LONGEST]


def decoded(value: str) -> str:
    return re.sub(r"((?:_[0-9a-f]{2})+)", lambda m: bytes.fromhex(m[1].replace("_", "")).decode(errors="replace"), value)


def owner(mark: Mark | None) -> str:
    """For people: whose something is."""
    if mark is None:
        return "somebody else, not kubeup"
    return f"cluster {mark.cluster_name or '-'} of installation {mark.installation}, made by {mark.maker}"


def _filter(wanted: Mapping[str, str]) -> str:
    return " AND ".join(f'(labels.{PREFIX}{key} = "{encoded(value)}")' for key, value in wanted.items())
