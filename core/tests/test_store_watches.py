"""Watches: each change once, in order, without a gap between the log and what is live; for threads and for an event loop."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from kubeup_core.store import RV_SLOT, Change, Expired, LoopWatches, Put, Record, Store


def put(name: str, resource: str = "things") -> Put:
    return Put(resource, "ns", name, f"uid-{name}", b'{"rv":"' + RV_SLOT + b'"}', None)


def write(store: Store, *ops: Put) -> list[Record]:
    return store.commit(ops).result(10)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "kubeup.db")
    yield store
    store.close()


def test_a_watch_delivers_each_change_once_and_in_order_across_the_handoff(store: Store) -> None:
    seen: list[int] = []
    halfway, total = threading.Event(), 300

    def writer() -> None:
        futures = [store.commit([put(f"n{i}")]) for i in range(total // 2)]
        futures[-1].result(10)
        halfway.set()
        for i in range(total // 2, total):
            write(store, put(f"n{i}"))

    thread = threading.Thread(target=writer)
    thread.start()
    assert halfway.wait(10)
    end = store.watch("things", 0, lambda changes: seen.extend(c.rv for c in changes))
    thread.join()
    end()
    write(store, put("after"))
    assert seen == list(range(1, total + 1))


def test_a_watch_sees_its_resource_only_and_none_sees_all(store: Store) -> None:
    things: list[Change] = []
    everything: list[Change] = []
    store.watch("things", 0, things.extend)
    store.watch(None, 0, everything.extend)
    write(store, put("a"), put("b", "others"), put("c"))
    assert [c.name for c in things] == ["a", "c"]
    assert [c.name for c in everything] == ["a", "b", "c"]


def test_watchers_of_one_resource_share_the_bytes(store: Store) -> None:
    seen: list[Sequence[Change]] = []
    for _ in range(3):
        store.watch("things", 0, seen.append)
    (record,) = write(store, put("a"))
    assert len({id(changes) for changes in seen}) == 1
    assert seen[0][0].data is record.data


def test_a_slow_replay_of_the_log_does_not_hold_the_writer_up(store: Store) -> None:
    write(store, put("a"))
    replaying, go = threading.Event(), threading.Event()
    seen: list[str] = []

    def deliver(changes: Sequence[Change]) -> None:
        replaying.set()
        assert go.wait(10)
        seen.extend(c.name for c in changes)

    watcher = threading.Thread(target=store.watch, args=("things", 0, deliver))
    watcher.start()
    assert replaying.wait(10)
    write(store, put("b"))
    write(store, put("c"))
    go.set()
    watcher.join()
    write(store, put("d"))
    assert seen == ["a", "b", "c", "d"]


def test_ending_one_of_two_equal_watches_leaves_the_other(store: Store) -> None:
    seen: list[Change] = []
    ends = [store.subscribe(seen.extend, "things") for _ in range(2)]
    ends[0]()
    ends[0]()
    write(store, put("a"))
    assert len(seen) == 1


def test_a_watch_from_outside_the_log_is_refused_and_leaves_nothing_behind(store: Store) -> None:
    write(store, put("a"), put("b"))
    store.compact(now=1e12)
    for since in (0, 99):
        with pytest.raises(Expired):
            store.watch("things", since, lambda _: None)
    assert not store._dispatcher._by_resource


def test_an_event_loop_serves_many_watches_from_one_subscription(store: Store) -> None:
    watchers, total = 100, 200
    seen: list[list[int]] = [[] for _ in range(watchers)]

    async def serve() -> None:
        watches, done = LoopWatches(store), asyncio.Event()
        thread = threading.Thread(target=lambda: [write(store, put(f"n{i}")) for i in range(total)])
        thread.start()

        def deliver(k: int, changes: Sequence[Change]) -> None:
            seen[k].extend(c.rv for c in changes)
            if all(len(s) == total for s in seen):
                done.set()

        ends = [await watches.watch("things", 0, lambda changes, k=k: deliver(k, changes)) for k in range(watchers)]
        await asyncio.wait_for(done.wait(), 20)
        thread.join()
        for end in ends:
            end()
        write(store, put("after"))
        watches.close()
        with pytest.raises(Expired):
            await watches.watch("things", 10_000, lambda _: None)

    asyncio.run(serve())
    assert seen == [list(range(1, total + 1))] * watchers
    assert not store._dispatcher._by_resource
    write(store, put("no loop is left, and nobody minds"))
