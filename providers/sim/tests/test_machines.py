"""Machines of the simulated cloud: their life, tokens, capacity, and what people do to them behind kubeup's back."""

from dataclasses import replace
from typing import Any

import pytest
from kubeup_core.errors import InvalidSpec, NoCapacity, NotFound, NotReady, Place, Taken, Unknown
from kubeup_core.supplier import Context, Member, Outcome, Phase, Ref, Scope


def test_a_machine_is_pending_until_it_has_booted(sim: Any) -> None:
    home = sim.build(bootSeconds=[4, 4])
    home.machines.launch(sim.launch(home))
    assert [s.phase for s in sim.seen(home)] == [Phase.PENDING]
    sim.clock.advance(3.9)
    assert [s.phase for s in sim.seen(home)] == [Phase.PENDING]
    sim.clock.advance(0.2)
    assert [s.phase for s in sim.seen(home)] == [Phase.RUNNING]


def test_without_latency_everything_is_true_at_once(sim: Any) -> None:
    home = sim.build(bootSeconds=[0, 0], deleteSeconds=0, goneSeconds=0, networkSeconds=0)
    assert home.networks.ensure(sim.network_spec()).phase == Phase.RUNNING
    home.machines.launch(sim.launch(home, 2))
    assert [s.phase for s in sim.seen(home)] == [Phase.RUNNING] * 2
    assert sim.outcomes(home.machines.delete([s.ref for s in sim.seen(home)])) == ["Made", "Made"]
    assert sim.seen(home) == []


def test_boot_times_are_drawn_from_the_seed(sim: Any, new_sim: Any) -> None:
    def first_up(seed: int) -> list[int]:
        other = new_sim()
        home = other.build(seed=seed, bootSeconds=[1, 100])
        home.machines.launch(other.launch(home, 20))
        other.clock.advance(50)
        return [s.ref.mark.index for s in other.seen(home) if s.phase == Phase.RUNNING]

    assert 0 < len(first_up(1)) < 20
    assert first_up(1) == first_up(1)
    assert first_up(1) != first_up(2)


def test_a_deleted_machine_is_deleting_then_gone_then_not_listed(sim: Any) -> None:
    home = sim.build(deleteSeconds=5, goneSeconds=30)
    [state] = sim.run(home)
    assert sim.outcomes(home.machines.delete([state.ref])) == ["Pending"]
    assert [s.phase for s in sim.seen(home)] == [Phase.DELETING]
    sim.clock.advance(5)
    assert [s.phase for s in sim.seen(home)] == [Phase.GONE]
    assert sim.cloud.console.everything() == []
    sim.clock.advance(30)
    assert sim.seen(home) == []


def test_a_launch_of_five_thousand_is_one_request_and_each_thousand_one_page(sim: Any) -> None:
    home = sim.build(batchLimit=5000)
    launch = sim.launch(home, 5000)
    results = home.machines.launch(launch)
    assert sim.cloud.requests["Machine.launch"] == 1
    assert [r.outcome for r in results] == [Outcome.MADE] * 5000
    assert [s.ref.mark.index for s in sim.seen(home)] == list(range(5000))
    assert sim.cloud.requests["Machine.list"] == 5


def test_an_expired_token_makes_new_machines(sim: Any) -> None:
    home = sim.build(tokenLife=100)
    launch = sim.launch(home)
    [first] = home.machines.launch(launch)
    home.machines.delete([Ref(id=first.id, mark=launch.member_mark(0))])
    sim.clock.advance(99)
    assert sim.outcomes(home.machines.launch(launch)) == ["Dead"]
    sim.clock.advance(1)
    [second] = home.machines.launch(launch)
    assert (second.outcome, second.id != first.id) == (Outcome.MADE, True)


def test_a_lookup_after_the_token_expired_finds_the_living_by_their_marks(sim: Any) -> None:
    home = sim.build(tokenLife=100)
    launch = sim.launch(home, 2)
    made = home.machines.launch(launch)
    sim.clock.advance(200)
    assert [(r.id, r.outcome) for r in home.machines.lookup(launch)] == [(r.id, Outcome.MADE) for r in made]


def test_the_dead_stay_dead_when_the_place_has_forgotten_them(sim: Any) -> None:
    home = sim.build()
    launch = sim.launch(home, 2)
    home.machines.launch(launch)
    sim.clock.advance(10)
    home.machines.delete([sim.seen(home)[0].ref])
    sim.clock.advance(3600)
    sim.run(home)  # another launch drops what nobody can see any more
    assert sim.outcomes(home.machines.launch(launch)) == ["Dead", "Made"]
    assert sim.outcomes(home.machines.lookup(launch)) == ["Dead", "Made"]


