"""Which file this is: restored copies, backups, schemas."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kubeup_core.store import (
    LEAP,
    RV_SLOT,
    Expired,
    NotAStore,
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


def write(store: Store, *ops: Put | Remove) -> list[Record]:
    return store.commit(ops).result(10)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[], Store]]:
    stores: list[Store] = []

    def open_() -> Store:
        stores.append(Store(tmp_path / "kubeup.db"))
        return stores[-1]

    yield open_
    for s in stores:
        s.close()


@pytest.fixture
def store(opened: Callable[[], Store]) -> Store:
    return opened()


def test_a_store_that_is_closed_and_opened_is_the_same_one(opened: Callable[[], Store]) -> None:
    first = opened()
    first.close()
    second = opened()
    assert second.installation == first.installation
    assert not second.restored


def crashed(tmp_path: Path, number: int) -> Path:
    """What a kill -9 now would leave on disk."""
    left = tmp_path / f"crash{number}"
    left.mkdir()
    for file in ("kubeup.db", "kubeup.db-wal", "epoch"):
        if (tmp_path / file).exists():
            shutil.copy(tmp_path / file, left / file)
    return left


def test_a_crash_is_no_restore(store: Store, tmp_path: Path) -> None:
    write(store, put("a"))
    again = Store(crashed(tmp_path, 1) / "kubeup.db")
    assert not again.restored
    assert again.get("things", "ns", "a") is not None
    again.close()


def test_crashes_between_the_two_writes_of_an_epoch_are_no_restore(
    opened: Callable[[], Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise OSError("crash")

    for _ in range(3):  # the very first start among them
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", crash)
            with pytest.raises(StoreError, match="crash"):
                Store(tmp_path / "kubeup.db")
    store = opened()
    assert not store.restored
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        store.close()
    assert not opened().restored


def test_a_lost_epoch_file_means_restored_even_after_a_crash_of_the_first_run(store: Store, tmp_path: Path) -> None:
    left = crashed(tmp_path, 1)
    (left / "epoch").unlink()
    again = Store(left / "kubeup.db")
    assert again.restored
    again.close()


def test_versions_of_the_lost_history_are_not_given_out_again(opened: Callable[[], Store], tmp_path: Path) -> None:
    store = opened()
    (a,) = write(store, put("a"))
    store.backup(tmp_path / "copy.db")
    lost = write(store, put("a", "lost", a.rv), put("b"))
    store.close()
    (tmp_path / "copy.db").replace(tmp_path / "kubeup.db")
    back = opened()
    for since in (a.rv, lost[-1].rv):
        with pytest.raises(Expired):
            back.watch("things", since, lambda _: None)
    with pytest.raises(Stale):
        write(back, put("a", "from an old view", lost[0].rv))
    (new,) = write(back, put("a", "new", a.rv))
    assert new.rv == a.rv + LEAP + 1
    back.close()
    assert opened().rv() == new.rv, "one leap for one restore, not for each restart"


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


def test_a_backup_of_nothing_or_to_nowhere_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be copied"):
        backup(tmp_path / "nothing.db", tmp_path / "copy.db")
    with pytest.raises(StoreError, match="choose another place"):
        store.backup(tmp_path / "nowhere" / "copy.db")
    assert not list(tmp_path.glob("copy*"))
    assert not (tmp_path / "nothing.db").exists()


def test_a_copy_that_does_not_verify_is_not_kept(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = iter((("one",), ("other",)))
    monkeypatch.setattr("kubeup_core.store.store._facts", lambda _: next(facts))
    with pytest.raises(StoreError, match="does not verify"):
        store.backup(tmp_path / "copy.db")
    assert not list(tmp_path.glob("copy*"))


def test_a_backup_can_be_taken_from_another_process_while_the_store_is_written(store: Store, tmp_path: Path) -> None:
    for i in range(20):
        write(store, put(f"n{i}"))
    backup(store.path, tmp_path / "copy.db")
    write(store, put("after"))
    db = sqlite3.connect(tmp_path / "copy.db")
    assert db.execute("SELECT count(*) FROM objects").fetchone()[0] == 20
    db.close()


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
    for path, columns in ((file, 8), (copy, 7)):
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


def test_a_database_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "kubeup.db")
    db.execute("CREATE TABLE recipes (name)")
    db.close()
    before = (tmp_path / "kubeup.db").read_bytes()
    with pytest.raises(NotAStore, match="not kubeup's; move it away"):
        Store(tmp_path / "kubeup.db")
    assert (tmp_path / "kubeup.db").read_bytes() == before


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="check the directory"):
        Store(tmp_path / "nowhere" / "kubeup.db")
