"""The client that calls the verbs directly: how the embedded controllers talk to the API.

The same protocol as over HTTP (`client.py`, `kubernetes.py`), so that controllers cannot tell. Models come without
managedFields: nothing in a controller reads them, they are half of an object's size, and a write without them keeps them.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

from .client import Event
from .kinds import kind_of
from .objects import Resource
from .statuses import BadRequest, NotFound
from .store import Change
from .verbs import Actor, DeleteOptions, Options, Verbs

R = TypeVar("R", bound=Resource)

CORE = Actor("system:kubeup", ("system:masters",), audited=False)
MANAGER = "kubeup"
"""The field manager of what the core itself writes."""

_WRITE = Options(field_manager=MANAGER, field_validation="Ignore")
_STATUS = Options(field_manager=MANAGER, field_validation="Ignore", subresource="status")


class InProcess:
    """inline: watches deliver on the thread that commits, before the write returns; for tests that step everything."""

    def __init__(self, verbs: Verbs, actor: Actor = CORE, *, inline: bool = False) -> None:
        self._verbs = verbs
        self._actor = actor
        self._inline = inline

    def get(self, kind: type[R], name: str, namespace: str = "") -> R:
        return _decode(kind, self._verbs.get(kind_of(kind), namespace, name))

    def find(self, kind: type[R], name: str, namespace: str = "") -> R | None:
        try:
            return self.get(kind, name, namespace)
        except NotFound:
            return None

    def list(self, kind: type[R], namespace: str | None = None, *, labels: str = "", fields: str = "") -> tuple[list[R], str]:
        page = self._verbs.list(kind_of(kind), namespace, labels=labels, fields=fields)
        return [_decode(kind, item) for item in page.items], str(page.rv)

    def create(self, obj: R) -> R:
        answer = self._verbs.create(kind_of(type(obj)), obj.namespace, obj.to_dict(), self._actor, _WRITE)
        return _decode(type(obj), answer.data)

    def update(self, obj: R) -> R:
        return self._update(obj, _WRITE)

    def update_status(self, obj: R) -> R:
        return self._update(obj, _STATUS)

    def delete(
        self,
        kind: type[R],
        name: str,
        namespace: str = "",
        *,
        uid: str | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] = "Background",
    ) -> None:
        self._verbs.delete(kind_of(kind), namespace, name, self._actor, DeleteOptions(propagation, uid))

    def watch(self, kind: type[R], since: str, deliver: Callable[[Event[R]], None]) -> Callable[[], None]:
        """Raises Expired when the log does not reach back to `since`; list again then."""
        since = since or "0"
        if not since.isdigit():
            raise BadRequest(f'invalid resource version: "{since}"')
        if self._inline:
            return self._verbs.watch(kind_of(kind), None, int(since), lambda changes: _deliver(kind, changes, deliver))
        return self._from_thread(kind, int(since), deliver)

    def _update(self, obj: R, options: Options) -> R:
        answer = self._verbs.update(kind_of(type(obj)), obj.namespace, obj.name, obj.to_dict(), self._actor, options)
        return _decode(type(obj), answer.data)

    def _from_thread(self, kind: type[R], since: int, deliver: Callable[[Event[R]], None]) -> Callable[[], None]:
        """Decoding is done on a thread of the watch: the store's writer thread must not wait for it."""
        arrived: queue.SimpleQueue[Sequence[Change] | None] = queue.SimpleQueue()
        stop = self._verbs.watch(kind_of(kind), None, since, arrived.put)

        def run() -> None:
            while (changes := arrived.get()) is not None:
                _deliver(kind, changes, deliver)

        threading.Thread(target=run, name=f"watch-{kind_of(kind).plural}", daemon=True).start()

        def end() -> None:
            stop()
            arrived.put(None)

        return end


def _deliver(kind: type[R], changes: Sequence[Change], deliver: Callable[[Event[R]], None]) -> None:
    """A receiver that has the object already, because it wrote it, says so by `known`: most changes are its own."""
    known = getattr(deliver, "known", None)
    for change in changes:
        event = known(kind, change.namespace, change.name, change.rv) if known and change.type != "DELETED" else None
        if event is None:
            old = None if change.prev is None else _decode(kind, change.prev)
            event = Event(change.type, _decode(kind, change.data), old)  # type: ignore[arg-type]
        deliver(event)


def _decode(kind: type[R], data: bytes) -> R:
    obj = kind.from_bytes(data)
    obj.metadata.managed_fields = None
    return obj