def test_a_launch_gets_what_the_place_has_left_and_is_told_of_the_rest(sim: Any) -> None:
    home = sim.build(capacity=[{"place": "sim-1a", "machineType": "g2", "machines": 2}])
    launch = sim.launch(home, 3, "sim-1a")
    results = home.machines.launch(launch)
    assert sim.outcomes(results) == ["Made", "Made", "Refused"]
    [error] = sim.errors(results)
    assert isinstance(error, NoCapacity)
    assert error.scope == Place(place="sim-1a", machine_type="g2", spot=False)
    assert not error.person
    assert sim.outcomes(home.machines.launch(launch)) == ["Made", "Made", "Refused"]


def test_a_launch_that_gets_nothing_raises_and_leaves_its_token_unused(sim: Any) -> None:
    home = sim.build(capacity=[{"machines": 1}])
    [state] = sim.run(home, place="sim-1a")
    launch = sim.launch(home, place="sim-1a")
    with pytest.raises(NoCapacity) as caught:
        home.machines.launch(launch)
    assert caught.value.scope.place == "sim-1a"
    assert sim.outcomes(home.machines.lookup(launch)) == ["Absent"]
    home.machines.delete([state.ref])
    sim.clock.advance(10)
    assert sim.outcomes(home.machines.launch(launch)) == ["Made"]


def test_the_capacity_of_spot_is_its_own(sim: Any) -> None:
    home = sim.build(capacity=[{"spot": True, "machines": 0}])
    with pytest.raises(NoCapacity) as caught:
        home.machines.launch(sim.launch(home, spot=True))
    assert caught.value.scope.spot is True
    assert sim.outcomes(home.machines.launch(sim.launch(home))) == ["Made"]


def test_a_quota_needs_a_person(sim: Any) -> None:
    home = sim.build(quota={"machines": 1})
    results = home.machines.launch(sim.launch(home, 2))
    assert sim.outcomes(results) == ["Made", "Refused"]
    [error] = sim.errors(results)
    assert isinstance(error, NoCapacity)
    assert error.person
    assert error.remedy
    with pytest.raises(NoCapacity):
        home.machines.launch(sim.launch(home))


def test_a_network_runs_out_of_addresses(sim: Any) -> None:
    home = sim.build()
    _, network = sim.network(home, cidr="10.1.0.0/27")
    results = home.machines.launch(sim.launch(home, 30, network=network.data))
    assert sim.outcomes(results).count("Made") == 21
    assert {error.code for error in sim.errors(results)} == {"InsufficientFreeAddresses"}


def test_offers_are_the_cheapest_first_in_the_zones_that_may_be_used(sim: Any) -> None:
    context = Context(installation="home", zones=("sim-1b",), machine_types=("g2*", "g4"), images={"debian-12": "mine"})
    home = sim.build(context=context)
    offers = home.machines.offers(sim.template())
    assert [(o.place, o.machine_type) for o in offers] == [("sim-1b", "g2"), ("sim-1b", "g2m"), ("sim-1b", "g4")]
    assert {o.image for o in offers} == {"mine"}
    assert home.machines.offers(sim.template(spot=True))[0].price_per_hour < offers[0].price_per_hour


@pytest.mark.parametrize(
    ("wish", "path", "words"),
    [
        ({"overrides": {"sim": "x"}}, "spec.overrides.sim.sim", "known fields: image, machineType, network"),
        ({"overrides": {"machineType": "huge"}}, "spec.overrides.sim.machineType", "use one of g1"),
        ({"overrides": {"machineType": "g1"}}, "spec.overrides.sim.machineType", "ask for less"),
        ({"cpu": 1000}, "spec.machine", "ask for less"),
        ({"image": "plan9"}, "spec.machine.image", "use one of debian-12"),
    ],
)
def test_check_says_what_is_wrong_where_and_what_to_do(sim: Any, wish: dict[str, Any], path: str, words: str) -> None:
    home = sim.build()
    [problem] = home.machines.check(sim.template(**wish))
    assert problem.path == path
    assert words in problem.remedy
    assert home.machines.offers(sim.template(**wish)) == ()


