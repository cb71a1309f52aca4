"""A launch member by member, at a place without tokens: the marks alone tell what was made, what is dead and what never was."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from kubeup_core import InvalidSpec, Launch, Mark, Member, NoCapacity, Offer, OneByOne, Outcome, Result, SupplierError, Template

MARK = Mark(installation="i", cluster="c", cluster_name="demo", kind="Machine", maker="m")
WANT = Template(cpu=1, memory=2**30, disk=2**30, arch="", image="debian-12")
OFFER = Offer(place="p", machine_type="t", arch="", spot=False, cpu=1, memory=2**30, image="i")
LAUNCH = Launch(
    mark=MARK,
    token="t",
    template=WANT,
    offer=OFFER,
    role="worker",
    members=tuple(Member(name=f"w-{n}") for n in range(4)),
)


class Shelf(OneByOne[str, str]):
    """Machines are words: "half" or "whole". limit: how many it takes."""

    def __init__(self, limit: int = 9, plan: SupplierError | None = None) -> None:
        super().__init__()
        self.has: dict[int, str] = {}
        self.limit, self.plan = limit, plan
        self.planned = 0

    def _marked(self, launch: Launch) -> list[tuple[Mark, str]]:
        stranger = Mark(installation="other", cluster="c", cluster_name="demo", kind="Machine", maker="m", index=3)
        return [(stranger, "whole"), *((launch.member_mark(index), word) for index, word in self.has.items())]

    def _is_unfinished(self, found: str) -> bool:
        return found == "half"

    def _plan(self, launch: Launch) -> str:
        self.planned += 1
        if self.plan is not None:
            raise self.plan
        return "whole"

    def _make(self, launch: Launch, index: int, plan: str) -> Result:
        if len(self.has) >= self.limit:
            return Result(id="", outcome=Outcome.REFUSED, error=NoCapacity("full"))
        self.has[index] = plan
        self.remember(launch.member_mark(index))
        return Result(id=str(index), outcome=Outcome.MADE)

    def _finish(self, launch: Launch, index: int, plan: str | None, failure: SupplierError | None, found: str) -> Result:
        if found == "half" and plan is None:
            return Result(id=str(index), outcome=Outcome.PENDING, error=failure)
        self.has[index] = plan or found
        return Result(id=str(index), outcome=Outcome.MADE)

    def _result(self, found: str) -> Result:
        return Result(id="", outcome=Outcome.PENDING if found == "half" else Outcome.MADE)


def outcomes(results: Sequence[Result]) -> str:
    """A letter a member: Made, Pending, Refused, Dead, Absent."""
    return "".join(result.outcome.name[0] for result in results)


def test_all_members_are_made_once_however_often_the_launch_is_repeated() -> None:
    shelf = Shelf()
    assert outcomes(shelf.lookup(LAUNCH)) == "AAAA"
    assert [outcomes(shelf.launch(LAUNCH)) for _ in range(2)] == ["MMMM", "MMMM"]
    assert (outcomes(shelf.lookup(LAUNCH)), shelf.planned) == ("MMMM", 1)


def test_one_that_is_missing_below_one_that_is_there_is_dead_also_for_a_process_that_never_saw_it() -> None:
    shelf = Shelf()
    shelf.has = {2: "whole"}
    assert outcomes(shelf.lookup(LAUNCH)) == "DDMA"
    assert outcomes(shelf.launch(LAUNCH)) == "DDMM"


def test_the_last_one_that_this_process_made_is_not_made_again() -> None:
    shelf = Shelf()
    shelf.launch(LAUNCH)
    del shelf.has[3]
    assert outcomes(shelf.launch(LAUNCH)) == outcomes(shelf.lookup(LAUNCH)) == "MMMD"


def test_after_the_first_that_fails_none_is_tried_and_all_say_why() -> None:
    shelf = Shelf(limit=2)
    results = shelf.launch(LAUNCH)
    assert outcomes(results) == "MMRR"
    assert {str(result.error) for result in results[2:]} == {"full"}
    shelf.limit = 9
    assert outcomes(shelf.launch(LAUNCH)) == "MMMM"


def test_one_that_was_taken_away_because_it_could_not_start_was_never_made() -> None:
    shelf = Shelf()
    shelf.launch(LAUNCH)
    del shelf.has[3]
    shelf.forget(LAUNCH.member_mark(3))
    assert outcomes(shelf.lookup(LAUNCH)) == "MMMA"


def test_what_no_member_could_be_made_with_is_raised_while_none_is_there() -> None:
    with pytest.raises(InvalidSpec, match="no such image"):
        Shelf(plan=InvalidSpec("no such image")).launch(LAUNCH)


def test_with_some_there_it_is_the_error_of_the_others() -> None:
    shelf = Shelf(plan=InvalidSpec("no such image"))
    shelf.has = {0: "half", 1: "whole"}
    results = shelf.launch(LAUNCH)
    assert outcomes(results) == "PMRR"
    assert [str(result.error) for result in results if result.error] == ["no such image"] * 3


def test_a_half_made_one_is_finished() -> None:
    shelf = Shelf()
    shelf.has = dict.fromkeys(range(4), "half")
    assert outcomes(shelf.lookup(LAUNCH)) == "PPPP"
    assert outcomes(shelf.launch(LAUNCH)) == "MMMM"
    assert set(shelf.has.values()) == {"whole"}
