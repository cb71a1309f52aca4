"""A Machine's life, and its end: out of its load balancers, its volumes let go, deleted, proven gone."""

from __future__ import annotations

from collections.abc import Callable

from kubeup_core.kinds import Cluster, Installation, LoadBalancer, Machine, NodePool, Volume
from kubeup_core.testing.harness import Harness

Make = Callable[..., Harness]

BALANCER = {
    "kind": "LoadBalancer",
    "metadata": {"name": "web"},
    "spec": {"cluster": "demo", "listeners": [{"port": 80}], "drain": "30s"},
}


def test_a_ready_machine_says_where_it_is_and_how_it_is_reached(harness: Make) -> None:
    h = harness()
    h.demo(1)
    h.ready(1)
    status = h.machines()[0].status
    assert status.id == h.cloud.console.machines()[0].id
    assert status.provider_id == f"sim:///sim-1a/{status.id}"
    assert [a.type for a in status.addresses] == ["InternalIP", "ExternalIP"]
    assert status.resolved is not None
    assert (status.resolved.provider, status.resolved.zone, status.resolved.machine_type) == ("sim", "sim-1a", "g2")
    assert status.access is not None
    assert status.access.kind == "execute"
    assert status.launch == h.launches()[0].name
    assert h.condition(Machine, "workers-0", "Ready")[:2] == ("True", "Running")


def test_a_machine_that_is_deleted_comes_back_under_its_pool_and_the_old_one_is_gone(harness: Make) -> None:
    h = harness()
    h.demo(1)
    h.ready(1)
    old = h.machines()[0]
    h.delete(Machine, "workers-0")
    h.until(lambda: old.uid not in [m.uid for m in h.machines()])
    h.ready(1)
    assert old.status.id not in [line.id for line in h.cloud.console.machines()]


def test_a_machine_leaves_its_load_balancers_before_it_is_deleted(harness: Make) -> None:
    h = harness()
    h.demo(2)
    h.apply(BALANCER)
    h.ready(2)
    h.until(lambda: h.get(LoadBalancer, "web").status.counts.healthy == 2)
    victim = h.get(Machine, "workers-1").status.id
    h.delete(Machine, "workers-1")
    deregistered: list[bool] = []

    def strike(point: str) -> None:
        if point == "before Machine.delete":
            machine = h.find(Machine, "workers-1")
            deregistered.append(machine is not None and machine.status.is_true("Deregistered"))

    h.cloud.strike = strike
    h.until(lambda: victim not in [line.id for line in h.cloud.console.machines()])
    assert deregistered[:1] == [True]


def test_without_a_load_balancer_nothing_is_waited_for(harness: Make) -> None:
    h = harness()
    h.demo(1)
    h.ready(1)
    h.edit(NodePool, "workers", spec={"replicas": 0})
    h.settle(30)
    assert h.machines() == []


def test_a_machine_waits_for_its_volumes_to_be_detached(harness: Make) -> None:
    h = harness()
    h.demo(1)
    spec = {"cluster": "demo", "size": "10Gi", "attach": {"pool": "workers", "slot": 0}}
    h.apply({"kind": "Volume", "metadata": {"name": "data"}, "spec": spec})
    h.ready(1)
    h.until(lambda: h.get(Volume, "data").status.state == "Attached")
    attached: list[str | None] = []

    def strike(point: str) -> None:
        if point == "before Machine.delete":
            attached.append(h.get(Volume, "data").status.attached_to)

    h.cloud.strike = strike
    h.edit(NodePool, "workers", spec={"replicas": 0})
    h.until(lambda: not h.machines())
    assert attached[:1] == [None]
    assert h.find(Volume, "data") is not None


def test_a_volume_that_never_lets_go_does_not_keep_its_machine_for_ever(harness: Make) -> None:
    h = harness()
    h.demo(1)
    spec = {"cluster": "demo", "size": "10Gi", "attach": {"pool": "workers", "slot": 0}}
    h.apply({"kind": "Volume", "metadata": {"name": "data"}, "spec": spec})
    h.ready(1)
    h.until(lambda: h.get(Volume, "data").status.state == "Attached")
    h.cloud.faults.add("stuckDetach")
    h.edit(NodePool, "workers", spec={"replicas": 0})
    h.until(lambda: not h.machines(), 3600)
    assert h.rented() == []


def test_a_paused_machine_that_is_deleted_stays_and_says_why(harness: Make) -> None:
    h = harness()
    h.demo(1)
    h.ready(1)
    h.edit(Machine, "workers-0", spec={"paused": True})
    h.delete(Machine, "workers-0")
    h.settle(60)
    assert "Machine workers-0 is paused" in h.condition(Machine, "workers-0", "Ready")[2]
    assert "workers-0" in h.rented()
    h.edit(Machine, "workers-0", spec={"paused": False})
    h.ready(1)
    assert len(h.rented()) == 1


def test_a_spot_notice_is_shown_and_the_machine_is_replaced_when_it_went(harness: Make) -> None:
    h = harness()
    h.demo(2, repair={"maxUnhealthy": "50%"})
    h.ready(2)
    h.cloud.console.notice("workers-0", 120)
    h.advance(60)
    assert h.get(Machine, "workers-0").status.leaving_at is not None
    gone = h.get(Machine, "workers-0").status.id
    h.until(lambda: gone not in [m.status.id for m in h.machines()])
    h.ready(2)


def test_deleting_the_cluster_deletes_everything_in_it_and_leaves_nothing(harness: Make) -> None:
    h = harness()
    h.demo(2)
    h.apply(BALANCER)
    h.ready(2)
    h.until(lambda: h.condition(LoadBalancer, "web", "Ready")[0] == "True")
    h.delete(Cluster, "demo")
    h.until(lambda: not h.all(Cluster))
    assert h.cloud.console.everything() == []
    assert h.launches() == []


def test_a_restart_in_the_middle_of_deleting_goes_on(harness: Make) -> None:
    h = harness(cloud={"delete_seconds": 60})
    h.demo(3)
    h.ready(3)
    h.delete(Cluster, "demo")
    h.advance(20)
    h.crash()
    h.until(lambda: not h.all(Cluster))
    assert h.cloud.console.everything() == []


def test_an_installation_that_was_paused_by_a_person_says_so_and_goes_on(harness: Make) -> None:
    h = harness()
    h.edit(Installation, "kubeup", spec={"paused": True})
    h.demo(2)
    h.advance(120)
    assert h.rented() == []
    h.edit(Installation, "kubeup", spec={"paused": False})
    h.ready(2)


def test_events_are_of_pools_and_launches_not_of_every_machine(harness: Make) -> None:
    h = harness()
    h.demo(10)
    h.ready(10)
    messages = h.messages("workers")
    assert any(m.startswith("ScalingUp: creates workers-0, workers-1") for m in messages)
    assert sum("Launched:" in m for m in messages) == 3
    assert h.messages("workers-0") == []
