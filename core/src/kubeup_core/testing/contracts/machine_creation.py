"""What every MachineSupplier must do when it launches: the same token means the same machines. Part of `MachineContract`."""

from __future__ import annotations

from dataclasses import replace

from ...errors import SupplierError
from ...supplier import Launch, MachineState, Outcome, Phase, Problem
from .base import Contract
from .bench import Bench
from .checks import not_offered, well_formed

_NOMINAL = 0.9  # sizes are nominal: a "24 GiB" host reports 23.5


class MachineCreation(Contract):
    """The same token means the same machines."""

    def test_the_same_launch_again_gives_the_same_machines(self, bench: Bench) -> None:
        """A reply that was lost is answered by the same call: a second machine would be paid for and never seen."""
        launch = bench.launch()
        first = bench.submit(launch)
        bench.submit(launch)
        states = bench.exactly(launch)
        again = bench.submit(launch)
        assert [r.id for r in again] == [s.ref.id for s in states], "launch returns other ids than observe shows"
        known = [(r.id, s.ref.id) for r, s in zip(first, states, strict=True) if r.id]
        assert all(a == b for a, b in known), f"the first call gave ids that the machines do not have: {known}"

    def test_the_same_launch_after_a_restart_gives_the_same_machines(self, bench: Bench) -> None:
        """Nothing may be remembered in the process alone: it is killed between the call and its record."""
        launch = bench.launch()
        bench.submit(launch)
        bench.restart()
        bench.submit(launch)
        bench.exactly(launch)

    def test_another_launch_of_the_same_names_makes_other_machines(self, bench: Bench) -> None:
        """A second attempt is another Launch; a namesake that is still dying must not be mistaken for its machine."""
        first = bench.launch(1)
        second = bench.launch(1)
        second = replace(second, members=(replace(second.members[0], name=first.members[0].name),))
        one = bench.run(first)
        bench.submit(second)
        two = bench.exactly(second)
        assert one[0].ref.id != two[0].ref.id, "two launches got one machine"
        bench.exactly(first)

    def test_changed_parameters_under_a_known_token_look_up(self, bench: Bench) -> None:
        """A family's image moved on between two tries: that proves that the first call landed, it is no reason to fail."""
        launch = bench.launch()
        ids = [state.ref.id for state in bench.run(launch)]
        changed = replace(launch, template=replace(launch.template, image="another-image", cpu=launch.template.cpu * 2))
        changed = replace(changed, offer=replace(launch.offer, image="another-image"))
        try:
            results = bench.submit(changed)
        except SupplierError as error:
            raise AssertionError(f"changed parameters under a known token raise {error!r}") from error
        assert [result.id for result in results] == ids, f"changed parameters gave {list(results)}, the machines are {ids}"
        bench.exactly(launch)

    def test_a_dead_member_is_not_replaced(self, bench: Bench) -> None:
        """The core decides about a replacement, under a new token. A supplier that replaces makes machines nobody asked for."""
        launch, dead = _with_a_death(bench)
        result = bench.submit(launch)[0]
        assert result.outcome == Outcome.DEAD, f"launch says {result} of a member that is dead"
        bench.settle()
        members = [state for state in bench.states(launch) if state.ref.mark.index == 0]
        assert {state.ref.id for state in members} <= {dead.ref.id}, "the dead member was replaced"

    def test_a_dead_member_does_not_hide_the_living(self, bench: Bench) -> None:
        """EC2 fails a whole replay for one terminated machine; the others would then be launched a second time."""
        launch, _ = _with_a_death(bench)
        living = {s.ref.mark.index: s.ref.id for s in bench.states(launch) if s.phase == Phase.RUNNING}
        if not living:
            not_offered("launches of more than one member (Capabilities.batch_limit)")
        for results in (bench.submit(launch), bench.patiently(lambda: bench.a.machines.lookup(launch), "lookup")):
            made = {i: r.id for i, r in enumerate(results) if r.outcome == Outcome.MADE}
            assert made == living, f"one member is dead, and MADE are {made}; living are {living}"

    def test_results_come_one_per_member_in_order(self, bench: Bench) -> None:
        """The core has nothing but the position to tell the members apart."""
        launch = bench.launch()
        well_formed(bench.submit(launch), len(launch.members), "launch")
        states = bench.running(launch)
        for name, results in (("launch", bench.submit(launch)), ("lookup", bench.a.machines.lookup(launch))):
            well_formed(results, len(launch.members), name)
            assert [r.id for r in results] == [s.ref.id for s in states], f"{name}: not in the order of the members"
        expected = [member.name for member in launch.members]
        got = [state.name for state in states]
        assert all(g.startswith(e) for g, e in zip(got, expected, strict=True)), f"names {got}, wanted {expected} in this order"

    def test_lookup_makes_nothing(self, bench: Bench) -> None:
        """Lookup is what is asked of a launch that is no longer wanted."""
        launch = bench.launch()
        results = bench.patiently(lambda: bench.a.machines.lookup(launch), "lookup")
        well_formed(results, len(launch.members), "lookup")
        assert {r.outcome for r in results} <= {Outcome.ABSENT, Outcome.UNKNOWN}, (
            f"lookup of what was never launched: {results}"
        )
        bench.settle()
        assert not bench.states(launch), "lookup made a machine"

    def test_made_is_final(self, bench: Bench) -> None:
        """A member that is MADE is never asked for again, so it must not fall back to less."""
        launch = bench.launch()
        made: dict[int, str] = {}
        unsure = {Outcome.UNKNOWN, Outcome.ABSENT} if bench.a.capabilities.settle else {Outcome.UNKNOWN}  # a read may lag

        def see(results: object) -> None:
            assert isinstance(results, list | tuple)
            for index, result in enumerate(results):
                if index in made and result.outcome not in unsure:
                    assert (result.outcome, result.id) == (Outcome.MADE, made[index]), f"member {index} was MADE, now {result}"
                if result.outcome == Outcome.MADE:
                    made[index] = result.id

        def all_made() -> bool:
            see(bench.patiently(lambda: bench.a.machines.lookup(launch), "lookup"))
            return len(made) == len(launch.members)

        see(bench.submit(launch))
        bench.until(all_made, "every member is MADE")
        bench.running(launch)
        bench.settle()
        all_made()

    def test_offers_satisfy_what_is_wanted(self, bench: Bench) -> None:
        """Offers are at least what was asked, cheapest first; looking at them makes nothing."""
        want = bench.rig.template
        offers = bench.offers()
        for offer in offers:
            assert offer.cpu >= want.cpu * _NOMINAL, f"{offer} has too few cores"
            assert offer.memory >= want.memory * _NOMINAL, f"{offer} has too little memory"
            assert want.arch in ("", offer.arch), f"{offer} has the wrong architecture"
        prices = [offer.price_per_hour for offer in offers if offer.price_per_hour is not None]
        assert prices == sorted(prices), f"offers are not cheapest first: {prices}"
        assert not bench.snapshot().items, "offers made a machine"

    def test_check_does_no_request(self, bench: Bench) -> None:
        """check runs while a person waits for an answer to `apply`, also when the place is down."""
        before = len(bench.charges), bench.rig.requests and bench.rig.requests()
        problems = bench.a.machines.check(bench.rig.template)
        assert (len(bench.charges), bench.rig.requests and bench.rig.requests()) == before, "check sent a request"
        assert all(isinstance(problem, Problem) for problem in problems), f"check returns {problems}"
        assert not problems, f"check finds fault with the rig's own template: {problems}"


def _with_a_death(bench: Bench) -> tuple[Launch, MachineState]:
    """A launch whose member 0 is dead and still shown by the place."""
    launch = bench.launch()
    victim = bench.run(launch)[0]
    if bench.rig.die is not None:
        bench.rig.die(victim.ref)
        dead = (Phase.GONE, Phase.FAILED, Phase.DELETING, Phase.STOPPED)
        bench.until(lambda: bench.states(launch)[0].phase in dead, "the death is observed")
    else:
        bench.delete([victim.ref])
        if victim.ref.id not in {state.ref.id for state in bench.states(launch)}:
            not_offered("dead machines that the place still shows (Rig.die)")
    return launch, victim
