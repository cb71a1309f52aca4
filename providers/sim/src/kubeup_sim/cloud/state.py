"""Where an account's rows are: in memory, and in file mode also in SQLite, one row each, written as they change.

`Cloud` alone uses it, within `read()` and `write()`. Any number of threads and processes may: a write holds the file's write lock
from its first look to its commit, and a reader picks up only the rows that another process changed since. What the account
acknowledged is committed before, so a killed process loses nothing of it. Only a power cut might (synchronous=NORMAL).
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from .records import KINDS, Record

R = TypeVar("R", bound=Record)

SCHEMA = 1
BUSY_SECONDS = 30.0


class State:
    """key: which account of the file. file None: memory only."""

    def __init__(self, key: str, file: Path | None = None) -> None:
        self.key = key
        self._lock = threading.RLock()
        self._tables: dict[type[Record], dict[str, Record]] = {kind: {} for kind in KINDS.values()}
        self._changed: dict[tuple[type[Record], str], Record | None] = {}
        self._file = file
        self._db: sqlite3.Connection | None = None
        self._seen = 0  # the newest row taken over from the file
        self._version = -1

    @contextmanager
    def read(self) -> Iterator[None]:
        with self._lock:
            if self._file is not None:
                self._refresh(self._connection())
            yield

    @contextmanager
    def write(self) -> Iterator[None]:
        """One atomic change. What was put before an Exception stays: callers look first and change then. May be nested."""
        with self._lock:
            db = self._connection() if self._file is not None else None
            if db is None or db.in_transaction:
                yield
                return
            db.execute("BEGIN IMMEDIATE")
            try:
                self._refresh(db)
                try:
                    yield
                except Exception:
                    self._flush(db)
                    raise
                self._flush(db)
            except BaseException:
                self._roll_back(db)
                raise

    def table(self, kind: type[R]) -> dict[str, R]:
        """Rows of one kind by id. Not to be changed, nor kept beyond read() or write()."""
        return self._tables[kind]  # type: ignore[return-value]

    def put(self, record: Record) -> None:
        self._tables[type(record)][record.id] = record
        if self._file is not None:
            self._changed[type(record), record.id] = record

    def remove(self, record: Record) -> None:
        del self._tables[type(record)][record.id]
        if self._file is not None:
            self._changed[type(record), record.id] = None

    def close(self) -> None:
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            assert self._file is not None
            self._db = _opened(self._file)
            self._forget()
        return self._db

    def _refresh(self, db: sqlite3.Connection) -> None:
        (version,) = db.execute("PRAGMA data_version").fetchone()
        if version == self._version:
            return
        rows = db.execute(
            "SELECT kind, id, seq, body FROM rows WHERE account = ? AND seq > ? ORDER BY seq", (self.key, self._seen)
        )
        for kind, id, seq, body in rows:
            table = self._tables[KINDS[kind]]
            if body is None:
                table.pop(id, None)
            else:
                table[id] = KINDS[kind](**json.loads(body))
            self._seen = seq
        self._version = version

    def _flush(self, db: sqlite3.Connection) -> None:
        rows = []
        for (kind, id), record in self._changed.items():
            self._seen += 1
            body = None if record is None else json.dumps(record.__dict__, separators=(",", ":"))
            rows.append((self.key, kind.__name__, id, self._seen, body))
        db.executemany("INSERT OR REPLACE INTO rows (account, kind, id, seq, body) VALUES (?, ?, ?, ?, ?)", rows)
        db.execute("COMMIT")
        self._changed.clear()

    def _roll_back(self, db: sqlite3.Connection) -> None:
        if db.in_transaction:
            db.execute("ROLLBACK")
            self._forget()

    def _forget(self) -> None:
        """Read everything again at the next look."""
        for table in self._tables.values():
            table.clear()
        self._changed.clear()
        self._seen, self._version = 0, -1


def _opened(file: Path) -> sqlite3.Connection:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        # Turning a new file to WAL fails at once, whatever the timeout, while another process does the same.
        fcntl.flock(folder, fcntl.LOCK_EX)
        file.touch(mode=0o600)
        db = sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            _prepare(db, file)
        except BaseException:
            db.close()
            raise
        return db
    finally:
        os.close(folder)


def _prepare(db: sqlite3.Connection, file: Path) -> None:
    (schema,) = db.execute("PRAGMA user_version").fetchone()
    if schema > SCHEMA:
        raise RuntimeError(
            f"{file} was written by a newer kubeup-sim (schema {schema}, this one knows {SCHEMA}): "
            "upgrade kubeup-sim, or set KUBEUP_SIM_FILE to another file"
        )
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    db.execute(
        "CREATE TABLE IF NOT EXISTS rows (account TEXT, kind TEXT, id TEXT, seq INTEGER, body TEXT, "
        "PRIMARY KEY (account, kind, id)) WITHOUT ROWID"
    )
    db.execute("CREATE INDEX IF NOT EXISTS rows_seq ON rows (account, seq)")
    db.execute(f"PRAGMA user_version={SCHEMA}")
