"""Workload clusters as kubeup sees them: is the API there, what do its Nodes say, labels and taints, tokens, the functional check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubeup_core.controllers.nodes import Nodes
from kubeup_core.kinds import Cluster, Machine, NodePool, Secret
from kubeup_core.objects import parse_timestamp
from kubeup_core.runtime.controller import Key
from kubeup_core.statuses import Invalid
from kubeup_core.testing.harness import Harness

Make = Callable[..., Harness]
ME = ("cluster", Key("default", "demo"))


def book(h: Harness) -> Nodes:
    return h.manager.env.shared(Nodes)


def machine(h: Harness, name: str) -> Machine:
    return h.get(Machine, name)


def demo(h: Harness) -> Cluster:
    return h.get(Cluster, "demo")


def test_a_machine_is_shown_what_its_node_says(members: Make) -> None:
    h = members("a")
    nodes = book(h)
    view = nodes.of(machine(h, "a"))
    assert view is not None
    assert (view.name, view.ready, view.kubelet_version) == ("a", True, "v1.34.1")
    assert nodes.health(machine(h, "a")).ok is True
    assert nodes.api(demo(h)).ok is True
    assert nodes.version(demo(h)) == "v1.34.1"


def test_what_presses_a_node_is_told_at_its_machine_whose_health_it_does_not_decide(members: Make) -> None:
    h = members("a")
    h.workload().condition("a", "False", "KubeletHasSufficientMemory", "enough", type_="MemoryPressure")
    h.workload().condition("a", "True", "KubeletHasDiskPressure", "the disk is full", type_="DiskPressure")
    h.until(lambda: "DiskPressure" in h.condition(Machine, "a", "NodeHealthy")[2], 120)
    assert h.condition(Machine, "a", "NodeHealthy") == (
        "True",
        "KubeletReady",
        "its Node is Ready; it has DiskPressure (the disk is full)",
    )


# -- the API -------------------------------------------------------------------------------------------------------------


def test_one_answer_that_does_not_come_means_nothing(members: Make) -> None:
    h = members("a")
    nodes = book(h)
    h.advance(60)
    h.workload().fault = "unreachable"
    h.until(lambda: not nodes.api(demo(h)).ok, 120)
    asked = nodes.entry(demo(h)).listed
    assert asked is not None
    assert h.clock.awake() - asked > 60, "an API that has answered is only taken for silent after several looks"


def test_a_silent_api_says_nothing_about_machines(members: Make) -> None:
    h = members("a")
    nodes = book(h)
    h.workload().fault = "unreachable"
    h.advance(600)
    assert nodes.api(demo(h)).reason == "ApiUnreachable"
    assert nodes.health(machine(h, "a")).ok is None
    assert machine(h, "a").status.is_true("Ready")
    h.workload().fault = ""
    h.until(lambda: nodes.health(machine(h, "a")).ok, 60)


def test_an_api_that_does_not_let_us_in_is_told_apart_with_a_remedy(members: Make) -> None:
    h = members()
    nodes = book(h)
    h.workload().fault = "denied"
    h.until(lambda: nodes.api(demo(h)).ok is False, 300)
    told = nodes.api(demo(h))
    assert told.reason == "ApiDenied"
    assert "demo-kubeconfig" in told.message


def test_an_api_that_is_up_but_not_ready_is_not_taken_for_ready(members: Make) -> None:
    h = members(before=lambda h: setattr(h.workload(), "fault", "notReady"))
    nodes = book(h)
    assert nodes.api(demo(h)).reason == "ApiNotReady"
    h.workload().fault = ""
    h.advance(10)
    assert nodes.api(demo(h)).ok is True


def test_without_a_kubeconfig_nobody_is_asked(members: Make) -> None:
    h = members()
    h.delete(Secret, "demo-kubeconfig")
    h.crash()
    h.advance(5)
    assert book(h).workload(demo(h)) is None
    assert book(h).api(demo(h)).ok is None


def test_nodes_are_listed_often_only_while_something_moves(members: Make) -> None:
    h = members("a")
    nodes = book(h)
    listed = set()
    for _ in range(60):
        h.advance(1)
        listed.add(nodes.entry(demo(h)).listed)
    assert len(listed) <= 4


def test_what_was_known_is_known_again_after_a_crash(members: Make) -> None:
    h = members("a")
    h.crash()
    h.advance(5)
    assert book(h).of(machine(h, "a")) is not None


# -- Nodes ---------------------------------------------------------------------------------------------------------------


def test_a_node_that_is_not_ready_is_news_within_seconds_of_the_next_listing(members: Make) -> None:
    h = members("a")
    h.workload().condition("a", "False", "KubeletNotReady", "container runtime is down")
    h.until(lambda: not machine(h, "a").status.is_true("Ready"), 40)
    status, reason, message = h.condition(Machine, "a", "NodeHealthy")
    assert (status, reason) == ("False", "NodeNotReady")
    assert "container runtime is down" in message
    h.workload().join("a")
    h.until(lambda: machine(h, "a").status.is_true("Ready"), 40)


def test_a_machine_whose_node_is_not_ready_for_long_has_failed(members: Make) -> None:
    h = members("a", repair={"unreadyTimeout": "2m"})
    h.workload().silence("a")
    h.until(lambda: machine(h, "a").status.state == "Failed", 200)


def test_a_node_that_is_gone_though_its_machine_lives_is_said(members: Make) -> None:
    h = members("a")
    nodes = book(h)
    h.workload().request("DELETE", "/api/v1/nodes/a")
    h.advance(40)
    assert nodes.health(machine(h, "a")).reason == "NodeGone"
    assert not machine(h, "a").status.is_true("Ready")


def test_a_node_that_a_predecessor_of_the_same_name_left_is_not_taken_for_its_own(members: Make) -> None:
    def former(h: Harness) -> None:
        h.workload().join("a")
        h.clock.advance(60)

    h = members(before=former)
    nodes = book(h)
    h.apply({"kind": "Machine", "metadata": {"name": "a"}, "spec": {"cluster": "demo", "role": "worker", "pool": "workers"}})
    assert nodes.of(machine(h, "a")) is None
    assert [n.name for n in nodes.all(demo(h))] == ["a"]


def test_a_successor_that_registers_over_the_old_node_is_the_one_that_it_stands_for_now(members: Make) -> None:
    h = members("a")
    nodes, old = book(h), machine(h, "a")
    h.workload().fault = "unreachable"
    h.delete(Machine, "a")
    h.until(lambda: h.find(Machine, "a") is None, 600)
    h.clock.advance(5)
    h.apply({"kind": "Machine", "metadata": {"name": "a"}, "spec": {"cluster": "demo", "role": "worker", "pool": "workers"}})
    h.clock.advance(5)
    h.workload().fault = ""
    h.workload().silence("a")
    h.workload().join("a")
    h.until(lambda: nodes.of(machine(h, "a")), 60)
    h.advance(10)
    assert machine(h, "a").uid != old.uid
    assert h.workload().node("a")["metadata"]["annotations"]["kubeup.dev/machine"] == machine(h, "a").uid


def test_clocks_that_differ_do_not_confuse_old_nodes_with_new_ones(members: Make) -> None:
    h = members("a", before=lambda h: setattr(h.workload(), "ahead", -600))
    nodes = book(h)
    assert nodes.of(machine(h, "a")) is not None


def test_a_node_whose_machine_is_no_more_is_deleted_when_its_kubelet_is_silent(members: Make) -> None:
    h = members("a")
    h.advance(5)
    stray = h.workload().node("a")["metadata"]["annotations"] | {"kubeup.dev/machine": "somebody-else"}
    h.workload().join("lost")
    h.workload().node("lost")["metadata"]["annotations"] = stray
    h.workload().join("strange")
    h.advance(60)
    assert h.workload().nodes() == ["a", "lost", "strange"], "one that still works is left alone"
    h.workload().silence("lost")
    h.workload().silence("strange")
    h.advance(60)
    assert h.workload().nodes() == ["a", "strange"], "and so is one that kubeup never marked"


# -- labels and taints ---------------------------------------------------------------------------------------------------


def labels(h: Harness, name: str) -> dict[str, str]:
    found = h.workload().node(name)["metadata"]["labels"]
    return {key: value for key, value in found.items() if key != "kubernetes.io/hostname"}


def test_labels_and_taints_of_a_pool_are_put_on_its_nodes_and_taken_off_again(members: Make) -> None:
    h = members("a", labels={"tier": "web"}, taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}])
    h.advance(5)
    assert labels(h, "a") == {"tier": "web"}
    assert h.workload().node("a")["spec"]["taints"] == [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]
    h.edit(NodePool, "workers", spec={"labels": {"tier": "db", "disk": "fast"}, "taints": []})
    h.advance(5)
    assert labels(h, "a") == {"tier": "db", "disk": "fast"}
    assert h.workload().node("a")["spec"]["taints"] == []
    h.edit(NodePool, "workers", spec={"labels": {"tier": None}})
    h.advance(5)
    assert labels(h, "a") == {"disk": "fast"}


def test_what_others_have_put_on_a_node_is_never_touched(members: Make) -> None:
    h = members("a", labels={"tier": "web"}, taints=[{"key": "gpu", "effect": "NoSchedule"}])
    h.advance(5)
    node = h.workload().node("a")
    node["metadata"]["labels"]["mine"] = "1"
    pressure = {"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z"}
    node["spec"]["taints"].append(pressure)
    h.edit(NodePool, "workers", spec={"labels": {"tier": None}, "taints": [{"key": "other", "effect": "NoExecute"}]})
    h.advance(40)
    assert labels(h, "a") == {"mine": "1"}
    assert h.workload().node("a")["spec"]["taints"] == [pressure, {"key": "other", "effect": "NoExecute"}]


def test_labels_that_were_given_at_the_join_become_the_pools(members: Make) -> None:
    h = members("a", labels={"tier": "web"})
    notes = h.workload().node("a")["metadata"]["annotations"]
    del notes["kubeup.dev/labels"]
    h.advance(40)
    h.edit(NodePool, "workers", spec={"labels": {"tier": None}})
    h.advance(10)
    assert labels(h, "a") == {}


def test_nodes_in_step_are_not_written(members: Make) -> None:
    h = members("a", labels={"tier": "web"}, taints=[{"key": "gpu", "effect": "NoSchedule"}])
    h.advance(5)
    written = len(h.workload().requests)
    h.advance(300)
    assert len(h.workload().requests) == written


def test_a_label_that_the_cluster_refuses_is_said_and_not_tried_all_the_time(members: Make) -> None:
    h = members("a")
    asked = h.workload().request
    tries: list[str] = []

    def refusing(method: str, path: str, **options: Any) -> Any:
        if method == "PATCH":
            tries.append(path)
            raise Invalid("a label must be shorter")
        return asked(method, path, **options)

    h.workload().request = refusing  # type: ignore[method-assign]
    h.edit(NodePool, "workers", spec={"labels": {"tier": "web"}})
    h.advance(50)
    assert len(tries) == 1
    assert [m for m in h.messages("a") if "labels and taints of NodePool workers cannot be put on" in m]


# -- tokens --------------------------------------------------------------------------------------------------------------


def test_a_token_is_made_when_somebody_needs_one_and_used_again_while_it_lasts(members: Make) -> None:
    h = members()
    nodes = book(h)
    assert nodes.token(demo(h), ME) == ""
    h.advance(1)
    token = nodes.token(demo(h), ME)
    found = h.workload().found(f"/api/v1/namespaces/kube-system/secrets/bootstrap-token-{token[:6]}")
    assert found is not None
    assert found["type"] == "bootstrap.kubernetes.io/token"
    h.advance(1100)
    assert nodes.token(demo(h), ME) == token
    h.advance(200)
    assert nodes.token(demo(h), ME) == ""
    h.advance(1)
    assert nodes.token(demo(h), ME) not in ("", token)


def test_a_token_lasts_by_the_clusters_own_clock(members: Make) -> None:
    h = members(before=lambda h: setattr(h.workload(), "ahead", 3000))
    nodes = book(h)
    nodes.token(demo(h), ME)
    h.advance(1)
    token = nodes.token(demo(h), ME)
    found = h.workload().found(f"/api/v1/namespaces/kube-system/secrets/bootstrap-token-{token[:6]}")
    assert found is not None
    left = parse_timestamp(found["stringData"]["expiration"]) - h.workload().now()
    assert 1790 < left <= 1800


# -- the functional check ------------------------------------------------------------------------------------------------


def test_a_cluster_works_when_a_new_service_gets_endpoints(members: Make) -> None:
    h = members()
    nodes = book(h)
    assert nodes.gate(demo(h), "first", ME).ok is None
    h.advance(3)
    assert nodes.gate(demo(h), "first", ME).ok is True
    made = [r for r in h.workload().requests if "services" in r]
    assert [r.split()[0] for r in made] == ["POST", "DELETE"], "and nothing of the check stays"
    h.advance(120)
    assert [r for r in h.workload().requests if "services" in r] == made, "what was found once is not looked for again"
    assert nodes.gate(demo(h), "second", ME).ok is None


def test_a_cluster_whose_controllers_are_blind_does_not_work_whatever_its_nodes_say(members: Make) -> None:
    h = members("a")
    nodes = book(h)
    h.workload().controllers_work = False
    nodes.gate(demo(h), "first", ME)
    h.advance(40)
    told = nodes.gate(demo(h), "first", ME)
    assert (told.ok, told.reason) == (False, "NoEndpoints")
    assert nodes.health(machine(h, "a")).ok is True
    h.workload().controllers_work = True
    h.until(lambda: nodes.gate(demo(h), "first", ME).ok, 60)
    h.advance(5)
    services = {path for path in h.workload()._objects if "/services/" in path}
    assert services == set()
