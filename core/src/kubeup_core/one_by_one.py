"""For suppliers of machines whose place makes one machine a call and knows no idempotency tokens: a launch, member by member.

What such a place remembers is what it has: the marks. So that a repeated launch never makes a dead member again, members
are made strictly in order, up to the first that fails: one that is missing below one that is there was made, and is dead. What this
process made or deleted itself it remembers, too (`seen`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Generic, TypeVar

from .errors import SupplierError
from .supplier import Launch, Mark, Outcome, Result

Found = TypeVar("Found")
"""A machine as the place tells it."""
Plan = TypeVar("Plan")
"""What the members of a launch have in common."""


class OneByOne(ABC, Generic[Found, Plan]):
    """`launch` and `lookup` of a MachineSupplier, out of six questions about the place. As thread-safe as their answers."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, int]] = set()
        """(launch's uid, index) of every member that was seen, made or deleted here."""

    def launch(self, launch: Launch) -> list[Result]:
        """Raises what `_plan` raises, when none of the members is there."""
        found = self._there(launch)
        plan: Plan | None = None
        failure: SupplierError | None = None
        if len(found) < len(launch.members) or any(self._is_unfinished(one) for one in found.values()):
            try:
                plan = self._plan(launch)
            except SupplierError as error:
                if not found:
                    raise
                failure = error
        results = []
        for index in range(len(launch.members)):
            if index in found:
                result = self._finish(launch, index, plan, failure, found[index])
            elif self._was_there(launch, index, found):
                result = Result(id="", outcome=Outcome.DEAD)
            elif plan is None or failure is not None:
                result = Result(id="", outcome=Outcome.REFUSED, error=failure)
            else:
                result = self._make(launch, index, plan)
                failure = result.error
            results.append(result)
        return results

    def lookup(self, launch: Launch) -> list[Result]:
        found = self._there(launch)
        results = []
        for index in range(len(launch.members)):
            if index in found:
                results.append(self._result(found[index]))
            else:
                dead = self._was_there(launch, index, found)
                results.append(Result(id="", outcome=Outcome.DEAD if dead else Outcome.ABSENT))
        return results

    def remember(self, mark: Mark) -> None:
        """That this member was there."""
        self.seen.add((mark.maker, mark.index))

    def forget(self, mark: Mark) -> None:
        """Of a member that could not start and was taken away again: it was never made."""
        self.seen.discard((mark.maker, mark.index))

    def _there(self, launch: Launch) -> dict[int, Found]:
        found = {}
        for mark, one in self._marked(launch):
            if mark.same(launch.member_mark(mark.index)):
                found[mark.index] = one
                self.remember(mark)
        return found

    def _was_there(self, launch: Launch, index: int, found: Mapping[int, Found]) -> bool:
        """Of a member that is not there."""
        return (launch.mark.maker, index) in self.seen or index < max(found, default=-1)

    @abstractmethod
    def _marked(self, launch: Launch) -> list[tuple[Mark, Found]]:
        """All that may be of this launch, with the marks on it; what is of others is passed over."""

    @abstractmethod
    def _is_unfinished(self, found: Found) -> bool:
        """Whether `_finish` has something to do."""

    @abstractmethod
    def _plan(self, launch: Launch) -> Plan:
        """Raises SupplierError when none of the members could be made."""

    @abstractmethod
    def _make(self, launch: Launch, index: int, plan: Plan) -> Result: ...

    @abstractmethod
    def _finish(self, launch: Launch, index: int, plan: Plan | None, failure: SupplierError | None, found: Found) -> Result:
        """Go on with what is there. plan: None where it could not be made (failure says why) or was not needed."""

    @abstractmethod
    def _result(self, found: Found) -> Result: ...
