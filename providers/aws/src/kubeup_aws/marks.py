"""Marks as tags, and names made from marks. Used by all suppliers; pure.

Tags are given in the creating call. The members of a launch share one set of tags, as one call makes them all: their index is EC2's own
number within the call (AmiLaunchIndex), and their names stand in tags that all of them carry, without what they have in common.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kubeup_core import EVERY, Mark, Scope

PREFIX = "kubeup.dev/"
PART = f"{PREFIX}part"
NAMES = f"{PREFIX}names"
VALUE = 256
"""Characters in the value of a tag."""

NAME_TAGS = 30
"""Of the 50 tags that a resource may have."""

FOREIGN = "foreign mark"
"""Code of the NotFound for what is there and carries another mark."""


def tags(mark: Mark, name: str, *, indexed: bool = True) -> dict[str, str]:
    """indexed: the index is in the tags; False where EC2 numbers."""
    found = {
        "Name": name[:VALUE],
        f"{PREFIX}installation": mark.installation,
        f"{PREFIX}cluster": mark.cluster,
        f"{PREFIX}cluster-name": mark.cluster_name,
        f"{PREFIX}kind": mark.kind,
        f"{PREFIX}maker": mark.maker,
        f"{PREFIX}keep": "true" if mark.keep else "false",
    }
    return found | ({f"{PREFIX}index": str(mark.index)} if indexed else {})


def as_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def as_dict(listed: Iterable[Mapping[str, str]] | None) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in listed or ()}


def mark_of(tags: Mapping[str, str], index: int | None = None) -> Mark | None:
    """The mark in these tags; None when this is not kubeup's, or was tampered with. index: as EC2 numbered it."""
    try:
        return Mark(
            installation=tags[f"{PREFIX}installation"],
            cluster=tags[f"{PREFIX}cluster"],
            cluster_name=tags[f"{PREFIX}cluster-name"],
            kind=tags[f"{PREFIX}kind"],
            maker=tags[f"{PREFIX}maker"],
            index=int(tags[f"{PREFIX}index"]) if index is None else index,
            keep=tags[f"{PREFIX}keep"] == "true",
        )
    except (KeyError, ValueError):
        return None


def of_scope(scope: Scope, kind: str) -> list[dict[str, Any]]:
    """Filters of a listing."""
    wanted = {"kind": kind}
    if scope.installation != EVERY:
        wanted["installation"] = scope.installation
    if scope.cluster is not None:
        wanted["cluster"] = scope.cluster
    return _filters(wanted)


def of_maker(mark: Mark) -> list[dict[str, Any]]:
    """Filters for all members of one launch, or all parts of what was made for one object."""
    return _filters({"installation": mark.installation, "kind": mark.kind, "maker": mark.maker})


def digest(mark: Mark) -> str:
    """8 characters that differ between makers."""
    return hashlib.sha256("\0".join((mark.installation, mark.kind, mark.maker)).encode()).hexdigest()[:8]


def owner(mark: Mark | None) -> str:
    """For people: whose something is."""
    if mark is None:
        return "somebody else, not kubeup"
    return f"cluster {mark.cluster_name or '-'} of installation {mark.installation}, made by {mark.maker}"


def name_tags(names: Sequence[str]) -> dict[str, str]:
    """The members' names for `names_of`; nothing where they are too many and too long for tags."""
    common = shared_start(names) if len(names) > 1 else ""
    return chunked(NAMES, "|".join([common, *(name.removeprefix(common) for name in names)]))


def shared_start(names: Sequence[str]) -> str:
    """What all of them start with."""
    first, last = min(names), max(names)
    return first[: next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]


def name_of(tags: Mapping[str, str], index: int) -> str:
    """A member's name out of its tags, else one made from the launch's."""
    common, *rest = joined(NAMES, tags).split("|")
    return common + rest[index] if index < len(rest) else f"{tags.get('Name', '')}{index}"


def chunked(key: str, text: str) -> dict[str, str]:
    """A text in as many tags as it takes; none when it takes too many."""
    if len(text) > VALUE * NAME_TAGS:
        return {}
    return {f"{key}.{i // VALUE}": text[i : i + VALUE] for i in range(0, len(text), VALUE)}


def joined(key: str, tags: Mapping[str, str]) -> str:
    """The text of `chunked`."""
    return "".join(tags.get(f"{key}.{i}", "") for i in range(NAME_TAGS))


def _filters(wanted: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"Name": f"tag:{PREFIX}{key}", "Values": [value]} for key, value in wanted.items()]
