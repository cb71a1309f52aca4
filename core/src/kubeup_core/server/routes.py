"""URL -> (kind, namespace, name, subresource). No rules about objects here: those are in `verbs`.

`/api/v1/...` is the core group, `/apis/GROUP/VERSION/...` the others. What is not a resource is left to discovery, the reviews
and FastAPI's own routes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .events import Served

SUBRESOURCES = ("status", "scale", "finalize")


@dataclass(frozen=True, slots=True)
class Target:
    """What a URL points at. namespace None: all of them, or a cluster-scoped kind. watch: the legacy /watch/ path."""

    served: Served
    namespace: str | None = None
    name: str = ""
    subresource: str = ""
    watch: bool = False


class Routes:
    def __init__(self, served: Sequence[Served]) -> None:
        self._served: dict[str, dict[str, Served]] = {}
        for one in served:
            kind = one.kind
            root = f"/apis/{kind.group}/{kind.version}/" if kind.group else f"/api/{kind.version}/"
            self._served.setdefault(root, {})[kind.plural] = one

    def resolve(self, path: str) -> Target | None:
        """None: there is no such resource."""
        parts = path.split("/")
        depth = 3 if parts[1] == "api" else 4
        known = self._served.get("/".join(parts[:depth]) + "/")
        rest = parts[depth:]
        if rest and not rest[-1]:
            rest.pop()
        if known is None or not rest or not all(rest):
            return None
        if watch := rest[0] == "watch":
            rest = rest[1:]
        if len(rest) >= 3 and rest[0] == "namespaces" and (found := known.get(rest[2])) and found.kind.namespaced:
            return _target(found, rest[1], rest[3:], watch)
        if not rest or (found := known.get(rest[0])) is None or (found.kind.namespaced and len(rest) > 1):
            return None
        return _target(found, None, rest[1:], watch)


def _target(served: Served, namespace: str | None, rest: list[str], watch: bool) -> Target | None:
    if len(rest) > 2:
        return None
    return Target(served, namespace, rest[0] if rest else "", rest[1] if len(rest) > 1 else "", watch)
