"""The durable store: encoded objects in one SQLite file, one writer thread with group commit, and a change log for watches.

Called by `verbs` only. Objects are opaque bytes here: they are encoded once per write, and get, list and every watcher share
those bytes. A write is acknowledged after its transaction is on disk (WAL, synchronous=FULL); many writes that arrive together
share one fsync. What an object means, and what may be written, is decided in `verbs.py`; who owns the file, in `statedir.py`.
"""

from __future__ import annotations

import os
import queue
import secrets
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import migrations

RV_SLOT = f"@rv-{secrets.token_hex(12)}@".encode()
"""Where the writer puts the resourceVersion: the encoder writes it once, before any text of a user's. Unguessable, per process."""


class StoreError(Exception):
    """Base of all; the message says what, where, and what to do."""


class Exists(StoreError):
    """The object is there already."""


class Stale(StoreError):
    """The object is not at the expected resourceVersion; `current` is the one it has, None when it is gone."""

    def __init__(self, message: str, current: int | None) -> None:
        super().__init__(message)
        self.current = current


class Expired(StoreError):
    """The change log does not reach back that far."""

    def __init__(self, since: int, oldest: int) -> None:
        super().__init__(f"too old resource version: {since} ({oldest})")
        self.since = since
        self.oldest = oldest


class Closed(StoreError):
    """The store was closed, or its file can no longer be written."""


@dataclass(frozen=True, slots=True)
class Record:
    """One stored object. resource: "plural.group" ("machines.kubeup.dev", "secrets"); namespace "" for cluster-scoped."""

    resource: str
    namespace: str
    name: str
    uid: str
    rv: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the log. DELETED: data is the last object, with the deletion's resourceVersion. prev: the state before."""

    rv: int
    type: str
    resource: str
    namespace: str
    name: str
    data: bytes
    prev: bytes | None


