"""What every MachineSupplier must do when it observes: show everything, or say what it could not see. Part of `MachineContract`."""

from __future__ import annotations

from dataclasses import replace

from ...errors import NotFound
from ...supplier import EVERY, Launch, MachineState, Phase, Ref, Scope
from .base import Contract
from .bench import Bench
from .checks import Lives, offered


class MachineObservation(Contract):
    """An observation is complete, or says where it is not."""

    def test_a_machine_carries_its_mark_from_the_start(self, bench: Bench) -> None:
        """The mark is the only proof of ownership. Put on later, a crash in between leaves what nobody owns."""
        launch = bench.launch()
        bench.submit(launch)

        def seen() -> list[MachineState] | None:
            states = bench.states(launch)
            return states if len(states) >= len(launch.members) else None

        for state in [*bench.until(seen, "the members are observed"), *bench.running(launch)]:
            want = launch.member_mark(state.ref.mark.index)
            assert state.ref.mark.same(want), f"{state.ref.mark} instead of {want}"
            assert state.ref.mark.cluster == want.cluster, f"{state.ref.mark} instead of {want}"

    def test_observe_returns_every_page(self, bench: Bench) -> None:
        """A machine on the second page that is not seen counts as lost, and is replaced."""
        page = offered(bench.rig.page, "a page size (Rig.page)")
        launches: list[Launch] = []
        while sum(len(launch.members) for launch in launches) <= 2 * page:
            launches.append(bench.launch())
            bench.submit(launches[-1])
        for launch in launches:
            bench.exactly(launch)

    def test_a_machine_that_is_going_is_still_observed(self, bench: Bench) -> None:
        """An empty observation is the proof that nothing costs money any more. What is dying still counts, and parts do."""
        everything = offered(bench.rig.everything, "a listing of everything at the place (Rig.everything)")
        launch = bench.launch(1)
        before = set(everything())
        state = bench.run(launch)[0]
        bench.delete([state.ref])

        def empty() -> bool:
            seen = bench.snapshot()
            if seen.strays:
                bench.delete(seen.strays)
            if seen.strays or seen.unreachable or any(item.phase != Phase.GONE for item in seen.items):
                return False
            left = set(everything()) - before - {item.ref.id for item in seen.items}
            assert not left, f"an observation shows nothing, but at the place there is still {sorted(left)}"
            return True

        bench.until(empty, "the deleted machine is gone")

    def test_a_cluster_scope_shows_that_cluster_only(self, bench: Bench) -> None:
        """What is deleted with a cluster is what its scope shows."""
        one, two = bench.launch(1, cluster="cluster-1"), bench.launch(1, cluster="cluster-2")
        bench.run(one)
        bench.run(two)
        shown = {s.ref.mark.cluster for s in bench.snapshot(cluster="cluster-2").items}
        assert shown == {"cluster-2"}, f"the scope of cluster-2 shows machines of {shown}"
        everything = {s.ref.mark.maker for s in bench.snapshot().items}
        assert everything >= {one.mark.maker, two.mark.maker}, "the scope of the installation lacks a cluster"

    def test_machines_of_another_installation_are_not_observed(self, bench: Bench) -> None:
        """Two laptops on one account: what the other one made looks like an orphan to a supplier that shows it."""
        theirs = bench.launch(1, suppliers=bench.b)
        bench.run(theirs, bench.b)
        ours = bench.launch(1)
        bench.run(ours)
        for suppliers, launch in ((bench.a, ours), (bench.b, theirs)):
            shown = {s.ref.mark.maker for s in bench.snapshot(suppliers).items}
            assert shown == {launch.mark.maker}, f"machines of launches {shown} are shown, ours is {launch.mark.maker}"

    def test_a_scope_of_every_installation_shows_theirs_too(self, bench: Bench) -> None:
        """A person who looks for what a lost laptop has left must see it, and whose it is."""
        ours, theirs = bench.launch(1), bench.launch(1, suppliers=bench.b)
        bench.run(ours)
        bench.run(theirs, bench.b)
        shown = {s.ref.mark.maker: s.ref.mark for s in bench.a.machines.observe(Scope(installation=EVERY)).items}
        for mark in (ours.mark, theirs.mark):
            assert mark.maker in shown, f"a machine of installation {mark.installation} is not shown"
            assert shown[mark.maker].installation == mark.installation

    def test_what_is_in_doubt_is_looked_up_by_id(self, bench: Bench) -> None:
        """EC2's listing may hide a new machine for minutes; a look-up by id finds it. Without it there will be two."""
        stale = offered(bench.rig.stale, "listings that lag (Rig.stale)")
        with stale():
            launch = bench.launch(1)
            made = bench.submit(launch)[0]
            ref = Ref(id=made.id, mark=launch.member_mark(0))
            assert ref.id in {s.ref.id for s in bench.snapshot(doubt=(ref,)).items}, "Scope.doubt was not looked up by id"

    def test_a_doubt_about_what_is_not_there_is_no_error(self, bench: Bench) -> None:
        """One dead id must not cost the observation of everything else; a foreign one is not ours because we asked for it."""
        ours, theirs = bench.launch(1), bench.launch(1, suppliers=bench.b)
        state, foreign = bench.run(ours)[0], bench.run(theirs, bench.b)[0]
        doubt = (Ref(id=f"{state.ref.id}0", mark=state.ref.mark), Ref(id=foreign.ref.id, mark=state.ref.mark))
        try:
            shown = [s.ref for s in bench.a.machines.observe(Scope(installation=bench.installations[0], doubt=doubt)).items]
        except NotFound as error:
            raise AssertionError(f"observe raises {error!r} for a doubt about what is not there") from error
        assert shown == [state.ref], f"observe shows {shown}, ours is {state.ref}"

    def test_phases_do_not_go_backwards(self, bench: Bench) -> None:
        """A machine that was RUNNING and is PENDING again would be waited for, for ever."""
        launch, lives = bench.launch(), Lives()

        def run() -> bool:
            states = bench.states(launch)
            for state in states:
                lives.see(state.ref.id, state.phase)
            return len(states) == len(launch.members) and all(s.phase == Phase.RUNNING for s in states)

        bench.submit(launch)
        bench.until(run, "the machines run")
        bench.settle()
        run()
        bench.delete([state.ref for state in bench.states(launch)])

        def gone() -> bool:
            states = bench.states(launch)
            for state in states:
                assert state.phase not in (Phase.PENDING, Phase.PARTIAL), f"{state.ref.id} is {state.phase} after its deletion"
                lives.see(state.ref.id, state.phase)
            return all(state.phase == Phase.GONE for state in states)

        bench.until(gone, "the machines are gone")

    def test_facts_stay_the_same_while_nothing_changes(self, bench: Bench) -> None:
        """Facts are what drift is judged by: a fact that comes, goes or flickers replaces machines without need."""
        launch = bench.launch(1)
        first = bench.run(launch)[0]
        bench.settle()
        later = bench.states(launch)[0]
        bench.restart()
        after = bench.states(launch)[0]
        facts = [dict(first.facts), dict(later.facts), dict(after.facts)]
        assert facts[0] == facts[1] == facts[2], f"the facts of an unchanged machine differ: {facts}"
        assert first.ref == later.ref == after.ref, "the id or the mark of an unchanged machine differs"

    def test_user_data_does_not_come_back(self, bench: Bench) -> None:
        """User-data holds a join token. States are stored and shown."""
        launch = replace(bench.launch(1), user_data=b"#!/bin/sh\n# join-token-0f1e2d\n")
        bench.run(launch)
        shown = repr((bench.snapshot(), bench.submit(launch)))
        assert "join-token-0f1e2d" not in shown, "user-data shows up in states or results"

    def test_the_identity_is_the_same_after_a_restart(self, bench: Bench) -> None:
        """An identity that changes freezes the Provider."""
        before = bench.a.identity
        assert before.key, "identity.key is empty"
        after = bench.restart().identity
        assert after.key == before.key, f"identity.key was {before.key}, after a restart it is {after.key}"

    def test_another_account_has_another_identity(self, bench: Bench) -> None:
        """An honest "nothing here" from the wrong account would make every machine a second time."""
        elsewhere = offered(bench.rig.elsewhere, "another account (Rig.elsewhere)")
        other = elsewhere(bench.context())
        try:
            assert other.identity.key != bench.a.identity.key, f"identity.key is {other.identity.key} at both accounts"
        finally:
            other.close()
