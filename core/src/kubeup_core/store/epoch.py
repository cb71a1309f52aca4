"""Whether the file that is opened is the one that ran last, or a copy of it that was put back.

Called by the store at open and at clean close. Each time a new random epoch goes to the database, and then to a file beside it
that no backup contains. A database and a file that do not agree mean that somebody put an older database back, so that it has
forgotten machines that exist. What follows from that (a paused start, a person's decision) is built elsewhere.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from . import sqlite
from .migrations import meta, set_meta

LEAP = 1_000_000_000
"""What a restore adds to the resourceVersion, as etcd advises for its own (etcdutl snapshot restore --bump-revision): numbers of
the lost history are not given out twice, so no client can mistake its old view for the new one."""


def begin(db: sqlite.Connection, file: Path) -> bool:
    """At open. True when this is a restored copy that nobody has acknowledged yet."""
    ours = meta(db, "epoch")
    allowed = {ours, meta(db, "previous_epoch")}  # the second stands only between the two writes of `advance`
    if meta(db, "backup") or (ours is not None and _said(file) not in allowed):
        _forget_history(db)
    advance(db, file)
    return meta(db, "restored") is not None


def advance(db: sqlite.Connection, file: Path) -> None:
    """The database first, which meanwhile allows for what the file says now; a crash at any point is no restore."""
    epoch = secrets.token_hex(8)
    with sqlite.transaction(db):
        set_meta(db, "previous_epoch", _said(file))
        set_meta(db, "epoch", epoch)
    new = file.with_name(f"{file.name}.new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(fd, epoch.encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(new, file)
    sqlite.sync(file.absolute().parent)
    set_meta(db, "previous_epoch", None)


def _forget_history(db: sqlite.Connection) -> None:
    with sqlite.transaction(db):
        rv = str(int(meta(db, "rv") or 0) + LEAP)
        set_meta(db, "restored", "yes")
        set_meta(db, "backup", None)
        set_meta(db, "rv", rv)
        set_meta(db, "compacted", rv)
        db.execute("DELETE FROM changes")


def _said(file: Path) -> str:
    """What the file says; "" when it is missing."""
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        return ""
