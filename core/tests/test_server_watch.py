"""Watches: what is sent, in which form, when they end; and clients that read too slowly."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import httpx
import orjson
import pytest
from kubeup_core.kinds import KINDS
from kubeup_core.server import watches
from kubeup_core.server.events import Served
from kubeup_core.server.threads import Threads
from kubeup_core.testing.served import ServedApi
from kubeup_core.verbs import Actor

ROOT = "/apis/kubeup.dev/v1alpha1"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
VOLUME = next(kind for kind in KINDS if kind.kind == "Volume")
ME = Actor("tester")
numbers = count()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApi]:
    with ServedApi(tmp_path_factory.mktemp("served")) as served:
        yield served


@pytest.fixture
def ns(api: ServedApi) -> str:
    name = f"ns{next(numbers)}"
    api.http.post("/api/v1/namespaces", json={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


def volume(name: str, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": labels}
    spec = {"cluster": "demo", "size": "10Gi"}
    return {"apiVersion": "kubeup.dev/v1alpha1", "kind": "Volume", "metadata": metadata, "spec": spec}


def path(ns: str) -> str:
    return f"{ROOT}/namespaces/{ns}/volumes"


def create(api: ServedApi, ns: str, name: str, **labels: str) -> dict[str, Any]:
    made: dict[str, Any] = api.http.post(path(ns), json=volume(name, **labels)).json()
    return made


def label(api: ServedApi, ns: str, name: str, **labels: str | None) -> None:
    headers = {"Content-Type": "application/merge-patch+json"}
    api.http.patch(f"{path(ns)}/{name}", json={"metadata": {"labels": labels}}, headers=headers).raise_for_status()


@contextmanager
def watching(api: ServedApi, ns: str, accept: str = "application/json", **params: Any) -> Iterator[Iterator[dict[str, Any]]]:
    query = {"watch": "true", **{k: str(v) for k, v in params.items()}}
    with api.http.stream("GET", path(ns), params=query, headers={"Accept": accept}) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["transfer-encoding"] == "chunked"
        yield (orjson.loads(line) for line in answer.iter_lines())


def seen(event: dict[str, Any]) -> tuple[str, str]:
    return event["type"], event["object"]["metadata"]["name"]


def test_a_watch_without_version_begins_with_what_there_is(api: ServedApi, ns: str) -> None:
    create(api, ns, "a")
    with watching(api, ns) as events:
        assert seen(next(events)) == ("ADDED", "a")
        create(api, ns, "b")
        assert seen(next(events)) == ("ADDED", "b")
        label(api, ns, "a", x="1")
        assert seen(next(events)) == ("MODIFIED", "a")
        before = int(api.http.get(f"{path(ns)}/a").json()["metadata"]["resourceVersion"])
        api.http.delete(f"{path(ns)}/a")
        event = next(events)
        assert seen(event) == ("DELETED", "a")
        assert int(event["object"]["metadata"]["resourceVersion"]) > before


def test_a_watch_goes_on_from_the_version_of_a_list(api: ServedApi, ns: str) -> None:
    create(api, ns, "a")
    version = api.http.get(path(ns)).json()["metadata"]["resourceVersion"]
    create(api, ns, "b")
    label(api, ns, "b", x="1")
    with watching(api, ns, resourceVersion=version) as events:
        assert [seen(next(events)) for _ in range(2)] == [("ADDED", "b"), ("MODIFIED", "b")]


def test_the_events_are_the_stored_bytes(api: ServedApi, ns: str) -> None:
    made = create(api, ns, "a")
    with watching(api, ns) as events:
        assert next(events)["object"] == made == api.http.get(f"{path(ns)}/a").json()


def test_entering_a_selector_is_added_and_leaving_is_deleted(api: ServedApi, ns: str) -> None:
    create(api, ns, "a")
    with watching(api, ns, labelSelector="x=1", resourceVersion=api.store.rv()) as events:
        label(api, ns, "a", x="1")
        assert seen(next(events)) == ("ADDED", "a")
        label(api, ns, "a", x="2")
        event = next(events)
        assert seen(event) == ("DELETED", "a")
        assert event["object"]["metadata"]["labels"] == {"x": "1"}


def test_one_object_is_watched_by_its_name(api: ServedApi, ns: str) -> None:
    create(api, ns, "a")
    create(api, ns, "b")
    with watching(api, ns, fieldSelector="metadata.name=b") as events:
        assert seen(next(events)) == ("ADDED", "b")
    legacy = f"{ROOT}/watch/namespaces/{ns}/volumes/b?timeoutSeconds=1"
    with api.http.stream("GET", legacy) as answer:
        assert seen(orjson.loads(next(answer.iter_lines()))) == ("ADDED", "b")


def test_watch_on_a_named_path_is_a_plain_get(api: ServedApi, ns: str) -> None:
    create(api, ns, "a")
    assert api.http.get(f"{path(ns)}/a?watch=true").json()["kind"] == "Volume"


def test_the_legacy_path_watches_all_namespaces(api: ServedApi, ns: str) -> None:
    create(api, ns, "a")
    with api.http.stream("GET", f"{ROOT}/watch/volumes?resourceVersion={api.store.rv() - 1}") as answer:
        assert seen(orjson.loads(next(answer.iter_lines()))) == ("ADDED", "a")


def test_a_watch_ends_cleanly_at_its_time_with_a_bookmark(api: ServedApi, ns: str) -> None:
    with watching(api, ns, timeoutSeconds=1, allowWatchBookmarks="true", resourceVersion=api.store.rv()) as events:
        create(api, "default", f"elsewhere-{ns}")
        last = list(events)[-1]
    assert (last["type"], last["object"]["kind"]) == ("BOOKMARK", "Volume")
    assert last["object"]["metadata"]["resourceVersion"] == str(api.store.rv())


def test_no_bookmark_comes_unasked(api: ServedApi, ns: str) -> None:
    with watching(api, ns, timeoutSeconds=1, resourceVersion=api.store.rv()) as events:
        create(api, "default", f"elsewhere-{ns}")
        assert list(events) == []


def test_a_list_may_come_as_a_watch(api: ServedApi, ns: str) -> None:
    create(api, ns, "a")
    ask = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    with watching(api, ns, **ask) as events:
        assert seen(next(events)) == ("ADDED", "a")
        end = next(events)
        assert end["type"] == "BOOKMARK"
        assert end["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert end["object"]["metadata"]["resourceVersion"].isdigit()
        create(api, ns, "b")
        assert seen(next(events)) == ("ADDED", "b")


@pytest.mark.parametrize(
    "query", ["", "&resourceVersionMatch=Exact&allowWatchBookmarks=true", "&resourceVersionMatch=NotOlderThan"]
)
def test_a_list_as_a_watch_has_rules(api: ServedApi, ns: str, query: str) -> None:
    answer = api.http.get(f"{path(ns)}?watch=true&sendInitialEvents=true{query}")
    assert (answer.status_code, answer.json()["reason"]) == (422, "Invalid")


def test_a_version_that_is_not_kept_is_an_error_event(api: ServedApi, ns: str) -> None:
    with watching(api, ns, resourceVersion=api.store.rv() + 1000) as events:
        event = next(events)
        assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
        assert next(events, None) is None


def test_a_compacted_version_is_an_error_event(api: ServedApi, ns: str) -> None:
    old = api.store.rv()
    create(api, ns, "a")
    api.clock.advance(3600)  # type: ignore[attr-defined]
    create(api, ns, "b")
    api.store.compact()
    with watching(api, ns, resourceVersion=old) as events:
        assert next(events)["object"]["message"].startswith("too old resource version")
        assert list(events) == []


def test_a_table_watch_sends_the_columns_once(api: ServedApi, ns: str) -> None:
    create(api, ns, "a")
    with watching(api, ns, accept=TABLE) as events:
        first = next(events)["object"]
        assert first["kind"] == "Table"
        assert first["columnDefinitions"][0]["name"] == "Name"
        assert first["rows"][0]["cells"][0] == "a"
        create(api, ns, "b")
        second = next(events)["object"]
        assert second["columnDefinitions"] == []
        assert second["rows"][0]["object"]["metadata"]["name"] == "b"


def test_metadata_may_be_watched(api: ServedApi, ns: str) -> None:
    create(api, ns, "a")
    with watching(api, ns, accept="application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io") as events:
        first = next(events)["object"]
        assert (first["kind"], "spec" in first) == ("PartialObjectMetadata", False)


def test_new_events_are_watched_in_their_shape(api: ServedApi, ns: str) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e", "namespace": ns},
        "message": "m",
        "involvedObject": {},
    }
    api.http.post(f"/api/v1/namespaces/{ns}/events", json=body).raise_for_status()
    with api.http.stream("GET", f"/apis/events.k8s.io/v1/namespaces/{ns}/events?watch=1") as answer:
        event = orjson.loads(next(answer.iter_lines()))
    assert (event["object"]["note"], event["object"]["apiVersion"]) == ("m", "events.k8s.io/v1")


def test_watches_end_when_the_server_stops(tmp_path: Any) -> None:
    with ServedApi(tmp_path) as api, api.http.stream("GET", f"{path('default')}?watch=true") as answer:
        lines = answer.iter_lines()
        create(api, "default", "a")
        assert seen(orjson.loads(next(lines))) == ("ADDED", "a")
        api.server.stop()
        assert list(lines) == []


# -- clients that read too slowly --------------------------------------------------------------------------------------


class Slow:
    """An ASGI client that does not take anything before it is told to."""

    def __init__(self) -> None:
        self.reading = asyncio.Event()
        self.gone = asyncio.Event()
        self.begun = asyncio.Event()
        self.stuck = asyncio.Event()
        self.sent: list[bytes] = []

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            if self.sent:
                self.stuck.set()
                await self.reading.wait()
            self.sent.append(message["body"])
            self.begun.set()

    async def receive(self) -> Any:
        await self.gone.wait()
        return {"type": "http.disconnect"}


def follow(api: ServedApi, ns: str, client: Slow) -> tuple[watches.Watches, asyncio.Task[None]]:
    all_watches = watches.Watches(api.verbs, api.store, api.clock, Threads(2))
    scope = {"type": "http", "method": "GET", "path": path(ns), "query_string": b"watch=true", "headers": []}
    request = watches.Request(scope, client.receive)
    asked = watches.ask(request, Served(VOLUME, VOLUME), ns, "")
    return all_watches, asyncio.ensure_future(all_watches.stream(request, client.send, asked, watches.Wanted()))


def test_a_slow_watcher_is_told_to_list_again_and_holds_nobody(
    api: ServedApi, ns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "MAX_WAITING", 5)

    async def run() -> list[bytes]:
        client = Slow()
        all_watches, task = follow(api, ns, client)
        await client.begun.wait()
        await asyncio.to_thread(api.verbs.create, VOLUME, ns, volume("first"), ME)
        await client.stuck.wait()
        for i in range(20):
            await asyncio.to_thread(api.verbs.create, VOLUME, ns, volume(f"v{i}"), ME)
        (queue,) = all_watches._running
        assert queue.overflown
        assert not queue._changes
        client.reading.set()
        await task
        assert not all_watches._running
        return client.sent

    events = [orjson.loads(line) for line in b"".join(asyncio.run(run())).splitlines()]
    assert [event["type"] for event in events] == ["ADDED", "ERROR"]
    assert events[-1]["object"]["code"] == 410


def test_a_client_that_goes_leaves_no_watch_behind(api: ServedApi, ns: str) -> None:
    async def run() -> None:
        client = Slow()
        all_watches, task = follow(api, ns, client)
        await client.begun.wait()
        await asyncio.to_thread(api.verbs.create, VOLUME, ns, volume("first"), ME)
        await client.stuck.wait()
        client.reading.set()
        client.gone.set()
        await task
        assert len(all_watches) == 0
        # It is unsubscribed as well: nothing arrives in a queue that nobody reads.
        sent = len(client.sent)
        await asyncio.to_thread(api.verbs.create, VOLUME, ns, volume("second"), ME)
        assert len(client.sent) == sent

    asyncio.run(run())


def test_many_watchers_share_one_frame(api: ServedApi, ns: str) -> None:
    clients = [api.session({"Authorization": api.http.headers["authorization"]}) for _ in range(3)]
    streams = [client.stream("GET", f"{path(ns)}?watch=true") for client in clients]
    answers: list[httpx.Response] = [stream.__enter__() for stream in streams]
    try:
        create(api, ns, "a")
        lines = {next(answer.iter_lines()) for answer in answers}
        assert len(lines) == 1
    finally:
        for stream, client in zip(streams, clients, strict=True):
            stream.__exit__(None, None, None)
            client.close()
