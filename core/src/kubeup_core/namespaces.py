"""The gate of a namespace: nothing is created in one that goes, and it goes only when it is empty.

`verbs` asks it around each create and before a Namespace is removed. Emptying a namespace is a controller's work.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import orjson

from .admission import forbidden
from .kinds import Kind
from .kinds.builtins import NAMESPACE
from .statuses import Cause, Forbidden, NotFound
from .store import Store
from .writes import conflict


class NamespaceGate:
    """Creates are counted while they run, so that a namespace is never found empty while something that has passed the check
    is still on its way to the store."""

    def __init__(self, store: Store, kinds: Sequence[Kind]) -> None:
        self._store = store
        self._inside = [kind for kind in kinds if kind.namespaced]
        self._lock = threading.Lock()
        self._creating: Counter[str] = Counter()

    @contextmanager
    def creating(self, kind: Kind, namespace: str) -> Iterator[None]:
        """Around a create. Raises NotFound (no such namespace) and Forbidden (it is terminating)."""
        if not kind.namespaced:
            yield
            return
        with self._lock:
            self._creating[namespace] += 1
        try:
            self._check_active(kind, namespace)
            yield
        finally:
            with self._lock:
                self._creating[namespace] -= 1
                if not self._creating[namespace]:
                    del self._creating[namespace]

    def check_empty(self, namespace: str) -> None:
        """Before a Namespace that is marked as terminating is removed. Raises Conflict while anything is in it."""
        with self._lock:
            creating = self._creating[namespace]
        held = [kind.plural for kind in self._inside if self._store.count(kind.resource, namespace)]
        if creating or held:
            why = f"it still holds {', '.join(held) or 'something that is being created'}"
            raise conflict(NAMESPACE, namespace, why)

    def _check_active(self, kind: Kind, namespace: str) -> None:
        record = self._store.get(NAMESPACE.resource, "", namespace)
        if record is None:
            message = f'namespaces "{namespace}" not found; make it with: kubectl create namespace {namespace}'
            raise NotFound(message, name=namespace, kind="namespaces")
        if b'"Terminating"' in record.data and orjson.loads(record.data)["status"]["phase"] == "Terminating":
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            cause = Cause("NamespaceTerminating", f"namespace {namespace} is being terminated", "metadata.namespace")
            raise Forbidden(forbidden(kind, "", why).message, group=kind.group, kind=kind.plural, causes=[cause])
