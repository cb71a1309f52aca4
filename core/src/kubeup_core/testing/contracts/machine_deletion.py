"""What every MachineSupplier must do when it deletes or acts: on what it is told, by id and mark. Part of `MachineContract`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ...errors import NotFound, Taken
from ...supplier import Outcome, Phase, Ref
from .base import Contract
from .bench import Bench
from .checks import ALIVE, not_offered, offered, unmarked, well_formed


class MachineDeletion(Contract):
    """Deletion takes exactly what it is told to take."""

    def test_deleting_what_is_gone_succeeds(self, bench: Bench) -> None:
        """A delete is repeated until the machine is gone: the last repeat must not be an error."""
        launch = bench.launch(1)
        ref = bench.run(launch)[0].ref
        _succeeds(bench, [ref])
        _succeeds(bench, [ref])
        bench.until(lambda: all(s.phase == Phase.GONE for s in bench.states(launch)), "the machine is gone")
        _succeeds(bench, [ref])
        bench.settle()  # by now the place may have forgotten that there ever was one
        _succeeds(bench, [ref])

    def test_deleting_what_never_was_succeeds(self, bench: Bench) -> None:
        """The id may be older than what the place remembers."""
        launch = bench.launch(2 if bench.a.capabilities.batch_limit > 1 else 1)
        ref = bench.run(launch)[0].ref
        digits = ref.id[:-4] + ("0000" if not ref.id.endswith("0000") else "1111")
        _succeeds(bench, [Ref(id=digits, mark=unmarked(ref).mark)])
        bench.exactly(launch)

    def test_delete_answers_one_per_ref_in_order(self, bench: Bench) -> None:
        """Also when some of them are gone already."""
        launch = bench.launch()
        refs = [state.ref for state in bench.run(launch)]
        bench.delete(refs[:1])
        bench.until(lambda: all(s.phase == Phase.GONE for s in bench.states(launch) if s.ref == refs[0]), "the first is gone")
        wanted = [*reversed(refs)]
        results = bench.delete(wanted)
        well_formed(results, len(wanted), "delete")
        assert [r.id for r in results] == [ref.id for ref in wanted], "delete: the results are not in the order of the refs"

    def test_delete_takes_only_what_it_is_told(self, bench: Bench) -> None:
        """The others of the launch go on."""
        launch = bench.launch()
        if len(launch.members) < 2:
            not_offered("launches of more than one member (Capabilities.batch_limit)")
        states = bench.run(launch)
        bench.delete([states[0].ref])
        bench.settle()
        living = [s.ref.id for s in bench.states(launch) if s.phase in ALIVE]
        wanted = [s.ref.id for s in states[1:]]
        assert living == wanted, f"one machine was deleted, alive are {living}, wanted {wanted}"

    def test_deleting_an_id_under_another_mark_touches_nothing(self, bench: Bench) -> None:
        """A host was released and taken by another machine; the late delete of the first one must not hit it."""
        ours, theirs = bench.launch(1), bench.launch(1, suppliers=bench.b)
        state, foreign = bench.run(ours)[0], bench.run(theirs, bench.b)[0]
        for ref in (unmarked(state.ref), Ref(id=foreign.ref.id, mark=state.ref.mark)):
            try:
                for result in bench.delete([ref]):
                    assert result.outcome == Outcome.MADE or isinstance(result.error, NotFound), f"{result} for a foreign mark"
            except NotFound:
                pass
        bench.settle()
        assert [s.phase for s in bench.states(ours)] == [Phase.RUNNING], "a machine was deleted under another maker's mark"
        assert [s.phase for s in bench.states(theirs, bench.b)] == [Phase.RUNNING], "another installation's machine was deleted"

    def test_a_machine_of_another_installation_is_never_adopted(self, bench: Bench) -> None:
        """The same names in one account: each installation has its own machines, or is told that the name is taken."""
        theirs = bench.launch(1, suppliers=bench.b)
        foreign = bench.run(theirs, bench.b)[0]
        ours = bench.launch(1)
        ours = replace(ours, members=(replace(ours.members[0], name=theirs.members[0].name),))
        try:
            results = bench.submit(ours)
        except Taken:
            return
        assert foreign.ref.id not in {r.id for r in results}, (
            "a machine with another installation's mark was adopted by its name"
        )
        fair = all(r.outcome in (Outcome.MADE, Outcome.PENDING) or isinstance(r.error, Taken) for r in results)
        assert fair, f"wanted a machine of its own, or Taken: {results}"

    def test_a_name_that_somebody_holds_is_taken(self, bench: Bench) -> None:
        """A thing without our mark on the very name: never adopted, never deleted, and said."""
        squat = offered(bench.rig.squat, "a squatter on a name (Rig.squat)")
        launch = bench.launch(1)
        squat(launch)
        try:
            result = bench.submit(launch)[0]
        except Taken:
            pass
        else:
            assert isinstance(result.error, Taken), f"{result} although somebody else holds the name"
        bench.settle()
        assert not bench.states(launch), "the squatter is observed as ours"

    def test_acting_on_an_id_under_another_mark_is_not_found(self, bench: Bench) -> None:
        """execute, console and reboot too: a script for one machine must never run on another."""
        can = bench.a.capabilities
        machines = bench.a.machines
        acts: dict[str, Callable[[Ref], object]] = {}
        if can.access == "execute":
            acts["execute"] = lambda ref: list(machines.execute(ref, "true", b"", 5))
        if can.console:
            acts["console"] = lambda ref: machines.console(ref, 1000)
        if can.reboot:
            acts["reboot"] = machines.reboot
        if not acts:
            not_offered("execute, console and reboot (Capabilities)")
        ref = unmarked(bench.run(bench.launch(1))[0].ref)
        for name, act in acts.items():
            try:
                act(ref)
            except NotFound:
                continue
            raise AssertionError(f"{name} acted on a machine that carries another mark")

    def test_execute_gives_output_and_the_exit_code(self, bench: Bench) -> None:
        """The exit code ends the stream; a stream without one is an unknown outcome."""
        if bench.a.capabilities.access != "execute":
            not_offered("execute (Capabilities.access)")
        ref = bench.run(bench.launch(1))[0].ref
        parts = list(bench.a.machines.execute(ref, "cat; exit 3", b"over stdin", 20))
        assert parts[-1] == 3, f"the stream ends in {parts[-1]!r}, not in the exit code 3"
        said = b"".join(part for part in parts if isinstance(part, bytes))
        assert said == b"over stdin", f"the output is {said!r}, not what came over stdin"

    def test_the_console_keeps_to_its_limit(self, bench: Bench) -> None:
        """Its end is put into a status of limited size."""
        if not bench.a.capabilities.console:
            not_offered("a console (Capabilities.console)")
        ref = bench.run(bench.launch(1))[0].ref
        size = len(bench.a.machines.console(ref, 10).encode())
        assert size <= 10, f"console gave {size} bytes, the limit was 10"

    def test_a_reboot_keeps_the_machine(self, bench: Bench) -> None:
        """Same id, same mark, RUNNING again."""
        if not bench.a.capabilities.reboot:
            not_offered("reboot (Capabilities.reboot)")
        launch = bench.launch(1)
        state = bench.run(launch)[0]
        bench.patiently(lambda: bench.a.machines.reboot(state.ref), "reboot")
        bench.settle()
        refs = [after.ref for after in bench.running(launch)]
        assert refs == [state.ref], f"after a reboot the machine is {refs}, it was {state.ref}"


def _succeeds(bench: Bench, refs: list[Ref]) -> None:
    try:
        results = bench.delete(refs)
    except NotFound as error:
        raise AssertionError(f"delete raises {error!r} for what is gone; gone is a success") from error
    for result in results:
        assert result.outcome in (Outcome.MADE, Outcome.PENDING), (
            f"{result} for a delete of what is there or gone; gone is a success"
        )