def test_a_launch_that_can_never_work_is_refused_as_a_whole(sim: Any) -> None:
    home = sim.build(batchLimit=2, userDataLimit=10)
    for launch in (
        sim.launch(home, 3),
        sim.launch(home, user_data=b"x" * 11),
        replace(sim.launch(home), offer=replace(sim.offer(home), machine_type="nonsense")),
        replace(sim.launch(home), offer=replace(sim.offer(home), place="mars")),
        replace(sim.launch(home), members=(Member(name="w", slot="h1"),)),
    ):
        with pytest.raises(InvalidSpec):
            home.machines.launch(replace(launch, user_data=launch.user_data[:11] if len(launch.members) == 1 else b""))
    assert sim.cloud.console.everything() == []


def test_a_machine_waits_for_its_network(sim: Any) -> None:
    home = sim.build(networkSeconds=5)
    pending = home.networks.ensure(sim.network_spec())
    with pytest.raises(NotReady):
        home.machines.launch(sim.launch(home, network=pending.data))
    with pytest.raises(NotFound):
        home.machines.launch(sim.launch(home, network={"network": "net-nowhere"}))
    sim.clock.advance(5)
    assert sim.outcomes(home.machines.launch(sim.launch(home, network=pending.data))) == ["Made"]


# -- half-made ---------------------------------------------------------------------------------------------------------


class Dead(BaseException):
    """The process was killed here."""


@pytest.mark.parametrize("create", ["single", "steps"])
def test_a_launch_killed_at_any_point_is_finished_by_its_repeat(new_sim: Any, create: str) -> None:
    points = []
    for number in range(20):
        sim = new_sim()
        home = sim.build(create=create)
        seen: list[str] = []

        def strike(point: str, seen: list[str] = seen, number: int = number) -> None:
            if len(seen) == number:
                raise Dead
            seen.append(point)

        launch = sim.launch(home, 2)
        sim.cloud.strike = strike
        try:
            home.machines.launch(launch)
            break
        except Dead:
            points = seen
        finally:
            sim.cloud.strike = None
        again = sim.build(create=create)
        assert sim.outcomes(again.machines.launch(launch)) == ["Made", "Made"]
        sim.clock.advance(10)
        assert [s.phase for s in sim.seen(again)] == [Phase.RUNNING] * 2
        assert again.machines.observe(Scope(installation="home")).strays == ()
    assert len(points) + 1 == {"single": 2, "steps": 6}[create]


def test_a_half_made_machine_is_partial_and_its_leftover_disk_a_stray(sim: Any) -> None:
    home = sim.build(create="steps")
    sim.cloud.faults.add("lostRequest", operation="launch")
    disks = sim.launch(home, 2)
    with pytest.raises(Unknown):
        home.machines.launch(disks)
    strays = home.machines.observe(Scope(installation="home")).strays
    assert [s.mark.index for s in strays] == [0, 1]
    sim.cloud.faults.add("lostRequest", operation="start")
    created = sim.launch(home)
    with pytest.raises(Unknown):
        home.machines.launch(created)
    [partial] = sim.seen(home)
    assert partial.phase == Phase.PARTIAL
    assert sim.outcomes(home.machines.lookup(created)) == ["Pending"]
    foreign = Ref(id=strays[0].id, mark=sim.mark("Machine"))
    assert isinstance(home.machines.delete([foreign])[0].error, NotFound)
    assert sim.outcomes(home.machines.delete([*strays, partial.ref])) == ["Made", "Made", "Pending"]
    sim.clock.advance(1)
    assert sim.cloud.console.everything() == []


def test_a_launch_in_steps_that_is_refused_leaves_no_disk(sim: Any) -> None:
    home = sim.build(create="steps", capacity=[{"machines": 1}])
    assert sim.outcomes(home.machines.launch(sim.launch(home, 2, "sim-1a"))) == ["Made", "Refused"]
    with pytest.raises(NoCapacity):
        home.machines.launch(sim.launch(home, 2, "sim-1a"))
    assert [line.kind for line in sim.cloud.console.everything()] == ["Machine", "Disk"]


# -- an inventory --------------------------------------------------------------------------------------------------------


def test_a_launch_claims_exactly_its_slots(sim: Any) -> None:
    home = sim.build(hosts=["h1", "h2", "h3"])
    assert home.capabilities.reusable
    [offer] = home.machines.offers(sim.template())
    assert offer.slots == ("h1", "h2", "h3")
    launch = sim.launch(home, members=(Member(name="a", slot="h3"), Member(name="b", slot="h1")))
    assert sim.outcomes(home.machines.launch(launch)) == ["Made", "Made"]
    assert [(s.name, s.place) for s in sim.seen(home)] == [("a", "h3"), ("b", "h1")]
    [offer] = home.machines.offers(sim.template())
    assert offer.slots == ("h2",)


