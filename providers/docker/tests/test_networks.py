"""Bridges as networks, on a real engine: what the contract tests cannot know about Docker."""

from __future__ import annotations

import pytest
from kubeup_core import Blocked, InvalidSpec, NetworkState, Ref, Scope, Taken
from kubeup_docker import marks

pytestmark = pytest.mark.docker


def observed(place) -> list[NetworkState]:
    return list(place.networks.observe(Scope(installation=place.installation)).items)


def test_a_network_is_made_once_and_taken_away(place) -> None:
    want = place.network_spec()
    made = place.networks.ensure(want)
    assert place.networks.ensure(want) == made
    assert observed(place) == [made]
    assert made.flat
    assert made.fabric.startswith("docker:")
    place.networks.delete(made.ref)
    place.networks.delete(made.ref)
    assert observed(place) == []


def test_the_addresses_are_those_that_were_chosen(place) -> None:
    made = place.networks.ensure(place.network_spec(cidr="10.214.9.0/24"))
    assert place.engine.call("GET", f"/networks/{made.ref.id}")["IPAM"]["Config"][0]["Subnet"] == "10.214.9.0/24"


def test_addresses_that_another_network_has_are_taken(place) -> None:
    place.networks.ensure(place.network_spec(cidr="10.214.10.0/24"))
    with pytest.raises(Taken) as caught:
        place.networks.ensure(place.network_spec(cidr="10.214.10.0/25"))
    assert "machineCIDR" in caught.value.remedy
    assert len(observed(place)) == 1


def test_of_two_networks_with_one_mark_the_oldest_stays(place) -> None:
    """The engine lets two calls at once make two networks of one name."""
    want = place.network_spec()
    first = place.networks.ensure(want)
    body = {"Name": "twin-" + want.mark.maker[:8], "Labels": marks.labels(want.mark)}
    place.engine.call("POST", "/networks/create", body)
    assert len(observed(place)) == 2
    assert place.networks.ensure(want) == first
    assert observed(place) == [first]


def test_a_name_that_somebody_else_holds_is_taken(place) -> None:
    want = place.network_spec()
    theirs = place.engine.call("POST", "/networks/create", {"Name": marks.name(want.name, want.mark)})["Id"]
    try:
        with pytest.raises(Taken, match="exists already") as caught:
            place.networks.ensure(want)
        assert "not kubeup" in caught.value.by
    finally:
        place.engine.call("DELETE", f"/networks/{theirs}")


def test_a_network_that_a_stopped_machine_needs_is_not_taken_away(place) -> None:
    """The engine would let it go, and the machine could never start again."""
    network = place.networks.ensure(place.network_spec())
    made = place.machines.launch(place.launch(network=dict(network.data)))[0]
    place.engine.call("POST", f"/containers/{made.id}/stop?t=1")
    with pytest.raises(Blocked, match="box-0-") as caught:
        place.networks.delete(network.ref)
    assert caught.value.by == (made.id,)
    place.engine.remove(made.id)
    place.networks.delete(network.ref)
    assert observed(place) == []


def test_a_network_that_overrides_name_is_used_and_kept(place) -> None:
    theirs = place.engine.call("POST", "/networks/create", {"Name": "theirs-" + place.installation})["Id"]
    try:
        state = place.networks.ensure(place.network_spec(overrides={"network": "theirs-" + place.installation}))
        assert state.ref.id == theirs
        place.networks.delete(Ref(id=theirs, mark=state.ref.mark))
    finally:
        place.engine.call("DELETE", f"/networks/{theirs}")


@pytest.mark.parametrize("bad", [{"network": "there-is-none"}, {"netwrok": "x"}])
def test_overrides_that_cannot_be_met_are_refused(place, bad: dict[str, object]) -> None:
    with pytest.raises(InvalidSpec) as caught:
        place.networks.ensure(place.network_spec(overrides=bad))
    assert caught.value.path.startswith("spec.overrides.docker.")
    assert observed(place) == []
