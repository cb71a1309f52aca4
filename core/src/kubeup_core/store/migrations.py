"""The schema of the store's file, its number, and how an older file becomes a newer one.

Called when a store is opened. A file is copied before it is migrated, and migrated in one transaction. A file that is newer than
this program is refused: an older program would not know what it overlooks. Migrations of objects (an API version to the next)
are elsewhere: here they are opaque bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from . import sqlite
from .records import NotAStore, TooNew

_TABLES = """
CREATE TABLE objects (
  id INTEGER PRIMARY KEY, resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, uid TEXT NOT NULL,
  rv INTEGER NOT NULL, data BLOB NOT NULL);
CREATE UNIQUE INDEX objects_by_name ON objects (resource, namespace, name);
CREATE TABLE changes (
  rv INTEGER PRIMARY KEY, at REAL NOT NULL, type TEXT NOT NULL, resource TEXT NOT NULL, namespace TEXT NOT NULL,
  name TEXT NOT NULL, prev_uid TEXT, prev_rv INTEGER, data BLOB NOT NULL, prev BLOB);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

STEPS: Mapping[int, str] = {0: _TABLES}
"""From schema N to N + 1: statements, each ended by a semicolon."""

SCHEMA = max(STEPS) + 1


def prepare(path: Path, steps: Mapping[int, str] = STEPS, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
    """Bring the file to the newest schema; makes it, 0600, when it is not there. Raises TooNew, NotAStore, OSError."""
    newest = max(steps) + 1
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    path.chmod(0o600)
    try:
        with closing(sqlite.connect(path, wal=False)) as db:
            number = db.execute("PRAGMA user_version").fetchone()[0]
            if number > newest:
                raise TooNew(
                    f"{path} has schema {number}, this kubeup knows up to {newest}: install the newer kubeup that wrote it, "
                    f"or put back the copy {path.name}.v{newest}-TIME.bak that was made before the upgrade"
                )
            if number == newest:
                return
            if number == 0 and db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise NotAStore(f"{path} is a database, but not kubeup's; move it away, or choose another --state")
            if number:
                sqlite.copy(db, path.with_name(f"{path.name}.v{number}-{now():%Y%m%dT%H%M%S%f}.bak"))
            with sqlite.transaction(db):
                for step in range(number, newest):
                    for statement in filter(str.strip, steps[step].split(";")):
                        db.execute(statement)
                db.execute(f"PRAGMA user_version = {newest}")
    except sqlite.Error as error:
        raise NotAStore(
            f"{path} cannot be opened as kubeup's state: {error}; nothing was changed. Free disk space if it is full, "
            "else put a backup in its place"
        ) from error


def meta(db: sqlite.Connection, key: str) -> str | None:
    row = db.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
    return str(row[0]) if row else None


def set_meta(db: sqlite.Connection, key: str, value: str | None) -> None:
    """None removes it."""
    if value is None:
        db.execute("DELETE FROM meta WHERE key=?", (key,))
    else:
        db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