def test_a_host_that_somebody_holds_is_taken(sim: Any) -> None:
    home, other = sim.build(hosts=["h1", "h2"]), sim.build("other")
    other.machines.launch(sim.launch(other, installation="other"))
    launch = sim.launch(home, members=(Member(name="a", slot="h1"), Member(name="b", slot="h2")))
    results = home.machines.launch(launch)
    assert sim.outcomes(results) == ["Refused", "Made"]
    [error] = sim.errors(results)
    assert isinstance(error, Taken)
    assert error.by == "other"


def test_a_host_that_does_not_answer_leaves_its_member_unknown_and_the_repeat_claims_it(sim: Any) -> None:
    home = sim.build(hosts=["h1", "h2"])
    launch = sim.launch(home, 2)
    sim.cloud.console.cut("h1")
    assert sim.outcomes(home.machines.launch(launch)) == ["Unknown", "Made"]
    assert sim.outcomes(home.machines.lookup(launch)) == ["Unknown", "Made"]
    snapshot = home.machines.observe(Scope(installation="home"))
    assert (len(snapshot.items), snapshot.unreachable) == (1, {"h1"})
    sim.cloud.console.restore("h1")
    assert sim.outcomes(home.machines.lookup(launch)) == ["Absent", "Made"]
    assert sim.outcomes(home.machines.launch(launch)) == ["Made", "Made"]
    assert len(sim.cloud.console.machines()) == 2


def test_a_claimed_host_that_falls_silent_is_unreachable_and_not_lost(sim: Any) -> None:
    home = sim.build(hosts=["h1", "h2"])
    launch = sim.launch(home, 2)
    home.machines.launch(launch)
    refs = [s.ref for s in sim.seen(home)]
    sim.cloud.console.cut("h2")
    assert sim.outcomes(home.machines.lookup(launch)) == ["Made", "Unknown"]
    assert sim.outcomes(home.machines.delete(refs)) == ["Pending", "Unknown"]
    [offer] = home.machines.offers(sim.template())
    assert offer.slots == ()


# -- behind kubeup's back --------------------------------------------------------------------------------------------------


def test_what_people_do_to_a_machine_is_observed(sim: Any) -> None:
    home = sim.build()
    console = sim.cloud.console
    [state] = sim.run(home)
    console.stop(state.name)
    assert sim.seen(home)[0].phase == Phase.STOPPED
    console.start(state.name)
    [started] = sim.seen(home)
    assert (started.phase, started.boot_id != state.boot_id) == (Phase.RUNNING, True)
    console.notice(state.name, 120)
    assert sim.seen(home)[0].leaving_at == sim.clock.now() + 120
    sim.clock.advance(120)
    assert sim.seen(home)[0].phase == Phase.GONE


def test_a_killed_machine_is_seen_to_go_and_a_lost_one_is_not(sim: Any) -> None:
    home = sim.build()
    killed, lost = sim.run(home, 2)
    sim.cloud.console.kill(killed.ref.id)
    sim.cloud.console.lose(lost.name)
    assert [(s.name, s.phase) for s in sim.seen(home)] == [(killed.name, Phase.DELETING)]
    sim.clock.advance(1)
    assert [s.phase for s in sim.seen(home)] == [Phase.GONE]
    assert sim.cloud.console.machines() == []


def test_a_machine_with_other_tags_is_no_longer_ours(sim: Any) -> None:
    home = sim.build()
    [state] = sim.run(home)
    sim.cloud.console.retag(state.name, {"kubeup/installation": "somebody"})
    assert sim.seen(home) == []
    assert sim.seen(home, doubt=(state.ref,)) == []
    [result] = home.machines.delete([state.ref])
    assert isinstance(result.error, NotFound)
    assert [line.phase for line in sim.cloud.console.machines()] == ["Running"]


def test_a_foreign_machine_with_our_tag_is_shown_with_what_its_tags_say(sim: Any) -> None:
    home = sim.build()
    id = sim.cloud.console.add("handmade", {"kubeup/installation": "home"})
    [state] = sim.seen(home)
    assert (state.ref.id, state.ref.mark.maker, state.ref.mark.kind) == (id, "", "Machine")


