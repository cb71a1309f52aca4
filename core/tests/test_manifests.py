"""Addons: the bootstrapper's and those of spec.manifests, applied in order, once, and again when they have changed."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from kubeup_core.bootstrapper import Addon, ClusterPlan
from kubeup_core.controllers.nodes import Nodes
from kubeup_core.kinds import Cluster
from kubeup_core.kinds.cluster import ControlPlaneStatus
from kubeup_core.statuses import Invalid
from kubeup_core.testing.harness import Harness
from kubeup_core.testing.rehearsal import Rehearsal

Make = Callable[..., Harness]
ONE = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one, namespace: kube-system}\ndata: {a: '1'}\n"
TWO = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: two, namespace: kube-system}\n"
CONFIG_MAPS = "/api/v1/namespaces/kube-system/configmaps/"


class Web:
    """A server of files. files: path -> text."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.asked: list[str] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked.append(self.path)
                text = web.files.get(self.path)
                self.send_response(200 if text is not None else 404)
                self.end_headers()
                self.wfile.write((text or "").encode())

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join(5)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def begun(h: Harness) -> None:
    """The first control plane is there: addons are applied from now on."""
    cluster = h.get(Cluster, "demo")
    cluster.status.control_plane = ControlPlaneStatus(initialized=True)
    h.client.update_status(cluster)
    h.advance(1)


def applied(h: Harness) -> list[str]:
    sent = [r for r in h.workload().requests if r.startswith("PATCH") and "configmaps" in r]
    return [r.rpartition("/")[2] for r in sent]


def told(h: Harness) -> tuple[bool | None, str, str]:
    found = h.manager.env.shared(Nodes).addons(h.get(Cluster, "demo"))
    return found.ok, found.reason, found.message


class WithAddon(Rehearsal):
    text = ONE

    def addons(self, cluster: ClusterPlan) -> tuple[Addon, ...]:
        return (Addon(name="network", manifest=self.text),)


