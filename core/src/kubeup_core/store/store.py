"""The store: encoded objects in one SQLite file, exact preconditions, a change log for watches.

Called by `verbs`, put together by whoever starts a server. Objects are opaque bytes here: they are encoded once per write, and
get, list and every watcher share those bytes; nothing is kept in memory per object. What an object means, and what may be
written, is decided in `verbs`; which process owns the file, in `statedir`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from pathlib import Path

from . import epoch, migrations, reads, sqlite
from .records import Change, Op, Record, StoreError, Subscriber
from .watches import Dispatcher, Handoff
from .writer import Writer

Records = list[Record]
Changes = list[Change]


class Store:
    """Thread-safe. Reads run on a connection of the calling thread and are never blocked by the writer.

    path          the database; `epoch` is written beside it. The directory must exist, and be owned (see `statedir`)
    clock         seconds, for the age of the log
    batch_limit   most commits in one transaction
    keep_seconds  how long a change is kept at least
    keep_changes  how many changes are kept at most, whatever their age: a bound on the file's size
    installation  a random id made with the store
    restored      the file was put back from a copy, and nobody has acknowledged that yet; survives restarts
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        batch_limit: int = 256,
        keep_seconds: float = 300.0,
        keep_changes: int = 250_000,
    ) -> None:
        """Makes, upgrades or opens the file. Raises TooNew, NotAStore, StoreError; then nothing was changed."""
        self.path = path
        self._epoch = path.with_name("epoch")
        try:
            migrations.prepare(path)
            self._db = sqlite.connect(path)
        except (OSError, sqlite.Error) as error:
            raise StoreError(f"{path} cannot be opened: {error}; check the directory and the disk") from error
        try:
            self.restored = epoch.begin(self._db, self._epoch)
            self.installation = _installation(self._db)
            self._dispatcher = Dispatcher()
            self._readers = reads.Readers(path)
            self._writer = Writer(
                self._db,
                path,
                self._dispatcher.publish,
                clock=clock,
                batch_limit=batch_limit,
                keep_seconds=keep_seconds,
                keep_changes=keep_changes,
            )
        except BaseException as error:
            self._db.close()
            if isinstance(error, OSError | sqlite.Error):
                raise StoreError(f"{path} cannot be written: {error}; free disk space if it is full") from error
            raise

    # -- reads -----------------------------------------------------------------------------------------------------------

    def rv(self) -> int:
        """The newest committed resourceVersion."""
        return self._writer.rv

    def get(self, resource: str, namespace: str, name: str, *, at: int | None = None) -> Record | None:
        """The object now, or as it was at that resourceVersion. Raises Expired."""
        with self._readers.snapshot() as db:
            return reads.get(db, resource, namespace, name, at)

    def list(
        self,
        resource: str,
        namespace: str | None = None,
        *,
        at: int | None = None,
        limit: int = 0,
        after: tuple[str, str] | None = None,
    ) -> tuple[Records, int]:
        """Ordered by (namespace, name), one consistent state and its resourceVersion.

        at: that very state, from the change log; raises Expired when the log does not hold it.
        limit, after: one page (0: all), of what comes after that (namespace, name).
        """
        with self._readers.snapshot() as db:
            return reads.list_objects(db, resource, namespace, at, limit, after)

    def count(self, resource: str, namespace: str | None = None) -> int:
        with self._readers.snapshot() as db:
            return reads.count(db, resource, namespace)

    def changes(self, resource: str | None, since: int, namespace: str | None = None) -> Changes:
        """The log after `since`, in order. Raises Expired."""
        with self._readers.snapshot() as db:
            return reads.changes(db, resource, since, namespace)

    # -- writes ----------------------------------------------------------------------------------------------------------

    def commit(self, ops: Sequence[Op]) -> Future[Records]:
        """All or nothing: the preconditions of all are checked before any effect; each op gets its own resourceVersion.

        The future resolves when it is on disk and visible to every reader, with the records as stored (Remove: as last seen).
        It fails with Exists, Stale, NotStored (nothing happened) or Broken (restart), and cannot be cancelled. Raises Closed,
        and ValueError for data without RV_SLOT or two ops on one object.
        """
        return self._writer.commit(ops)

    # -- watches ---------------------------------------------------------------------------------------------------------

    def subscribe(self, callback: Subscriber, resource: str | None = None) -> Callable[[], None]:
        """Called on the writer thread after each commit, in order, before its future resolves; must be quick. Returns
        unsubscribe. What it raises is logged."""
        return self._dispatcher.subscribe(resource, callback)

    def watch(self, resource: str | None, since: int, deliver: Subscriber) -> Callable[[], None]:
        """Everything after `since`, each change once and in order: first from the log, then live. Returns what ends it;
        a delivery that has begun may still finish. Raises Expired.

        `deliver` is called on this thread for the log and on the writer thread afterwards, never by both at a time. An event
        loop uses `LoopWatches` instead.
        """
        handoff = Handoff(deliver)
        unsubscribe = self._dispatcher.subscribe(resource, handoff.live)
        try:
            handoff.start(self.changes(resource, since), since)
        except BaseException:
            unsubscribe()
            raise

        def end() -> None:
            handoff.end()
            unsubscribe()

        return end

    # -- care ------------------------------------------------------------------------------------------------------------

    def compact(self, now: float | None = None) -> None:
        """Drop log entries beyond what is kept. Also happens by itself now and then."""
        self._writer.run(lambda: self._writer.compact(now))

    def backup(self, file: Path) -> None:
        """An online, verified copy; see the function `backup`."""
        backup(self.path, file)

    def acknowledge_restore(self) -> None:
        """A person has decided what to do about what this copy does not know."""
        self._writer.run(lambda: migrations.set_meta(self._db, "restored", None))
        self.restored = False

    def close(self) -> None:
        """Finish what was committed, then close everything. Idempotent."""
        self._writer.close()
        self._readers.close()
        with suppress(sqlite.Error, OSError):  # the next start allows for an epoch that was not finished
            epoch.advance(self._db, self._epoch)
        self._db.close()


def backup(database: Path, file: Path) -> None:
    """Copy a database that may be in use, by this or another process, to a new file of mode 0600, and verify the copy.

    The copy is marked: opened as a store, it is a restored one. Raises StoreError when there is no database, when the file exists
    or cannot be written, or when the copy does not verify; then nothing is left behind.
    """
    mark = "INSERT OR REPLACE INTO meta VALUES ('backup', 'yes')"
    try:
        with closing(sqlite.connect(database)) as source, sqlite.transaction(source, "BEGIN"):
            facts = _facts(source)
            sqlite.copy(source, file, then=(mark,), verify=lambda copied: _facts(copied) == facts)
    except FileExistsError:
        raise StoreError(f"{file} exists; choose another name, a backup never overwrites") from None
    except OSError as error:
        raise StoreError(f"{file} cannot be written: {error.strerror}; choose another place") from error
    except sqlite.Error as error:
        raise StoreError(f"{database} cannot be copied to {file}: {error}") from error


def _facts(db: sqlite.Connection) -> tuple[object, ...]:
    """What a copy must have in common with its source."""
    rows = db.execute("SELECT count(*), total(rv), total(length(data)) FROM objects").fetchone()
    return (*rows, migrations.meta(db, "rv"), migrations.meta(db, "installation"))


def _installation(db: sqlite.Connection) -> str:
    known = migrations.meta(db, "installation")
    if known is None:
        known = uuid.uuid4().hex
        migrations.set_meta(db, "installation", known)
    return known
