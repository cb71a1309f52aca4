"""The client of a workload's API, against a real kube-apiserver with its controllers: what it asks for is what they understand."""

from __future__ import annotations

import base64
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubeup_core.bootstrap import bootstrap
from kubeup_core.bootstrapper import Taint
from kubeup_core.controllers.drain import drain_round
from kubeup_core.controllers.node import NodesController, view_of
from kubeup_core.controllers.node_labels import Wanted, in_step, patch
from kubeup_core.controllers.nodes import Nodes
from kubeup_core.inprocess import InProcess
from kubeup_core.kinds import Cluster, Machine, NodePool, Secret
from kubeup_core.plugins import discover
from kubeup_core.runtime.clock import SystemClock
from kubeup_core.runtime.controller import Controller, Env, Key, Result
from kubeup_core.runtime.manager import Manager
from kubeup_core.statuses import Conflict, NotFound, StatusError, TooManyRequests, Unauthorized
from kubeup_core.store import Store
from kubeup_core.verbs import Verbs
from kubeup_core.workload import Pod, Unreachable, Workload, documents
from kubeup_core.workload_http import connect

pytestmark = pytest.mark.slow
PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture(scope="module")
def workload(workload_api: Any) -> Iterator[Workload]:
    made = connect(workload_api.kubeconfig)
    yield made
    made.close()


def node(workload: Workload, name: str) -> dict[str, Any]:
    body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
    made: dict[str, Any] = workload.request("POST", "/api/v1/nodes", body=body)
    return made


