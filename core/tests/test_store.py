"""The store: durable, exact, in order; whatever happens to the process or the file."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from kubeup_core.store import (
    RV_SLOT,
    Change,
    Exists,
    Expired,
    NotAStore,
    NotStored,
    Put,
    Record,
    Remove,
    Stale,
    Store,
    StoreError,
    TooNew,
    backup,
    migrations,
)


def body(text: str = "") -> bytes:
    return b'{"rv":"' + RV_SLOT + b'","text":"' + text.encode() + b'"}'


def put(name: str, text: str = "", expect: int | None = None, resource: str = "things") -> Put:
    return Put(resource, "ns", name, f"uid-{name}", body(text), expect)


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def opened(tmp_path: Path, time: Time) -> Iterator[Callable[[], Store]]:
    stores: list[Store] = []

    def open_() -> Store:
        stores.append(Store(tmp_path / "kubeup.db", clock=time, keep_seconds=300))
        return stores[-1]

    yield open_
    for s in stores:
        s.close()


@pytest.fixture
def store(opened: Callable[[], Store]) -> Store:
    return opened()


def write(store: Store, *ops: Put | Remove) -> list[Record]:
    return store.commit(ops).result(10)


def test_what_was_written_is_read_back_with_its_resource_version_inside(store: Store) -> None:
    (record,) = write(store, put("a", "hello"))
    found = store.get("things", "ns", "a")
    assert found == record
    assert found is not None
    assert found.data == b'{"rv":"%d","text":"hello"}' % record.rv
    assert store.rv() == record.rv


def test_a_create_of_what_exists_is_refused_and_changes_nothing(store: Store) -> None:
    write(store, put("a", "first"))
    before = store.rv()
    with pytest.raises(Exists):
        write(store, put("a", "second"))
    assert store.rv() == before


def test_a_write_at_an_old_version_is_refused_and_says_which_is_current(store: Store) -> None:
    first = write(store, put("a"))[0].rv
    second = write(store, put("a", "x", first))[0].rv
    with pytest.raises(Stale) as caught:
        write(store, put("a", "y", first))
    assert caught.value.current == second
    with pytest.raises(Stale):
        write(store, put("gone", "y", 7))


def test_one_failing_precondition_stops_all_of_a_transaction(store: Store) -> None:
    write(store, put("a"))
    with pytest.raises(Exists):
        write(store, put("b"), put("a"))
    assert store.get("things", "ns", "b") is None
    assert [c.name for c in store.changes(None, 0)] == ["a"]


def test_of_many_concurrent_writers_at_one_version_exactly_one_wins(store: Store) -> None:
    first = write(store, put("a"))[0].rv
    futures: list[Future[list[Record]]] = [store.commit([put("a", str(i), first)]) for i in range(50)]
    won = [f for f in futures if f.exception(10) is None]
    assert len(won) == 1


def test_a_deletion_is_logged_with_a_version_of_its_own_and_the_last_state(store: Store) -> None:
    (made,) = write(store, put("a", "x"))
    write(store, Remove("things", "ns", "a", made.rv, body("x")))
    change = store.changes("things", made.rv)[0]
    assert (change.type, change.rv, change.prev) == ("DELETED", made.rv + 1, made.data)
    assert change.data == b'{"rv":"%d","text":"x"}' % change.rv
    assert store.get("things", "ns", "a") is None


def test_text_that_looks_like_a_slot_is_left_alone(store: Store) -> None:
    data = body("after " + RV_SLOT.decode())
    (record,) = write(store, Put("things", "ns", "a", "u", data, None))
    assert record.data.count(RV_SLOT) == 1
    assert record.data.startswith(b'{"rv":"%d"' % record.rv)


def test_a_list_is_ordered_and_paged_by_namespace_and_name(store: Store) -> None:
    for name in ("c", "a", "b"):
        write(store, put(name))
    page, rv = store.list("things", limit=2)
    rest, _ = store.list("things", after=(page[-1].namespace, page[-1].name))
    assert [r.name for r in (*page, *rest)] == ["a", "b", "c"]
    assert rv == store.rv()
    assert store.count("things") == 3
    assert store.list("things", "elsewhere")[0] == []


def test_a_former_state_is_listed_as_it_was(store: Store) -> None:
    a, b = write(store, put("a", "old"), put("b"))
    at = store.rv()
    write(store, put("a", "new", a.rv), put("c"))
    write(store, Remove("things", "ns", "b", b.rv, body()))
    then, rv = store.list("things", at=at)
    assert rv == at
    assert [(r.name, b"old" in r.data) for r in then] == [("a", True), ("b", False)]
    assert [r.name for r in store.list("things", at=at, after=("ns", "a"))[0]] == ["b"]


def test_the_log_is_kept_for_its_time_and_then_says_that_it_expired(store: Store, time: Time) -> None:
    first = write(store, put("a"))[0].rv
    time.now += 200
    write(store, put("b"))
    store.compact()
    assert len(store.changes("things", 0)) == 2
    time.now += 200
    store.compact()
    with pytest.raises(Expired) as caught:
        store.changes("things", first - 1)
    assert caught.value.oldest == first
    with pytest.raises(Expired):
        store.list("things", at=first - 1)
    assert [c.name for c in store.changes("things", first)] == ["b"]


def test_a_watch_delivers_each_change_once_and_in_order_across_the_handoff(store: Store) -> None:
    seen: list[Change] = []
    done = threading.Event()
    total = 400

    def deliver(changes: object) -> None:
        seen.extend(changes)  # type: ignore[call-overload]
        if len(seen) >= total:
            done.set()

    def writer() -> None:
        for i in range(total):
            write(store, put(f"n{i}"))

    thread = threading.Thread(target=writer)
    thread.start()
    while store.rv() < 50:
        pass
    stop = store.watch("things", 0, deliver)
    thread.join()
    assert done.wait(10)
    stop()
    assert [c.rv for c in seen] == list(range(1, total + 1))


def test_a_watch_from_before_the_log_is_refused(store: Store, time: Time) -> None:
    write(store, put("a"))
    time.now += 1000
    store.compact()
    with pytest.raises(Expired):
        store.watch("things", 0, lambda _: None)


def test_readers_of_threads_that_ended_are_closed(store: Store) -> None:
    for _ in range(5):
        thread = threading.Thread(target=lambda: store.get("things", "ns", "a"))
        thread.start()
        thread.join()
    store.get("things", "ns", "a")
    assert len(store._readers) <= 2


def test_the_file_is_for_its_owner_only(store: Store, tmp_path: Path) -> None:
    write(store, put("a"))
    assert all(f.stat().st_mode & 0o077 == 0 for f in tmp_path.iterdir())


CHILD = """
import sys
from pathlib import Path
from kubeup_core.store import RV_SLOT, Put, Store
store = Store(Path(sys.argv[1]))
start = store.count("things")
for i in range(start, start + 100_000):
    store.commit([Put("things", "ns", f"n{i:06}", "u", b'{"rv":"' + RV_SLOT + b'"}', None)]).result()
    print(i, flush=True)
