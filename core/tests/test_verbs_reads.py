"""Lists with pages, selectors and versions; watches."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from kubeup_core.statuses import BadRequest, Expired, Invalid, Timeout
from kubeup_core.store import Change


def volumes(api: Any, *names: str, **metadata: Any) -> None:
    for name in names:
        api.make("Volume", name, **metadata)


def pages(api: Any, limit: int, **parameters: Any) -> list[Any]:
    found = [api.verbs.list(api.kind("Volume"), None, limit=limit, **parameters)]
    while found[-1].continue_:
        parameters.pop("resource_version", None)
        found.append(api.verbs.list(api.kind("Volume"), None, limit=limit, continue_=found[-1].continue_, **parameters))
    return found


def names(page: Any) -> list[str]:
    return [orjson.loads(item)["metadata"]["name"] for item in page.items]


def test_a_list_is_ordered_and_has_the_version_of_its_state(api: Any) -> None:
    volumes(api, "b", "a")
    page = api.verbs.list(api.kind("Volume"), "default")
    assert names(page) == ["a", "b"]
    assert page.rv == api.store.rv()
    assert (page.continue_, page.remaining) == ("", None)


def test_an_unknown_namespace_is_an_empty_list(api: Any) -> None:
    assert api.verbs.list(api.kind("Volume"), "nowhere").items == []


def test_pages_show_the_state_of_the_first_page(api: Any) -> None:
    volumes(api, *"abcde")
    first = api.verbs.list(api.kind("Volume"), None, limit=2)
    assert (names(first), first.remaining) == (["a", "b"], 3)
    volumes(api, "aa", "ddd")
    api.delete("Volume", "d")
    second = api.verbs.list(api.kind("Volume"), None, limit=2, continue_=first.continue_)
    third = api.verbs.list(api.kind("Volume"), None, limit=2, continue_=second.continue_)
    assert names(second) + names(third) == ["c", "d", "e"]
    assert (second.remaining, third.remaining, third.continue_) == (1, None, "")
    assert first.rv == second.rv == third.rv


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6])
def test_pages_of_a_selector_hold_as_many_as_asked_for(api: Any, limit: int) -> None:
    for i, name in enumerate("abcdefgh"):
        volumes(api, name, labels={"odd": str(i % 2)})
    found = pages(api, limit, labels="odd=1")
    assert [n for page in found for n in names(page)] == ["b", "d", "f", "h"]
    assert all(len(page.items) == limit for page in found[:-1])
    assert all(page.remaining is None for page in found)


def test_a_negative_limit_is_none(api: Any) -> None:
    volumes(api, "a", "b")
    assert len(api.verbs.list(api.kind("Volume"), None, limit=-1).items) == 2


def test_exactly_that_state(api: Any) -> None:
    volumes(api, "a")
    rv = str(api.store.rv())
    volumes(api, "b")
    exact = api.verbs.list(api.kind("Volume"), None, resource_version=rv, match="Exact")
    assert (names(exact), str(exact.rv)) == (["a"], rv)
    assert len(api.names("Volume", resource_version=rv, match="NotOlderThan")) == 2
    assert len(api.names("Volume", resource_version="0")) == 2


def test_a_state_that_is_no_longer_kept_has_expired(api: Any) -> None:
    volumes(api, "a", "b", "c")
    first = api.verbs.list(api.kind("Volume"), None, limit=1)
    api.clock.advance(10_000)
    volumes(api, "d")
    api.clock.advance(10_000)
    api.store.compact()
    with pytest.raises(Expired):
        api.verbs.list(api.kind("Volume"), None, limit=1, continue_=first.continue_)
    with pytest.raises(Expired):
        api.verbs.list(api.kind("Volume"), None, resource_version="1", match="Exact")
    with pytest.raises(Expired, match="too old resource version: 1 "):
        api.verbs.watch(api.kind("Volume"), None, 1, lambda changes: None)


def test_a_state_that_does_not_exist_yet_is_a_timeout_that_may_be_tried_again(api: Any) -> None:
    with pytest.raises(Timeout) as caught:
        api.verbs.list(api.kind("Volume"), None, resource_version="99999")
    assert caught.value.causes[0].reason == "ResourceVersionTooLarge"
    assert caught.value.retry_after == 1


@pytest.mark.parametrize(
    "parameters",
    [{"resource_version": "x"}, {"resource_version": "-1"}, {"continue_": "%%%"}, {"continue_": "W10="}, {"continue_": "e30="},
     {"continue_": "WzEsMSwxLDEsMV0="}, {"labels": "a=b=c"}, {"fields": "x=y"}],
)  # fmt: skip
def test_bad_parameters_are_bad_requests(api: Any, parameters: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        api.verbs.list(api.kind("Volume"), None, **parameters)


def test_a_version_beside_continue_is_refused(api: Any) -> None:
    volumes(api, "a", "b")
    token = api.verbs.list(api.kind("Volume"), None, limit=1).continue_
    with pytest.raises(BadRequest):
        api.verbs.list(api.kind("Volume"), None, continue_=token, resource_version="1")


@pytest.mark.parametrize(
    "parameters",
    [{"match": "Exact"}, {"match": "Newest", "resource_version": "1"}, {"match": "Exact", "resource_version": "0"}],
)
def test_a_match_that_makes_no_sense_is_invalid(api: Any, parameters: dict[str, str]) -> None:
    with pytest.raises(Invalid) as caught:
        api.verbs.list(api.kind("Volume"), None, **parameters)
    assert caught.value.causes[0].field == "resourceVersionMatch"


def test_one_object_is_listed_by_its_name(api: Any) -> None:
    volumes(api, "a", "b")
    assert api.names("Volume", "default", fields="metadata.name=b") == ["b"]
    assert api.names("Volume", fields="metadata.name=b") == ["b"]
    assert api.names("Volume", "default", fields="metadata.name=zz") == []
    assert api.names("Volume", "default", fields="metadata.name=b", labels="x=y") == []
    assert api.names("Volume", "default", fields="metadata.name!=b") == ["a"]


# -- watches ---------------------------------------------------------------------------------------------------------------


class Seen:
    def __init__(self, api: Any, since: int | None = None, namespace: str | None = None, **selectors: str) -> None:
        self.changes: list[Change] = []
        since = api.store.rv() if since is None else since
        self.stop = api.verbs.watch(api.kind("Volume"), namespace, since, self.changes.extend, **selectors)

    def events(self) -> list[tuple[str, str]]:
        return [(change.type, change.name) for change in self.changes]


def test_a_watch_gives_what_comes_after_its_version(api: Any) -> None:
    volumes(api, "a")
    since = api.store.rv()
    volumes(api, "b")
    seen = Seen(api, since)
    api.patch("Volume", "a", {"spec": {"paused": True}})
    api.make("Cluster")
    api.delete("Volume", "b")
    assert seen.events() == [("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b")]
    last = seen.changes[-1]
    assert orjson.loads(last.data)["metadata"]["resourceVersion"] == str(last.rv) == str(api.store.rv())
    seen.stop()
    volumes(api, "c")
    assert len(seen.changes) == 3


def test_a_watch_from_nowhere_begins_with_all_there_is(api: Any) -> None:
    volumes(api, "a", "b")
    seen = Seen(api, 0)
    volumes(api, "c")
    assert seen.events() == [("ADDED", "a"), ("ADDED", "b"), ("ADDED", "c")]


def test_entering_a_selector_is_added_and_leaving_it_is_deleted(api: Any) -> None:
    volumes(api, "a")
    seen = Seen(api, labels="tier=x")
    api.patch("Volume", "a", {"spec": {"paused": True}})
    api.patch("Volume", "a", {"metadata": {"labels": {"tier": "x"}}})
    api.patch("Volume", "a", {"spec": {"paused": False}})
    api.patch("Volume", "a", {"metadata": {"labels": {"tier": "y"}}})
    api.delete("Volume", "a")
    assert seen.events() == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    left = orjson.loads(seen.changes[-1].data)
    assert left["metadata"]["labels"] == {"tier": "x"}
    assert left["metadata"]["resourceVersion"] == str(seen.changes[-1].rv)


def test_a_watch_of_one_name_or_one_namespace_sees_nothing_else(api: Any) -> None:
    api.create(api.obj("Namespace", "team"))
    by_name = Seen(api, fields="metadata.name=a")
    by_space = Seen(api, namespace="team")
    both = Seen(api, fields="metadata.name=a", labels="x=y")
    volumes(api, "a", "b")
    volumes(api, "c", namespace="team")
    assert by_name.events() == [("ADDED", "a")]
    assert by_space.events() == [("ADDED", "c")]
    assert both.events() == []


def test_a_watch_from_the_future_of_another_server_has_expired(api: Any) -> None:
    with pytest.raises(Expired):
        Seen(api, 10_000)


def test_removal_by_the_last_finalizer_shows_the_last_stored_object(api: Any) -> None:
    volumes(api, "a", finalizers=["kubeup.dev/volume"])
    seen = Seen(api)
    api.delete("Volume", "a")
    api.patch("Volume", "a", {"metadata": {"finalizers": []}})
    assert seen.events() == [("MODIFIED", "a"), ("DELETED", "a")]
    assert orjson.loads(seen.changes[-1].data)["metadata"]["finalizers"] == ["kubeup.dev/volume"]


def test_without_a_selector_every_watcher_gets_the_same_bytes(api: Any) -> None:
    one, two = Seen(api), Seen(api)
    volumes(api, "a")
    assert one.changes[0].data is two.changes[0].data
