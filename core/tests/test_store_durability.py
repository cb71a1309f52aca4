"""What was acknowledged is there, whatever happened to the process or the disk; what failed changed nothing and stops nobody."""

import logging
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from kubeup_core.store import RV_SLOT, Broken, Closed, NotStored, Put, Record, Store, sqlite


def put(name: str, text: str = "", expect: int | None = None) -> Put:
    return Put("things", "ns", name, f"uid-{name}", b'{"rv":"' + RV_SLOT + b'","text":"' + text.encode() + b'"}', expect)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "kubeup.db")
    yield store
    store.close()


def together(store: Store, *ops: Put) -> list[Future[list[Record]]]:
    """Commits that are certain to share a transaction: they queue up while the writer is held by a subscriber."""
    held, go = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        held.set()
        go.wait(10)

    unsubscribe = store.subscribe(hold)
    first = store.commit([put("holding")])
    assert held.wait(10)
    unsubscribe()
    futures = [store.commit([op]) for op in ops]
    go.set()
    first.result(10)
    return futures


CHILD = """
import sys, threading
from pathlib import Path
from kubeup_core.store import RV_SLOT, Put, Store

store = Store(Path(sys.argv[1]))
print("restored" if store.restored else "same", flush=True)
said = threading.Lock()

def write(k):
    for i in range(store.count("things", str(k)), 100_000):
        store.commit([Put("things", str(k), f"n{i:06}", "u", b'{"rv":"' + RV_SLOT + b'"}', None)]).result()
        with said:
            print(k, i, flush=True)

for k in range(4):
    threading.Thread(target=write, args=(k,)).start()
"""


def test_kill_minus_9_at_any_moment_loses_no_acknowledged_write(tmp_path: Path) -> None:
    seed = random.Random(7)
    acknowledged: set[tuple[str, str]] = set()
    for _ in range(5):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "kubeup.db")], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(seed.randint(1, 150))]
        os.kill(child.pid, signal.SIGKILL)
        lines += child.stdout.read().splitlines(keepends=True)
        child.stdout.close()
        child.wait()
        assert lines[0] == "same\n"
        acknowledged |= {(k, f"n{int(i):06}") for k, i in (line.split() for line in lines[1:] if line.endswith("\n"))}
    store = Store(tmp_path / "kubeup.db")
    try:
        stored = store.list("things")[0]
        assert {(r.namespace, r.name) for r in stored} >= acknowledged
        assert sorted(r.rv for r in stored) == list(range(1, len(stored) + 1)), "each version is given once"
        assert store.rv() == len(stored) == len(store.changes(None, 0))
        assert not store.restored
    finally:
        store.close()


def test_a_full_disk_fails_the_write_and_not_the_store(store: Store) -> None:
    store.commit([put("a")]).result(10)
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count={pages + 2}")
    with pytest.raises(NotStored, match=r"nothing was stored.*free disk space"):
        store.commit([put("small"), put("big", "x" * 200_000)]).result(10)
    store._db.execute("PRAGMA max_page_count=1000000")
    assert store.get("things", "ns", "small") is None
    assert store.commit([put("b")]).result(10)[0].rv == 2


FAILING_DISK = """
import resource, sys
from pathlib import Path
from kubeup_core.store import RV_SLOT, Broken, Put, Store

store = Store(Path(sys.argv[1]))
limit = Path(sys.argv[1] + "-wal").stat().st_size + 500_000
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))  # from there on write() fails with EFBIG
written = 0
def commit():
    return store.commit([Put("things", "ns", f"n{written:04}", "u", RV_SLOT + b"x" * 1000, None)])
try:
    while True:
        commit().result()
        written += 1
except Broken as error:
    assert "restart" in str(error)
first = commit().exception()
assert isinstance(first, Broken), first
assert len(store.list("things")[0]) == written, "reads go on"
print(written, flush=True)
store.close()
"""


def test_a_disk_that_fails_breaks_the_store_which_then_acknowledges_nothing(tmp_path: Path) -> None:
    path = tmp_path / "kubeup.db"
    child = subprocess.run([sys.executable, "-c", FAILING_DISK, str(path)], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    written = int(child.stdout)
    assert written > 10
    store = Store(path)
    try:
        assert [r.name for r in store.list("things")[0]][:written] == [f"n{i:04}" for i in range(written)]
        assert not store.restored
    finally:
        store.close()


def test_only_errors_after_which_the_file_is_as_before_let_the_store_go_on() -> None:
    def error(code: int) -> sqlite3.Error:
        made = sqlite3.OperationalError()
        made.sqlite_errorcode = code
        return made

    assert all(sqlite.passes(error(c)) for c in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_SNAPSHOT))
    assert not any(
        sqlite.passes(error(c)) for c in (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_READONLY)
    )
    assert not sqlite.passes(OSError())


def test_a_commit_that_cannot_be_stored_does_not_take_its_neighbours_along(store: Store) -> None:
    good, bad, also = together(store, put("a"), Put("things", "ns", "\ud800", "u", RV_SLOT, None), put("b"))
    assert isinstance(bad.exception(10), NotStored)
    assert [good.result(10)[0].rv, also.result(10)[0].rv] == [2, 3]


def test_commits_that_wait_share_a_transaction(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    transact = store._writer._transact

    def counting(jobs: list) -> object:  # type: ignore[type-arg]
        sizes.append(len(jobs))
        return transact(jobs)

    monkeypatch.setattr(store._writer, "_transact", counting)
    for future in together(store, *(put(f"n{i}") for i in range(50))):
        future.result(10)
    assert sizes == [1, 50]


def test_a_caller_who_gives_up_does_not_stop_the_writer(store: Store) -> None:
    (future,) = together(store, put("a"))
    assert not future.cancel()
    assert future.result(10)[0].name == "a"
    assert store.commit([put("b")]).result(10)


def test_a_subscriber_that_fails_is_logged_and_stops_nobody(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[object] = []

    def fails(_: object) -> None:
        raise RuntimeError("mine")

    store.subscribe(fails, "things")
    store.subscribe(seen.append, "things")
    with caplog.at_level(logging.ERROR):
        store.commit([put("a")]).result(10)
    assert len(seen) == 1
    assert "subscriber of things failed" in caplog.text


def test_a_compaction_that_fails_is_logged_and_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    store = Store(tmp_path / "kubeup.db", clock=lambda: now[0])

    def fails(_: object = None) -> None:
        full = sqlite3.OperationalError("database or disk is full")
        full.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise full

    monkeypatch.setattr(store._writer, "compact", fails)
    now[0] = 3600.0
    try:
        store.commit([put("a")]).result(10)
        assert store.commit([put("b")]).result(10)
        with pytest.raises(NotStored):
            store.compact()
    finally:
        store.close()
    assert "was not compacted" in caplog.text


def test_a_closed_store_says_so_and_has_written_what_was_committed(tmp_path: Path) -> None:
    store = Store(tmp_path / "kubeup.db")
    futures = [store.commit([put(f"n{i}")]) for i in range(20)]
    store.close()
    store.close()
    assert all(f.result(0) for f in futures)
    with pytest.raises(Closed):
        store.commit([put("late")])
    with pytest.raises(Closed):
        store.get("things", "ns", "n1")


def test_a_broken_store_names_the_file_and_the_remedy(store: Store) -> None:
    bad = sqlite3.OperationalError("disk I/O error")
    bad.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    failure = store._writer._failure(bad)
    assert isinstance(failure, Broken)
    assert str(store.path) in str(failure)
    assert isinstance(store.commit([put("a")]).exception(10), Broken)
