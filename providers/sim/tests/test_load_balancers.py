"""Load balancers of the simulated cloud: health, draining, and what lingers."""

from dataclasses import replace
from typing import Any

import pytest
from kubeup_core.errors import Blocked
from kubeup_core.supplier import LBMember, Phase, Scope


def test_the_address_is_there_before_the_balancer_works(sim: Any) -> None:
    home = sim.build(balancerSeconds=5)
    want = sim.balancer_spec()
    state = home.load_balancers.ensure(want)
    assert state.phase == Phase.PENDING
    assert state.addresses
    sim.clock.advance(5)
    assert home.load_balancers.ensure(want).phase == Phase.RUNNING
    asked = home.load_balancers.ensure(sim.balancer_spec(address="192.0.2.7"))
    assert asked.addresses == ("192.0.2.7",)


def test_a_member_is_initial_and_then_as_healthy_as_its_machine(sim: Any) -> None:
    home = sim.build(healthSeconds=5)
    console = sim.cloud.console
    [machine] = sim.run(home)
    want = sim.balancer_spec([machine])
    health = lambda: home.load_balancers.ensure(want).members[machine.name]  # noqa: E731
    assert health() == "initial"
    sim.clock.advance(6)
    assert health() == "healthy"
    for break_it, mend_it in ((console.sicken, console.cure), (console.unplug, console.plug), (console.stop, console.start)):
        break_it(machine.name)
        assert health() == "unhealthy"
        mend_it(machine.name)
        assert health() == "healthy"
    console.kill(machine.name)
    assert health() == "unused"


def test_a_machine_that_boots_is_initial(sim: Any) -> None:
    home = sim.build(bootSeconds=[100, 100], balancerSeconds=0)
    home.machines.launch(sim.launch(home))
    [machine] = sim.seen(home)
    want = sim.balancer_spec([machine])
    home.load_balancers.ensure(want)
    sim.clock.advance(50)
    assert home.load_balancers.ensure(want).members == {machine.name: "initial"}
    sim.clock.advance(52)
    assert home.load_balancers.ensure(want).members == {machine.name: "healthy"}


def test_a_member_that_is_left_out_drains_for_the_drain_time_and_is_absent(sim: Any) -> None:
    home = sim.build()
    machines = sim.run(home, 2)
    want = sim.balancer_spec(machines, drain=30)
    home.load_balancers.ensure(want)
    sim.clock.advance(5)
    less = replace(want, members=want.members[:1])
    keys = [member.key for member in want.members]
    assert home.load_balancers.ensure(less).members == {keys[0]: "healthy", keys[1]: "draining"}
    sim.clock.advance(29)
    assert home.load_balancers.ensure(less).members[keys[1]] == "draining"
    sim.clock.advance(2)
    assert home.load_balancers.ensure(less).members == {keys[0]: "healthy"}


def test_a_draining_member_is_unused_after_the_drain_time_and_may_come_back(sim: Any) -> None:
    home = sim.build()
    [machine] = sim.run(home)
    want = sim.balancer_spec([machine], drain=30)
    home.load_balancers.ensure(want)
    sim.clock.advance(5)
    leaving = replace(want, members=(sim.member(machine, drain=True),))
    assert home.load_balancers.ensure(leaving).members == {machine.name: "draining"}
    sim.clock.advance(31)
    assert home.load_balancers.ensure(leaving).members == {machine.name: "unused"}
    assert home.load_balancers.ensure(want).members == {machine.name: "initial"}
    sim.clock.advance(5)
    assert home.load_balancers.ensure(want).members == {machine.name: "healthy"}


def test_a_dead_machine_has_nothing_to_drain(sim: Any) -> None:
    home = sim.build()
    [machine] = sim.run(home)
    want = sim.balancer_spec([machine], drain=300)
    home.load_balancers.ensure(want)
    sim.clock.advance(5)
    sim.cloud.console.lose(machine.name)
    leaving = replace(want, members=(sim.member(machine, drain=True),))
    assert home.load_balancers.ensure(leaving).members == {machine.name: "unused"}
    assert home.load_balancers.ensure(replace(want, members=())).members == {}


def test_a_machine_of_another_account_is_a_member_by_its_address(sim: Any, new_sim: Any) -> None:
    away = new_sim(account="elsewhere")
    home, there = sim.build(), away.build()
    [machine] = sim.run(home)
    [foreign] = away.run(there)
    same_address = LBMember(key="by-address", ref=foreign.ref, address=machine.internal[0])
    nobody = LBMember(key="nobody", ref=None, address="192.0.2.1")
    want = replace(sim.balancer_spec(), members=(same_address, nobody))
    home.load_balancers.ensure(want)
    sim.clock.advance(5)
    assert home.load_balancers.ensure(want).members == {"by-address": "healthy", "nobody": "unhealthy"}


def test_a_balancer_as_wanted_costs_one_request(sim: Any) -> None:
    home = sim.build()
    want = sim.balancer_spec(sim.run(home, 2))
    home.load_balancers.ensure(want)
    before = sim.cloud.requests.total()
    home.load_balancers.ensure(want)
    assert sim.cloud.requests.total() - before == 1


def test_a_deleted_balancer_is_blocked_by_what_lingers_of_it(sim: Any) -> None:
    home = sim.build(deleteSeconds=1, lingerSeconds=60)
    state = home.load_balancers.ensure(sim.balancer_spec())
    for seconds in (2, 58):
        with pytest.raises(Blocked) as caught:
            home.load_balancers.delete(state.ref)
        assert caught.value.by == (f"{state.ref.id}/interface",)
        sim.clock.advance(seconds)
        assert [s.phase for s in home.load_balancers.observe(Scope(installation="home")).items] == [Phase.DELETING]
    sim.clock.advance(2)
    home.load_balancers.delete(state.ref)
    assert home.load_balancers.observe(Scope(installation="home")).items == ()


def test_an_account_without_self_reach_says_so(sim: Any) -> None:
    assert sim.build().load_balancers.ensure(sim.balancer_spec()).self_reach is True
    assert sim.build(selfReach=False).load_balancers.ensure(sim.balancer_spec(name="second")).self_reach is False
