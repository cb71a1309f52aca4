"""The schema of the store's file, its number, and how an older file becomes a newer one.

A file is copied before it is migrated, and migrated in one transaction. A file that is newer than this program is refused: an
older program would not know what it overlooks.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

SCHEMA = 1

_TABLES = """
CREATE TABLE objects (
  resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, uid TEXT NOT NULL, rv INTEGER NOT NULL, data BLOB NOT NULL,
  PRIMARY KEY (resource, namespace, name)) WITHOUT ROWID;
CREATE TABLE changes (
  rv INTEGER PRIMARY KEY, at REAL NOT NULL, type TEXT NOT NULL, resource TEXT NOT NULL, namespace TEXT NOT NULL,
  name TEXT NOT NULL, data BLOB NOT NULL, prev BLOB);
CREATE INDEX changes_by_time ON changes (at);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

STEPS: dict[int, str] = {0: _TABLES}
"""From schema N to N + 1."""


class SchemaError(Exception):
    """The file cannot be used by this program; the message says what to do."""


def prepare(path: Path, steps: dict[int, str] | None = None) -> None:
    """Bring the file to the newest schema; makes it, 0600, when it is not there. Raises SchemaError."""
    steps = STEPS if steps is None else steps
    newest = max(steps) + 1
    existed = path.exists() and path.stat().st_size > 0
    if not existed:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    with closing(_open(path)) as db:
        number = db.execute("PRAGMA user_version").fetchone()[0]
        if number > newest:
            raise SchemaError(
                f"{path} has schema {number}, this kubeup knows {newest}: install the newer kubeup that wrote it, "
                f"or put back the copy {path.name}.v{newest}-*.bak that it made"
            )
        if number == newest:
            return
        if existed:
            _copy(db, path, number)
        db.execute("BEGIN IMMEDIATE")
        for step in range(number, newest):
            for statement in steps[step].split(";"):
                if statement.strip():
                    db.execute(statement)
        db.execute(f"PRAGMA user_version = {newest}")
        db.execute("COMMIT")


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode=WAL")
    except sqlite3.DatabaseError as error:
        db.close()
        raise SchemaError(f"{path} is not a kubeup state file: {error}; put a backup in its place") from error
    return db


def _copy(db: sqlite3.Connection, path: Path, number: int) -> None:
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    copy = path.with_name(f"{path.name}.v{number}-{datetime.now(UTC):%Y%m%dT%H%M%S}.bak")
    shutil.copyfile(path, copy)
    copy.chmod(0o600)