def pod(workload: Workload, name: str, on: str, *, labels: dict[str, str] | None = None, **metadata: Any) -> None:
    """Running, as far as the API knows. It ends at once: no kubelet has to say that it has."""
    spec = {"nodeName": on, "containers": [{"name": "c", "image": "x"}], "terminationGracePeriodSeconds": 0}
    metadata = {"name": name, "labels": labels or {}, **metadata}
    workload.request("POST", PODS, body={"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    ready = [{"type": "Ready", "status": "True"}]
    status = {"status": {"phase": "Running", "conditions": ready}}
    workload.request("PATCH", f"{PODS}/{name}/status", body=status, content_type="application/merge-patch+json")


def until(true: Callable[[], Any], seconds: float = 60) -> None:
    """Controllers of another process take their time."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.1)


def test_it_says_that_it_is_ready_its_version_and_its_time(workload: Workload) -> None:
    workload.readyz()
    assert workload.version() == "v1.20.2"
    assert abs(workload.ahead(time.time())) < 5


def test_labels_and_taints_are_put_on_and_taken_off_a_real_node(workload: Workload) -> None:
    node(workload, "labelled")
    mine = {"metadata": {"labels": {"mine": "1"}}, "spec": {"taints": [{"key": "mine", "effect": "NoSchedule"}]}}
    workload.patch_node("labelled", mine)
    taint = Taint(key="gpu", value="yes", effect="NoExecute")
    want = Wanted(machine="m", cluster="c", labels={"tier": "web"}, taints=(taint,))
    change = patch(workload.node("labelled"), want)
    assert change is not None
    view = view_of(workload.patch_node("labelled", change))
    assert view.labels["tier"] == "web"
    assert taint in view.taints
    assert in_step(view, want)
    with pytest.raises(Conflict):
        workload.patch_node("labelled", change)  # it carries the version that it was made for
    change = patch(workload.node("labelled"), Wanted(machine="m", cluster="c"))
    assert change is not None
    view = view_of(workload.patch_node("labelled", change))
    assert view.labels["mine"] == "1"
    assert "tier" not in view.labels
    assert {t.key for t in view.taints} >= {"mine"}
    assert "gpu" not in {t.key for t in view.taints}


def test_a_node_is_cordoned_and_deleted_and_another_of_its_name_is_not(workload: Workload) -> None:
    uid = node(workload, "going")["metadata"]["uid"]
    workload.cordon("going")
    assert view_of(workload.node("going")).unschedulable
    workload.uncordon("going")
    assert not view_of(workload.node("going")).unschedulable
    with pytest.raises(Conflict):
        workload.delete_node("going", "another-uid")
    workload.delete_node("going", uid)
    workload.delete_node("going", uid)
    workload.cordon("going")
    with pytest.raises(NotFound):
        workload.node("going")


def test_a_drain_evicts_what_has_to_leave_and_nothing_else(workload: Workload) -> None:
    node(workload, "drained")
    owner = {"apiVersion": "apps/v1", "name": "o", "uid": "u", "controller": True}
    pod(workload, "bare", "drained")
    pod(workload, "daemon", "drained", ownerReferences=[{**owner, "kind": "DaemonSet"}])
    pod(workload, "static", "drained", annotations={"kubernetes.io/config.mirror": "x"})
    first = drain_round(workload, "drained")
    assert [p.name for p in first.pods] == ["bare"]
    assert first.kept == {}
    until(lambda: not drain_round(workload, "drained").pods)
    assert view_of(workload.node("drained")).unschedulable
    assert {p.name for p in workload.pods_on("drained")} >= {"static"}
    assert drain_round(workload, "no-such-node").gone


def test_a_disruption_budget_refuses_an_eviction_and_is_named(workload: Workload) -> None:
    node(workload, "kept")
    pod(workload, "web", "kept", labels={"app": "kept"})
    budget = {"selector": {"matchLabels": {"app": "kept"}}, "minAvailable": 1}
    path = "/apis/policy/v1beta1/namespaces/default/poddisruptionbudgets"
    body = {"apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget", "metadata": {"name": "keep"}, "spec": budget}
    workload.request("POST", path, body=body)
    until(lambda: workload.request("GET", f"{path}/keep")["status"].get("currentHealthy") == 1)
    found = drain_round(workload, "kept")
    assert [p.name for p in found.pods] == ["web"]
    assert "disruption budget keep needs 1 healthy pods and has 1" in next(iter(found.kept.values()))
    (web,) = workload.pods_on("kept")
    with pytest.raises(TooManyRequests):
        workload.evict(web)
    workload.request("DELETE", f"{path}/keep")
    until(lambda: not drain_round(workload, "kept").pods)


def test_evicting_a_pod_that_is_gone_or_was_made_anew_touches_nothing(workload: Workload) -> None:
    node(workload, "quiet")
    workload.evict(Pod("default", "never", "uid", "Running"))
    pod(workload, "again", "quiet")
    with pytest.raises(Conflict):
        workload.evict(Pod("default", "again", "its-former-uid", "Running"))
    assert [p.name for p in workload.pods_on("quiet")] == ["again"]


def test_manifests_are_applied_and_applied_again_to_a_real_api(workload: Workload) -> None:
    text = """
apiVersion: v1
kind: Namespace
metadata: {name: addons}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: net, namespace: addons}
spec:
  selector: {matchLabels: {app: net}}
  template:
    metadata: {labels: {app: net}}
    spec: {containers: [{name: c, image: "x:1"}]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: net}
rules: [{apiGroups: [""], resources: [nodes], verbs: [get]}]
"""
    assert workload.apply(text) == ["Namespace addons", "DaemonSet addons/net", "ClusterRole net"]
    workload.apply(text.replace("x:1", "x:2"))
    found = workload.request("GET", "/apis/apps/v1/namespaces/addons/daemonsets/net")
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "x:2"


def test_a_definition_and_an_object_of_its_kind_are_applied_in_two_tries(workload: Workload) -> None:
    text = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.dev}
spec:
  group: example.dev
  scope: Namespaced
  names: {plural: things, singular: thing, kind: Thing}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
---
apiVersion: example.dev/v1
kind: Thing
metadata: {name: one}
"""

    def applied() -> bool:
        try:
            workload.apply(text)
        except NotFound:
            return False
        return True

    until(applied)


def test_what_is_refused_says_why(workload: Workload) -> None:
    with pytest.raises(StatusError) as caught:
        workload.apply("apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: -1}]}\n")
    assert "ports" in caught.value.message


def test_a_bootstrap_token_lets_a_machine_in(workload: Workload, workload_api: Any) -> None:
    token = workload.token_create()
    assert token.until - time.time() > 1700
    config = yaml.safe_load(workload_api.kubeconfig)
    config["users"][0]["user"] = {"token": token.value}
    joining = connect(yaml.safe_dump(config))
    with pytest.raises(StatusError) as caught:
        joining.nodes()
    assert 'User "system:bootstrap:' in caught.value.message, "it is known, and may not list Nodes"
    joining.close()


def test_the_functional_check_sees_endpoints_of_a_service_made_now(workload: Workload) -> None:
    spec = {"nodeName": "control-plane", "containers": [{"name": "c", "image": "x"}]}
    metadata = {"name": "kube-apiserver-a", "labels": {"component": "kube-apiserver"}}
    pods = "/api/v1/namespaces/kube-system/pods"
    workload.request("POST", pods, body={"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    status = {"podIP": "192.0.2.7", "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    path = f"{pods}/kube-apiserver-a/status"
    workload.request("PATCH", path, body={"status": status}, content_type="application/merge-patch+json")
    name = workload.gate_start()
    until(lambda: workload.gate_look(name))
    second = workload.gate_start()
    until(lambda: not workload.gate_look(name))  # a check that was never ended is taken away by the next one
    workload.gate_end(second)
    workload.gate_end(second)


def test_services_and_volumes_of_the_workload_are_listed(workload: Workload) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "public"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
    }
    workload.request("POST", "/api/v1/namespaces/default/services", body=body)
    assert [s["metadata"]["name"] for s in workload.load_balancers()] == ["public"]
    assert workload.volumes() == []


def test_a_listing_goes_on_over_pages(workload: Workload) -> None:
    for i in range(5):
        node(workload, f"page-{i}")
    names = [n["metadata"]["name"] for n in workload.items("/api/v1/nodes", {"limit": "2"})]
    assert {f"page-{i}" for i in range(5)} <= set(names)
    assert len(names) == len(set(names))


def test_somebody_whom_the_api_does_not_know_is_told_apart_from_a_silent_api(workload_api: Any) -> None:
    stranger = connect(workload_api.stranger)
    with pytest.raises(Unauthorized):
        stranger.nodes()
    stranger.close()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = connect(workload_api.kubeconfig.replace(workload_api.url, f"https://127.0.0.1:{closed.getsockname()[1]}"))
        with pytest.raises(Unreachable):
            nobody.readyz()
        nobody.close()


def test_with_real_threads_a_node_is_seen_labelled_and_a_token_made(
    workload: Workload, workload_api: Any, tmp_path: Path
) -> None:
    store = Store(tmp_path / "state.db", clock=time.time)
    verbs = Verbs(store, clock=SystemClock())
    bootstrap(verbs, now=time.time())
    client = InProcess(verbs)

    def controllers(env: Env) -> list[Controller]:
        return [NodesController(env), *(Quiet(env, name) for name in ("machine", "cluster"))]

    manager = Manager(client, plugins=discover(), installation="i", controllers=controllers)
    manager.start()
    try:
        node(workload, "a")
        spec = {"provider": "p", "kubernetes": {"version": "v1.20.2"}}
        cluster = client.create(Cluster.model_validate({"metadata": {"name": "demo", "namespace": "default"}, "spec": spec}))
        pool = {"cluster": "demo", "labels": {"tier": "web"}}
        client.create(NodePool.model_validate({"metadata": {"name": "w", "namespace": "default"}, "spec": pool}))
        member = {"cluster": "demo", "pool": "w", "role": "worker"}
        machine = client.create(Machine.model_validate({"metadata": {"name": "a", "namespace": "default"}, "spec": member}))
        data = {"value": base64.b64encode(workload_api.kubeconfig.encode()).decode()}
        client.create(Secret.model_validate({"metadata": {"name": "demo-kubeconfig", "namespace": "default"}, "data": data}))
        nodes = manager.env.shared(Nodes)
        until(lambda: nodes.api(cluster).ok)
        until(lambda: view_of(workload.node("a")).labels.get("tier") == "web")
        until(lambda: view_of(workload.node("a")).machine == machine.uid)
        until(lambda: nodes.token(cluster, ("cluster", Key("default", "demo"))))
        assert nodes.of(machine) is not None
    finally:
        manager.stop()
        store.close()
    assert manager.failed == []


class Quiet(Controller):
    """In the place of those that are woken."""

    def __init__(self, env: Env, name: str) -> None:
        super().__init__(env)
        self.name = name

    def reconcile(self, key: Key) -> Result:
        return Result()


def test_documents_name_what_is_wrong() -> None:
    assert [d["kind"] for d in documents("---\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: a}\n")] == ["Pod"]
