"""kubeup's marks as the simulated cloud's tags, and back. The index of a machine is the cloud's own number within a launch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from kubeup_core.supplier import Mark, Ref, Scope

from .cloud.records import Resource
from .cloud.views import Expect

PREFIX = "kubeup/"


def tags(mark: Mark) -> dict[str, str]:
    """What the creating request writes onto a thing."""
    return {
        f"{PREFIX}installation": mark.installation,
        f"{PREFIX}cluster": mark.cluster,
        f"{PREFIX}cluster-name": mark.cluster_name,
        f"{PREFIX}kind": mark.kind,
        f"{PREFIX}maker": mark.maker,
        f"{PREFIX}keep": "true" if mark.keep else "false",
    }


def mark_of(resource: Resource, kind: str) -> Mark:
    """kind: what it is when no tag says so (somebody may have copied only the installation's tag)."""
    found: Mapping[str, str] = resource.tags
    return Mark(
        installation=found.get(f"{PREFIX}installation", ""),
        cluster=found.get(f"{PREFIX}cluster", ""),
        cluster_name=found.get(f"{PREFIX}cluster-name", ""),
        kind=found.get(f"{PREFIX}kind", kind),
        maker=found.get(f"{PREFIX}maker", ""),
        index=resource.index,
        keep=found.get(f"{PREFIX}keep") == "true",
    )


def owner(mark: Mark) -> dict[str, str]:
    """The tags that are the ownership; those for people may change."""
    return {
        f"{PREFIX}installation": mark.installation,
        f"{PREFIX}kind": mark.kind,
        f"{PREFIX}maker": mark.maker,
    }


def expect(ref: Ref) -> Expect:
    """What must be on a thing for a request to touch it."""
    return Expect(ref.id, owner(ref.mark), ref.mark.index)


def within(scope: Scope) -> dict[str, str]:
    """The filter of a listing."""
    found = {f"{PREFIX}installation": scope.installation}
    return found if scope.cluster is None else {**found, f"{PREFIX}cluster": scope.cluster}


def full_name(name: str, mark: Mark) -> str:
    """The name at the place: that of a thing which is still going away never stands in the way of its successor."""
    return f"{name}-{hashlib.sha256(mark.maker.encode()).hexdigest()[:5]}"
