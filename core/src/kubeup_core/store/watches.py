"""Who is told of changes: subscribers by resource, and the handoff from the log to live changes without a gap or a double.

The writer thread calls `Dispatcher.publish` after each commit. Threads use `Store.watch`; an event loop with many watchers uses
one `LoopWatches`, which is woken once per burst of commits however many watch. Selectors, bookmarks and encoding are the
server's.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from .records import Change, Subscriber

log = logging.getLogger("kubeup.store")


class Dispatcher:
    """Subscribers by resource (None: all). Those of one resource share one sequence per commit. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_resource: dict[str | None, tuple[Subscriber, ...]] = {}

    def subscribe(self, resource: str | None, callback: Subscriber) -> Callable[[], None]:
        entry: Subscriber = lambda changes: callback(changes)  # noqa: E731  its own identity, so that each is ended once
        with self._lock:
            self._by_resource[resource] = (*self._by_resource.get(resource, ()), entry)

        def unsubscribe() -> None:
            with self._lock:
                left = tuple(s for s in self._by_resource.get(resource, ()) if s is not entry)
                if left:
                    self._by_resource[resource] = left
                else:
                    self._by_resource.pop(resource, None)

        return unsubscribe

    def publish(self, changes: Sequence[Change]) -> None:
        self._tell(None, changes)
        groups: dict[str, list[Change]] = {}
        for change in changes:
            groups.setdefault(change.resource, []).append(change)
        for resource, group in groups.items():
            self._tell(resource, group)

    def _tell(self, resource: str | None, changes: Sequence[Change]) -> None:
        for subscriber in self._by_resource.get(resource, ()):
            try:
                subscriber(changes)
            except Exception:
                # One watcher's fault must not stop the writer, nor the others.
                log.exception("a subscriber of %s failed", resource or "all resources")


class Handoff:
    """Live changes are held until the log has been delivered. `deliver` is never called by two threads at a time."""

    def __init__(self, deliver: Subscriber) -> None:
        self._deliver = deliver
        self._lock = threading.Lock()
        self._held: list[Change] | None = []
        self._last = 0
        self._ended = False

    def live(self, changes: Sequence[Change]) -> None:
        with self._lock:
            if self._held is not None:
                self._held.extend(changes)
                return
        self._pass_on(changes)

    def start(self, logged: Sequence[Change], since: int) -> None:
        """Deliver the log and what was held meanwhile, without making the writer wait; then let live changes through."""
        self._last = since
        self._pass_on(logged)
        while True:
            with self._lock:
                held, self._held = self._held, []
                if not held:
                    self._held = None
                    return
            self._pass_on(held)

    def end(self) -> None:
        self._ended = True

    def _pass_on(self, changes: Sequence[Change]) -> None:
        if changes and changes[0].rv <= self._last:
            changes = [c for c in changes if c.rv > self._last]
        if changes and not self._ended:
            self._last = changes[-1].rv
            self._deliver(changes)


class Source(Protocol):
    """What a store offers to watchers."""

    def changes(self, resource: str | None, since: int, namespace: str | None = None) -> list[Change]: ...

    def subscribe(self, callback: Subscriber, resource: str | None = None) -> Callable[[], None]: ...


class LoopWatches:
    """The watches of one event loop. Made, used and closed on that loop; `deliver` is called on it and must not block."""

    def __init__(self, store: Source) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._dispatcher = Dispatcher()
        self._arrived: deque[Sequence[Change]] = deque()
        self._unsubscribe = store.subscribe(self._on_commit)

    async def watch(self, resource: str | None, since: int, deliver: Subscriber) -> Callable[[], None]:
        """Everything after `since`, each change once and in order. Returns what ends it. Raises Expired."""
        handoff = Handoff(deliver)
        unsubscribe = self._dispatcher.subscribe(resource, handoff.live)
        try:
            logged = await asyncio.to_thread(self._store.changes, resource, since)
        except BaseException:
            unsubscribe()
            raise

        def end() -> None:
            handoff.end()
            unsubscribe()

        handoff.start(logged, since)
        return end

    def close(self) -> None:
        self._unsubscribe()

    def _on_commit(self, changes: Sequence[Change]) -> None:
        """On the writer thread. A wake-up that is under way takes these along."""
        self._arrived.append(changes)
        if len(self._arrived) == 1:
            try:
                self._loop.call_soon_threadsafe(self._pass_on)
            except RuntimeError:  # the loop has ended without close()
                self._unsubscribe()

    def _pass_on(self) -> None:
        # An entry is taken away after it was delivered, so that a commit meanwhile sees a wake-up under way or asks for one.
        while self._arrived:
            self._dispatcher.publish(self._arrived[0])
            self._arrived.popleft()
