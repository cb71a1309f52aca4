"""Watches: changes as one JSON document a line, for as long as the client wants them.

The store's writer thread puts changes into a bounded queue per watch and goes on; a client that reads too slowly loses its queue,
is told 410 and lists again, so it can neither hold the writer nor fill the memory. A plain watch sends the stored bytes, framed
once for all who watch.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from ..runtime.clock import Clock
from ..statuses import BadRequest, Cause, Expired, Invalid, StatusError
from ..store import Change, Store
from ..verbs import Verbs
from .events import Served
from .http import Request, Send, positive_int
from .negotiation import Wanted
from .shapes import table_of, to_yaml
from .tables import partial
from .threads import Threads

BOOKMARK_SECONDS = 60.0
DEFAULT_SECONDS = 3600.0
MAX_WAITING = 10_000
MAX_WAITING_BYTES = 64 * 2**20
"""Changes that may wait for one slow client; then it must list again."""

_KEPT_FRAMES = 2_000
_INITIAL_END = "k8s.io/initial-events-end"


@dataclass(frozen=True)
class Ask:
    """What a client wants to watch. since None: everything there is, first."""

    served: Served
    namespace: str | None
    labels: str
    fields: str
    since: int | None
    resource_version: str
    seconds: float
    bookmarks: bool
    initial: bool
    include: str


def ask(request: Request, served: Served, namespace: str | None, name: str) -> Ask:
    """From the query. Raises BadRequest, Invalid."""
    query = request.query
    rv = query.get("resourceVersion", "")
    if rv and not (rv.isascii() and rv.isdigit() and len(rv) <= 18):
        raise BadRequest(f'invalid resource version: "{rv[:40]}"')
    initial = request.flag("sendInitialEvents")
    if initial:
        _check_initial(request)
    fields = query.get("fieldSelector", "")
    if name:
        fields = f"metadata.name={name},{fields}".rstrip(",")
    seconds = float(positive_int(query, "timeoutSeconds"))
    return Ask(
        served,
        namespace,
        query.get("labelSelector", ""),
        fields,
        None if initial or rv in ("", "0") else int(rv),
        rv if initial else "",
        seconds or DEFAULT_SECONDS,
        request.flag("allowWatchBookmarks"),
        initial,
        query.get("includeObject", "Metadata"),
    )


def _check_initial(request: Request) -> None:
    """The rules of kube-apiserver for a list that comes as a watch."""
    match = request.query.get("resourceVersionMatch", "")
    if match != "NotOlderThan":
        why = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        cause = Cause("FieldValueForbidden", why, "resourceVersionMatch")
    elif not request.flag("allowWatchBookmarks"):
        why = "Forbidden: sendInitialEvents requires allowWatchBookmarks: its end is a bookmark"
        cause = Cause("FieldValueForbidden", why, "allowWatchBookmarks")
    else:
        return
    text = f'ListOptions.meta.k8s.io "" is invalid: {cause.field}: {cause.message}'
    raise Invalid(text, group="meta.k8s.io", kind="ListOptions", causes=[cause])


class Watches:
    """All watches that run, so that they can be ended."""

    def __init__(self, verbs: Verbs, store: Store, clock: Clock, threads: Threads) -> None:
        self._verbs = verbs
        self._store = store
        self._clock = clock
        self._threads = threads
        self._running: set[_Queue] = set()
        self._frames: dict[tuple[int, str], bytes] = {}
        self._closing = False

    def __len__(self) -> int:
        return len(self._running)

    def close(self) -> None:
        """End all, and whatever begins later. Called on the loop's thread."""
        self._closing = True
        for waiting in list(self._running):
            waiting.wake()

    async def stream(self, request: Request, send: Send, asked: Ask, wanted: Wanted) -> None:
        """Runs until the time is over, the client goes, or the server stops. Raises BadRequest, Timeout before it starts."""
        loop = asyncio.get_running_loop()
        waiting = _Queue(loop)
        writer = _Writer(asked, wanted, self._clock, self._frames)
        first: list[bytes] = []
        stop: Callable[[], None] | None = None
        try:
            first, since, stop = await self._threads.run(lambda: self._begin(asked, writer, waiting))
        except Expired as error:
            first, since = [writer.error(error)], 0
        self._running.add(waiting)
        gone = asyncio.ensure_future(_disconnected(request, waiting))
        try:
            media = b"application/yaml" if wanted.yaml else b"application/json"
            headers = [(b"content-type", media), (b"cache-control", b"no-cache, private")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            # An empty first part sends the headers, for which clients wait before they count a watch as begun.
            await _send(send, b"".join(first))
            if stop is not None:
                await self._follow(send, asked, waiting, writer, since)
            if not waiting.gone:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._running.discard(waiting)
            gone.cancel()
            if stop is not None:
                stop()

    def _begin(self, asked: Ask, writer: _Writer, waiting: _Queue) -> tuple[list[bytes], int, Callable[[], None]]:
        first: list[bytes] = []
        kind, since = asked.served.stored, asked.since
        if since is None:
            match = "NotOlderThan" if asked.resource_version else ""
            page = self._verbs.list(
                kind, asked.namespace, labels=asked.labels, fields=asked.fields,
                resource_version=asked.resource_version, match=match,
            )  # fmt: skip
            since = page.rv
            first = [writer.frame("ADDED", item) for item in page.items]
            if asked.initial:
                first.append(writer.bookmark(since, {_INITIAL_END: "true"}))
        if since == 0:
            # Nothing was ever written; for `verbs`, 0 means everything there is, which is nothing as well.
            unwatch = self._verbs.watch(kind, asked.namespace, None, waiting.put, labels=asked.labels, fields=asked.fields)
        else:
            unwatch = self._verbs.watch(kind, asked.namespace, since, waiting.put, labels=asked.labels, fields=asked.fields)
        # Subscribed after the watch and therefore called after it: what it has seen, the queue has.
        unsubscribe = self._store.subscribe(waiting.note)
        waiting.bounded = True

        def stop() -> None:
            unwatch()
            unsubscribe()

        return first, since, stop

    async def _follow(self, send: Send, asked: Ask, waiting: _Queue, writer: _Writer, since: int) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + asked.seconds
        bookmark = loop.time() + BOOKMARK_SECONDS
        said = since
        while not (self._closing or waiting.gone):
            now = loop.time()
            if waiting.overflown:
                said = 0
                text = "too old resource version: the watch was read too slowly; list again"
                await _send(send, writer.error(Expired(text)))
                return
            seen = waiting.seen
            changes = waiting.take()
            if changes:
                await _send(send, b"".join([writer.change(change) for change in changes]))
                continue
            if now >= end:
                break
            if now >= bookmark:
                bookmark = now + BOOKMARK_SECONDS
                if asked.bookmarks and seen > said:
                    said = seen
                    await _send(send, writer.bookmark(seen, {}))
                continue
            await waiting.wait(min(end, bookmark) - now)
        seen = waiting.seen
        if asked.bookmarks and seen > said and not (waiting.gone or waiting.overflown):
            rest = b"".join([writer.change(change) for change in waiting.take()])
            await _send(send, rest + writer.bookmark(seen, {}))


class _Queue:
    """Changes on their way from the store's writer thread to one watch."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._changes: deque[Change] = deque()
        self._bytes = 0
        self._event = asyncio.Event()
        self._awake = False
        self.bounded = False
        self.overflown = False
        self.gone = False
        self.seen = 0

    def put(self, changes: Sequence[Change]) -> None:
        """Called on the store's writer thread; must not wait and not raise."""
        if self.overflown:
            return
        self._changes.extend(changes)
        self._bytes += sum([len(change.data) for change in changes])
        if self.bounded and (len(self._changes) > MAX_WAITING or self._bytes > MAX_WAITING_BYTES):
            self.overflown = True
            self._changes.clear()
        if not self._awake:
            self._awake = True
            # The loop may be closed already, when the server stops.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._event.set)

    def note(self, changes: Sequence[Change]) -> None:
        """Everything up to here has been put."""
        self.seen = changes[-1].rv

    def take(self) -> list[Change]:
        taken: list[Change] = []
        while self._changes:
            taken.append(self._changes.popleft())
            if len(taken) == 500:
                break
        self._bytes = max(0, self._bytes - sum([len(change.data) for change in taken])) if self._changes else 0
        return taken

    def wake(self) -> None:
        self._event.set()

    async def wait(self, seconds: float) -> None:
        if self._changes or self.overflown or self.gone:
            return
        timer = self._loop.call_later(max(seconds, 0.0), self._event.set)
        try:
            await self._event.wait()
        finally:
            timer.cancel()
            self._event.clear()
            self._awake = False


class _Writer:
    """Changes as lines, in the form that one client wants."""

    def __init__(self, asked: Ask, wanted: Wanted, clock: Clock, frames: dict[tuple[int, str], bytes]) -> None:
        self._asked = asked
        self._wanted = wanted
        self._clock = clock
        self._frames = frames
        self._plain = not wanted.shape and not wanted.yaml and not asked.served.converted
        self._columns = True

    def change(self, change: Change) -> bytes:
        if not self._plain:
            return self.frame(change.type, change.data)
        # The type is part of the key: for a selector the same change may be ADDED, and for another DELETED.
        key = (change.rv, change.type)
        found = self._frames.get(key)
        if found is None or len(found) != len(change.data) + len(change.type) + _OVERHEAD:
            if len(self._frames) >= _KEPT_FRAMES:
                self._frames.clear()
            found = self._frames[key] = self.frame(change.type, change.data)
        return found

    def frame(self, kind: str, data: bytes) -> bytes:
        """One line: the event with its object."""
        shape, served = self._wanted.shape, self._asked.served
        if shape == "Table":
            data = self._table([data], orjson.loads(data)["metadata"].get("resourceVersion", ""))
        elif shape:
            data = orjson.dumps(partial(orjson.loads(data), self._wanted.version))
        elif served.converted:
            data = served.outward(data)
        return self._line(kind, data)

    def bookmark(self, rv: int, annotations: dict[str, str]) -> bytes:
        metadata: dict[str, Any] = {"resourceVersion": str(rv), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        kind = self._asked.served.kind
        obj: dict[str, Any] = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}
        if self._wanted.shape == "Table":
            return self._line("BOOKMARK", self._table([], str(rv), annotations))
        if self._wanted.shape:
            obj = partial(obj, self._wanted.version)
        return self._line("BOOKMARK", orjson.dumps(obj))

    def error(self, error: StatusError) -> bytes:
        return self._line("ERROR", orjson.dumps(error.to_status()))

    def _table(self, objects: list[bytes], rv: str, annotations: dict[str, str] | None = None) -> bytes:
        metadata: dict[str, Any] = {"resourceVersion": rv}
        if annotations:
            metadata["annotations"] = annotations
        columns, self._columns = self._columns, False
        return table_of(self._asked.served).encode(
            objects, metadata, now=self._clock.wall(), include=self._asked.include, version=self._wanted.version,
            definitions=columns,
        )  # fmt: skip

    def _line(self, kind: str, data: bytes) -> bytes:
        line = b'{"type":"' + kind.encode() + b'","object":' + data + b"}\n"
        return b"---\n" + to_yaml(line) if self._wanted.yaml else line


_OVERHEAD = len(b'{"type":"","object":}\n')


async def _send(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


async def _disconnected(request: Request, waiting: _Queue) -> None:
    """Until the client goes. A body that a client sends with a watch is read and dropped."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    waiting.gone = True
    waiting.wake()
