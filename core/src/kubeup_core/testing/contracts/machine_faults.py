"""What every MachineSupplier must do when things break: death, lost replies, no capacity, silence, many threads, spent budgets.

Part of `MachineContract`; the deaths are the bench's own, most other faults are hooks of the rig.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...errors import NoCapacity, NotReady, SupplierError, Unknown
from ...supplier import Launch, MachineState, Outcome, Phase, Result, Scope
from .base import Contract
from .bench import Bench
from .checks import ALIVE, offered

_MOST_REQUESTS = 60  # of one launch; a supplier that needs more is not tested beyond


class MachineFaults(Contract):
    # -- killed, or stopped by the budget, between any two requests ------------------------------------------------------

    def test_a_launch_killed_between_any_two_requests_is_finished_by_its_repeat(self, bench: Bench) -> None:
        """kill -9 in the middle: the repeat finds what was made, also the half-made, and makes only the rest."""
        for request in range(_MOST_REQUESTS):
            launch = bench.launch()
            with bench.dies_at(request) as fuse:
                bench.a.machines.launch(launch)
            bench.restart()
            for state in bench.states(launch):
                assert state.ref.mark.same(launch.member_mark(state.ref.mark.index)), (
                    f"half-made under the mark {state.ref.mark}"
                )
            bench.submit(launch)
            bench.exactly(launch)
            bench.clear()
            if not fuse.blown:
                assert request > 0, "launch never calls Context.charge, so it cannot be stopped between two requests"
                return

    def test_what_a_killed_launch_left_can_be_deleted(self, bench: Bench) -> None:
        """A launch that is no longer wanted is never repeated: what it left is observed (items or strays) and deletable."""
        everything = bench.rig.everything
        bench.network(bench.a)
        before = set(everything()) if everything else set()
        for request in range(_MOST_REQUESTS):
            launch = bench.launch()
            with bench.dies_at(request) as fuse:
                bench.a.machines.launch(launch)
            bench.restart()
            bench.clear()
            bench.settle()
            bench.clear()
            shown = {item.ref.id for item in bench.snapshot().items}
            left = (set(everything()) if everything else set()) - before - shown
            assert not left, f"killed before request {request}: nothing is observed, but there is still {sorted(left)}"
            if not fuse.blown:
                return

    def test_a_delete_killed_between_any_two_requests_is_finished_by_its_repeat(self, bench: Bench) -> None:
        """The parts of a machine must not become invisible when the machine goes first."""
        everything = bench.rig.everything
        bench.network(bench.a)
        before = set(everything()) if everything else set()
        for request in range(_MOST_REQUESTS):
            states = bench.run(bench.launch())
            with bench.dies_at(request) as fuse:
                bench.a.machines.delete([state.ref for state in states])
            bench.restart()
            bench.clear()
            bench.settle()
            shown = {item.ref.id for item in bench.snapshot().items}
            left = (set(everything()) if everything else set()) - before - shown
            assert not left, f"killed before request {request}: nothing is observed, but there is still {sorted(left)}"
            if not fuse.blown:
                return

    def test_a_budget_spent_in_the_middle_hides_nothing(self, bench: Bench) -> None:
        """NotReady out of launch means that nothing was made, for every member. Later than that it is Unknown, or a result."""
        for request in range(_MOST_REQUESTS):
            launch = bench.launch()
            with bench.broke_at(request) as fuse:
                said = _said(bench, launch)
            _honest(bench, launch, said)
            bench.clear()
            if not fuse.blown:
                return

    # -- replies and requests that are lost ------------------------------------------------------------------------------

    def test_a_lost_reply_is_an_unknown_outcome(self, bench: Bench) -> None:
        """The machine is there. Who says it was refused makes a second one; who says nothing is charged for it."""
        lost = offered(bench.rig.lost_reply, "a reply that is lost (Rig.lost_reply)")
        launch = bench.launch()
        with lost():
            said = _said(bench, launch)
        _honest(bench, launch, said)
        bench.submit(launch)
        bench.exactly(launch)

    def test_a_lost_request_is_an_unknown_outcome(self, bench: Bench) -> None:
        """Nobody knows whether it arrived; MADE would be waited for, for ever."""
        lost = offered(bench.rig.lost_request, "a request that is lost (Rig.lost_request)")
        launch = bench.launch()
        with lost():
            said = _said(bench, launch)
        _honest(bench, launch, said)
        bench.submit(launch)
        bench.exactly(launch)

    # -- no capacity -----------------------------------------------------------------------------------------------------

    def test_no_capacity_is_said_at_once_and_by_its_name(self, bench: Bench) -> None:
        """Only NoCapacity makes the core try the next offer; anything else waits, or stops the pool."""
        no_capacity = offered(bench.rig.no_capacity, "a place without capacity (Rig.no_capacity)")
        launch = bench.launch()
        with no_capacity(0):
            try:
                results = bench.a.machines.launch(launch)
            except NoCapacity:
                results = ()
            except Exception as error:
                raise AssertionError(f"no capacity comes out as {error!r}, not as NoCapacity") from error
            for result in results:
                named = result.outcome == Outcome.REFUSED and isinstance(result.error, NoCapacity)
                assert named, f"{result} where there is no capacity, wanted REFUSED with NoCapacity"
        bench.settle()
        assert not [s for s in bench.states(launch) if s.phase in ALIVE], "something was made although capacity was refused"

    def test_room_for_some_is_told_member_by_member(self, bench: Bench) -> None:
        """Fewer than asked: who got one has it, who did not is REFUSED. Or all are refused, and then there is none."""
        no_capacity = offered(bench.rig.no_capacity, "a place without capacity (Rig.no_capacity)")
        launch = bench.launch()
        with no_capacity(1):
            said = _said(bench, launch)
            assert isinstance(said, NoCapacity | tuple), f"a place with room for one says {said!r}"
            _honest(bench, launch, said)
            if isinstance(said, tuple) and len(said) > 1:
                refused = [r for r in said if r.outcome == Outcome.REFUSED]
                assert len(refused) >= len(said) - 1, f"room for one, but {said}"
                assert all(isinstance(r.error, NoCapacity) for r in refused), f"refused without NoCapacity: {refused}"

    def test_a_late_refusal_is_told(self, bench: Bench) -> None:
        """Accepted and then refused (pending -> terminated): without the error the core would try the same offer again."""
        late = offered(bench.rig.late_refusal, "a refusal after acceptance (Rig.late_refusal)")
        launch = bench.launch(1)
        with late():
            said = _said(bench, launch)
            if isinstance(said, NoCapacity):
                return

            def told() -> bool:
                looked = bench.patiently(lambda: bench.a.machines.lookup(launch), "lookup")
                errors = [result.error for result in looked] + [state.error for state in bench.states(launch)]
                return any(isinstance(error, NoCapacity) for error in errors)

            bench.until(told, "the late refusal is told as NoCapacity, by lookup or by MachineState.error")

    def test_a_launch_that_may_be_undone_is_pending(self, bench: Bench) -> None:
        """GCE's bulk insert deletes running machines when it falls short: MADE is said only when that is over."""
        rollback = offered(bench.rig.rollback, "a launch that is rolled back (Rig.rollback)")
        launch = bench.launch()
        with rollback():
            said = _said(bench, launch)
            results = list(said) if isinstance(said, tuple) else []

            def over() -> bool:
                results.extend(bench.patiently(lambda: bench.a.machines.lookup(launch), "lookup"))
                return all(
                    r.outcome in (Outcome.REFUSED, Outcome.DEAD, Outcome.ABSENT) for r in results[-len(launch.members) :]
                )

            bench.until(over, "the launch is undone")
        assert not [r for r in results if r.outcome == Outcome.MADE], "a member was MADE, and then undone by its own launch"

    # -- what does not answer --------------------------------------------------------------------------------------------

    def test_a_page_that_failed_is_not_a_shorter_list(self, bench: Bench) -> None:
        """Machines missing from a list that looks complete are replaced, all of them."""
        broken = offered(bench.rig.broken_page, "a listing that breaks off (Rig.broken_page)")
        page = offered(bench.rig.page, "a page size (Rig.page)")
        known: list[MachineState] = []
        while len(known) <= page:
            known += bench.run(bench.launch())
        with broken():
            _conclude_nothing(bench, known, several=False)

    def test_a_place_that_does_not_answer_is_unreachable(self, bench: Bench) -> None:
        """One dead host or zone: its machines are not lost, and everybody else's are still seen."""
        unreachable = offered(bench.rig.unreachable, "a place that does not answer (Rig.unreachable)")
        offers = {offer.place: offer for offer in reversed(bench.offers())}
        launches = [bench.launch(1, offer=offer) for offer in list(offers.values())[:2]]
        known = [bench.run(launch)[0] for launch in launches]
        with unreachable(known[0].place):
            _conclude_nothing(bench, known, several=len({state.place for state in known}) > 1)

    # -- requests, waiting, threads --------------------------------------------------------------------------------------

    def test_every_request_is_charged(self, bench: Bench) -> None:
        """All clusters share one budget; a request that is not charged gets everybody throttled."""
        launch = bench.launch()
        machines = bench.a.machines
        bench.charged("launch", lambda: bench.submit(launch))
        bench.charged("lookup", lambda: machines.lookup(launch))
        bench.charged("observe", bench.snapshot)
        refs = [bench.run(launch)[0].ref]
        bench.charged("delete", lambda: bench.delete(refs))
        known = bench.a.capabilities.budgets
        strange = sorted(set(bench.charges) - set(known)) if known else []
        assert not strange, f"charged to buckets that Capabilities.budgets does not have: {strange}"

    def test_a_spent_budget_stops_the_request(self, bench: Bench) -> None:
        """charge comes before the request, and its NotReady goes up as it is."""
        requests = offered(bench.rig.requests, "a count of requests (Rig.requests)")
        launch = bench.launch()
        sent = requests()
        with bench.broke_at(0):
            for name, call in (("launch", bench.a.machines.launch), ("lookup", bench.a.machines.lookup)):
                try:
                    result = call(launch)
                except NotReady:
                    continue
                unsure = all(r.outcome == Outcome.UNKNOWN or isinstance(r.error, NotReady) for r in result)
                assert unsure, f"{name} says {result} without having asked"
        assert requests() == sent, "a request was sent although the budget was spent"

    def test_no_call_waits(self, bench: Bench) -> None:
        """A call that waits for a state holds a thread of everybody's, and its state is known too late after a crash."""
        launch = bench.launch()
        machines = bench.a.machines
        scope = Scope(installation=bench.installations[0])
        bench.must_not_wait(lambda: machines.offers(bench.rig.template), "offers")
        bench.must_not_wait(lambda: machines.launch(launch), "launch")
        bench.must_not_wait(lambda: machines.lookup(launch), "lookup")
        bench.must_not_wait(lambda: machines.observe(scope), "observe")
        refs = [state.ref for state in bench.run(launch)]
        bench.must_not_wait(lambda: machines.delete(refs), "delete")
        bench.must_not_wait(bench.a.probe, "probe")

    def test_threads_may_launch_the_same_at_once(self, bench: Bench) -> None:
        """An abandoned call lands while its repeat is on the way."""
        launch = bench.launch()
        bench.together([lambda: bench.a.machines.launch(launch)] * 4)
        bench.submit(launch)
        bench.exactly(launch)

    def test_threads_may_call_anything_at_once(self, bench: Bench) -> None:
        """Many controllers share one supplier."""
        launches = [bench.launch(1) for _ in range(3)]
        machines = bench.a.machines
        observe = [lambda: machines.observe(Scope(installation=bench.installations[0]))] * 3
        submit = [lambda launch=launch: machines.launch(launch) for launch in launches]
        calls: list[Callable[[], object]] = [*submit, *observe]
        results = bench.together(calls)
        if any(isinstance(result, Unknown) for result in results):  # a real server loses a connection now and then; not twice
            results = bench.together(calls)
        for result in results:
            assert not isinstance(result, BaseException) or isinstance(result, NotReady), (
                f"called from several threads: {result!r}"
            )
        for launch in launches:
            bench.submit(launch)
            bench.exactly(launch)


