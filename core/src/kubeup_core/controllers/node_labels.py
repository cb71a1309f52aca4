"""Labels and taints of a NodePool on its Nodes, and whose each is: what has to be changed on one. Pure; called by `node.py`.

What kubeup has put on a Node is listed in annotations there, so that what a pool no longer names is taken off again, and what
others have put on is never touched. A label or taint that the pool names is the pool's, whoever set it first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..bootstrapper import Taint
from .nodes import MACHINE, NodeView

LABELS = "kubeup.dev/labels"
TAINTS = "kubeup.dev/taints"
CLUSTER = "kubeup.dev/cluster"
"""Annotation: uid of the Cluster at kubeup, beside the Machine's. Only Nodes with both are ever deleted."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a Node is to carry. provider_id: set where its kubelet was not told, which an API allows once."""

    machine: str
    cluster: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Taint] = ()
    provider_id: str = ""


def in_step(view: NodeView, want: Wanted) -> bool:
    """Whether nothing has to be changed."""
    current = {
        "metadata": {"labels": view.labels, "annotations": view.annotations},
        "spec": {
            "taints": [{"key": t.key, "value": t.value, "effect": t.effect} for t in view.taints],
            "providerID": view.provider_id,
        },
    }
    return patch(current, want) is None


def patch(node: Mapping[str, Any], want: Wanted) -> dict[str, Any] | None:
    """A JSON merge patch for a Node as its API shows it; None when all is as wanted.

    It carries the Node's resourceVersion: its taints are one list, which another may have changed meanwhile.
    """
    metadata = node["metadata"]
    annotations = metadata.get("annotations") or {}
    changes: dict[str, Any] = {}
    labels = _labels(metadata.get("labels") or {}, _names(annotations, LABELS), want.labels)
    if labels:
        changes["metadata"] = {"labels": labels}
    before = node.get("spec", {}).get("taints") or []
    taints = _taints(before, _names(annotations, TAINTS), want.taints)
    if taints != before:
        changes["spec"] = {"taints": taints}
    if want.provider_id and not node.get("spec", {}).get("providerID"):
        changes.setdefault("spec", {})["providerID"] = want.provider_id
    notes = {
        MACHINE: want.machine,
        CLUSTER: want.cluster,
        LABELS: ",".join(sorted(want.labels)) or None,
        TAINTS: ",".join(sorted(f"{t.key}:{t.effect}" for t in want.taints)) or None,
    }
    changed = {name: value for name, value in notes.items() if annotations.get(name) != value}
    if changed:
        changes.setdefault("metadata", {})["annotations"] = changed
    if not changes:
        return None
    if "resourceVersion" in metadata:
        changes.setdefault("metadata", {})["resourceVersion"] = metadata["resourceVersion"]
    return changes


def _labels(there: Mapping[str, str], ours: set[str], want: Mapping[str, str]) -> dict[str, str | None]:
    changes: dict[str, str | None] = {name: None for name in ours if name in there and name not in want}
    changes.update({name: value for name, value in want.items() if there.get(name) != value})
    return changes


def _taints(there: Sequence[Mapping[str, Any]], ours: set[str], want: Sequence[Taint]) -> list[Mapping[str, Any]]:
    """The whole list, as it is to be: a merge patch knows no parts of lists. Others' taints stay as they are, times included."""
    wanted = {f"{t.key}:{t.effect}": t for t in want}
    kept: list[Mapping[str, Any]] = []
    for taint in there:
        name = f"{taint['key']}:{taint['effect']}"
        if name in wanted and (taint.get("value") or "") == wanted[name].value:
            kept.append(taint)
            del wanted[name]
        elif name not in wanted and name not in ours:
            kept.append(taint)
    added = [{"key": t.key, **({"value": t.value} if t.value else {}), "effect": t.effect} for t in wanted.values()]
    return [*kept, *added]


def _names(annotations: Mapping[str, str], name: str) -> set[str]:
    return set(filter(None, annotations.get(name, "").split(",")))
