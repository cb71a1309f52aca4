"""What networks, load balancers and volumes have in common: single things that `ensure` makes by mark and `delete` takes away.

Each of the three contracts is a subclass that says which supplier it is and what a wish looks like.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

from ...errors import NotFound, NotReady, SupplierError, Taken, Unknown
from ...supplier import EVERY, Phase, Ref, Scope, Snapshot, Suppliers
from .base import Contract
from .bench import Bench
from .checks import Lives, offered, unmarked

_MOST_REQUESTS = 60


class EnsuredContract(Contract):
    """Base of NetworkContract, LoadBalancerContract and VolumeContract."""

    def supplier(self, suppliers: Suppliers) -> Any:
        """The supplier under test, or a skip."""
        raise NotImplementedError

    def wish(self, bench: Bench, suppliers: Suppliers | None = None, cluster: str = "cluster-1") -> Any:
        """A spec with a new mark and a new name."""
        raise NotImplementedError

    # -- the same mark, the same thing -------------------------------------------------------------------------------------

    def test_ensure_again_gives_the_same_one(self, bench: Bench) -> None:
        """Ensure is called at every look; it finds its own by the mark."""
        want = self.wish(bench)
        first = self.made(bench, want)
        again = self.ensure(bench, want)
        assert again.ref == first.ref, f"ensure gave {first.ref}, then {again.ref}"
        self.exactly(bench, want)

    def test_ensure_after_a_restart_gives_the_same_one(self, bench: Bench) -> None:
        """Nothing may be remembered in the process alone."""
        want = self.wish(bench)
        self.ensure(bench, want)
        bench.restart()
        self.made(bench, want)
        self.exactly(bench, want)

    def test_ensure_killed_between_any_two_requests_is_finished_by_its_repeat(self, bench: Bench) -> None:
        """kill -9 in the middle: the repeat finishes what was begun."""
        for request in range(_MOST_REQUESTS):
            want = self.wish(bench)
            with bench.dies_at(request) as fuse:
                self.made(bench, want)
            bench.restart()
            self.made(bench, want)
            ref = self.exactly(bench, want).ref
            self.removed(bench, ref)
            if not fuse.blown:
                assert request > 0, "ensure never calls Context.charge, so it cannot be stopped between two requests"
                return

    def test_what_a_killed_ensure_left_can_be_deleted(self, bench: Bench) -> None:
        """What is half-made is observed, as an item or among the strays; an empty observation proves that nothing is left."""
        everything = bench.rig.everything
        for request in range(_MOST_REQUESTS):
            want = self.wish(bench)
            before = set(everything()) if everything else set()
            with bench.dies_at(request) as fuse:
                self.made(bench, want)
            bench.restart()
            self.clear(bench, want)
            left = (set(everything()) if everything else set()) - before
            assert not left, f"killed before request {request}: nothing is observed, but there is still {sorted(left)}"
            if not fuse.blown:
                return

    def test_a_delete_killed_between_any_two_requests_is_finished_by_its_repeat(self, bench: Bench) -> None:
        """Parts must not become invisible because the whole went first."""
        everything = bench.rig.everything
        for request in range(_MOST_REQUESTS):
            want = self.wish(bench)
            before = set(everything()) if everything else set()
            ref = self.made(bench, want).ref
            with bench.dies_at(request) as fuse:
                self.removed(bench, ref)
            bench.restart()
            self.clear(bench, want)
            left = (set(everything()) if everything else set()) - before
            assert not left, f"killed before request {request}: nothing is observed, but there is still {sorted(left)}"
            if not fuse.blown:
                return

    def test_a_lost_reply_is_an_unknown_outcome(self, bench: Bench) -> None:
        """It was made; the repeat must find it, and nobody may say that it cannot be had."""
        lost = offered(bench.rig.lost_reply, "a reply that is lost (Rig.lost_reply)")
        want = self.wish(bench)
        with lost():
            try:
                self.supplier(bench.a).ensure(want)
            except SupplierError as error:
                if not isinstance(error, Unknown):
                    raise AssertionError(f"a lost reply comes out as {error!r}, not as Unknown") from error
            except Exception:  # what is not a SupplierError counts as Unknown
                pass
        self.made(bench, want)
        self.exactly(bench, want)

    # -- whose it is -----------------------------------------------------------------------------------------------------

    def test_it_carries_its_mark_from_the_start(self, bench: Bench) -> None:
        """The mark is the only proof of ownership."""
        want = self.wish(bench)
        first = self.ensure(bench, want)
        seen = self.made(bench, want)
        for state in (first, seen, self.exactly(bench, want)):
            assert state.ref.mark.same(want.mark), f"{state.ref.mark} instead of {want.mark}"
            assert state.ref.mark.cluster == want.mark.cluster, f"{state.ref.mark} instead of {want.mark}"

    def test_that_of_another_installation_is_neither_observed_nor_adopted(self, bench: Bench) -> None:
        """Two installations, one account, the same names: each has its own, or is told that the name is taken."""
        theirs = self.wish(bench, bench.b)
        foreign = self.made(bench, theirs, bench.b)
        ours = replace(self.wish(bench), name=theirs.name)
        try:
            state = self.made(bench, ours)
        except Taken:
            state = None
        assert state is None or state.ref.id != foreign.ref.id, "another installation's was adopted by its name"
        makers = {s.ref.mark.maker for s in self.snapshot(bench).items}
        assert theirs.mark.maker not in makers, "another installation's is observed as ours"
        assert self.exactly(bench, theirs, bench.b).ref == foreign.ref, "another installation's has changed"

    def test_a_scope_of_every_installation_shows_theirs_too(self, bench: Bench) -> None:
        """A person who looks for what a lost laptop has left must see it, and whose it is."""
        ours, theirs = self.wish(bench), self.wish(bench, bench.b)
        self.made(bench, ours)
        self.made(bench, theirs, bench.b)
        shown = {s.ref.mark.maker: s.ref.mark for s in self.supplier(bench.a).observe(Scope(installation=EVERY)).items}
        for mark in (ours.mark, theirs.mark):
            assert mark.maker in shown, f"that of installation {mark.installation} is not shown"
            assert shown[mark.maker].installation == mark.installation

    def test_deleting_an_id_under_another_mark_touches_nothing(self, bench: Bench) -> None:
        """A late delete must not hit what has taken the place of its target."""
        ours, theirs = self.wish(bench), self.wish(bench, bench.b)
        state, foreign = self.made(bench, ours), self.made(bench, theirs, bench.b)
        for ref in (unmarked(state.ref), Ref(id=foreign.ref.id, mark=state.ref.mark)):
            with suppress(NotFound):
                bench.patiently(lambda ref=ref: self.supplier(bench.a).delete(ref), "delete")  # type: ignore[misc]
        bench.settle()
        assert self.exactly(bench, ours).phase == Phase.RUNNING, "deleted under another maker's mark"
        assert self.exactly(bench, theirs, bench.b).phase == Phase.RUNNING, "another installation's was deleted"

    # -- observation ------------------------------------------------------------------------------------------------------

    def test_a_cluster_scope_shows_that_cluster_only(self, bench: Bench) -> None:
        """What is deleted with a cluster is what its scope shows."""
        one, two = self.wish(bench, cluster="cluster-1"), self.wish(bench, cluster="cluster-2")
        self.made(bench, one)
        self.made(bench, two)
        shown = {state.ref.mark.maker for state in self.snapshot(bench, cluster="cluster-2").items}
        assert shown == {two.mark.maker}, "the scope of a cluster shows what is not its own, or hides what is"
        everything = {state.ref.mark.maker for state in self.snapshot(bench).items}
        assert everything >= {one.mark.maker, two.mark.maker}, "the scope of the installation lacks a cluster"

    def test_observe_returns_every_page(self, bench: Bench) -> None:
        """What is on the second page exists, too, and costs as much."""
        page = offered(bench.rig.page, "a page size (Rig.page)")
        wishes = [self.wish(bench) for _ in range(page + 1)]
        for want in wishes:
            self.made(bench, want)
        seen = {state.ref.mark.maker for state in self.snapshot(bench).items}
        assert seen >= {want.mark.maker for want in wishes}, f"{len(seen)} are observed, {len(wishes)} were made"

    def test_what_did_not_answer_is_unreachable(self, bench: Bench) -> None:
        """An empty list would prove that nothing is left to delete."""
        unreachable = offered(bench.rig.unreachable, "a place that does not answer (Rig.unreachable)")
        want = self.wish(bench)
        self.made(bench, want)
        with unreachable(""):
            try:
                seen = self.supplier(bench.a).observe(Scope(installation=bench.installations[0]))
            except Exception:  # raising concludes nothing either
                return
        assert seen.unreachable or want.mark.maker in {s.ref.mark.maker for s in seen.items}, (
            "silence looks like an empty place"
        )

    def test_phases_do_not_go_backwards(self, bench: Bench) -> None:
        """What was RUNNING and is PENDING again would be waited for, for ever."""
        want, lives = self.wish(bench), Lives()

        def step() -> bool:
            made = self.ensure(bench, want)
            lives.see(made.ref.id, made.phase)
            for state in self.snapshot(bench).items:
                lives.see(state.ref.id, state.phase)
            return bool(made.phase == Phase.RUNNING)

        bench.until(step, "it is RUNNING")
        bench.settle()
        step()

    # -- deletion -------------------------------------------------------------------------------------------------------

    def test_deleting_what_is_gone_succeeds(self, bench: Bench) -> None:
        """A delete is repeated until an observation proves it."""
        ref = self.made(bench, self.wish(bench)).ref
        self.removed(bench, ref)
        for _ in range(2):
            try:
                bench.patiently(lambda: self.supplier(bench.a).delete(ref), "delete")
            except NotFound as error:
                raise AssertionError(f"delete raises {error!r} for what is gone; gone is a success") from error

    def test_an_empty_observation_is_the_proof_that_nothing_is_left(self, bench: Bench) -> None:
        """Observation covers every type of thing that ensure makes, also while it is going."""
        everything = offered(bench.rig.everything, "a listing of everything at the place (Rig.everything)")
        want = self.wish(bench)
        before = set(everything())
        self.removed(bench, self.made(bench, want).ref)
        left = set(everything()) - before - {state.ref.id for state in self.snapshot(bench).items}
        assert not left, f"an observation shows nothing, but at the place there is still {sorted(left)}"

    # -- requests, waiting, threads ---------------------------------------------------------------------------------------

    def test_every_request_is_charged(self, bench: Bench) -> None:
        """All clusters share one budget; a request that is not charged gets everybody throttled."""
        want = self.wish(bench)
        bench.charged("ensure", lambda: self.ensure(bench, want))
        ref = self.made(bench, want).ref
        bench.charged("observe", lambda: self.snapshot(bench))
        bench.charged("delete", lambda: bench.patiently(lambda: self.supplier(bench.a).delete(ref), "delete"))

    def test_a_spent_budget_stops_the_request(self, bench: Bench) -> None:
        """charge comes before the request, and its NotReady goes up as it is."""
        requests = offered(bench.rig.requests, "a count of requests (Rig.requests)")
        want = self.wish(bench)
        sent = requests()
        with bench.broke_at(0):
            try:
                self.supplier(bench.a).ensure(want)
            except NotReady:
                pass
            else:
                raise AssertionError("ensure succeeds although no request was allowed")
        assert requests() == sent, "a request was sent although the budget was spent"

    def test_no_call_waits(self, bench: Bench) -> None:
        """One step per call; the core's clock does the waiting."""
        want, supplier = self.wish(bench), self.supplier(bench.a)
        bench.must_not_wait(lambda: supplier.ensure(want), "ensure")
        ref = self.made(bench, want).ref
        bench.must_not_wait(lambda: supplier.observe(Scope(installation=bench.installations[0])), "observe")
        bench.must_not_wait(lambda: _tried(lambda: supplier.delete(ref)), "delete")

    def test_threads_may_ensure_the_same_at_once(self, bench: Bench) -> None:
        """An abandoned call lands while its repeat is on the way."""
        want, supplier = self.wish(bench), self.supplier(bench.a)
        for result in bench.together([lambda: supplier.ensure(want)] * 4):
            calm = not isinstance(result, BaseException) or isinstance(result, NotReady | Unknown)
            assert calm, f"called from several threads: {result!r}"
        self.made(bench, want)
        self.exactly(bench, want)

    # -- helpers of the tests -----------------------------------------------------------------------------------------------

    def ensure(self, bench: Bench, want: Any, suppliers: Suppliers | None = None) -> Any:
        return bench.patiently(lambda: self.supplier(suppliers or bench.a).ensure(want), "ensure")

    def made(self, bench: Bench, want: Any, suppliers: Suppliers | None = None) -> Any:
        """Ensure, step by step, until it is RUNNING."""

        def step() -> Any:
            state = self.ensure(bench, want, suppliers)
            return state if state.phase == Phase.RUNNING else None

        return bench.until(step, f"ensure brings the {want.mark.kind} to RUNNING")

    def exactly(self, bench: Bench, want: Any, suppliers: Suppliers | None = None) -> Any:
        """The one thing of this mark that is observed once the place has settled."""
        bench.settle()
        seen = [state for state in self.snapshot(bench, suppliers).items if state.ref.mark.maker == want.mark.maker]
        seen = [state for state in seen if state.phase not in (Phase.DELETING, Phase.GONE)]
        assert len(seen) == 1, f"{len(seen)} things with one mark are observed, wanted one: {seen}"
        return seen[0]

    def snapshot(self, bench: Bench, suppliers: Suppliers | None = None, **scope: Any) -> Snapshot[Any]:
        installation = bench.installations[1 if suppliers is not None and suppliers is not bench.a else 0]
        wanted = Scope(installation=installation, **scope)
        seen: Snapshot[Any] = bench.patiently(lambda: self.supplier(suppliers or bench.a).observe(wanted), "observe")
        return seen

    def removed(self, bench: Bench, ref: Ref) -> None:
        """Delete until an observation does not show it any more."""

        def gone() -> bool:
            bench.patiently(lambda: self.supplier(bench.a).delete(ref), "delete")
            seen = self.snapshot(bench)
            rest = [s for s in seen.items if s.ref.id == ref.id and s.phase != Phase.GONE]
            return not rest and not [stray for stray in seen.strays if stray.mark.same(ref.mark)]

        bench.until(gone, "it is gone after its deletion")

    def clear(self, bench: Bench, want: Any) -> None:
        """Delete all of the wish's mark that an observation shows, until it shows nothing."""

        def gone() -> bool:
            seen = self.snapshot(bench)
            rest = [s.ref for s in seen.items if s.ref.mark.same(want.mark) and s.phase != Phase.GONE]
            rest += [stray for stray in seen.strays if stray.mark.same(want.mark)]
            for ref in rest:
                bench.patiently(lambda ref=ref: self.supplier(bench.a).delete(ref), "delete")  # type: ignore[misc]
            return not rest

        bench.until(gone, "what was left is gone after its deletion")


def _tried(call: Any) -> None:
    with suppress(SupplierError):
        call()
