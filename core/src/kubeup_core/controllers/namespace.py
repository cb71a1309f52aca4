"""Namespace termination: `kubectl delete ns` takes everything in it, in whatever order things are found, and ends when all is gone.

The verbs mark the namespace Terminating and refuse to create in it; this controller deletes the contents and, when a listing of the
store itself is empty, takes the finalizer `kubernetes` off, which lets the namespace go. The order of teardown is not decided
here: each kind's own finalizer makes it wait for what has to go first. Only what teardown itself needs goes last: the Secrets
that Providers log in with, and the Launches that say which machines were asked for.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from ..client import Event
from ..kinds import KINDS, Launch, Namespace
from ..kinds.kind import Kind
from ..objects import timestamp
from ..runtime.controller import Controller, Key, Result, Watch
from ..statuses import Conflict, Forbidden, NotFound

FINALIZER = "kubernetes"
AGAIN = 60.0
"""Seconds until a deletion that was refused (spec.protect) is tried again."""

CONTENTS: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind.namespaced)
LAST: tuple[Kind, ...] = tuple(kind for kind in CONTENTS if kind.builtin or kind.model is Launch)
FIRST: tuple[Kind, ...] = tuple(kind for kind in CONTENTS if kind not in LAST)


def keys_of(event: Event[Any]) -> tuple[Key, ...]:
    """A namespace is looked at again when something in it goes."""
    return (Key("", event.object.namespace),) if event.type == "DELETED" else ()


class NamespaceController(Controller):
    name = "namespace"
    kind = Namespace
    watches = tuple(Watch(kind.model, keys_of) for kind in CONTENTS if kind.kind != "Event")

    def reconcile(self, key: Key) -> Result:
        namespace = self.env.cache.get(Namespace, key.name)
        if namespace is None or not namespace.deleting:
            return Result()
        left, refused = self._delete(FIRST, key.name)
        if not left:
            left, refused = self._delete(LAST, key.name)
        if left:
            self._tell(namespace, left, refused)
            return Result(after=AGAIN if refused else None)
        if FINALIZER in namespace.spec.finalizers:
            changed = namespace.model_copy(deep=True)
            changed.spec.finalizers = [f for f in changed.spec.finalizers if f != FINALIZER]
            self.env.client.update(changed)
        return Result()

    def _delete(self, kinds: tuple[Kind, ...], namespace: str) -> tuple[Counter[str], list[str]]:
        """What is left of these kinds, by kind and by finalizer, and what the API refused to delete. Read from the store."""
        left: Counter[str] = Counter()
        refused: list[str] = []
        for kind in kinds:
            for item in self.env.client.list(kind.model, namespace)[0]:
                if item.deleting:
                    left[kind.resource] += 1
                    continue
                try:
                    self.env.client.delete(kind.model, item.name, namespace, uid=item.uid)
                except (NotFound, Conflict):
                    continue
                except Forbidden as error:
                    refused.append(error.message)
                    left[kind.resource] += 1
                    continue
                if self.env.client.find(kind.model, item.name, namespace) is not None:
                    left[kind.resource] += 1
        return left, refused

    def _tell(self, namespace: Namespace, left: Counter[str], refused: list[str]) -> None:
        """The conditions that kubectl describe shows, in Kubernetes' words where it has some."""
        counts = ", ".join(f"{resource} has {count} left" for resource, count in sorted(left.items()))
        remaining = (
            f"Some resources are remaining: {counts}; `kubectl get <resource> -n {namespace.name}` says what each waits for"
        )
        wanted = {
            "NamespaceContentRemaining": ("True", "SomeResourcesRemain", remaining),
            "NamespaceDeletionContentFailure": (
                ("True", "ContentDeletionFailed", "; ".join(sorted(refused)))
                if refused
                else ("False", "ContentDeleted", "All content is being deleted")
            ),
        }
        old = {c.get("type"): c for c in namespace.status.conditions or []}
        if all(_same(old.get(type_), *value) for type_, value in wanted.items()):
            return
        now = timestamp(self.env.clock.wall())
        changed = namespace.model_copy(deep=True)
        changed.status.phase = "Terminating"
        changed.status.conditions = [
            {
                "type": type_,
                "status": status,
                "reason": reason,
                "message": message,
                "lastTransitionTime": old[type_]["lastTransitionTime"] if old.get(type_, {}).get("status") == status else now,
            }
            for type_, (status, reason, message) in wanted.items()
        ]
        self.env.client.update_status(changed)


def _same(condition: dict[str, Any] | None, status: str, reason: str, message: str) -> bool:
    return condition is not None and (condition["status"], condition["reason"], condition["message"]) == (
        status,
        reason,
        message,
    )
