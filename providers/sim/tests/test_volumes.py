"""Volumes of the simulated cloud: where they reach, what holds them, and that nothing makes them twice."""

from dataclasses import replace
from typing import Any

import pytest
from kubeup_core.errors import Blocked, InvalidSpec, NoCapacity, NotReady, Taken, Unknown
from kubeup_core.supplier import Member, Phase, Scope

GIB = 1024**3


def test_a_volume_reaches_its_zone_only(sim: Any) -> None:
    home = sim.build()
    [there] = sim.run(home, place="sim-1b")
    _, volume = sim.volume(home, place="sim-1a")
    assert volume.reach == {"sim-1a"}
    with pytest.raises(InvalidSpec, match="sim-1b"):
        home.volumes.attach(volume.ref, there.ref)
    with pytest.raises(InvalidSpec):
        home.volumes.ensure(sim.volume_spec(place="mars"))
    assert sim.volume(home, place="")[1].reach == {"sim-1a"}


def test_attaching_and_detaching_take_time(sim: Any) -> None:
    home = sim.build(attachSeconds=5)
    [machine] = sim.run(home, place="sim-1a")
    want, volume = sim.volume(home)
    home.volumes.attach(volume.ref, machine.ref)
    state = home.volumes.ensure(want)
    assert (state.attached, state.busy) == ((machine.ref.id,), "attaching")
    sim.clock.advance(5)
    assert home.volumes.ensure(want).busy == ""
    assert sim.seen(home)[0].volumes == (volume.ref.id,)
    home.volumes.detach(volume.ref, machine.ref)
    assert home.volumes.ensure(want).busy == "detaching"
    sim.clock.advance(5)
    state = home.volumes.ensure(want)
    assert (state.attached, state.busy) == ((), "")
    assert sim.seen(home)[0].volumes == ()


def test_a_machine_takes_as_many_volumes_as_its_offer_says(sim: Any) -> None:
    home = sim.build()
    [machine] = sim.run(home, place="sim-1a")
    limit = sim.offer(home).max_volumes
    volumes = [sim.volume(home)[1] for _ in range(limit + 1)]
    for volume in volumes[:limit]:
        home.volumes.attach(volume.ref, machine.ref)
    with pytest.raises(NoCapacity) as caught:
        home.volumes.attach(volumes[limit].ref, machine.ref)
    offers = home.machines.offers(sim.template())
    assert not any(caught.value.scope.covers(o.place, o.machine_type, o.spot) for o in offers), "no offer is to be cooled down"


def test_volumes_of_a_launch_are_attached_at_launch(sim: Any) -> None:
    home = sim.build(attach="launch")
    assert home.capabilities.attach == "launch"
    want, volume = sim.volume(home)
    members = (Member(name="a", volumes=(volume.ref.id,)), Member(name="b", volumes=(volume.ref.id,)))
    results = home.machines.launch(sim.launch(home, place="sim-1a", members=members))
    assert sim.outcomes(results) == ["Made", "Refused"]
    assert isinstance(sim.errors(results)[0], Taken)
    sim.clock.advance(10)
    assert home.volumes.ensure(want).attached == (results[0].id,)
    with pytest.raises(InvalidSpec):
        home.volumes.attach(volume.ref, sim.seen(home)[0].ref)
    wrong_zone = sim.launch(home, place="sim-1b", members=(Member(name="c", volumes=(volume.ref.id,)),))
    with pytest.raises(Taken):
        home.machines.launch(wrong_zone)


def test_an_account_that_attaches_nothing_has_no_volumes(sim: Any) -> None:
    home = sim.build(attach="none")
    assert home.volumes is None
    assert home.capabilities.attach == "none"


def test_a_volume_is_made_once_by_its_token_and_then_by_its_name(sim: Any) -> None:
    home = sim.build(tokenLife=100, settle=1000)
    want = sim.volume_spec()
    sim.cloud.faults.add("lostReply", operation="create", kind="Volume")
    with pytest.raises(Unknown):
        home.volumes.ensure(want)
    first = home.volumes.ensure(want)
    sim.clock.advance(200)
    assert home.volumes.ensure(want).ref == first.ref
    assert len(sim.cloud.console.everything()) == 1
    with pytest.raises(Taken):
        home.volumes.ensure(replace(want, mark=sim.mark("Volume", "other", maker=want.mark.maker)))


def test_a_volume_that_was_lost_is_gone_and_not_made_anew(sim: Any) -> None:
    home = sim.build()
    want, volume = sim.volume(home)
    sim.cloud.console.lose_volume(volume.ref.id)
    assert home.volumes.ensure(want).phase == Phase.GONE
    assert home.volumes.observe(Scope(installation="home")).items == ()
    home.volumes.delete(volume.ref)
    assert sim.cloud.console.everything() == []


def test_a_volume_grows_in_time_and_not_while_it_is_busy(sim: Any) -> None:
    home = sim.build(volumeSeconds=5)
    want = sim.volume_spec()
    home.volumes.ensure(want)
    with pytest.raises(NotReady):
        home.volumes.ensure(replace(want, size=2 * GIB))
    sim.clock.advance(5)
    state = home.volumes.ensure(replace(want, size=2 * GIB))
    assert (state.size, state.busy) == (2 * GIB, "resizing")
    sim.clock.advance(5)
    assert home.volumes.ensure(want).busy == ""
    assert home.volumes.ensure(want).size == 2 * GIB


def test_an_attached_volume_is_not_deleted_and_says_what_holds_it(sim: Any) -> None:
    home = sim.build()
    [machine] = sim.run(home, place="sim-1a")
    _, volume = sim.volume(home)
    home.volumes.attach(volume.ref, machine.ref)
    with pytest.raises(Blocked) as caught:
        home.volumes.delete(volume.ref)
    assert caught.value.by == (machine.ref.id,)
    home.machines.delete([machine.ref])
    sim.clock.advance(1)
    home.volumes.delete(volume.ref)
    assert [s.phase for s in home.volumes.observe(Scope(installation="home")).items] == [Phase.DELETING]
    sim.clock.advance(1)
    assert sim.cloud.console.everything() == []


def test_a_zone_that_does_not_answer_hides_its_volumes_and_is_named(sim: Any) -> None:
    home = sim.build()
    sim.volume(home, place="sim-1a")
    sim.volume(home, name="two", place="sim-1b")
    sim.cloud.console.cut("sim-1b")
    snapshot = home.volumes.observe(Scope(installation="home"))
    assert ([s.reach for s in snapshot.items], snapshot.unreachable) == ([frozenset({"sim-1a"})], frozenset({"sim-1b"}))


def test_hosts_of_an_inventory_share_their_storage(sim: Any) -> None:
    home = sim.build(hosts=["h1", "h2"])
    [machine] = sim.run(home)
    _, volume = sim.volume(home, place="")
    assert volume.reach & sim.offer(home).reach
    home.volumes.attach(volume.ref, machine.ref)