def test_two_installations_share_an_account_and_do_not_see_each_other(sim: Any) -> None:
    home, other = sim.build(), sim.build("other")
    [mine] = sim.run(home)
    [theirs] = sim.run(other, installation="other")
    assert [s.ref for s in sim.seen(home)] == [mine.ref]
    assert [s.ref for s in sim.seen(other, "other")] == [theirs.ref]
    assert home.identity == other.identity
    assert {line.installation for line in sim.cloud.console.machines()} == {"home", "other"}


# -- in the guest --------------------------------------------------------------------------------------------------------


def test_a_guest_runs_the_few_commands_it_knows_and_says_when_it_does_not(sim: Any) -> None:
    home = sim.build()
    [state] = sim.run(home)

    def run(script: str, stdin: bytes = b"") -> list[bytes | int]:
        return list(home.machines.execute(state.ref, script, stdin, 5))

    assert run("hostname") == [f"{state.name}\n".encode(), 0]
    assert run("cat; exit 3", b"hello") == [b"hello", 3]
    assert run("echo one\n# a remark\nfalse") == [b"one\n", 1]
    assert run("systemctl start kubelet") == [b"sh: systemctl: not found\n", 127]
    assert run("echo a | wc")[-1] == 2
    sim.cloud.guest.on("systemctl", lambda machine, script, stdin: (0, machine.hostname.encode()))
    assert run("systemctl start kubelet") == [state.name.encode(), 0]


def test_a_machine_that_is_not_there_or_not_up_or_unplugged_runs_nothing(sim: Any) -> None:
    home = sim.build()
    home.machines.launch(sim.launch(home))
    [state] = sim.seen(home)
    with pytest.raises(NotReady):
        home.machines.execute(state.ref, "true", b"", 5)
    sim.clock.advance(10)
    sim.cloud.console.unplug(state.name)
    with pytest.raises(Unknown):
        home.machines.execute(state.ref, "true", b"", 5)
    assert sim.seen(home)[0].phase == Phase.RUNNING
    sim.cloud.console.lose(state.name)
    with pytest.raises(NotFound):
        home.machines.execute(state.ref, "true", b"", 5)


def test_an_account_may_offer_no_way_in_and_no_console(sim: Any) -> None:
    home = sim.build(access="none", console=False)
    [state] = sim.run(home)
    assert (home.capabilities.access, state.access.kind, home.capabilities.console) == ("none", "none", False)
    with pytest.raises(NotFound):
        home.machines.execute(state.ref, "true", b"", 5)
    with pytest.raises(NotFound):
        home.machines.console(state.ref, 100)


def test_the_console_tells_how_the_boot_went_and_a_reboot_is_another_boot(sim: Any) -> None:
    home = sim.build()
    [state] = sim.run(home)
    assert home.machines.console(state.ref, 1000).endswith("login:\n")
    home.machines.reboot(state.ref)
    [after] = sim.seen(home)
    assert (after.phase, after.boot_id != state.boot_id) == (Phase.RUNNING, True)


# -- consistency ---------------------------------------------------------------------------------------------------------


def test_a_listing_lags_for_at_most_the_time_to_settle_and_a_look_by_id_does_not(sim: Any) -> None:
    home = sim.build(settle=60)
    assert home.capabilities.settle == 60
    launch = sim.launch(home, 50)
    results = home.machines.launch(launch)
    assert len(sim.seen(home)) < 5
    refs = tuple(Ref(id=r.id, mark=launch.member_mark(i)) for i, r in enumerate(results))
    assert len(sim.seen(home, doubt=refs)) == 50
    sim.clock.advance(30)
    assert 5 < len(sim.seen(home)) < 45
    sim.clock.advance(30)
    assert len(sim.seen(home)) == 50
    assert sim.outcomes(home.machines.lookup(launch)) == ["Made"] * 50


def test_a_changed_launch_under_a_known_token_is_not_taken_for_absent(sim: Any) -> None:
    home = sim.build(settle=60)
    launch = sim.launch(home)
    home.machines.launch(launch)
    changed = replace(launch, offer=replace(launch.offer, image="newer"))
    assert sim.outcomes(home.machines.launch(changed))[0] in ("Made", "Unknown")
    assert len(sim.cloud.console.machines()) == 1


def test_a_member_is_not_absent_while_its_place_does_not_answer(sim: Any) -> None:
    home = sim.build()
    launch = sim.launch(home, place="sim-1b")
    sim.cloud.console.cut("sim-1a")
    assert sim.outcomes(home.machines.lookup(launch)) == ["Absent"]
    sim.cloud.console.cut("sim-1b")
    assert sim.outcomes(home.machines.lookup(launch)) == ["Unknown"]
