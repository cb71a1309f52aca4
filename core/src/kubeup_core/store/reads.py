"""Reads: one connection per thread, never blocked by the writer, each read one consistent snapshot.

Called by `Store`, which documents the results. A former state is put together from the objects that have not changed since and
from what the change log kept of the others.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import sqlite
from .migrations import meta
from .records import Change, Closed, Expired, Record, StoreError

_RECORD = "resource, namespace, name, uid, rv, data"
_CHANGE = "rv, type, resource, namespace, name, data, prev"
_BEFORE = "resource, namespace, name, prev_uid, prev_rv, prev"


def get(db: sqlite.Connection, resource: str, namespace: str, name: str, at: int | None) -> Record | None:
    key = (resource, namespace, name)
    if at is not None and at != _newest(db):
        _check_kept(db, at)
        sql = f"SELECT {_BEFORE} FROM changes WHERE rv > ? AND resource=? AND namespace=? AND name=? ORDER BY rv LIMIT 1"
        row = db.execute(sql, (at, *key)).fetchone()
        if row:
            return None if row[-1] is None else Record(*row)
    row = db.execute(f"SELECT {_RECORD} FROM objects WHERE resource=? AND namespace=? AND name=?", key).fetchone()
    return Record(*row) if row else None


def list_objects(
    db: sqlite.Connection, resource: str, namespace: str | None, at: int | None, limit: int, after: tuple[str, str] | None
) -> tuple[list[Record], int]:
    newest = _newest(db)
    former = at is not None and at != newest
    where, values = _where(resource, namespace, after)
    sql = f"SELECT {_RECORD} FROM objects WHERE {where} {'AND rv <= ?' if former else ''} ORDER BY namespace, name"
    rows = db.execute(sql + (f" LIMIT {limit:d}" if limit > 0 else ""), [*values, at] if former else values)
    if at is None or not former:
        return [Record(*row) for row in rows], newest
    _check_kept(db, at)
    records = {(row[1], row[2]): Record(*row) for row in rows}
    seen: set[tuple[str, str]] = set()
    for row in db.execute(f"SELECT {_BEFORE} FROM changes WHERE rv > ? AND {where} ORDER BY rv", [at, *values]):
        key = (row[1], row[2])
        if key not in seen and row[-1] is not None:
            records[key] = Record(*row)
        seen.add(key)
    ordered = [records[key] for key in sorted(records)]
    return (ordered[:limit] if limit > 0 else ordered), at


def count(db: sqlite.Connection, resource: str, namespace: str | None) -> int:
    where, values = _where(resource, namespace, None)
    found: int = db.execute(f"SELECT count(*) FROM objects WHERE {where}", values).fetchone()[0]
    return found


def changes(db: sqlite.Connection, resource: str | None, since: int, namespace: str | None) -> list[Change]:
    _check_kept(db, since)
    where, values = "rv > ?", [since]  # type: tuple[str, list[Any]]
    for column, value in (("resource", resource), ("namespace", namespace)):
        if value is not None:
            where, values = f"{where} AND {column} = ?", [*values, value]
    return [Change(*row) for row in db.execute(f"SELECT {_CHANGE} FROM changes WHERE {where} ORDER BY rv", values)]


def _newest(db: sqlite.Connection) -> int:
    return int(meta(db, "rv") or 0)


def _check_kept(db: sqlite.Connection, since: int) -> None:
    """A version from the future is one of another history: this store was made anew under the same address."""
    oldest = int(meta(db, "compacted") or 0)
    if not oldest <= since <= _newest(db):
        raise Expired(since, oldest)


def _where(resource: str, namespace: str | None, after: tuple[str, str] | None) -> tuple[str, list[Any]]:
    where, values = "resource = ?", [resource]
    if namespace is not None:
        where, values = f"{where} AND namespace = ?", [*values, namespace]
    if after is not None:
        where, values = f"{where} AND (namespace, name) > (?, ?)", [*values, *after]
    return where, values


class Readers:
    """The connections. One whose thread has ended is closed when the next thread comes, the rest by `close`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._by_thread: dict[threading.Thread, _Reader] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._by_thread)

    @contextmanager
    def snapshot(self) -> Iterator[sqlite.Connection]:
        """Several SELECTs see one state. Raises Closed, StoreError. Not to be nested."""
        reader = self._by_thread.get(threading.current_thread()) or self._open()
        with reader.lock:
            if reader.closed:
                raise Closed(f"{self._path} is closed")
            try:
                with sqlite.transaction(reader.db, "BEGIN"):
                    yield reader.db
            except sqlite.Error as error:
                raise StoreError(f"{self._path} cannot be read: {error}; put a backup in its place if that lasts") from error

    def close(self) -> None:
        """Waits for the reads under way."""
        with self._lock:
            self._closed = True
            for reader in self._by_thread.values():
                reader.close()
            self._by_thread.clear()

    def _open(self) -> _Reader:
        with self._lock:
            if self._closed:
                raise Closed(f"{self._path} is closed")
            for ended in [t for t in self._by_thread if not t.is_alive()]:
                self._by_thread.pop(ended).close()
            try:
                reader = _Reader(sqlite.connect(self._path, read_only=True))
            except sqlite.Error as error:
                raise StoreError(f"{self._path} cannot be opened for reading: {error}") from error
            self._by_thread[threading.current_thread()] = reader
            return reader


class _Reader:
    """A connection, and a lock that only `close` ever contends for."""

    def __init__(self, db: sqlite.Connection) -> None:
        self.db = db
        self.lock = threading.Lock()
        self.closed = False

    def close(self) -> None:
        with self.lock:
            self.closed = True
            self.db.close()
