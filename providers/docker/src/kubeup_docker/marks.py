"""Marks as labels of containers and networks, and names made from marks.

Used by machines.py and networks.py. Labels are given in the creating call and never change afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from kubeup_core import EVERY, Mark, Scope

PREFIX = "kubeup.dev/"

FOREIGN = "foreign mark"
"""Code of the NotFound for what is there and carries another mark."""


def labels(mark: Mark) -> dict[str, str]:
    return {
        f"{PREFIX}installation": mark.installation,
        f"{PREFIX}cluster": mark.cluster,
        f"{PREFIX}cluster-name": mark.cluster_name,
        f"{PREFIX}kind": mark.kind,
        f"{PREFIX}maker": mark.maker,
        f"{PREFIX}index": str(mark.index),
        f"{PREFIX}keep": "true" if mark.keep else "false",
    }


def mark_of(labels: Mapping[str, str]) -> Mark | None:
    """The mark in these labels; None when this is not kubeup's, or was tampered with."""
    try:
        return Mark(
            installation=labels[f"{PREFIX}installation"],
            cluster=labels[f"{PREFIX}cluster"],
            cluster_name=labels[f"{PREFIX}cluster-name"],
            kind=labels[f"{PREFIX}kind"],
            maker=labels[f"{PREFIX}maker"],
            index=int(labels[f"{PREFIX}index"]),
            keep=labels[f"{PREFIX}keep"] == "true",
        )
    except (KeyError, ValueError):
        return None


def of_scope(scope: Scope, kind: str) -> dict[str, str]:
    """The labels that the engine is to look for."""
    wanted = {f"{PREFIX}kind": kind}
    if scope.installation != EVERY:
        wanted[f"{PREFIX}installation"] = scope.installation
    if scope.cluster is not None:
        wanted[f"{PREFIX}cluster"] = scope.cluster
    return wanted


def of_maker(mark: Mark) -> dict[str, str]:
    """The labels that all members of one launch, or the one thing made for an object, share."""
    return {f"{PREFIX}{key}": getattr(mark, key) for key in ("installation", "kind", "maker")}


def name(wanted: str, mark: Mark) -> str:
    """The name at the engine: what people chose, and 5 characters of the mark, so that a namesake never blocks it."""
    text = "\0".join((mark.installation, mark.kind, mark.maker, str(mark.index)))
    return f"{wanted}-{hashlib.sha256(text.encode()).hexdigest()[:5]}"


def owner(mark: Mark | None) -> str:
    """For people: whose something is."""
    if mark is None:
        return "somebody else, not kubeup"
    return f"cluster {mark.cluster_name or '-'} of installation {mark.installation}, made by {mark.maker}"