@dataclass(frozen=True, slots=True)
class Put:
    """Write. expect None: it must not exist; a number: it must be at that resourceVersion. data holds RV_SLOT once."""

    resource: str
    namespace: str
    name: str
    uid: str
    data: bytes
    expect: int | None


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete what is at that resourceVersion. data: the last object, with RV_SLOT."""

    resource: str
    namespace: str
    name: str
    expect: int
    data: bytes


Op = Put | Remove
Subscriber = Callable[[Sequence[Change]], None]

_RECORD = "resource, namespace, name, uid, rv, data"
_CHANGE = "rv, type, resource, namespace, name, data, prev"


@dataclass(frozen=True, slots=True)
class _Job:
    ops: tuple[Op, ...]
    done: Future[list[Record]]


Records = list[Record]
Changes = list[Change]
Jobs = list[_Job]
_Done = list[tuple[_Job, Records]]
_Failed = list[tuple[_Job, Exception]]


class Store:
    """Thread-safe. Reads run on a connection of the calling thread and are never blocked by the writer."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        batch_limit: int = 256,
        keep_seconds: float = 600.0,
        compact_every: int = 5_000,
    ) -> None:
        self.path = path
        self._clock = clock
        self._batch_limit = batch_limit
        self._keep = keep_seconds
        self._compact_every = compact_every
        self._uncompacted = 0
        self._jobs: queue.SimpleQueue[_Job | Callable[[], None] | None] = queue.SimpleQueue()
        self._subscribers: list[Subscriber] = []
        self._lock = threading.Lock()
        self._readers: dict[threading.Thread, sqlite3.Connection] = {}
        self._closed = False
        existed = path.exists()
        migrations.prepare(path)
        self._writer = connect(path)
        self.installation = self._meta("installation") or self._set_meta("installation", uuid.uuid4().hex)
        self.restored = self._begin_epoch(existed)
        self._rv = int(self._meta("rv") or 0)
        self._thread = threading.Thread(target=self._write_loop, name="store-writer", daemon=True)
        self._thread.start()

    # -- reads -----------------------------------------------------------------------------------------------------------

    def rv(self) -> int:
        """The newest committed resourceVersion."""
        return self._rv

    def get(self, resource: str, namespace: str, name: str) -> Record | None:
        sql = f"SELECT {_RECORD} FROM objects WHERE resource=? AND namespace=? AND name=?"
        row = self._reader().execute(sql, (resource, namespace, name)).fetchone()
        return Record(*row) if row else None

    def list(
        self,
        resource: str,
        namespace: str | None = None,
        *,
        at: int | None = None,
        limit: int = 0,
        after: tuple[str, str] | None = None,
    ) -> tuple[Records, int]:
        """Ordered by (namespace, name), one consistent state and its resourceVersion. `at`: the state at that version."""
        reader = self._reader()
        with _snapshot(reader):
            rv = reader.execute("SELECT value FROM meta WHERE key='rv'").fetchone()
            now = int(rv[0]) if rv else 0
            if at is not None and at < now:
                return self._list_at(reader, resource, namespace, at, limit, after), at
            where, values = _where(resource, namespace, after)
            sql = f"SELECT {_RECORD} FROM objects WHERE {where} ORDER BY namespace, name"
            rows = reader.execute(sql + (f" LIMIT {int(limit)}" if limit > 0 else ""), values).fetchall()
            return [Record(*row) for row in rows], now

    def count(self, resource: str, namespace: str | None = None) -> int:
        where, values = _where(resource, namespace, None)
        found: int = self._reader().execute(f"SELECT count(*) FROM objects WHERE {where}", values).fetchone()[0]
        return found

    def changes(self, resource: str | None, since: int, namespace: str | None = None) -> Changes:
        """The log after `since`. Raises Expired when it was compacted beyond that."""
        reader = self._reader()
        with _snapshot(reader):
            self._check_kept(reader, since)
            sql, values = f"SELECT {_CHANGE} FROM changes WHERE rv > ?", [since]
            if resource is not None:
                sql, values = f"{sql} AND resource = ?", [*values, resource]  # type: ignore[list-item]
            if namespace is not None:
                sql, values = f"{sql} AND namespace = ?", [*values, namespace]  # type: ignore[list-item]
            return [Change(*row) for row in reader.execute(f"{sql} ORDER BY rv", values)]

    def _list_at(
        self,
        reader: sqlite3.Connection,
        resource: str,
        namespace: str | None,
        at: int,
        limit: int,
        after: tuple[str, str] | None,
    ) -> Records:
        """The state at `at`: what has not changed since, and for the rest what stood before its first change after `at`."""
        self._check_kept(reader, at)
        where, values = _where(resource, namespace, after)
        rows = reader.execute(f"SELECT {_RECORD} FROM objects WHERE {where} AND rv <= ?", [*values, at])
        records = {(row[1], row[2]): Record(*row) for row in rows}
        seen: set[tuple[str, str]] = set()
        sql = f"SELECT namespace, name, prev FROM changes WHERE {where} AND rv > ? ORDER BY rv"
        for space, name, prev in reader.execute(sql, [*values, at]):
            if (space, name) not in seen:
                seen.add((space, name))
                if prev is not None:
                    records[space, name] = Record(resource, space, name, "", at, prev)
        ordered = [records[key] for key in sorted(records)]
        return ordered[:limit] if limit > 0 else ordered

    @staticmethod
    def _check_kept(reader: sqlite3.Connection, since: int) -> None:
        row = reader.execute("SELECT value FROM meta WHERE key='compacted'").fetchone()
        oldest = int(row[0]) if row else 0
        if since < oldest:
            raise Expired(since, oldest)

    # -- writes ----------------------------------------------------------------------------------------------------------

    def commit(self, ops: Sequence[Op]) -> Future[Records]:
        """All or nothing; each op gets its own resourceVersion. Resolves when it is on disk, with the records as stored
        (for Remove: as last seen). Fails with Exists, Stale, or Closed."""
        job = _Job(tuple(ops), Future())
        with self._lock:
            if self._closed:
                raise Closed(f"{self.path} is closed")
            self._jobs.put(job)
        return job.done

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Called on the writer thread after each commit, in order; must be quick and must not raise. Returns unsubscribe."""
        with self._lock:
            self._subscribers = [*self._subscribers, callback]

        def unsubscribe() -> None:
            with self._lock:
                self._subscribers = [s for s in self._subscribers if s is not callback]

        return unsubscribe

    def watch(self, resource: str | None, since: int, deliver: Subscriber) -> Callable[[], None]:
        """Everything after `since`, each change once and in order: first from the log, then live. Raises Expired.

        `deliver` is called on this thread for the log and on the writer thread afterwards, never at the same time.
        """
        handoff = _Handoff(resource, deliver)
        unsubscribe = self.subscribe(handoff.live)
        try:
            handoff.start(self.changes(resource, since), since)
        except BaseException:
            unsubscribe()
            raise
        return unsubscribe

    def compact(self) -> None:
        """Drop log entries older than the time they are kept. Also happens by itself every so many writes."""
        self._on_writer(self._compact)

    def backup(self, file: Path) -> None:
        """An online, verified copy; see `backup`."""
        backup(self.path, file)

    def acknowledge_restore(self) -> None:
        """A person has seen that this is a restored copy."""
        self._on_writer(lambda: self._set_meta("restored", ""))
        self.restored = False

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
        self._thread.join()
        with suppress(sqlite3.Error):
            self._advance_epoch()
        self._writer.close()
        for connection in self._readers.values():
            connection.close()
        self._readers.clear()

    # -- the writer thread -----------------------------------------------------------------------------------------------

    def _write_loop(self) -> None:
        while True:
            first = self._jobs.get()
            if first is None:
                return
            if callable(first):
                first()
                continue
            batch, after = self._gather(first)
            self._commit_batch(batch)
            self._uncompacted += len(batch)
            if self._uncompacted >= self._compact_every:
                self._uncompacted = 0
                self._compact()
            if after is None:
                continue
            if after is _END:
                return
            assert callable(after)
            after()

    def _gather(self, first: _Job) -> tuple[Jobs, Any]:
        """What has arrived meanwhile shares the transaction. Second: what is no job and comes after them."""
        batch = [first]
        while len(batch) < self._batch_limit:
            try:
                item = self._jobs.get_nowait()
            except queue.Empty:
                break
            if item is None:
                return batch, _END
            if callable(item):
                return batch, item
            batch.append(item)
        return batch, None

    def _commit_batch(self, batch: Jobs) -> None:
        rv = self._rv
        changes: Changes = []
        done: _Done = []
        failed: _Failed = []
        now = self._clock()
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            for job in batch:
                try:
                    current = [self._check(op) for op in job.ops]
                except StoreError as error:
                    failed.append((job, error))
                    continue
                records = []
                for op, before in zip(job.ops, current, strict=True):
                    rv += 1
                    record, change = self._effect(op, before, rv, now)
                    records.append(record)
                    changes.append(change)
                done.append((job, records))
            self._writer.execute("INSERT OR REPLACE INTO meta VALUES ('rv', ?)", (str(rv),))
            self._writer.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            with suppress(sqlite3.Error):
                self._writer.execute("ROLLBACK")
            broken = StoreError(f"{self.path} cannot be written: {error}; nothing of this was stored. Is the disk full?")
            for job in batch:
                job.done.set_exception(broken)
            return
        self._rv = rv
        for job, problem in failed:
            job.done.set_exception(problem)
        if changes:
            for subscriber in self._subscribers:
                subscriber(changes)
        for job, records in done:
            job.done.set_result(records)

    def _check(self, op: Op) -> tuple[int, bytes] | None:
        """(resourceVersion, data) as it stands, or None. Raises Exists, Stale."""
        sql = "SELECT rv, data FROM objects WHERE resource=? AND namespace=? AND name=?"
        row: tuple[int, bytes] | None = self._writer.execute(sql, (op.resource, op.namespace, op.name)).fetchone()
        if op.expect is None:
            if row is not None:
                raise Exists(f'{op.resource} "{op.name}" already exists')
        elif row is None or row[0] != op.expect:
            raise Stale(f'{op.resource} "{op.name}" is not at {op.expect}', row[0] if row else None)
        return row

    def _effect(self, op: Op, before: tuple[int, bytes] | None, rv: int, now: float) -> tuple[Record, Change]:
        data = op.data.replace(RV_SLOT, str(rv).encode(), 1)
        key = (op.resource, op.namespace, op.name)
        if isinstance(op, Put):
            uid, kind = op.uid, "ADDED" if before is None else "MODIFIED"
            self._writer.execute("INSERT OR REPLACE INTO objects VALUES (?,?,?,?,?,?)", (*key, uid, rv, data))
        else:
            uid, kind = "", "DELETED"
            self._writer.execute("DELETE FROM objects WHERE resource=? AND namespace=? AND name=?", key)
        prev = before[1] if before else None
        self._writer.execute("INSERT INTO changes VALUES (?,?,?,?,?,?,?,?)", (rv, now, kind, *key, data, prev))
        return Record(*key, uid, rv, data), Change(rv, kind, *key, data, prev)

    def _compact(self) -> None:
        row = self._writer.execute("SELECT max(rv) FROM changes WHERE at < ?", (self._clock() - self._keep,)).fetchone()
        if row[0] is None:
            return
        self._writer.execute("BEGIN IMMEDIATE")
        self._writer.execute("DELETE FROM changes WHERE rv <= ?", (row[0],))
        self._writer.execute("INSERT OR REPLACE INTO meta VALUES ('compacted', ?)", (str(row[0]),))
        self._writer.execute("COMMIT")

    def _on_writer(self, work: Callable[[], object]) -> None:
        done: Future[None] = Future()

        def run() -> None:
            try:
                work()
                done.set_result(None)
            except BaseException as error:
                done.set_exception(error)

        with self._lock:
            if self._closed:
                raise Closed(f"{self.path} is closed")
            self._jobs.put(run)
        done.result()

    # -- epoch: whether this file is the one that ran last ---------------------------------------------------------------

    def _begin_epoch(self, existed: bool) -> bool:
        file = self.path.with_name("epoch")
        said = file.read_text().strip() if file.exists() else ""
        known = {self._meta("epoch"), self._meta("previous_epoch")} - {None}
        if existed and (self._meta("backup") or (known and said not in known)):
            self._set_meta("restored", "yes")
            self._set_meta("backup", "")
        self._advance_epoch()
        return bool(self._meta("restored"))

    def _advance_epoch(self) -> None:
        """First the database, which remembers the one before, then the file: a crash between the two is no restore."""
        epoch = secrets.token_hex(8)
        self._set_meta("previous_epoch", self._meta("epoch") or "")
        self._set_meta("epoch", epoch)
        file = self.path.with_name("epoch")
        new = file.with_name("epoch.new")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(fd, epoch.encode())
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(new, file)

    def _meta(self, key: str) -> str | None:
        row = self._writer.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        return str(row[0]) if row else None

    def _set_meta(self, key: str, value: str) -> str:
        self._writer.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
        return value

    def _reader(self) -> sqlite3.Connection:
        """This thread's own connection; those of threads that have ended are closed on the way."""
        thread = threading.current_thread()
        found = self._readers.get(thread)
        if found is not None:
            return found
        with self._lock:
            if self._closed:
                raise Closed(f"{self.path} is closed")
            for ended in [t for t in self._readers if not t.is_alive()]:
                self._readers.pop(ended).close()
            self._readers[thread] = connection = connect(self.path)
        return connection


