"""Things with a name, a place and a mark in their description: made once, found again by their name, checked before they are touched.

Networks and load balancers are made of such parts. Used by networks.py and load_balancers.py.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from kubeup_core import Blocked, Mark, NotFound, NotReady, Taken

from . import codes, marks
from .client import Compute, Record


@dataclass(frozen=True)
class Part:
    """Where one thing is. service: the SDK's client; key: the field of its name in requests; body: that of its content."""

    service: str
    key: str
    body: str
    name: str
    zone: str = ""
    region: str = ""

    @property
    def where(self) -> dict[str, str]:
        return {field: value for field, value in (("zone", self.zone), ("region", self.region)) if value}

    @property
    def operations(self) -> str:
        return "ZoneOperations" if self.zone else "RegionOperations" if self.region else "GlobalOperations"


class Parts:
    def __init__(self, compute: Compute) -> None:
        self._compute = compute
        self._running: dict[Part, str] = {}
        self._lock = threading.Lock()

    def ensured(self, part: Part, mark: Mark, content: Record, **more: str) -> Record | None:
        """The thing; None while it is being made. Raises Taken for a namesake of somebody else, and why making it failed.

        What an operation of this process makes counts when the operation is over: until then, Google refuses what builds on it.
        After a restart the thing itself has to do, and such a refusal is NotReady.
        """
        if self.changing(part):
            return None
        found = self._compute.get(part.service, **{part.key: part.name}, **part.where)
        if found is None:
            body = {"name": part.name, "description": marks.text(mark, **more), **content}
            self._insert(part, body)
            return None
        holder = marks.mark_in(str(found.get("description", "")))
        if holder is None or not holder[0].same(mark):
            by = marks.owner(holder[0] if holder else None)
            raise Taken(f"the name {part.name} is held by {by}", by=by, code="alreadyExists", remedy="rename or remove it")
        return found

    def changed(self, part: Part, content: Record) -> None:
        """Patches it; `changing` is true until that is over."""
        asked = {part.key: part.name, part.body: content}
        self._remember(part, self._compute.change(part.service, "patch", **asked, **part.where))

    def replaced(self, part: Part, mark: Mark, content: Record) -> None:
        """As `changed`, but nothing is left of what it was: a patch keeps the fields that it does not name."""
        body = {"name": part.name, "description": marks.text(mark), **content}
        asked = {part.key: part.name, part.body: body}
        self._remember(part, self._compute.change(part.service, "update", **asked, **part.where))

    def changing(self, part: Part) -> bool:
        """Whether an operation that this process began still runs. Raises what it failed with, once."""
        with self._lock:
            name = self._running.get(part)
        if name is None:
            return False
        operation = self._compute.get(part.operations, operation=name, **part.where)
        if operation is not None and operation.get("status") != "DONE":
            return True
        with self._lock:
            self._running.pop(part, None)
        error = codes.of_operation(operation) if operation is not None else None
        if error is not None and not isinstance(error, Taken):
            raise error
        return False

    def ours(self, part: Part, record: Record | None, mark: Mark) -> bool:
        """Whether what was read is ours and finished, so that `ensured` would say the same. Asks nobody."""
        holder = marks.mark_in(str(record.get("description", ""))) if record is not None else None
        return holder is not None and holder[0].same(mark) and not self.begun_here(part)

    def begun_here(self, part: Part) -> bool:
        """Whether the last operation of this process on the part is not known to be over. Asks nobody."""
        with self._lock:
            return part in self._running

    def begun(self, part: Part, operation: Record) -> None:
        """An operation on a part that somebody else here began: `changing` looks after it."""
        self._remember(part, operation)

    def found(self, parts: Sequence[Part], mark: Mark) -> list[Part]:
        """Those that are there. Raises NotFound when one of them carries another mark."""
        there = []
        for part in parts:
            record = self._compute.get(part.service, **{part.key: part.name}, **part.where)
            if record is None:
                continue
            holder = marks.mark_in(str(record.get("description", "")))
            if holder is None or not holder[0].same(mark):
                by = marks.owner(holder[0] if holder else None)
                raise NotFound(f"{part.name} belongs to {by}", code="foreign mark")
            there.append(part)
        return there

    def removed(self, parts: Sequence[Part]) -> None:
        """Asks for the deletion of all of them; raises Blocked by what stands in the way, after having asked for the others."""
        blocked: Blocked | None = None
        for part in parts:
            try:
                self._compute.change(part.service, "delete", **{part.key: part.name}, **part.where)
            except NotFound:
                continue
            except Blocked as error:
                blocked = error
            except NotReady as error:
                if error.code not in codes.CHANGING:
                    raise
        if blocked is not None:
            raise blocked

    def _insert(self, part: Part, body: Record) -> None:
        try:
            self._remember(part, self._compute.change(part.service, "insert", **{part.body: body}, **part.where))
        except Taken:  # another thread, or a call whose reply was lost: the next look finds it, and whose it is
            return

    def _remember(self, part: Part, operation: Record) -> None:
        with self._lock:
            self._running[part] = str(operation["name"])
