"""Each fault of the simulated cloud: what it does, that it is used up, and that it is data."""

from typing import Any

import pytest
from kubeup_core.errors import Denied, NoCapacity, NotReady, Place, Unknown
from kubeup_core.supplier import Phase, Scope
from kubeup_sim import FAULTS, SimConfig
from pydantic import ValidationError


def test_a_lost_reply_has_its_effect_and_the_repeat_finds_it(sim: Any) -> None:
    home = sim.build()
    launch = sim.launch(home, 2)
    sim.cloud.faults.add("lostReply", operation="launch")
    with pytest.raises(Unknown):
        home.machines.launch(launch)
    assert len(sim.cloud.console.machines()) == 2
    assert sim.outcomes(home.machines.launch(launch)) == ["Made", "Made"]
    assert len(sim.cloud.console.machines()) == 2


def test_a_lost_request_has_no_effect_and_looks_the_same(sim: Any) -> None:
    home = sim.build()
    launch = sim.launch(home)
    sim.cloud.faults.add("lostRequest", operation="launch")
    with pytest.raises(Unknown):
        home.machines.launch(launch)
    assert sim.cloud.console.machines() == []
    assert sim.outcomes(home.machines.launch(launch)) == ["Made"]


def test_a_throttled_request_says_when_to_come_back(sim: Any) -> None:
    home = sim.build()
    sim.cloud.faults.add("throttle", operation="launch", seconds=7, times=2)
    for _ in range(2):
        with pytest.raises(NotReady) as caught:
            home.machines.launch(sim.launch(home))
        assert caught.value.retry_after == 7
    assert sim.outcomes(home.machines.launch(sim.launch(home))) == ["Made"]


def test_denied_credentials_are_denied(sim: Any) -> None:
    home = sim.build()
    sim.cloud.faults.add("denied", kind="Machine", times=None)
    with pytest.raises(Denied) as caught:
        home.machines.observe(Scope(installation="home"))
    assert caught.value.remedy
    assert home.networks.observe(Scope(installation="home")).items == ()


def test_another_identity_is_an_honest_empty_place(sim: Any) -> None:
    home = sim.build()
    sim.run(home)
    sim.cloud.faults.add("identity", times=2)
    [problem] = home.probe()
    assert "default-other" in problem.message
    wrong = sim.build()
    assert (home.identity.key, wrong.identity.key) == ("sim:default/sim-1", "sim:default-other/sim-1")
    assert sim.seen(wrong) == []
    right = sim.build()
    assert right.identity == home.identity
    assert len(sim.seen(right)) == 1
    assert right.probe() == ()


def test_a_stale_list_misses_what_is_new_once(sim: Any) -> None:
    home = sim.build()
    sim.run(home)
    sim.clock.advance(1000)
    sim.run(home)
    sim.cloud.faults.add("staleList")
    assert len(sim.seen(home)) == 1
    assert len(sim.seen(home)) == 2


def test_an_incomplete_snapshot_names_the_zone_that_did_not_answer(sim: Any) -> None:
    home = sim.build()
    sim.run(home, place="sim-1a")
    sim.run(home, place="sim-1b")
    sim.cloud.faults.add("unreachable", place="sim-1b")
    snapshot = home.machines.observe(Scope(installation="home"))
    assert [s.place for s in snapshot.items] == ["sim-1a"]
    assert snapshot.unreachable == {"sim-1b"}
    snapshot = home.machines.observe(Scope(installation="home"))
    assert (len(snapshot.items), snapshot.unreachable) == (2, frozenset())


def test_a_lost_machine_vanishes_without_a_trace(sim: Any) -> None:
    home = sim.build()
    sim.run(home, 3)
    sim.cloud.faults.add("machineLost")
    assert len(sim.seen(home)) == 2
    assert len(sim.seen(home)) == 2
    assert len(sim.cloud.console.machines()) == 2


@pytest.mark.parametrize(
    ("match", "scope"),
    [
        ({}, Place()),
        ({"place": "sim-1a"}, Place(place="sim-1a", spot=False)),
        ({"place": "sim-1a", "machine_type": "g2"}, Place(place="sim-1a", machine_type="g2", spot=False)),
    ],
)
def test_no_capacity_reaches_as_far_as_the_fault_says(sim: Any, match: dict[str, str], scope: Place) -> None:
    home = sim.build()
    sim.cloud.faults.add("noCapacity", **match)
    with pytest.raises(NoCapacity) as caught:
        home.machines.launch(sim.launch(home, place="sim-1a"))
    assert (caught.value.scope, caught.value.person) == (scope, False)


def test_no_capacity_elsewhere_does_not_matter_here(sim: Any) -> None:
    home = sim.build()
    sim.cloud.faults.add("noCapacity", place="sim-1b")
    assert sim.outcomes(home.machines.launch(sim.launch(home, place="sim-1a"))) == ["Made"]


def test_a_used_up_quota_needs_a_person(sim: Any) -> None:
    home = sim.build()
    sim.cloud.faults.add("quota", operation="*", times=3)
    for act in (
        lambda: home.machines.launch(sim.launch(home)),
        lambda: home.load_balancers.ensure(sim.balancer_spec()),
        lambda: home.volumes.ensure(sim.volume_spec()),
    ):
        with pytest.raises(NoCapacity) as caught:
            act()
        assert caught.value.person