_END = object()


class _Handoff:
    """From the log to live changes without a gap or a double."""

    def __init__(self, resource: str | None, deliver: Subscriber) -> None:
        self._resource = resource
        self._deliver = deliver
        self._lock = threading.Lock()
        self._held: list[Change] | None = []
        self._last = 0

    def live(self, changes: Sequence[Change]) -> None:
        ours = [c for c in changes if self._resource in (None, c.resource)]
        if not ours:
            return
        with self._lock:
            if self._held is not None:
                self._held.extend(ours)
            else:
                self._pass_on(ours)

    def start(self, log: list[Change], since: int) -> None:
        with self._lock:
            self._last = since
            held, self._held = self._held or [], None
            self._pass_on(log)
            self._pass_on(held)

    def _pass_on(self, changes: list[Change]) -> None:
        new = [c for c in changes if c.rv > self._last]
        if new:
            self._last = new[-1].rv
            self._deliver(new)


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode, usable from another thread for closing."""
    old = os.umask(0o077)
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    finally:
        os.umask(old)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def backup(database: Path, file: Path) -> None:
    """Copy a database that may be in use to a new file, verify it, and mark the copy: opened as a store, it is a restored one.

    Raises StoreError when the file exists already or the copy does not verify; then nothing is left behind.
    """
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise StoreError(f"{file} exists; choose another name, a backup never overwrites") from None
    except OSError as error:
        raise StoreError(f"{file} cannot be written: {error.strerror}") from error
    try:
        with closing(connect(database)) as source, closing(sqlite3.connect(file, isolation_level=None)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
            copy.execute("INSERT OR REPLACE INTO meta VALUES ('backup', 'yes')")
            verdict = copy.execute("PRAGMA integrity_check").fetchone()[0]
            if verdict != "ok":
                raise StoreError(f"the copy of {database} does not verify: {verdict}")
    except (sqlite3.Error, StoreError) as error:
        file.unlink(missing_ok=True)
        raise error if isinstance(error, StoreError) else StoreError(f"{database} cannot be copied: {error}") from error


class _snapshot:  # noqa: N801
    """One read transaction: several SELECTs see one state."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN")

    def __exit__(self, *_: object) -> None:
        self._connection.execute("COMMIT")


def _where(resource: str, namespace: str | None, after: tuple[str, str] | None) -> tuple[str, list[Any]]:
    where, values = "resource = ?", [resource]
    if namespace is not None:
        where, values = f"{where} AND namespace = ?", [*values, namespace]
    if after is not None:
        where, values = f"{where} AND (namespace, name) > (?, ?)", [*values, *after]
    return where, values
