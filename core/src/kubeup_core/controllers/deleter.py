"""Deletes machines at places: all that is due at one place and moment in one call of the supplier.

A key is a Provider. Whoever wants something deleted puts a Removal into the Book (`machine_end.py`, `sweeper.py`) and is woken
with the answer in `Book.removed`. Each removal is asked again, from the store, in the thread of the call: a decision that is no
longer so, or that is older than 30 awake seconds, is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import SupplierError, Unknown
from ..runtime.calls import STALE, InProgress
from ..runtime.controller import Controller, Env, Key, Result
from ..runtime.places import Place
from ..supplier import Outcome
from ..supplier import Result as Told
from .book import Book, Removal

LIMIT = 1_000
"""Refs in one call."""

FORGOTTEN = 3600.0
"""Seconds for which the answer to a delete is kept; after that it is asked again."""


class DeleterController(Controller):
    name = "deleter"

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.book = env.shared(Book)
        self._flying: dict[str, list[Removal]] = {}

    def reconcile(self, key: Key) -> Result:
        place = self.env.places.get(key.name)
        if place is None or not place.may_delete:
            with self.book.lock:
                self.book.removals.pop(key.name, None)
            self._flying.pop(key.name, None)
            return Result()
        batch = self._flying.get(key.name) or self._due(key.name)
        if not batch:
            return Result()
        self._flying[key.name] = batch
        try:
            answers = self.env.calls.do(
                place, "machines", "delete", lambda: self._delete(place, batch), wake=(self.name, key), limit=120.0
            )
        except InProgress:
            raise
        except SupplierError as error:
            answers = [Told(id=r.ref.id, outcome=Outcome.UNKNOWN, error=error) for r in batch]
        del self._flying[key.name]
        now = self.env.clock.awake()
        for removal, told in zip(batch, answers, strict=True):
            if told is not None:
                mark = removal.ref.mark
                self.book.removed[(mark.maker, mark.index, removal.ref.id)] = (now, told)
                self._note(place, told)
            self.env.wake(*removal.wake)
        for name in [name for name, (at, _) in list(self.book.removed.items()) if now - at > FORGOTTEN]:
            self.book.removed.pop(name, None)
        self.env.inventory.want(place, "machines", soon=True)
        return Result(after=0.0) if self.book.removals.get(key.name) else Result()

    def _due(self, name: str) -> list[Removal]:
        now = self.env.clock.awake()
        with self.book.lock:
            waiting = self.book.removals.get(name, {})
            taken = list(waiting)[:LIMIT]
            batch = [waiting.pop(key) for key in taken]
        return [removal for removal in batch if now - removal.decided <= STALE]

    def _delete(self, place: Place, batch: Sequence[Removal]) -> list[Told | None]:
        """In the call's thread. None for what is not wanted any more."""
        wanted = [removal for removal in batch if removal.wanted()]
        if not wanted:
            return [None for _ in batch]
        told = place.suppliers.machines.delete([removal.ref for removal in wanted])
        if len(told) != len(wanted):
            raise Unknown(f"{place.name} gave {len(told)} results for {len(wanted)} machines to delete")
        answers = {id(removal): result for removal, result in zip(wanted, told, strict=True)}
        return [answers.get(id(removal)) for removal in batch]

    def _note(self, place: Place, told: Told) -> None:
        if told.error is not None:
            self.env.calls.note(place, told.error)
