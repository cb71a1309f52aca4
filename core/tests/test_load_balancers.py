"""Load balancers on the simulator: members come and go without a lost connection, nothing is made twice or left behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kubeup_core.controllers.deregistration import announce, leaving_balancers
from kubeup_core.kinds import Cluster, LoadBalancer, Machine, NodePool
from kubeup_core.testing.harness import Crash, Harness


@pytest.fixture
def h(tmp_path: Path) -> Iterator[Harness]:
    with Harness(tmp_path, cloud={"boot_seconds": (1, 1)}) as harness:
        harness.provider()
        harness.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": {"provider": "sim"}})
        yield harness


def pool(h: Harness, replicas: int = 2, name: str = "web", **spec: Any) -> None:
    h.apply({"kind": "NodePool", "metadata": {"name": name}, "spec": {"cluster": "demo", "replicas": replicas, **spec}})


def balancer(h: Harness, name: str = "front", **spec: Any) -> None:
    spec = {"cluster": "demo", "listeners": [{"port": 80, "targetPort": 8080}], **spec}
    h.apply({"kind": "LoadBalancer", "metadata": {"name": name}, "spec": spec})


def ready(h: Harness, name: str = "front") -> bool:
    return h.condition(LoadBalancer, name, "Ready")[0] == "True"


def up(h: Harness, replicas: int = 2, **spec: Any) -> None:
    pool(h, replicas)
    balancer(h, **spec)
    h.until(lambda: ready(h) and h.get(LoadBalancer, "front").status.counts.healthy == replicas)


def members(h: Harness) -> dict[str, str]:
    view = h.cloud.balancing.get(h.get(LoadBalancer, "front").status.id)
    return dict(view.health)


def balancers(h: Harness) -> list[str]:
    return [line.id for line in h.cloud.console.everything() if line.kind == "LoadBalancer"]


def running(h: Harness, name: str) -> bool:
    return any(line.name == name and line.phase == "Running" for line in h.cloud.console.machines())


# -- living ----------------------------------------------------------------------------------------------------------------


def test_it_is_ready_when_a_member_takes_traffic(h: Harness) -> None:
    up(h)
    status = h.get(LoadBalancer, "front").status
    assert (status.provider, status.counts.total, status.counts.healthy) == ("sim", 2, 2)
    assert status.address
    assert status.members == []
    assert [(li.port, li.target_port) for li in status.listeners] == [(80, 8080)]
    assert members(h) == {"web-0": "healthy", "web-1": "healthy"}


def test_the_address_is_told_before_it_works(h: Harness) -> None:
    h.cloud.configure({"balancer_seconds": 300.0})
    balancer(h)
    h.until(lambda: h.get(LoadBalancer, "front").status.address is not None, 60)
    assert not ready(h)


def test_without_machines_it_says_which_ones_it_takes(h: Harness) -> None:
    balancer(h, members={"selector": {"kubeup.dev/pool": "web"}})
    h.settle()
    status, reason, message = h.condition(LoadBalancer, "front", "Ready")
    assert (status, reason) == ("False", "NoMembers")
    assert "kubeup.dev/pool=web" in message


def test_scaling_adds_and_removes_members(h: Harness) -> None:
    up(h)
    h.edit(NodePool, "web", spec={"replicas": 3})
    h.until(lambda: set(members(h)) == {"web-0", "web-1", "web-2"})
    h.edit(NodePool, "web", spec={"replicas": 1})
    h.until(lambda: len(h.machines()) == 1 and len(members(h)) == 1)


def test_sick_members_are_counted_and_named(h: Harness) -> None:
    up(h, 3)
    h.cloud.console.sicken("web-1")
    h.until(lambda: h.condition(LoadBalancer, "front", "Degraded")[0] == "True", 120)
    status = h.get(LoadBalancer, "front").status
    assert "web-1" in h.condition(LoadBalancer, "front", "Degraded")[2]
    assert [(m.machine, m.state) for m in status.members] == [("web-1", "unhealthy")]
    assert ready(h)
    h.cloud.console.cure("web-1")
    h.until(lambda: h.condition(LoadBalancer, "front", "Degraded")[0] == "False", 120)


def test_the_status_shows_at_most_twenty_members(h: Harness) -> None:
    up(h, 25)
    for n in range(25):
        h.cloud.console.sicken(f"web-{n}")
    h.until(lambda: h.get(LoadBalancer, "front").status.counts.healthy == 0, 120)
    status = h.get(LoadBalancer, "front").status
    assert (status.counts.total, len(status.members)) == (25, 20)


def test_a_change_of_the_wish_reaches_the_balancer(h: Harness) -> None:
    up(h)
    h.edit(LoadBalancer, "front", spec={"listeners": [{"port": 443}]})
    h.settle()
    view = h.cloud.balancing.get(h.get(LoadBalancer, "front").status.id)
    assert [li["port"] for li in view.balancer.listeners] == [443]
    assert len(balancers(h)) == 1


def test_a_fixed_address_is_passed_on(h: Harness) -> None:
    balancer(h, address="198.51.100.7")
    h.settle()
    assert h.get(LoadBalancer, "front").status.address == "198.51.100.7"


def test_a_re_check_writes_nothing_and_neither_does_a_restart(h: Harness) -> None:
    up(h)
    h.settle()
    before = h.writes.copy()
    h.advance(1800)
    assert h.writes - before == {}
    h.crash()
    h.settle()
    h.advance(60)
    assert h.writes - before == {}


def test_no_self_reach_is_said(h: Harness) -> None:
    h.cloud.configure({"self_reach": False})
    up(h)
    status, reason, message = h.condition(LoadBalancer, "front", "SelfReach")
    assert (status, reason) == ("False", "NotOffered")
    assert "does not reach itself" in message


# -- where it belongs ------------------------------------------------------------------------------------------------------


def test_a_cluster_that_is_not_there_is_named_with_the_nearest(h: Harness) -> None:
    balancer(h, cluster="dem")
    h.settle()
    _, reason, message = h.condition(LoadBalancer, "front", "Ready")
    assert reason == "ClusterMissing"
    assert "did you mean demo?" in message
    h.delete(LoadBalancer, "front")
    h.settle()
    assert h.find(LoadBalancer, "front") is None


def test_the_clusters_choice_of_provider_is_taken(h: Harness) -> None:
    h.provider("sim-b")
    h.edit(Cluster, "demo", spec={"loadBalancers": {"provider": "sim-b"}})
    up(h)
    assert h.get(LoadBalancer, "front").status.provider == "sim-b"


def test_a_machine_on_another_fabric_is_left_out_and_named(h: Harness) -> None:
    h.provider("away", account="second")
    up(h, members={"selector": {"kubeup.dev/cluster": "demo"}})
    pool(h, 1, "far", provider="away")
    h.until(lambda: h.condition(LoadBalancer, "front", "Degraded")[1] == "MembersRefused")
    assert "machine far-0" in h.condition(LoadBalancer, "front", "Degraded")[2]
    assert set(members(h)) == {"web-0", "web-1"}
    assert ready(h)


def test_another_provider_in_the_spec_moves_it(h: Harness) -> None:
    h.provider("away", account="second")
    up(h)
    h.edit(LoadBalancer, "front", spec={"provider": "away"})
    h.until(lambda: h.get(LoadBalancer, "front").status.provider == "away" and h.get(LoadBalancer, "front").status.id)
    assert balancers(h) == []


# -- machines leave --------------------------------------------------------------------------------------------------------


def test_a_machine_is_deleted_only_after_its_connections_had_their_time(h: Harness) -> None:
    up(h, drain="60s")
    began = h.clock.awake()
    h.delete(Machine, "web-1")
    h.until(lambda: members(h).get("web-1") == "draining")
    assert running(h, "web-1")
    h.advance(30)
    assert running(h, "web-1")
    h.until(lambda: not running(h, "web-1"))
    assert h.clock.awake() - began >= 59


def test_a_machine_that_drained_early_goes_early(h: Harness) -> None:
    up(h, drain="600s")
    balancer_id = h.get(LoadBalancer, "front").status.id
    h.delete(Machine, "web-1")
    h.until(lambda: members(h).get("web-1") == "draining")
    view = h.cloud.balancing.get(balancer_id)
    now = h.clock.wall()
    changed = {k: {**m, "drain_until": now} if m["drain_until"] else m for k, m in view.balancer.members.items()}
    with h.cloud.state.write():
        h.cloud.state.put(replace(view.balancer, members=changed))
    h.until(lambda: not running(h, "web-1"), 120)


def test_a_machine_waits_for_every_balancer(h: Harness) -> None:
    up(h, drain="10s")
    balancer(h, "slow", drain="90s")
    h.until(lambda: ready(h, "slow"))
    began = h.clock.awake()
    h.delete(Machine, "web-1")
    h.until(lambda: not running(h, "web-1"))
    assert h.clock.awake() - began >= 89


def test_a_balancer_that_does_not_take_the_machine_does_not_hold_it(h: Harness) -> None:
    pool(h)
    balancer(h, drain="600s", members={"machines": ["web-0"]})
    h.until(lambda: ready(h) and len(h.machines()) == 2 and all(m.status.is_true("Ready") for m in h.machines()))
    began = h.clock.awake()
    h.delete(Machine, "web-1")
    h.until(lambda: not running(h, "web-1"))
    assert h.clock.awake() - began < 30


def test_a_machine_being_deleted_is_never_added(h: Harness) -> None:
    pool(h)
    h.until(lambda: all(m.status.is_true("Ready") for m in h.machines()) and len(h.machines()) == 2)
    h.edit(Machine, "web-1", metadata={"finalizers": [*h.get(Machine, "web-1").finalizers, "example.com/wait"]})
    h.delete(Machine, "web-1")
    balancer(h)
    h.until(lambda: ready(h))
    h.advance(60)
    assert "web-1" not in members(h)


def test_without_a_balancer_nothing_is_waited_for(h: Harness) -> None:
    pool(h)
    h.until(lambda: len(h.machines()) == 2 and all(m.status.is_true("Ready") for m in h.machines()))
    h.delete(Machine, "web-1")
    assert not leaving_balancers(h.manager.env, h.get(Machine, "web-1"))


def test_a_balancer_that_is_being_deleted_holds_no_machine(h: Harness) -> None:
    h.cloud.configure({"linger_seconds": 600.0})
    up(h, drain="600s")
    h.delete(LoadBalancer, "front")
    h.delete(Machine, "web-1")
    began = h.clock.awake()
    h.until(lambda: not running(h, "web-1"))
    assert h.clock.awake() - began < 60


def test_a_balancer_that_cannot_be_reached_holds_a_machine_for_the_drain_time_only(h: Harness) -> None:
    up(h, drain="60s")
    h.cloud.faults.add("lostRequest", kind="LoadBalancer", operation="setMembers", times=None)
    began = h.clock.awake()
    h.delete(Machine, "web-1")
    h.until(lambda: not running(h, "web-1"))
    assert 59 <= h.clock.awake() - began < 120


def test_a_restart_in_the_middle_of_draining_lets_the_machine_go_in_the_end(h: Harness) -> None:
    up(h, drain="60s")
    h.delete(Machine, "web-1")
    h.advance(20)
    h.crash()
    h.until(lambda: not running(h, "web-1"))
    h.until(lambda: set(members(h)) == {m.name for m in h.machines()} and len(h.machines()) == 2)


def test_the_condition_is_written_beside_other_writers(h: Harness) -> None:
    """The newest is read, one condition is changed; a status that changed in between is not lost."""
    up(h)
    old = h.get(Machine, "web-1")
    changed = old.model_copy(deep=True)
    changed.status.set_condition("Other", True, "Because", now=h.clock.wall())
    h.client.update_status(changed)
    announce(h.manager.env, old, "gone")
    status = h.get(Machine, "web-1").status
    assert status.is_true("Other")
    assert status.is_true("Deregistered")


# -- what goes wrong -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["create", "update", "setMembers", "delete"])
@pytest.mark.parametrize("fault", ["lostReply", "lostRequest", "throttle"])
def test_no_fault_makes_a_second_one_or_leaves_one(h: Harness, fault: str, operation: str) -> None:
    h.cloud.configure({"settle": 5.0})
    h.cloud.faults.add(fault, operation=operation, kind="LoadBalancer", times=2)
    up(h)
    assert len(balancers(h)) == 1
    h.delete(LoadBalancer, "front")
    h.until(lambda: h.find(LoadBalancer, "front") is None)
    assert balancers(h) == []


@pytest.mark.parametrize("moment", range(1, 13))
def test_a_crash_at_any_request_makes_no_second_one_and_leaves_none(h: Harness, moment: int) -> None:
    pool(h, 1)
    balancer(h)
    numbers = iter(range(1, 1000))

    def strike(point: str) -> None:
        if "LoadBalancer" in point and next(numbers) == moment:
            raise Crash

    h.cloud.strike = strike
    try:
        h.until(lambda: ready(h))
        h.delete(LoadBalancer, "front")
        h.until(lambda: h.find(LoadBalancer, "front") is None)
    except Crash:
        h.crash()
        if not h.get(LoadBalancer, "front").deleting:
            h.until(lambda: ready(h))
            assert len(balancers(h)) == 1
            h.delete(LoadBalancer, "front")
        h.until(lambda: h.find(LoadBalancer, "front") is None)
    assert balancers(h) == []


def test_one_that_vanished_is_made_again(h: Harness) -> None:
    up(h)
    first = h.get(LoadBalancer, "front").status.id
    h.cloud.state.remove(h.cloud.balancing.get(first).balancer)
    h.until(lambda: balancers(h) != [], 300)
    h.until(lambda: ready(h) and h.get(LoadBalancer, "front").status.id == balancers(h)[0])


def test_a_quota_is_said_with_what_to_do(h: Harness) -> None:
    h.cloud.configure({"quota": {"load_balancers": 0}})
    balancer(h)
    h.settle(60)
    assert h.condition(LoadBalancer, "front", "Ready")[:2] == ("False", "QuotaExceeded")
    assert h.get(LoadBalancer, "front").status.last_error is not None
    h.cloud.configure({"quota": {}})
    h.until(lambda: h.get(LoadBalancer, "front").status.id is not None)


def test_a_paused_one_is_left_alone(h: Harness) -> None:
    up(h)
    h.edit(LoadBalancer, "front", spec={"paused": True, "listeners": [{"port": 443}]})
    h.delete(LoadBalancer, "front")
    h.advance(120)
    view = h.cloud.balancing.get(h.get(LoadBalancer, "front").status.id)
    assert [li["port"] for li in view.balancer.listeners] == [80]
    assert h.condition(LoadBalancer, "front", "Paused")[0] == "True"
    h.edit(LoadBalancer, "front", spec={"paused": False})
    h.until(lambda: h.find(LoadBalancer, "front") is None)
    assert balancers(h) == []
