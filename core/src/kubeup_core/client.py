"""How everything talks to the API: one small protocol with two implementations.

`inprocess.py` calls the verbs directly and is the embedded default; `kubernetes.py` speaks HTTP to a remote `kubeup serve` or to
a real kube-apiserver. Controllers take a `Client` and cannot tell which. All errors are those of `statuses.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from .objects import Resource

R = TypeVar("R", bound=Resource)


@dataclass(frozen=True)
class Event(Generic[R]):
    """One change. For DELETED, `object` is the last state. `old` is the state before, where the client knows it."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: R
    old: R | None = None


class Client(Protocol):
    """Typed access to objects. `namespace` is "" for cluster-scoped kinds."""

    def get(self, kind: type[R], name: str, namespace: str = "") -> R:
        """Raises NotFound."""
        ...

    def find(self, kind: type[R], name: str, namespace: str = "") -> R | None:
        """None when it is not there."""
        ...

    def list(self, kind: type[R], namespace: str | None = None, *, labels: str = "", fields: str = "") -> tuple[list[R], str]:
        """All of a kind, in one namespace or in all, and the resourceVersion of the list."""
        ...

    def create(self, obj: R) -> R:
        """Raises AlreadyExists, Invalid, Forbidden."""
        ...

    def update(self, obj: R) -> R:
        """Write metadata and spec. Raises Conflict when `resourceVersion` is not the newest, NotFound when it is gone."""
        ...

    def update_status(self, obj: R) -> R:
        """Write the status, and nothing else. Raises as update does."""
        ...

    def delete(
        self,
        kind: type[R],
        name: str,
        namespace: str = "",
        *,
        uid: str | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] = "Background",
    ) -> None:
        """Mark for deletion, or remove when nothing holds it. Raises NotFound, Conflict (another uid), Forbidden (protected)."""
        ...

    def watch(self, kind: type[R], since: str, deliver: Callable[[Event[R]], None]) -> Callable[[], None]:
        """Deliver every change after `since`, in order, from a thread of the client's. Returns what ends the watch.

        A client that loses its place (410 Expired) lists again by itself and delivers the difference.
        """
        ...
