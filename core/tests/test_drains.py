"""A Machine's Node is drained before it goes: in what order, how long, what keeps it, and when it is left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kubeup_core.kinds import Cluster, LoadBalancer, Machine, NodePool
from kubeup_core.testing.harness import Crash, Harness

Make = Callable[..., Harness]


def gone(h: Harness, name: str) -> Callable[[], bool]:
    return lambda: h.find(Machine, name) is None


def drained(h: Harness, name: str) -> tuple[str, str]:
    status, reason, _ = h.condition(Machine, name, "Drained")
    return status, reason


def at_deletion(h: Harness, look: Callable[[], Any]) -> list[Any]:
    """What a look shows right before the place is asked to delete a machine."""
    seen: list[Any] = []

    def strike(point: str) -> None:
        if point == "before Machine.delete":
            seen.append(look())

    h.cloud.strike = strike
    return seen


def test_the_pods_of_a_machine_have_moved_before_it_is_deleted(members: Make) -> None:
    h = members("a", "b")
    h.workload().pod("web", "a", grace=10)
    seen = at_deletion(
        h, lambda: (h.workload().pods("a"), h.workload().node("a")["spec"], h.condition(Machine, "a", "Drained"))
    )
    h.delete(Machine, "a")
    h.until(gone(h, "a"))
    pods, spec, condition = seen[0]
    assert pods == []
    assert spec["unschedulable"] is True
    assert condition[:2] == ("True", "Drained")
    assert len(h.workload().pods("b")) == 1
    assert h.workload().nodes() == ["b"], "the Node goes with its machine"


def test_a_machine_is_draining_and_says_which_pods_it_waits_for(members: Make) -> None:
    h = members("a")
    h.workload().pod("web", "a", grace=60)
    h.delete(Machine, "a")
    h.advance(10)
    assert h.get(Machine, "a").status.state == "Draining"
    status, reason, message = h.condition(Machine, "a", "Drained")
    assert (status, reason) == ("False", "Draining")
    assert "default/web" in message
    h.until(gone(h, "a"), 120)


def test_pods_of_daemon_sets_static_pods_and_finished_ones_are_not_waited_for(members: Make) -> None:
    h = members("a")
    h.workload().pod("proxy", "a", owner="DaemonSet")
    h.workload().pod("etcd-a", "a", namespace="kube-system", owner="Node", mirror=True)
    h.workload().pod("job", "a", owner="Job", phase="Succeeded")
    seen = at_deletion(h, lambda: h.workload().pods("a"))
    h.delete(Machine, "a")
    h.until(gone(h, "a"))
    assert seen[0] == ["etcd-a", "job", "proxy"]


def test_a_bare_pod_is_evicted_as_well(members: Make) -> None:
    h = members("a")
    h.workload().pod("alone", "a", owner="")
    h.delete(Machine, "a")
    h.until(gone(h, "a"))
    assert h.workload().pods() == []


def test_a_disruption_budget_holds_a_machine_back_and_is_named(members: Make) -> None:
    h = members("a")
    h.workload().pod("web", "a", labels={"app": "web"})
    h.workload().budget("keep", {"app": "web"}, 1)
    h.delete(Machine, "a")
    h.advance(60)
    _, reason, message = h.condition(Machine, "a", "Drained")
    assert reason == "Draining"
    assert "default/web may not be evicted" in message
    assert "disruption budget keep needs 1 healthy pods" in message
    h.advance(600)
    _, reason, message = h.condition(Machine, "a", "Drained")
    assert reason == "DrainBlocked"
    assert "disruption budget keep" in message
    assert "onTimeout: Force in NodePool workers" in message
    assert h.condition(Machine, "a", "Stalled")[0] == "True"
    h.workload().budget("keep", {"app": "web"}, 0)
    h.until(gone(h, "a"), 60)


def test_a_budget_that_lets_one_go_at_a_time_is_obeyed(members: Make) -> None:
    h = members("a", "b")
    for name in ("x", "y", "z"):
        h.workload().pod(name, "a", labels={"app": "web"}, grace=20)
    h.workload().budget("two", {"app": "web"}, 2)
    fewest = []

    def look() -> bool:
        fewest.append(len([p for p in h.workload().pods() if p]))
        return h.find(Machine, "a") is None

    h.delete(Machine, "a")
    h.until(look, 300)
    assert min(fewest) >= 3, "each pod ends before the next one is asked, and is there anew elsewhere"
    assert len(h.workload().pods("b")) == 3


def test_with_force_the_time_limit_lets_it_go_and_says_what_was_lost(members: Make) -> None:
    h = members("a", drain={"timeout": "2m", "onTimeout": "Force"})
    h.workload().pod("web", "a", labels={"app": "web"})
    h.workload().budget("keep", {"app": "web"}, 1)
    began = h.clock.awake()
    h.delete(Machine, "a")
    h.until(gone(h, "a"), 400)
    assert 120 <= h.clock.awake() - began < 300
    assert [m for m in h.messages("a") if m.startswith("DrainForced: after 2m 1 pods")]


def test_force_set_while_it_is_held_back_lets_it_go(members: Make) -> None:
    h = members("a", drain={"timeout": "1m"})
    h.workload().pod("web", "a", labels={"app": "web"})
    h.workload().budget("keep", {"app": "web"}, 1)
    h.delete(Machine, "a")
    h.advance(120)
    assert drained(h, "a") == ("False", "DrainBlocked")
    h.edit(NodePool, "workers", spec={"drain": {"onTimeout": "Force"}})
    h.until(gone(h, "a"), 60)


def test_a_node_whose_kubelet_is_silent_is_not_drained(members: Make) -> None:
    h = members("a")
    h.workload().pod("web", "a")
    h.workload().silence("a")
    h.advance(40)
    h.delete(Machine, "a")
    seen = at_deletion(h, lambda: h.condition(Machine, "a", "Drained"))
    h.until(gone(h, "a"), 60)
    assert seen[0][:2] == ("True", "Skipped")
    assert "kubelet" in seen[0][2]


def test_a_machine_that_had_failed_is_not_drained(members: Make) -> None:
    h = members("a")
    h.workload().pod("web", "a")
    h.workload().condition("a", "False", "KubeletNotReady", "container runtime is down")
    h.until(lambda: h.get(Machine, "a").status.state == "Failed")
    h.delete(Machine, "a")
    seen = at_deletion(h, lambda: h.condition(Machine, "a", "Drained"))
    h.until(gone(h, "a"), 60)
    assert seen[0][1] == "Skipped"
    assert "failed" in seen[0][2]


def test_an_api_that_does_not_answer_holds_a_machine_back_for_minutes_and_not_for_ever(members: Make) -> None:
    h = members("a")
    h.workload().pod("web", "a")
    h.workload().fault = "unreachable"
    h.delete(Machine, "a")
    h.advance(240)
    assert drained(h, "a") == ("False", "ApiSilent")
    h.until(gone(h, "a"), 240)
    assert [m for m in h.messages("a") if m.startswith("DrainSkipped")]
    h.workload().fault = ""
    h.workload().silence("a")
    h.until(lambda: h.workload().nodes() == [], 120)


def test_an_api_that_answers_again_is_asked_again(members: Make) -> None:
    h = members("a", "b")
    h.workload().pod("web", "a")
    h.workload().fault = "unreachable"
    h.delete(Machine, "a")
    h.advance(100)
    h.workload().fault = ""
    h.until(gone(h, "a"), 60)
    assert len(h.workload().pods("b")) == 1


def test_when_the_whole_cluster_goes_nothing_is_drained(members: Make) -> None:
    h = members("a")
    h.workload().pod("web", "a", labels={"app": "web"})
    h.workload().budget("keep", {"app": "web"}, 1)
    h.delete(Cluster, "demo")
    h.until(lambda: h.find(Cluster, "demo") is None, 300)
    assert not [r for r in h.workload().requests if "eviction" in r]


def test_load_balancers_come_first_and_the_node_after_them(members: Make) -> None:
    h = members("a")
    spec = {"cluster": "demo", "listeners": [{"port": 80}], "drain": "30s"}
    h.apply({"kind": "LoadBalancer", "metadata": {"name": "web"}, "spec": spec})
    h.until(lambda: h.get(LoadBalancer, "web").status.counts.healthy == 1)
    h.workload().pod("web", "a", grace=5)
    when: list[bool] = []
    evict = h.workload()._evict

    def watched(path: str, body: Any) -> Any:
        when.append(h.get(Machine, "a").status.is_true("Deregistered"))
        return evict(path, body)

    h.workload()._evict = watched  # type: ignore[method-assign]
    h.delete(Machine, "a")
    h.until(gone(h, "a"), 300)
    assert when[0] is True


@pytest.mark.parametrize("write", range(1, 6))
def test_a_crash_at_any_write_of_a_drain_loses_nothing(members: Make, write: int) -> None:
    h = members("a", "b")
    h.workload().pod("web", "a", grace=15)
    h.delete(Machine, "a")
    left = iter(range(write - 1, -1, -1))

    def strike(moment: str) -> None:
        if moment == "after" and next(left, 1) == 0:
            raise Crash

    h.on_commit = strike
    try:
        h.until(gone(h, "a"), 300)
    except Crash:
        h.crash()
    h.until(gone(h, "a"), 300)
    assert len(h.workload().pods("b")) == 1
    assert h.workload().nodes() == ["b"]


def test_a_plain_machine_is_deleted_as_ever(harness: Make) -> None:
    h = harness()
    h.demo(1)
    h.ready(1)
    h.edit(NodePool, "workers", spec={"replicas": 0})
    h.settle(30)
    assert h.machines() == []
    assert h.workload().requests == []


def test_the_page_on_draining_names_every_reason() -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/drain.md").read_text()
    for word in ("Draining", "DrainBlocked", "DrainForced", "Skipped", "onTimeout", "kubeup.dev/labels", "kubeup.dev/taints"):
        assert f"`{word}" in page or f" {word}" in page
