"""NodePools: machines are kept at the number that is wanted, of the template that is wanted, from the places that are preferred."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from kubeup_core.controllers.marks import to_launch
from kubeup_core.kinds import Cluster, Installation, Launch, Machine, NodePool, Provider
from kubeup_core.testing.harness import Harness

Make = Callable[..., Harness]


def test_a_pool_is_brought_up_and_machines_are_named_by_slot(harness: Make) -> None:
    h = harness()
    h.demo(3)
    h.ready(3)
    assert [m.name for m in h.machines()] == ["workers-0", "workers-1", "workers-2"]
    assert h.rented() == ["workers-0", "workers-1", "workers-2"]
    h.settle()
    status = h.pool().status
    assert (status.replicas, status.ready, status.updated, status.unavailable) == (3, 3, 3, 0)
    assert h.condition(NodePool, "workers", "Ready")[:2] == ("True", "Ready")
    assert status.observed_generation == h.pool().metadata.generation


def test_bringing_up_costs_at_most_three_writes_of_a_machine_and_two_of_a_launch(harness: Make) -> None:
    h = harness()
    h.demo(20)
    h.ready(20)
    h.settle()
    assert all(h.writes[f"machines/default/workers-{i}"] <= 3 for i in range(20))
    assert all(h.writes[f"launches/default/{launch.name}"] == 2 for launch in h.launches())
    assert h.writes["events"] < 10


def test_a_recheck_that_finds_nothing_writes_nothing(harness: Make) -> None:
    h = harness()
    h.demo(5)
    h.ready(5)
    h.advance(120)
    before = h.store.rv()
    h.advance(7200)
    assert h.store.rv() == before


@pytest.mark.parametrize(
    ("said", "asked"), [({}, None), ({"publicAddress": "true"}, True), ({"publicAddress": "false"}, False)]
)
def test_a_place_is_told_whether_machines_shall_have_public_addresses(
    harness: Make, said: dict[str, str], asked: bool | None
) -> None:
    h = harness()
    h.demo(1, machine=said)
    h.ready(1)
    (launch,) = h.launches()
    assert to_launch("here", launch, b"").template.public_address is asked


def test_scaling_up_adds_and_scaling_down_removes_the_newest(harness: Make) -> None:
    h = harness()
    h.demo(2)
    h.ready(2)
    h.advance(5)
    h.edit(NodePool, "workers", spec={"replicas": 4})
    h.ready(4)
    h.edit(NodePool, "workers", spec={"replicas": 2})
    h.ready(2)
    assert h.rented() == ["workers-0", "workers-1"]


def test_the_spec_is_never_written_so_that_kubectl_scale_wins(harness: Make) -> None:
    h = harness()
    h.demo(3)
    generation = h.pool().metadata.generation
    h.ready(3)
    h.settle()
    assert h.pool().metadata.generation == generation


def test_scaling_to_zero_leaves_nothing_at_the_place(harness: Make) -> None:
    h = harness()
    h.demo(3)
    h.ready(3)
    h.edit(NodePool, "workers", spec={"replicas": 0})
    h.ready(0)
    assert [line for line in h.cloud.console.everything() if line.kind == "Machine"] == []


def test_a_free_slot_is_used_again(harness: Make) -> None:
    h = harness()
    h.demo(3)
    h.ready(3)
    h.delete(Machine, "workers-1")
    h.until(lambda: len(h.machines()) == 3 and all(m.status.state == "Ready" and not m.deleting for m in h.machines()))
    assert len(h.rented()) == 3


def test_a_machine_that_was_killed_behind_our_back_is_replaced(harness: Make) -> None:
    h = harness()
    h.demo(3)
    h.ready(3)
    killed = h.get(Machine, "workers-1").status.id
    h.cloud.console.kill("workers-1")
    h.until(lambda: all(m.status.id != killed for m in h.machines()) and len(h.rented()) == 3)
    h.ready(3)


def test_a_machine_that_vanished_is_replaced(harness: Make) -> None:
    h = harness()
    h.demo(3)
    h.ready(3)
    h.cloud.console.lose("workers-2")
    h.until(lambda: len(h.rented()) == 3)
    h.ready(3)


def test_a_machine_that_stays_stopped_is_replaced_after_the_unready_timeout(harness: Make) -> None:
    h = harness()
    h.demo(2, repair={"unreadyTimeout": "5m"})
    h.ready(2)
    stopped = h.get(Machine, "workers-0").status.id
    h.cloud.console.stop("workers-0")
    h.advance(200)
    assert h.get(Machine, "workers-0").status.state == "Running"
    h.until(lambda: all(m.status.id != stopped for m in h.machines()) and len(h.machines()) == 2, 600)
    h.ready(2)


def test_a_machine_that_comes_back_before_the_timeout_is_kept(harness: Make) -> None:
    h = harness()
    h.demo(2)
    h.ready(2)
    stopped = h.get(Machine, "workers-0").status.id
    h.cloud.console.stop("workers-0")
    h.advance(200)
    h.cloud.console.start("workers-0")
    h.advance(600)
    h.ready(2)
    assert h.get(Machine, "workers-0").status.id == stopped


def test_time_during_which_the_computer_slept_does_not_count_as_unready(harness: Make) -> None:
    h = harness()
    h.demo(2)
    h.ready(2)
    stopped = h.get(Machine, "workers-0").status.id
    h.cloud.console.stop("workers-0")
    h.advance(100)
    h.clock.jump(8 * 3600)
    h.advance(100)
    h.cloud.console.start("workers-0")
    h.ready(2)
    assert h.get(Machine, "workers-0").status.id == stopped


def test_a_machine_that_never_boots_is_replaced_after_the_boot_timeout(harness: Make) -> None:
    h = harness(cloud={"boot_seconds": (5000, 5000)})
    h.demo(1, repair={"bootTimeout": "2m"})
    h.until(lambda: bool(h.rented()))
    first = h.cloud.console.machines()[0].id
    h.cloud.configure({"boot_seconds": (1, 1)})
    h.until(lambda: first not in [line.id for line in h.cloud.console.machines()])
    h.ready(1)


def test_repair_halts_when_too_much_is_unhealthy_and_says_what_to_do(harness: Make) -> None:
    h = harness()
    h.demo(5)
    h.ready(5)
    for i in range(3):
        h.cloud.console.kill(f"workers-{i}")
    h.advance(300)
    status, _, message = h.condition(NodePool, "workers", "RepairHalted")
    assert status == "True"
    assert "maxUnhealthy (40%)" in message
    assert len(h.rented()) == 2
    h.edit(NodePool, "workers", spec={"repair": {"maxUnhealthy": "100%"}})
    h.ready(5)
    assert h.condition(NodePool, "workers", "RepairHalted") == ("", "", "")


def test_what_fails_again_and_again_is_replaced_later_and_later(harness: Make) -> None:
    h = harness()
    h.cloud.faults.add("lateRefusal", seconds=1, times=None)
    h.demo(1)
    h.advance(600)
    assert 3 <= len({launch.uid for launch in h.launches()} | {m.uid for m in h.machines()}) <= 25


def test_a_changed_template_rolls_with_a_surge_of_one_and_never_below_the_replicas(harness: Make) -> None:
    h = harness()
    h.demo(3)
    h.ready(3)
    h.edit(NodePool, "workers", spec={"machine": {"cpu": 4}})
    least, most = 3, 3

    def rolled() -> bool:
        nonlocal least, most
        least = min(least, sum(1 for m in h.machines() if m.status.state == "Ready" and not m.deleting))
        most = max(most, sum(1 for m in h.machines() if not m.deleting))
        machines = h.machines()
        return len(machines) == 3 and all(m.spec.machine.cpu == 4 and m.status.state == "Ready" for m in machines)

    h.until(rolled)
    assert (least, most) == (3, 4)
    assert {line.place for line in h.cloud.console.machines()} == {"sim-1a", "sim-1b", "sim-1c"}


def test_a_fixed_inventory_rolls_by_one_unavailable(harness: Make) -> None:
    h = harness(cloud={"hosts": ("h1", "h2")})
    h.demo(2)
    h.ready(2)
    h.edit(NodePool, "workers", spec={"machine": {"image": "debian-12", "cpu": 3}})
    h.until(lambda: len(h.machines()) == 2 and all(m.spec.machine.cpu == 3 and m.status.state == "Ready" for m in h.machines()))


def test_on_delete_leaves_the_old_until_they_are_deleted(harness: Make) -> None:
    h = harness()
    h.demo(2, update={"strategy": "OnDelete"})
    h.ready(2)
    h.edit(NodePool, "workers", spec={"machine": {"cpu": 4}})
    h.advance(120)
    assert [m.spec.machine.cpu for m in h.machines()] == [2, 2]
    h.delete(Machine, "workers-0")
    h.until(lambda: sorted(m.spec.machine.cpu or 0 for m in h.machines() if not m.deleting) == [2, 4])


def test_machines_are_spread_over_zones(harness: Make) -> None:
    h = harness()
    h.demo(6)
    h.ready(6)
    assert Counter(line.place for line in h.cloud.console.machines()) == {"sim-1a": 2, "sim-1b": 2, "sim-1c": 2}


def test_a_fixed_inventory_is_filled_host_by_host_and_says_when_it_is_full(harness: Make) -> None:
    h = harness(cloud={"hosts": ("h1", "h2", "h3")})
    h.demo(4)
    h.until(lambda: sum(1 for m in h.machines() if m.status.state == "Ready") == 3)
    assert sorted(m.slot for launch in h.launches() for m in launch.spec.members) == ["h1", "h2", "h3"]
    h.settle(60)
    assert h.condition(NodePool, "workers", "NoCapacity")[0] == "True"
    h.edit(NodePool, "workers", spec={"replicas": 3})
    h.ready(3)


def test_offers_overflow_in_order_and_return_to_the_preferred_one(harness: Make) -> None:
    h = harness(cloud={"capacity": ({"place": "sim-1a", "machines": 1},)})
    h.demo(3, offers=[{"provider": "sim", "zones": ["sim-1a"]}, {"provider": "sim", "zones": ["sim-1b"]}])
    h.ready(3)
    assert Counter(line.place for line in h.cloud.console.machines()) == {"sim-1a": 1, "sim-1b": 2}
    h.cloud.configure({"capacity": ()})
    h.edit(NodePool, "workers", spec={"replicas": 4})
    h.ready(4)
    assert Counter(line.place for line in h.cloud.console.machines()) == {"sim-1a": 1, "sim-1b": 3}
    h.advance(301)
    h.edit(NodePool, "workers", spec={"replicas": 5})
    h.ready(5)
    assert Counter(line.place for line in h.cloud.console.machines()) == {"sim-1a": 2, "sim-1b": 3}


def test_an_offer_takes_no_more_than_its_max(harness: Make) -> None:
    h = harness()
    h.demo(3, offers=[{"provider": "sim", "zones": ["sim-1a"], "max": 1}, {"provider": "sim", "zones": ["sim-1b"]}])
    h.ready(3)
    assert Counter(line.place for line in h.cloud.console.machines()) == {"sim-1a": 1, "sim-1b": 2}


def test_a_much_larger_machine_is_never_taken_for_want_of_the_right_one(harness: Make) -> None:
    h = harness(cloud={"capacity": ({"machine_type": "g2", "machines": 0}, {"machine_type": "g2m", "machines": 0})})
    h.demo(1)
    h.advance(200)
    assert {launch.spec.offer.machine_type for launch in h.launches()} <= {"g2", "g2m", "g4"}


def test_no_capacity_anywhere_is_a_condition_with_the_time_of_the_next_try(harness: Make) -> None:
    h = harness()
    h.demo(2, cloud={"capacity": [{"machines": 0}]})
    h.until(lambda: h.condition(NodePool, "workers", "NoCapacity")[0] == "True")
    assert "the next try is at 20" in h.condition(NodePool, "workers", "NoCapacity")[2]
    h.cloud.configure({"capacity": ()})
    h.ready(2, 3600)
    h.settle()
    assert h.condition(NodePool, "workers", "NoCapacity") == ("", "", "")


def test_a_lack_of_capacity_is_found_out_once_for_all_pools(harness: Make) -> None:
    h = harness(cloud={"capacity": ({"place": "sim-1a", "machines": 0},)})
    h.demo(1, offers=[{"provider": "sim", "zones": ["sim-1a"]}, {"provider": "sim", "zones": ["sim-1b"]}])
    h.ready(1)
    asked = h.cloud.requests["Machine.launch"]
    offers = [{"provider": "sim", "zones": ["sim-1a"]}, {"provider": "sim", "zones": ["sim-1b"]}]
    spec = {"cluster": "demo", "replicas": 2, "offers": offers}
    h.apply({"kind": "NodePool", "metadata": {"name": "others"}, "spec": spec})
    h.ready(3)
    assert all(launch.spec.offer.place == "sim-1b" for launch in h.launches() if launch.spec.pool == "others")
    assert h.cloud.requests["Machine.launch"] == asked + 1


def test_a_quota_is_a_condition_for_a_person(harness: Make) -> None:
    h = harness(cloud={"quota": {"machines": 1}})
    h.demo(2)
    h.until(lambda: h.condition(NodePool, "workers", "NoCapacity")[1] == "QuotaExceeded")
    assert "quota" in h.condition(NodePool, "workers", "Stalled")[2]


def test_the_limit_of_a_provider_counts_over_all_clusters_and_names_its_remedy(harness: Make) -> None:
    h = harness()
    h.demo(3)
    h.edit(Provider, "sim", spec={"limits": {"machines": 4}})
    h.ready(3)
    h.apply(
        {"kind": "Cluster", "metadata": {"name": "other"}, "spec": {"provider": "sim"}},
        {"kind": "NodePool", "metadata": {"name": "more"}, "spec": {"cluster": "other", "replicas": 3}},
    )
    h.settle(120)
    assert len(h.rented()) == 4
    status, _, message = h.condition(NodePool, "more", "LimitReached")
    assert status == "True"
    assert "kubectl patch provider sim" in message
    h.edit(Provider, "sim", spec={"limits": {"machines": 10}})
    h.ready(6)


def test_the_architecture_of_a_pool_is_fixed_by_its_first_launch(harness: Make) -> None:
    h = harness()
    h.demo(1)
    h.ready(1)
    h.settle()
    assert h.pool().status.arch == "amd64"


def test_a_reference_to_nothing_is_a_condition_with_the_nearest_name(harness: Make) -> None:
    h = harness()
    h.demo(0)
    h.apply({"kind": "NodePool", "metadata": {"name": "lost"}, "spec": {"cluster": "dmo"}})
    h.settle()
    status, reason, message = h.condition(NodePool, "lost", "Stalled")
    assert (status, reason) == ("True", "ClusterMissing")
    assert message.endswith("there is no Cluster dmo; did you mean demo?")


def test_nothing_changes_while_something_is_paused(harness: Make) -> None:
    h = harness()
    h.demo(2)
    h.ready(2)
    for kind, name in ((NodePool, "workers"), (Cluster, "demo"), (Provider, "sim"), (Installation, "kubeup")):
        h.edit(kind, name, spec={"paused": True})
        h.edit(NodePool, "workers", spec={"replicas": 4})
        h.cloud.console.kill("workers-0") if kind is NodePool else None
        h.advance(400)
        assert len(h.rented()) == 1, f"{kind.__name__} is paused"
        h.edit(NodePool, "workers", spec={"replicas": 2})
        if kind is not Installation:
            h.edit(Installation, "kubeup", spec={"paused": True})
            h.edit(kind, name, spec={"paused": False})
    h.edit(Installation, "kubeup", spec={"paused": False})
    h.ready(2)


def test_a_machine_without_a_pool_is_placed_too(harness: Make) -> None:
    h = harness()
    h.demo(0)
    h.apply(
        {
            "kind": "Machine",
            "metadata": {"name": "bastion"},
            "spec": {"cluster": "demo", "machine": {"cpu": 1, "memory": "1Gi"}},
        }
    )
    h.ready(1)
    assert h.rented() == ["bastion"]
    assert len(h.all(Launch)) == 1
    h.delete(Machine, "bastion")
    h.until(lambda: not h.machines())
    assert h.rented() == []


def test_a_machine_without_a_pool_says_itself_what_is_in_its_way(harness: Make) -> None:
    h = harness()
    h.demo(0)
    h.apply({"kind": "Machine", "metadata": {"name": "m"}, "spec": {"cluster": "demo", "machine": {"cpu": 500}}})
    h.settle()
    status, reason, message = h.condition(Machine, "m", "Stalled")
    assert (status, reason) == ("True", "InvalidSpec")
    assert "ask for less" in message


def test_a_machine_in_a_place_that_never_answers_can_be_given_up(harness: Make) -> None:
    h = harness()
    h.demo(3)
    h.ready(3)
    h.cloud.console.cut("sim-1a")
    h.advance(60)
    name = next(m.name for m in h.machines() if m.status.state == "Unknown")
    h.delete(Machine, name)
    h.advance(600)
    assert "kubeup.dev/abandon" in h.condition(Machine, name, "Ready")[2]
    h.edit(Machine, name, metadata={"annotations": {"kubeup.dev/abandon": "the zone burnt down"}})
    h.until(lambda: all(m.status.state == "Ready" for m in h.machines()) and len(h.machines()) == 3)
    h.cloud.console.restore("sim-1a")
    h.advance(300)
    assert len(h.rented()) == 3, "the machine that was given up is swept when its place is back"