"""


def test_kill_minus_9_at_any_moment_loses_no_acknowledged_write(tmp_path: Path) -> None:
    seed = random.Random(7)
    for _ in range(4):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "kubeup.db")], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        last = -1
        for _ in range(seed.randint(1, 60)):
            last = int(child.stdout.readline())
        os.kill(child.pid, signal.SIGKILL)
        rest = child.stdout.read().split("\n")
        last = max([last, *(int(n) for n in rest[:-1])])
        child.stdout.close()
        child.wait()
        store = Store(tmp_path / "kubeup.db")
        try:
            names = [r.name for r in store.list("things")[0]]
            assert len(names) >= last + 1
            assert names == [f"n{i:06}" for i in range(len(names))]
            assert store.rv() == len(names)
        finally:
            store.close()


def test_a_disk_that_is_full_fails_the_write_and_not_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "kubeup.db")
    try:
        write(store, put("a"))
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count={pages + 2}")
        with pytest.raises(NotStored, match="free disk space"):
            write(store, put("big", "x" * 200_000))
        store._db.execute("PRAGMA max_page_count=1000000")
        assert store.get("things", "ns", "big") is None
        assert write(store, put("b"))[0].rv == 2
    finally:
        store.close()


# -- epochs and backups --------------------------------------------------------------------------------------------------


def test_a_store_that_is_closed_and_opened_is_the_same_one(opened: Callable[[], Store]) -> None:
    first = opened()
    first.close()
    second = opened()
    assert second.installation == first.installation
    assert not second.restored


def test_a_copied_file_is_found_to_be_restored_until_a_person_says_so(opened: Callable[[], Store], tmp_path: Path) -> None:
    store = opened()
    write(store, put("a"))
    store.close()
    copy = (tmp_path / "kubeup.db").read_bytes()
    later = opened()
    write(later, put("b"))
    later.close()
    opened().close()
    (tmp_path / "kubeup.db").write_bytes(copy)
    back = opened()
    assert back.restored
    back.close()
    again = opened()
    assert again.restored
    again.acknowledge_restore()
    again.close()
    assert not opened().restored


def test_a_backup_is_verified_private_and_starts_as_a_restored_copy(opened: Callable[[], Store], tmp_path: Path) -> None:
    store = opened()
    write(store, put("a", "hello"))
    store.backup(tmp_path / "copy.db")
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    store.close()
    (tmp_path / "copy.db").replace(tmp_path / "kubeup.db")
    back = opened()
    assert back.restored
    assert back.get("things", "ns", "a") is not None


def test_a_backup_never_overwrites(store: Store, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_text("mine")
    with pytest.raises(StoreError, match="never overwrites"):
        store.backup(tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "mine"


def test_a_backup_can_be_taken_from_another_process_while_the_store_is_written(store: Store, tmp_path: Path) -> None:
    for i in range(20):
        write(store, put(f"n{i}"))
    backup(store.path, tmp_path / "copy.db")
    write(store, put("after"))
    db = sqlite3.connect(tmp_path / "copy.db")
    assert db.execute("SELECT count(*) FROM objects").fetchone()[0] == 20
    db.close()


# -- schema --------------------------------------------------------------------------------------------------------------


def test_a_file_of_a_newer_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "kubeup.db"
    Store(file).close()
    db = sqlite3.connect(file)
    db.execute(f"PRAGMA user_version = {migrations.SCHEMA + 5}")
    db.close()
    with pytest.raises(TooNew, match=f"schema {migrations.SCHEMA + 5}, this kubeup knows up to {migrations.SCHEMA}: install"):
        Store(file)


def test_an_older_file_is_copied_and_then_migrated(tmp_path: Path) -> None:
    file = tmp_path / "kubeup.db"
    store = Store(file)
    write(store, put("a"))
    store.close()
    steps = {**migrations.STEPS, migrations.SCHEMA: "ALTER TABLE objects ADD COLUMN extra TEXT"}
    migrations.prepare(file, steps)
    (copy,) = tmp_path.glob(f"kubeup.db.v{migrations.SCHEMA}-*.bak")
    assert copy.stat().st_mode & 0o777 == 0o600
    for path, columns in ((file, 7), (copy, 6)):
        db = sqlite3.connect(path)
        assert len(db.execute("SELECT * FROM objects").fetchone()) == columns
        db.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "kubeup.db"
    Store(file).close()
    with pytest.raises(NotAStore, match="nothing was changed"):
        migrations.prepare(file, {**migrations.STEPS, migrations.SCHEMA: "CREATE TABLE x (a); NONSENSE"})
    db = sqlite3.connect(file)
    assert db.execute("PRAGMA user_version").fetchone()[0] == migrations.SCHEMA
    assert db.execute("SELECT count(*) FROM sqlite_master WHERE name='x'").fetchone()[0] == 0
    db.close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kubeup.db").write_text("this is not a database, and long enough to be looked at" * 30)
    with pytest.raises(NotAStore, match="not a database; nothing was changed"):
        Store(tmp_path / "kubeup.db")
