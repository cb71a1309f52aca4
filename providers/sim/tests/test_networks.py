"""Networks of the simulated cloud."""

from typing import Any

import pytest
from kubeup_core.errors import Blocked, InvalidSpec, NotFound, NotReady, Taken, Unknown
from kubeup_core.supplier import Phase, Ref, Rule, Scope

SSH = Rule(from_role="*", to_role="*", protocol="tcp", low=22, high=22)


def test_a_network_is_pending_until_it_is_made_and_has_its_firewall(sim: Any) -> None:
    home = sim.build(networkSeconds=2)
    want = sim.network_spec(rules=(SSH,))
    first = home.networks.ensure(want)
    assert first.phase == Phase.PENDING
    sim.clock.advance(2)
    [seen] = home.networks.observe(Scope(installation="home")).items
    assert seen.phase == Phase.PENDING
    made = home.networks.ensure(want)
    assert (made.phase, made.ref, made.data["network"]) == (Phase.RUNNING, first.ref, first.ref.id)


def test_a_network_that_is_as_wanted_costs_one_request(sim: Any) -> None:
    home = sim.build()
    want, _ = sim.network(home, rules=(SSH,))
    before = sim.cloud.requests.total()
    home.networks.ensure(want)
    assert sim.cloud.requests.total() - before == 1


def test_changed_rules_are_applied(sim: Any) -> None:
    home = sim.build()
    want, _ = sim.network(home)
    changed = sim.network_spec(mark=want.mark, rules=(SSH,))
    home.networks.ensure(changed)
    assert sim.cloud.requests["Network.update"] == 2
    home.networks.ensure(changed)
    assert sim.cloud.requests["Network.update"] == 2


def test_each_network_has_its_own_fabric_and_range(sim: Any) -> None:
    home = sim.build(flat=False)
    one, two = sim.network(home)[1], sim.network(home)[1]
    assert one.fabric != two.fabric
    assert one.data["cidr"] != two.data["cidr"]
    assert not one.flat


def test_a_create_that_no_listing_shows_yet_is_found_by_its_name(sim: Any) -> None:
    home = sim.build(settle=60)
    want = sim.network_spec()
    sim.cloud.faults.add("lostReply", operation="create")
    with pytest.raises(Unknown):
        home.networks.ensure(want)
    home.networks.ensure(want)
    assert len(sim.cloud.console.everything()) == 1


def test_a_name_that_a_foreign_network_holds_is_taken(sim: Any) -> None:
    home, other = sim.build(), sim.build("other")
    want, _ = sim.network(home)
    foreign = sim.network_spec(mark=sim.mark("Network", "other", maker=want.mark.maker))
    with pytest.raises(Taken) as caught:
        other.networks.ensure(foreign)
    assert caught.value.by


def test_a_network_in_use_is_blocked_by_its_users_by_id(sim: Any) -> None:
    home = sim.build(lingerSeconds=60)
    _, network = sim.network(home)
    [machine] = sim.run(home, network=network.data)
    balancer = home.load_balancers.ensure(sim.balancer_spec(network=network.data))
    with pytest.raises(Blocked) as caught:
        home.networks.delete(network.ref)
    assert set(caught.value.by) == {machine.ref.id, balancer.ref.id}
    home.machines.delete([machine.ref])
    with pytest.raises(Blocked):
        home.load_balancers.delete(balancer.ref)
    sim.clock.advance(30)
    with pytest.raises(Blocked) as caught:
        home.networks.delete(network.ref)
    assert caught.value.by == (f"{balancer.ref.id}/interface",)
    sim.clock.advance(60)
    with pytest.raises(Blocked) as caught:
        home.networks.delete(network.ref)
    assert caught.value.by == (network.ref.id,)
    assert home.networks.observe(Scope(installation="home")).items[0].phase == Phase.DELETING
    sim.clock.advance(1)
    home.networks.delete(network.ref)
    assert sim.cloud.console.everything() == []


def test_a_network_that_is_going_away_is_not_used_again(sim: Any) -> None:
    home = sim.build(deleteSeconds=5)
    want, network = sim.network(home)
    with pytest.raises(Blocked):
        home.networks.delete(network.ref)
    with pytest.raises(NotReady):
        home.networks.ensure(want)
    sim.clock.advance(5)
    assert home.networks.ensure(want).ref.id != network.ref.id


def test_a_named_network_is_used_with_its_fabric_and_a_wrong_name_is_refused(sim: Any) -> None:
    home, other = sim.build(), sim.build("other")
    _, theirs = sim.network(other, mark=sim.mark("Network", "other"))
    want = sim.network_spec(overrides={"network": theirs.ref.id})
    state = home.networks.ensure(want)
    assert (state.ref.id, state.fabric, state.phase) == (theirs.ref.id, theirs.fabric, Phase.RUNNING)
    with pytest.raises(NotFound):
        home.networks.delete(state.ref)
    with pytest.raises(InvalidSpec) as caught:
        home.networks.ensure(sim.network_spec(overrides={"network": "net-none"}))
    assert caught.value.path == "spec.overrides.sim.network"
    assert len(sim.cloud.console.everything()) == 1


@pytest.mark.parametrize("cidr", ["10.0.0.1/16", "nonsense", "10.0.0.0/8"])
def test_a_range_that_is_none_is_refused(sim: Any, cidr: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        sim.build().networks.ensure(sim.network_spec(cidr=cidr))
    assert caught.value.path == "spec.network.machineCIDR"


def test_a_doubt_is_looked_up_by_id(sim: Any) -> None:
    home = sim.build(settle=1000)
    state = home.networks.ensure(sim.network_spec())
    assert home.networks.observe(Scope(installation="home")).items == ()
    doubt = (state.ref, Ref(id="net-none", mark=state.ref.mark))
    assert [s.ref for s in home.networks.observe(Scope(installation="home", doubt=doubt)).items] == [state.ref]
