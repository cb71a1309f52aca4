"""Nothing is made twice, leaked or lost: creation by stored Launches, on the simulated cloud, with a fake clock and a real store."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kubeup_core.kinds import Cluster, Launch, Machine, NodePool, Provider
from kubeup_core.testing.harness import Crash, Harness

Make = Callable[..., Harness]


def test_a_launch_is_stored_before_anything_is_asked_of_the_place(harness: Make) -> None:
    h = harness()
    h.demo(2)
    asked: list[int] = []
    h.until(lambda: h.launches() or h.machines())
    h.cloud.strike = lambda point: asked.append(len(h.launches())) if point == "before Machine.launch" else None
    h.ready(2)
    assert asked
    assert all(asked)


def test_the_uid_of_the_launch_is_the_token_and_the_maker_in_every_mark(harness: Make) -> None:
    h = harness()
    h.demo(3)
    h.ready(3)
    makers = {line.tags["kubeup/maker"] for line in h.cloud.console.machines()}
    assert makers == {launch.uid for launch in h.launches()}


def test_alike_machines_of_a_pool_share_launches_up_to_the_batch_limit(harness: Make) -> None:
    h = harness()
    h.demo(7, cloud={"batchLimit": 3}, spread="none")
    h.ready(7)
    assert sorted(len(launch.spec.members) for launch in h.launches()) == [1, 3, 3]


def test_a_lost_reply_leads_to_the_same_call_and_not_to_more_machines(harness: Make) -> None:
    h = harness()
    h.demo(3, spread="none")
    h.cloud.faults.add("lostReply", operation="launch")
    h.ready(3)
    assert len(h.rented()) == 3
    assert len(h.launches()) == 1


def test_a_lost_request_is_repeated(harness: Make) -> None:
    h = harness()
    h.demo(3, spread="none")
    h.cloud.faults.add("lostRequest", operation="launch")
    h.ready(3)
    assert len(h.rented()) == 3
    assert len(h.launches()) == 1


def test_members_that_were_refused_go_into_another_launch_and_those_that_were_made_stay(harness: Make) -> None:
    h = harness(cloud={"capacity": ({"place": "sim-1a", "machine_type": "g2", "machines": 2},)})
    h.demo(4, spread="none")
    h.ready(4)
    first = next(launch for launch in h.launches() if launch.spec.offer.place == "sim-1a")
    assert (first.status.made, first.status.refused) == (2, 2)
    assert len(h.rented()) == 4
    assert sum(1 for line in h.cloud.console.machines() if line.place == "sim-1a") == 2


def test_a_launch_that_rolls_back_is_not_taken_for_made_while_it_can_still_be_undone(harness: Make) -> None:
    h = harness()
    h.demo(3, spread="none")
    h.cloud.faults.add("rollback", seconds=30)
    h.until(lambda: any(line.phase == "Running" for line in h.cloud.console.machines()))
    h.advance(5)
    assert all(m.status.state == "Pending" for m in h.machines())
    h.ready(3)
    assert len(h.rented()) == 3


def test_a_machine_that_dies_before_it_was_ready_is_replaced_and_not_launched_again_under_its_token(harness: Make) -> None:
    h = harness()
    h.demo(2, spread="none")
    h.cloud.faults.add("lateRefusal", seconds=1)
    h.ready(2)
    assert len(h.rented()) == 2
    assert any("Repairing" in message for message in h.messages("workers"))
    assert all(len(launch.spec.members) == launch.status.made for launch in h.launches())


def test_a_stale_listing_does_not_lead_to_a_second_machine(harness: Make) -> None:
    """The place shows a new machine only after minutes; the first reply was lost as well."""
    h = harness(cloud={"settle": 120})
    h.demo(2, spread="none")
    h.cloud.faults.add("lostReply", operation="launch", times=3)
    h.ready(2)
    assert len(h.rented()) == 2


def test_absence_is_not_concluded_before_the_settle_time_is_over(harness: Make) -> None:
    h = harness(cloud={"settle": 60})
    h.demo(1)
    h.ready(1)
    h.cloud.console.lose("workers-0")
    h.advance(50)
    assert h.machines()[0].status.state == "Ready"
    h.until(lambda: h.rented() and h.machines() and h.machines()[0].status.state == "Ready" and len(h.machines()) == 1)


def test_nothing_is_concluded_about_a_zone_that_does_not_answer(harness: Make) -> None:
    h = harness()
    h.demo(3)
    h.ready(3)
    h.cloud.console.cut("sim-1a")
    h.advance(3600)
    states = sorted(m.status.state for m in h.machines())
    assert states == ["Ready", "Ready", "Unknown"]
    assert len(h.rented()) == 3
    h.cloud.console.restore("sim-1a")
    h.ready(3)
    assert len(h.launches()) == 3


def test_a_whole_region_that_does_not_answer_changes_nothing(harness: Make) -> None:
    h = harness()
    h.demo(3)
    h.ready(3)
    before = [m.uid for m in h.machines()]
    h.cloud.console.cut("*")
    h.advance(3600)
    h.cloud.console.restore("*")
    h.advance(120)
    assert [m.uid for m in h.machines()] == before
    assert len(h.rented()) == 3


def test_scaling_down_during_a_launch_with_a_lost_reply_leaves_nothing_behind(harness: Make) -> None:
    """Gone before it came: the machine keeps its finalizer until its member is settled by looking it up."""
    h = harness(cloud={"settle": 30})
    h.demo(2, spread="none")
    h.cloud.faults.add("lostReply", operation="launch", times=None)
    h.until(lambda: bool(h.rented()))
    h.edit(NodePool, "workers", spec={"replicas": 0})
    h.until(lambda: not h.machines() and not h.rented())
    assert all(launch.status.phase == "Settled" for launch in h.launches())


def test_a_machine_that_was_never_launched_goes_at_once(harness: Make) -> None:
    h = harness()
    h.demo(2, cloud={"capacity": [{"machines": 0}]})
    h.until(lambda: h.condition(NodePool, "workers", "NoCapacity")[0] == "True")
    h.edit(NodePool, "workers", spec={"replicas": 0})
    h.advance(1)
    assert h.machines() == []


def test_a_token_that_is_no_longer_honoured_is_looked_up_and_never_submitted(harness: Make) -> None:
    h = harness(cloud={"token_life": 600.0})
    h.demo(2, spread="none")
    h.cloud.faults.add("lostRequest", operation="launch", times=None)
    h.until(lambda: bool(h.launches()))
    first = h.launches()[0]
    h.advance(700)
    h.cloud.faults.clear()
    launched: list[str] = []
    h.cloud.strike = lambda point: launched.append(point) if "Machine.launch" in point else None
    h.ready(2)
    assert len(h.rented()) == 2
    assert h.get(Launch, first.name).status.made == 0


def test_a_refused_spec_is_not_tried_again_and_says_what_to_change(harness: Make) -> None:
    h = harness()
    h.demo(2, overrides={"sim": {"machineType": "no-such-type"}})
    h.settle()
    status, reason, message = h.condition(NodePool, "workers", "Stalled")
    assert (status, reason) == ("True", "InvalidSpec")
    assert "no machine type 'no-such-type'" in message
    assert h.launches() == []
    h.edit(NodePool, "workers", spec={"overrides": {"sim": {"machineType": "g4"}}})
    h.ready(2)


def test_a_clock_jump_of_eight_hours_recreates_nothing(harness: Make) -> None:
    h = harness(cloud={"settle": 60})
    h.demo(3)
    h.ready(3)
    before = {m.uid for m in h.machines()}
    h.cloud.faults.add("staleList", seconds=10**6, times=2)
    h.advance(29)
    h.clock.jump(8 * 3600)
    h.advance(300)
    assert {m.uid for m in h.machines()} == before
    assert len(h.rented()) == 3
    assert len(h.launches()) == 3


def test_a_laptop_that_slept_during_a_launch_goes_on_with_it(harness: Make) -> None:
    h = harness(cloud={"boot_seconds": (60, 60)})
    h.demo(2)
    h.until(lambda: len(h.rented()) == 2)
    h.clock.jump(8 * 3600)
    h.ready(2)
    assert len(h.launches()) == 2


@pytest.fixture
def quick() -> Iterator[Path]:
    """A folder in memory where there is one: these tests write a great deal."""
    where = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=where) as folder:
        yield Path(folder)


def _up_and_down(h: Harness) -> None:
    h.demo(6)
    h.ready(6)
    h.delete(NodePool, "workers")
    h.delete(Cluster, "demo")
    h.until(lambda: not h.all(Cluster) and not h.all(Machine))


def _strike_at(h: Harness, number: int) -> list[str]:
    """Crash at the so-many-th store write or request of the cloud. -> the points that were passed, in order."""
    passed: list[str] = []

    def strike(point: str) -> None:
        passed.append(point)
        if len(passed) == number:
            raise Crash(point)

    h.on_commit = lambda when: strike(f"{when} commit")
    h.cloud.strike = lambda point: strike(point)
    return passed


@pytest.mark.parametrize("offset", range(4))
@pytest.mark.parametrize("create", ["single", "steps"])
def test_a_crash_at_any_write_or_request_leaks_duplicates_and_loses_nothing(quick: Path, offset: int, create: str) -> None:
    pytest.importorskip("kubeup_sim", reason="the simulated cloud is not installed: pip install kubeup-sim")
    settings = {"create": create, "batch_limit": 4}
    with Harness(quick / "dry", cloud=settings) as h:
        passed = _strike_at(h, 0)
        _up_and_down(h)
        points = len(passed)
    assert points > 50
    for number in range(1 + 5 * offset, points, 20):
        with Harness(quick / str(number), cloud=settings) as h:
            struck = _strike_at(h, number)
            try:
                _up_and_down(h)
            except Crash:
                h.crash()
            where = f"after a crash at {struck[-1]} (point {number})"
            if h.find(NodePool, "workers") is None or h.get(NodePool, "workers").deleting or h.get(Cluster, "demo").deleting:
                if h.find(Cluster, "demo") is not None and not h.get(Cluster, "demo").deleting:
                    _insist(h)
            else:
                _insist(h, replicas=6)
                h.ready(6)
                assert h.rented() == [f"workers-{i}" for i in range(6)], where
                assert len({m.status.id for m in h.machines()}) == 6, where
                h.delete(Cluster, "demo")
            h.until(lambda h=h: not h.all(Cluster) and not h.all(Machine) and not h.cloud.console.everything(), 3600)
            assert h.cloud.console.everything() == [], where
            assert h.failed + h.manager.failed == [], where


def _insist(h: Harness, replicas: int | None = None) -> None:
    """A person runs the same command again."""
    if replicas is None:
        h.delete(Cluster, "demo")
    else:
        h.demo(replicas)


def test_a_provider_and_its_launches_stay_until_the_place_is_proven_empty(harness: Make) -> None:
    h = harness(cloud={"settle": 30})
    h.demo(2)
    h.ready(2)
    h.delete(Provider, "sim")
    h.delete(Cluster, "demo")
    h.until(lambda: not h.all(Provider))
    assert h.cloud.console.everything() == []
