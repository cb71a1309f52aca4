"""SQLite, and nothing of ours: connections, transactions, verified copies, and which errors pass. The only `import sqlite3`.

Used by the other modules of the store. WAL, so that readers and the writer do not wait for each other; synchronous=FULL, so that
a transaction is on disk when COMMIT returns (sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

Connection = sqlite3.Connection
Error = sqlite3.Error

BUSY_SECONDS = 10.0

_PASSING = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_FULL, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_TOOBIG,
}  # fmt: skip
_PASSING_IO = {sqlite3.SQLITE_IOERR_SHMMAP, sqlite3.SQLITE_IOERR_SHMSIZE}
"""A full disk also stops the index of the log from growing; that happens before anything is written."""


def connect(path: Path, *, wal: bool = True, read_only: bool = False) -> Connection:
    """Autocommit mode; does not make the file; may be closed by another thread. wal: False leaves the mode as it is, to look at
    a file that may not be ours. Raises Error."""
    uri = f"{path.absolute().as_uri()}?mode=rw"  # a reader in WAL mode writes the shared index, so mode=ro would not do
    db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS)
    try:
        if wal:
            db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        if read_only:
            db.execute("PRAGMA query_only=ON")
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def transaction(db: Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """Commits at the end; rolls back on any exception."""
    db.execute(begin)
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with suppress(Error):
            roll_back(db)
        raise


def roll_back(db: Connection) -> None:
    """SQLite has rolled back by itself after some errors; a second time would be an error of its own."""
    if db.in_transaction:
        db.execute("ROLLBACK")


def passes(error: BaseException) -> bool:
    """Whether the database is as good as before once the transaction is rolled back.

    Not so after a failed write or fsync: the kernel may have dropped the data and report success next time
    (lwn.net/Articles/752063), so no later answer could be trusted.
    """
    if not isinstance(error, Error):
        return not isinstance(error, OSError)
    code = getattr(error, "sqlite_errorcode", None)
    return code is None or code in _PASSING_IO or code & 0xFF in _PASSING


def copy(
    source: Connection, file: Path, then: Sequence[str] = (), verify: Callable[[Connection], bool] = lambda _: True
) -> None:
    """Copy what `source` sees to a new file of mode 0600, run `then` in the copy, verify it and bring it to disk.

    Leaves nothing behind when it fails. Raises FileExistsError, OSError, Error.
    """
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with closing(sqlite3.connect(file, isolation_level=None)) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")
            target.execute("PRAGMA synchronous=FULL")
            for statement in then:
                target.execute(statement)
            verdict = target.execute("PRAGMA integrity_check").fetchone()[0]
            if verdict == "ok" and not verify(target):
                verdict = "not all of it arrived"
            if verdict != "ok":
                raise sqlite3.DatabaseError(f"the copy does not verify: {verdict}")
        sync(file)
        sync(file.absolute().parent)
    except BaseException:
        for left in (file, file.with_name(f"{file.name}-journal")):
            left.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """fsync a file, or a directory: only that makes a new name durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
