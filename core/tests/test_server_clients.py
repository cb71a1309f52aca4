"""Other clients against the real server: kubeup's own over HTTP, and the Python client of Kubernetes."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubeup_core.client import Client, Event
from kubeup_core.kinds import Cluster, Namespace, NodePool, Secret
from kubeup_core.kinds.cluster import ClusterSpec
from kubeup_core.kinds.nodepool import NodePoolSpec
from kubeup_core.kubernetes import HttpClient
from kubeup_core.login import ConfigError, Login, read_kubeconfig
from kubeup_core.objects import ObjectMeta
from kubeup_core.statuses import (
    AlreadyExists,
    BadRequest,
    Conflict,
    Expired,
    Forbidden,
    Invalid,
    NotFound,
    Unauthorized,
    Unavailable,
)
from kubeup_core.testing.served import TOKEN, ServedApi

numbers = count()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApi]:
    with ServedApi(tmp_path_factory.mktemp("served")) as served:
        yield served


@pytest.fixture(params=["over HTTP", "in process"])
def client(api: ServedApi, request: pytest.FixtureRequest) -> Client:
    """Both implementations of the protocol must behave alike."""
    return api.remote if request.param == "over HTTP" else api.client


@pytest.fixture
def ns(api: ServedApi) -> str:
    name = f"ns{next(numbers)}"
    api.client.create(Namespace(metadata=ObjectMeta(name=name)))
    return name


def pool(ns: str, name: str = "workers", **spec: Any) -> NodePool:
    return NodePool(metadata=ObjectMeta(name=name, namespace=ns), spec=NodePoolSpec(cluster="demo", **spec))


def test_objects_are_created_read_updated_and_deleted(client: Client, ns: str) -> None:
    made = client.create(pool(ns, replicas=2))
    assert (made.name, made.namespace, made.metadata.generation, made.spec.replicas) == ("workers", ns, 1, 2)
    made.spec.replicas = 3
    updated = client.update(made)
    assert (updated.spec.replicas, updated.metadata.generation) == (3, 2)
    updated.status.ready = 3
    assert client.update_status(updated).status.ready == 3
    read = client.get(NodePool, "workers", ns)
    assert (read.status.ready, read.metadata.managed_fields) == (3, None)
    listed, version = client.list(NodePool, ns)
    assert [p.name for p in listed] == ["workers"]
    assert version.isdigit()
    client.delete(NodePool, "workers", ns, uid=read.uid)
    assert client.find(NodePool, "workers", ns) is None


def test_errors_are_the_same(client: Client, ns: str) -> None:
    with pytest.raises(NotFound) as missing:
        client.get(NodePool, "workers", ns)
    assert (missing.value.name, missing.value.kind) == ("workers", "nodepools")
    made = client.create(pool(ns, protect=True))
    with pytest.raises(AlreadyExists):
        client.create(pool(ns))
    stale = made.model_copy(deep=True)
    made.spec.replicas = 9
    client.update(made)
    stale.spec.replicas = 8
    with pytest.raises(Conflict):
        client.update(stale)
    with pytest.raises(Forbidden, match="protected"):
        client.delete(NodePool, "workers", ns)
    with pytest.raises(Conflict):
        client.delete(NodePool, "workers", ns, uid="another")
    with pytest.raises(Invalid) as invalid:
        client.create(pool(ns, name="Bad_Name"))
    assert invalid.value.causes[0].field == "metadata.name"
    with pytest.raises(NotFound, match="nowhere"):
        client.create(pool("nowhere"))
    with pytest.raises(BadRequest):
        client.watch(NodePool, "x", lambda event: None)


def test_lists_take_selectors_and_have_all_pages(client: Client, ns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubeup_core.kubernetes.PAGE", 2)
    for i in range(5):
        client.create(Secret(metadata=ObjectMeta(name=f"s{i}", namespace=ns, labels={"odd": str(i % 2)})))
    assert [s.name for s in client.list(Secret, ns)[0]] == ["s0", "s1", "s2", "s3", "s4"]
    assert [s.name for s in client.list(Secret, ns, labels="odd=1")[0]] == ["s1", "s3"]
    assert [s.name for s in client.list(Secret, ns, fields="metadata.name=s4")[0]] == ["s4"]
    assert {s.namespace for s in client.list(Secret, None, labels="odd=1")[0]} >= {ns}


def next_of(events: queue.Queue[Event[Any]], ns: str) -> tuple[str, str]:
    while True:
        event = events.get(timeout=20)
        if event.object.namespace == ns:
            return event.type, event.object.name


def test_watches_deliver_every_change_in_order(client: Client, ns: str) -> None:
    client.create(pool(ns, name="before"))
    _, version = client.list(NodePool)
    events: queue.Queue[Event[Any]] = queue.Queue()
    end = client.watch(NodePool, version, events.put)
    made = client.create(pool(ns))
    made.spec.replicas = 4
    client.update(made)
    client.delete(NodePool, "workers", ns)
    client.delete(NodePool, "before", ns)
    seen = [next_of(events, ns) for _ in range(4)]
    assert seen == [("ADDED", "workers"), ("MODIFIED", "workers"), ("DELETED", "workers"), ("DELETED", "before")]
    end()
    client.create(pool(ns, name="after"))
    assert events.empty()


def test_a_watch_from_too_long_ago_is_refused_at_once(client: Client, api: ServedApi, ns: str) -> None:
    old = str(api.store.rv())
    client.create(pool(ns))
    api.clock.advance(3600)  # type: ignore[attr-defined]
    client.create(pool(ns, name="b"))
    api.store.compact()
    with pytest.raises(Expired):
        client.watch(NodePool, old, lambda event: None)


def test_a_watch_that_lost_its_place_delivers_the_difference(tmp_path: Path) -> None:
    with ServedApi(tmp_path) as api:
        direct, remote = api.client, api.remote
        for name in ("stays", "changes", "goes", "is-replaced"):
            direct.create(pool("default", name=name))
        _, version = remote.list(NodePool)
        events: queue.Queue[Event[Any]] = queue.Queue()
        end = remote.watch(NodePool, version, events.put)
        direct.create(pool("default", name="first"))
        assert next_of(events, "default") == ("ADDED", "first")
        # Another server at the same place, whose log begins later.
        (watch,) = remote._watching
        watch._ended.set()
        watch.end()
        watch._thread.join(20)
        watch._ended.clear()
        changed = direct.get(NodePool, "changes", "default")
        changed.spec.replicas = 7
        direct.update(changed)
        direct.delete(NodePool, "goes", "default")
        direct.delete(NodePool, "is-replaced", "default")
        direct.create(pool("default", name="is-replaced"))
        direct.create(pool("default", name="is-new"))
        with pytest.raises(Expired):
            watch._rv = str(api.store.rv() + 100)
            watch._follow()
        assert watch._again()
        seen = {next_of(events, "default") for _ in range(5)}
        assert seen == {
            ("DELETED", "goes"), ("DELETED", "is-replaced"), ("ADDED", "is-replaced"), ("MODIFIED", "changes"), ("ADDED", "is-new"),
        }  # fmt: skip
        assert events.empty()
        end()


def test_raw_requests_and_their_errors(api: ServedApi) -> None:
    assert api.remote.request("GET", "/version")["major"] == "1"
    with pytest.raises(NotFound):
        api.remote.request("GET", "/nothing")
    stranger = HttpClient(Login(api.url, "wrong", api.ca))
    with pytest.raises(Unauthorized):
        stranger.list(Cluster)
    stranger.close()


def test_a_server_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    with ServedApi(tmp_path) as api:
        login = api.login
    client = HttpClient(login)
    with pytest.raises(Unavailable, match="does not answer"):
        client.get(Cluster, "demo", "default")
    with pytest.raises(Unavailable):
        client.create(Cluster(metadata=ObjectMeta(name="demo", namespace="default"), spec=ClusterSpec(provider="sim")))
    client.close()


# -- kubeconfig --------------------------------------------------------------------------------------------------------


def test_a_kubeconfig_leads_to_the_server(api: ServedApi) -> None:
    client = HttpClient.from_kubeconfig(api.kubeconfig)
    assert client.get(Namespace, "default").name == "default"
    client.close()
    assert TOKEN not in repr(read_kubeconfig(api.kubeconfig))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"current-context": "other"}, "no context 'other'; there is kubeup"),
        ({"users": []}, "no user 'kubeup'; there is none"),
        ({"clusters": None}, "no cluster 'kubeup'"),
        ({"users": [{"name": "kubeup", "user": {"exec": {}}}]}, "logs in by a program"),
        ({"users": [{"name": "kubeup", "user": {"tokenFile": "missing"}}]}, "missing cannot be read"),
        ({"clusters": [{"name": "kubeup", "cluster": {}}]}, "is not a kubeconfig"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_says_why(
    api: ServedApi, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    file = tmp_path / "config"
    file.write_text(yaml.safe_dump(yaml.safe_load(api.kubeconfig.read_text()) | change))
    with pytest.raises(ConfigError, match=message):
        read_kubeconfig(file)


@pytest.mark.parametrize("text", ["", "[1]", "a: [", "5"])
def test_what_is_no_kubeconfig_is_said(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"is not a kubeconfig|has no context"):
        read_kubeconfig(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_kubeconfig(tmp_path / "none")


# -- the Python client of Kubernetes -----------------------------------------------------------------------------------


def test_the_dynamic_client_of_kubernetes_works(api: ServedApi, ns: str) -> None:
    kubernetes = pytest.importorskip("kubernetes", reason="the Python client of Kubernetes is missing: pip install kubernetes")
    from kubernetes.dynamic import DynamicClient
    from kubernetes.dynamic.exceptions import ConflictError
    from kubernetes.dynamic.exceptions import NotFoundError as Missing

    configuration = kubernetes.client.Configuration()
    kubernetes.config.load_kube_config(str(api.kubeconfig), client_configuration=configuration)
    with kubernetes.client.ApiClient(configuration) as connection:
        dynamic = DynamicClient(connection)
        pools = dynamic.resources.get(api_version="kubeup.dev/v1alpha1", kind="NodePool")
        body = pool(ns, replicas=2).to_dict()
        made = pools.create(body=body, namespace=ns)
        assert made.spec.replicas == 2
        with pytest.raises(ConflictError):
            pools.create(body=body, namespace=ns)
        merge = "application/merge-patch+json"
        pools.patch(name="workers", namespace=ns, body={"spec": {"replicas": 3}}, content_type=merge)
        applied = {
            "apiVersion": "kubeup.dev/v1alpha1",
            "kind": "NodePool",
            "metadata": {"name": "workers"},
            "spec": {"replicas": 3},
        }
        pools.server_side_apply(body=applied, name="workers", namespace=ns, field_manager="py", force_conflicts=True)
        assert [item.metadata.name for item in pools.get(namespace=ns).items] == ["workers"]
        kinds = [event["type"] for event in pools.watch(namespace=ns, timeout=1)]
        assert kinds == ["ADDED"]
        pools.delete(name="workers", namespace=ns)
        with pytest.raises(Missing):
            pools.get(name="workers", namespace=ns)
        secrets = dynamic.resources.get(api_version="v1", kind="Secret")
        secrets.create(body={"metadata": {"name": "s"}, "apiVersion": "v1", "kind": "Secret"}, namespace=ns)
        assert secrets.get(name="s", namespace=ns).type == "Opaque"
