"""The store: durable, exact, in order; whatever happens to the process or the file."""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from kubeup_core.store import (
    RV_SLOT,
    Exists,
    Expired,
    Put,
    Record,
    Remove,
    Stale,
    Store,
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
    assert [r.name for r in store.list("things", at=at, limit=1)[0]] == ["a"]
    assert store.get("things", "ns", "a", at=at) == a
    assert store.get("things", "ns", "b", at=at) == b
    assert store.get("things", "ns", "c", at=at) is None


def test_every_former_state_is_exact_whatever_happened_since(store: Store) -> None:
    dice = random.Random(3)
    now: dict[str, Record] = {}
    states = [(store.rv(), dict(now))]
    for step in range(150):
        name = f"n{dice.randrange(8)}"
        if name in now and dice.random() < 0.4:
            write(store, Remove("things", "ns", name, now.pop(name).rv, body()))
        else:
            now[name] = write(store, put(name, str(step), now[name].rv if name in now else None))[0]
        states.append((store.rv(), dict(now)))
    for at, then in states:
        expected = [then[name] for name in sorted(then)]
        assert store.list("things", at=at) == (expected, at)
        pages = [store.list("things", at=at, limit=3)[0]]
        while pages[-1]:
            pages.append(store.list("things", at=at, limit=3, after=("ns", pages[-1][-1].name))[0])
        assert [r for page in pages for r in page] == expected
        assert all(store.get("things", "ns", f"n{k}", at=at) == then.get(f"n{k}") for k in range(8))


def test_a_version_of_another_history_has_expired(store: Store) -> None:
    write(store, put("a"))
    for read in (
        lambda: store.changes("things", 500),
        lambda: store.list("things", at=500),
        lambda: store.get("things", "ns", "a", at=500),
    ):
        with pytest.raises(Expired):
            read()


def test_the_log_is_bounded_in_number_too(tmp_path: Path) -> None:
    store = Store(tmp_path / "kubeup.db", keep_changes=10)
    try:
        for i in range(30):
            write(store, put(f"n{i}"))
        store.compact()
        assert [c.rv for c in store.changes(None, 20)] == list(range(21, 31))
        with pytest.raises(Expired):
            store.changes(None, 19)
    finally:
        store.close()


def test_the_log_is_compacted_by_itself_as_time_passes(store: Store, time: Time) -> None:
    write(store, put("a"))
    time.now += 1000
    write(store, put("b"))
    write(store, put("c"))
    with pytest.raises(Expired):
        store.changes("things", 0)


def test_a_commit_that_makes_no_sense_is_refused_at_once(store: Store) -> None:
    with pytest.raises(ValueError, match="two operations on one object"):
        store.commit([put("a"), put("a")])
    with pytest.raises(ValueError, match="RV_SLOT"):
        store.commit([Put("things", "ns", "a", "u", b"{}", None)])
    assert store.commit([]).result(10) == []
    assert store.rv() == 0


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