def test_the_bootstrappers_addons_come_first_then_the_declared_ones_in_order(members: Make, tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text(TWO)
    h = members(bootstrapper=WithAddon(), cluster={"manifests": [{"path": str(file), "sha256": sha256(TWO)}]})
    assert applied(h) == [], "not before the cluster has begun"
    begun(h)
    assert applied(h) == ["one", "two"]
    ok, _, message = told(h)
    assert ok is True
    assert message == f"applied: addon network, {file}"


def test_what_was_applied_is_not_applied_again_before_it_changes(members: Make, tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text(ONE)
    h = members(cluster={"manifests": [{"path": str(file)}]})
    begun(h)
    h.advance(2000)
    assert applied(h) == ["one"]
    file.write_text(ONE.replace("'1'", "'2'"))
    h.advance(700)
    assert applied(h) == ["one", "one"]
    found = h.workload().found(CONFIG_MAPS + "one")
    assert found is not None
    assert found["data"] == {"a": "2"}


def test_a_changed_spec_is_applied_at_once(members: Make, tmp_path: Path) -> None:
    h = members()
    begun(h)
    file = tmp_path / "one.yaml"
    file.write_text(ONE)
    h.edit(Cluster, "demo", spec={"manifests": [{"path": str(file)}]})
    h.advance(1)
    assert applied(h) == ["one"]


def test_a_manifest_is_fetched_from_its_url_and_its_hash_is_checked(members: Make, web: Web) -> None:
    web.files["/one.yaml"] = ONE
    h = members(cluster={"manifests": [{"url": f"{web.url}/one.yaml", "sha256": sha256(ONE).upper()}]})
    begun(h)
    assert applied(h) == ["one"]
    h.advance(2000)
    assert web.asked == ["/one.yaml"], "what has a hash and was applied need not be fetched again"


def test_a_wrong_hash_is_one_clear_error_and_nothing_is_applied(members: Make, web: Web) -> None:
    web.files["/one.yaml"] = ONE
    h = members(cluster={"manifests": [{"url": f"{web.url}/one.yaml", "sha256": sha256(TWO)}]})
    begun(h)
    ok, reason, message = told(h)
    assert (ok, reason) == (False, "ManifestChanged")
    assert sha256(ONE) in message
    assert "spec.manifests[0]" in message
    assert applied(h) == []


def test_a_url_that_does_not_answer_is_tried_again_by_itself(members: Make, web: Web) -> None:
    h = members(cluster={"manifests": [{"url": f"{web.url}/one.yaml", "sha256": sha256(ONE)}]})
    begun(h)
    ok, reason, message = told(h)
    assert (ok, reason) == (False, "ManifestUnreachable")
    assert "404" in message
    web.files["/one.yaml"] = ONE
    h.advance(30)
    assert told(h)[0] is True


def test_a_file_that_is_not_there_is_named(members: Make, tmp_path: Path) -> None:
    h = members(cluster={"manifests": [{"path": str(tmp_path / "none.yaml")}]})
    begun(h)
    assert told(h)[1] == "ManifestUnreadable"
    assert "none.yaml" in told(h)[2]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: [", "it is not YAML"),
        ("just text", "not an object of Kubernetes"),
        ("apiVersion: v1\nkind: ConfigMap\n", "has no metadata.name"),
    ],
)
def test_what_is_no_manifest_is_refused_with_the_reason(members: Make, tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    h = members(cluster={"manifests": [{"path": str(file)}]})
    begun(h)
    assert told(h)[1] == "ManifestRefused"
    assert why in told(h)[2]


def test_a_kind_that_the_cluster_does_not_serve_yet_is_waited_for_and_holds_up_what_follows(
    members: Make, tmp_path: Path
) -> None:
    strange, two = tmp_path / "strange.yaml", tmp_path / "two.yaml"
    strange.write_text("apiVersion: example.dev/v1\nkind: Thing\nmetadata: {name: x}\n")
    two.write_text(TWO)
    h = members(cluster={"manifests": [{"path": str(strange)}, {"path": str(two)}]})
    begun(h)
    assert told(h)[1] == "ManifestWaits"
    assert "Thing" in told(h)[2]
    assert applied(h) == []


def test_a_list_is_taken_apart(members: Make, tmp_path: Path) -> None:
    file = tmp_path / "list.yaml"
    items = "".join(f"- {{apiVersion: v1, kind: ConfigMap, metadata: {{name: {n}, namespace: kube-system}}}}\n" for n in "xy")
    file.write_text(f"apiVersion: v1\nkind: List\nitems:\n{items}---\n{TWO}")
    h = members(cluster={"manifests": [{"path": str(file)}]})
    begun(h)
    assert applied(h) == ["x", "y", "two"]


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        ({}, "name one of url and path"),
        ({"url": "https://a.example/x", "path": "/x"}, "name one of url and path"),
        ({"url": "ftp://a.example/x"}, "begins with https://"),
        ({"url": "http://a.example/x"}, "declare its sha256"),
        ({"path": "x.yaml"}, "absolute path"),
    ],
)
def test_a_manifest_that_cannot_be_meant_is_refused_at_once(harness: Make, manifest: dict[str, str], why: str) -> None:
    h = harness()
    h.provider()
    with pytest.raises(Invalid) as caught:
        h.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": {"provider": "sim", "manifests": [manifest]}})
    assert why in caught.value.message


def test_a_cluster_is_not_ready_before_its_addons_are_and_says_which_one_it_waits_for(tmp_path: Path) -> None:
    rehearsal, file = WithAddon(), tmp_path / "two.yaml"
    with Harness(tmp_path / "state", plugins=rehearsal.plugins(), cloud={"boot_seconds": (1, 1)}) as h:
        rehearsal.follow(h)
        rehearsal.silent(h)
        h.provider()
        kubernetes = {"version": "v1.34.1", "bootstrapper": "rehearsal"}
        spec = {"provider": "sim", "kubernetes": kubernetes, "manifests": [{"path": str(file)}]}
        h.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": spec})
        h.ready(1, 600)
        h.until(lambda: h.condition(Cluster, "demo", "AddonsReady")[0] == "False", 60)
        assert h.condition(Cluster, "demo", "AddonsReady")[1] == "ManifestUnreadable"
        assert str(file) in h.condition(Cluster, "demo", "Ready")[2]
        file.write_text(TWO)
        h.until(lambda: h.get(Cluster, "demo").status.is_true("Ready"), 120)
        assert h.condition(Cluster, "demo", "AddonsReady")[0] == "True"
        assert applied(h) == ["one", "two"]
        assert h.failed == []
        assert h.manager.failed == []