def test_a_late_refusal_fails_a_machine_that_was_made(sim: Any) -> None:
    home = sim.build()
    sim.cloud.faults.add("lateRefusal")
    launch = sim.launch(home, 2)
    assert sim.outcomes(home.machines.launch(launch)) == ["Made", "Made"]
    assert [s.phase for s in sim.seen(home)] == [Phase.PENDING] * 2
    sim.clock.advance(10)
    refused, running = sim.seen(home)
    assert (refused.phase, running.phase) == (Phase.FAILED, Phase.RUNNING)
    assert isinstance(refused.error, NoCapacity)
    assert sim.outcomes(home.machines.lookup(launch)) == ["Dead", "Made"]
    assert "stopped: " in home.machines.console(refused.ref, 1000)
    home.machines.delete([refused.ref])
    sim.clock.advance(1)
    assert len(sim.cloud.console.machines()) == 1


def test_a_rolled_back_launch_is_pending_though_its_machines_ran(sim: Any) -> None:
    home = sim.build()
    sim.cloud.faults.add("rollback", seconds=20)
    launch = sim.launch(home, 2)
    assert sim.outcomes(home.machines.launch(launch)) == ["Pending", "Pending"]
    sim.clock.advance(10)
    assert [s.phase for s in sim.seen(home)] == [Phase.RUNNING] * 2
    assert sim.outcomes(home.machines.lookup(launch)) == ["Pending", "Pending"]
    sim.clock.advance(10)
    assert sim.seen(home) == []
    results = home.machines.lookup(launch)
    assert sim.outcomes(results) == ["Refused", "Refused"]
    assert all(isinstance(error, NoCapacity) for error in sim.errors(results))
    assert sim.outcomes(home.machines.launch(launch)) == ["Refused", "Refused"]
    assert sim.cloud.console.everything() == []


def test_a_slow_delete_takes_its_time(sim: Any) -> None:
    home = sim.build()
    [state] = sim.run(home)
    sim.cloud.faults.add("slowDelete", seconds=600)
    home.machines.delete([state.ref])
    sim.clock.advance(599)
    assert [s.phase for s in sim.seen(home)] == [Phase.DELETING]
    sim.clock.advance(2)
    assert [s.phase for s in sim.seen(home)] == [Phase.GONE]


@pytest.mark.parametrize(("fault", "busy"), [("stuckAttach", "attaching"), ("stuckDetach", "detaching")])
def test_a_stuck_volume_is_busy_until_it_is_released_by_hand(sim: Any, fault: str, busy: str) -> None:
    home = sim.build()
    [machine] = sim.run(home, place="sim-1a")
    want, volume = sim.volume(home)
    sim.cloud.faults.add(fault)
    home.volumes.attach(volume.ref, machine.ref)
    sim.clock.advance(1)
    if fault == "stuckDetach":
        home.volumes.detach(volume.ref, machine.ref)
    sim.clock.advance(3600)
    stuck = home.volumes.ensure(want)
    assert (stuck.busy, stuck.attached) == (busy, (machine.ref.id,))
    sim.cloud.console.release_volume(volume.ref.id)
    assert home.volumes.ensure(want).busy == ""


def test_a_volume_that_hangs_is_free_once_its_machine_is_gone(sim: Any) -> None:
    home = sim.build()
    [machine] = sim.run(home, place="sim-1a")
    want, volume = sim.volume(home)
    home.volumes.attach(volume.ref, machine.ref)
    sim.clock.advance(1)
    sim.cloud.faults.add("stuckDetach")
    home.volumes.detach(volume.ref, machine.ref)
    home.machines.delete([machine.ref])
    assert home.volumes.ensure(want).attached == (machine.ref.id,)
    sim.clock.advance(1)
    assert home.volumes.ensure(want).attached == ()


def test_every_fault_has_a_description_and_is_taken_only_by_what_it_matches(sim: Any) -> None:
    home = sim.build()
    for name, kind in FAULTS.items():
        assert kind.text
        if name != "crash":
            sim.cloud.faults.add(name, operation="nothing", times=None)
    sim.run(home)
    assert [record.taken for record in sim.cloud.faults.all()] == [0] * (len(FAULTS) - 1)


def test_a_probability_strikes_sometimes_and_the_same_again(new_sim: Any) -> None:
    def struck() -> list[bool]:
        sim = new_sim()
        home = sim.build()
        sim.cloud.faults.add("throttle", operation="list", probability=0.5, times=None)
        found = []
        for _ in range(40):
            try:
                home.networks.observe(Scope(installation="home"))
                found.append(False)
            except NotReady:
                found.append(True)
        return found

    assert 5 < sum(struck()) < 35
    assert struck() == struck()


def test_a_fault_of_the_config_is_planted_once_however_often_the_config_is_read(sim: Any) -> None:
    config = {"faults": [{"name": "throttle", "operation": "launch"}, {"name": "throttle", "operation": "launch"}]}
    home = sim.build(**config)
    for _ in range(2):
        with pytest.raises(NotReady):
            home.machines.launch(sim.launch(home))
    again = sim.build(**config)
    assert sim.outcomes(again.machines.launch(sim.launch(again))) == ["Made"]


def test_cleared_faults_strike_no_more(sim: Any) -> None:
    home = sim.build()
    sim.cloud.faults.add("throttle", times=None)
    sim.cloud.faults.clear()
    assert sim.seen(home) == []


def test_an_unknown_fault_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValidationError, match="did you mean lostReply"):
        SimConfig.model_validate({"faults": [{"name": "lostRepl"}]})