def _said(bench: Bench, launch: Launch) -> tuple[Result, ...] | BaseException:
    """What one launch call returned or raised."""
    try:
        return tuple(bench.a.machines.launch(launch))
    except Exception as error:
        return error


def _honest(bench: Bench, launch: Launch, said: tuple[Result, ...] | BaseException) -> None:
    """What launch said agrees with what is there in the end: a refusal left nothing, MADE made one, all else claims nothing."""
    results = said if isinstance(said, tuple) else ()
    claimed = {i: r.id for i, r in enumerate(results) if r.outcome == Outcome.MADE}
    denied = {i for i, r in enumerate(results) if r.outcome in (Outcome.REFUSED, Outcome.ABSENT)}
    if isinstance(said, SupplierError) and not isinstance(said, Unknown):
        denied = set(range(len(launch.members)))
    for _ in range(bench.rig.settle_steps + 1):
        seen = bench.snapshot()
        refs = [s.ref for s in seen.items if s.phase not in (Phase.FAILED, Phase.GONE)] + list(seen.strays)
        there = {ref.mark.index: ref.id for ref in refs if ref.mark.maker == launch.mark.maker}
        wrong = {i: id for i, id in there.items() if i in denied}
        assert not wrong, f"launch said {said!r}, so of members {sorted(wrong)} nothing was made, but there is {wrong}"
        bench.rig.advance()
    made = {s.ref.mark.index: s.ref.id for s in bench.states(launch)}
    lies = {i: id for i, id in claimed.items() if made.get(i) != id}
    assert not lies, f"launch said MADE of {lies}, but observe shows {made}"


def _conclude_nothing(bench: Bench, known: Sequence[MachineState], *, several: bool) -> None:
    """Every known machine is observed, or its place is in `unreachable`. Raising says as much, unless there are several
    places: then one must not take the others along."""
    try:
        seen = bench.a.machines.observe(Scope(installation=bench.installations[0]))
    except Exception as error:
        if several:
            raise AssertionError(f"one place does not answer, and observe raises {error!r} for all of them") from error
        return
    shown = {state.ref.id for state in seen.items}
    missing = [s for s in known if s.ref.id not in shown and not seen.unreachable & {s.place, "*"}]
    assert not missing, f"{[s.ref.id for s in missing]} are left out, and unreachable is {sorted(seen.unreachable)}"
    assert seen.unreachable or len(shown) >= len(known), "something did not answer, and unreachable is empty"
    if several:
        assert "*" not in seen.unreachable, "one place does not answer, and all of them are called unreachable"
