"""The one writer thread: many commits that arrive together share one transaction and one fsync.

Called by `Store`. A future is resolved after COMMIT has returned, never before; preconditions are checked inside the same
transaction as the write. A commit that fails by its own fault does not take its neighbours along. Also compacts the log.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from . import sqlite
from .migrations import meta, set_meta
from .records import RV_SLOT, Broken, Change, Closed, Exists, NotStored, Op, Record, Remove, Stale, StoreError

log = logging.getLogger("kubeup.store")

COMPACT_SECONDS = 60.0
COMPACT_CHANGES = 5_000
"""The log is compacted when that much time has passed, or that many changes have come, since the last time."""

_KEY = "resource=? AND namespace=? AND name=?"
_COLUMNS = "resource, namespace, name, uid, rv, data"

Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class _Job:
    ops: tuple[Op, ...]
    done: Future[list[Record]]


@dataclass(frozen=True, slots=True)
class _Before:
    """An object as it stands when a write to it is checked."""

    uid: str
    rv: int
    data: bytes


class Writer:
    """Owns `db`: nothing else uses that connection until `close` has returned."""

    def __init__(
        self,
        db: sqlite.Connection,
        path: Path,
        publish: Callable[[Sequence[Change]], None],
        *,
        clock: Callable[[], float],
        batch_limit: int,
        keep_seconds: float,
        keep_changes: int,
    ) -> None:
        self._db = db
        self._path = path
        self._publish = publish
        self._clock = clock
        self._batch_limit = batch_limit
        self._keep_seconds = keep_seconds
        self._keep_changes = keep_changes
        self.rv = int(meta(db, "rv") or 0)
        self._compacted_at = (clock(), self.rv)
        self._broken: Broken | None = None
        self._queue: queue.SimpleQueue[_Job | Work | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="store-writer", daemon=True)
        self._thread.start()

    def commit(self, ops: Sequence[Op]) -> Future[list[Record]]:
        _check_shape(ops)
        job = _Job(tuple(ops), Future())
        job.done.set_running_or_notify_cancel()  # from here on a caller who loses patience cannot cancel what may be on disk
        self._enqueue(job)
        return job.done

    def run(self, work: Work) -> None:
        """Run on the writer thread, between commits; wait for it. Raises what it raises, sqlite errors as StoreError."""
        done: Future[None] = Future()

        def guarded() -> None:
            try:
                work()
                done.set_result(None)
            except Exception as error:
                done.set_exception(self._failure(error))

        self._enqueue(guarded)
        done.result()

    def compact(self, now: float | None = None) -> None:
        """Drop what is older than `keep_seconds`, and of the rest what is beyond `keep_changes`. On the writer thread."""
        now = self._clock() if now is None else now
        self._compacted_at = (now, self.rv)
        # The oldest are looked at first, so this reads little more than what goes.
        sql = "SELECT rv FROM changes WHERE at >= ? ORDER BY rv LIMIT 1"
        young = self._db.execute(sql, (now - self._keep_seconds,)).fetchone()
        upto = max(young[0] - 1 if young else self.rv, self.rv - self._keep_changes)
        if upto <= int(meta(self._db, "compacted") or 0):
            return
        with sqlite.transaction(self._db):
            self._db.execute("DELETE FROM changes WHERE rv <= ?", (upto,))
            set_meta(self._db, "compacted", str(upto))

    def close(self) -> None:
        """What was committed before is written; idempotent."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def _enqueue(self, item: _Job | Work) -> None:
        with self._lock:
            if self._closed:
                raise Closed(f"{self._path} is closed")
            self._queue.put(item)

    # -- on the writer thread --------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while True:
            item = self._queue.get()
            jobs: list[_Job] = []
            while isinstance(item, _Job):
                jobs.append(item)
                if len(jobs) >= self._batch_limit:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            if jobs:
                self._write(jobs)
                self._compact_when_due()
            if item is None:
                return
            if not isinstance(item, _Job):
                item()

    def _write(self, jobs: list[_Job]) -> None:
        if self._broken is not None:
            for job in jobs:
                job.done.set_exception(self._broken)
            return
        try:
            outcomes, changes = self._transact(jobs)
        except Exception as error:
            failure = self._failure(error)
            if len(jobs) > 1 and not isinstance(failure, Broken):
                # One of them may be at fault alone: too big, or text that cannot be encoded.
                for job in jobs:
                    self._write([job])
                return
            for job in jobs:
                job.done.set_exception(failure)
            return
        if changes:
            self.rv = changes[-1].rv
            self._publish(changes)
        for job, outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, StoreError):
                job.done.set_exception(outcome)
            else:
                job.done.set_result(outcome)

    def _transact(self, jobs: list[_Job]) -> tuple[list[list[Record] | StoreError], list[Change]]:
        """What became of each job, and the changes that are now on disk."""
        outcomes: list[list[Record] | StoreError] = []
        changes: list[Change] = []
        now = self._clock()
        rv = self.rv
        with sqlite.transaction(self._db):
            for job in jobs:
                try:
                    befores = [self._check(op) for op in job.ops]
                except (Exists, Stale) as error:
                    outcomes.append(error)
                    continue
                records = []
                for op, before in zip(job.ops, befores, strict=True):
                    rv += 1
                    record, change = self._apply(op, before, rv, now)
                    records.append(record)
                    changes.append(change)
                outcomes.append(records)
            if changes:
                set_meta(self._db, "rv", str(rv))
        return outcomes, changes

    def _check(self, op: Op) -> _Before | None:
        sql = f"SELECT uid, rv, data FROM objects WHERE {_KEY}"
        row = self._db.execute(sql, (op.resource, op.namespace, op.name)).fetchone()
        if op.expect is None:
            if row is not None:
                raise Exists(f'{op.resource} "{op.name}" already exists')
            return None
        if row is None:
            raise Stale(f'{op.resource} "{op.name}" is gone; read it again', None)
        if row[1] != op.expect:
            raise Stale(f'{op.resource} "{op.name}" is at {row[1]}, not at {op.expect}; read it again', row[1])
        return _Before(*row)

    def _apply(self, op: Op, before: _Before | None, rv: int, now: float) -> tuple[Record, Change]:
        data = op.data.replace(RV_SLOT, str(rv).encode(), 1)
        key = (op.resource, op.namespace, op.name)
        if isinstance(op, Remove):
            uid, kind = before.uid if before else "", "DELETED"
            self._db.execute(f"DELETE FROM objects WHERE {_KEY}", key)
        elif before:
            uid, kind = op.uid, "MODIFIED"
            self._db.execute(f"UPDATE objects SET uid=?, rv=?, data=? WHERE {_KEY}", (uid, rv, data, *key))
        else:
            uid, kind = op.uid, "ADDED"
            self._db.execute(f"INSERT INTO objects ({_COLUMNS}) VALUES (?,?,?,?,?,?)", (*key, uid, rv, data))
        was = (before.uid, before.rv, data, before.data) if before else (None, None, data, None)
        self._db.execute("INSERT INTO changes VALUES (?,?,?,?,?,?,?,?,?,?)", (rv, now, kind, *key, *was))
        return Record(*key, uid, rv, data), Change(rv, kind, *key, data, was[-1])

    def _compact_when_due(self) -> None:
        at, rv = self._compacted_at
        now = self._clock()
        if self._broken is None and (self.rv - rv >= COMPACT_CHANGES or not at <= now < at + COMPACT_SECONDS):
            try:
                self.compact(now)
            except Exception as error:
                log.warning("the change log was not compacted: %s", self._failure(error))

    def _failure(self, error: Exception) -> Exception:
        """What the caller is told; from the first error that does not pass on, nothing is written any more."""
        if not isinstance(error, sqlite.Error | OSError):
            return error if isinstance(error, StoreError) else NotStored(f"{self._path}: nothing was stored: {error!r}")
        if sqlite.passes(error) and not self._db.in_transaction:
            return NotStored(f"{self._path}: nothing was stored: {error}; free disk space if it is full, then try again")
        self._broken = Broken(
            f"{self._path}: writing failed: {error}; it is not known whether the last write survives, and none is taken any "
            "more. Check the disk, then restart"
        )
        self._broken.__cause__ = error
        return self._broken


def _check_shape(ops: Sequence[Op]) -> None:
    """Mistakes of the caller's, told at once."""
    if len({(op.resource, op.namespace, op.name) for op in ops}) < len(ops):
        raise ValueError("two operations on one object in one commit")
    for op in ops:
        if RV_SLOT not in op.data:
            raise ValueError(f'{op.resource} "{op.name}" has no place for its resourceVersion: encode RV_SLOT into it')
