"""Faults: what goes wrong, when, and how often. A fault is data, kept in the account's state, so it works across processes.

Planted by the Provider's config, by tests (`cloud.faults.add`) and by people (`python -m kubeup_sim fault NAME`). Taken by
`client.py` (those around a request) and by the parts of the cloud (those inside of it). Which faults there are: FAULTS.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from .physics import draw
from .records import FaultRecord
from .settings import Camel

if TYPE_CHECKING:
    from .account import Cloud


@dataclass(frozen=True)
class Kind:
    """operation: what it strikes when nothing is said. seconds: the value of `seconds` when nothing is said."""

    text: str
    operation: str = "*"
    seconds: float = 0.0


FAULTS: dict[str, Kind] = {
    "lostReply": Kind("the request has its effect, the reply is lost"),
    "lostRequest": Kind("the connection breaks before the request has any effect"),
    "crash": Kind("kills this process (SIGKILL) before or after the request's effect: `when`"),
    "throttle": Kind("the request is refused with a hint to retry in `seconds`", seconds=5),
    "denied": Kind("the credentials are refused"),
    "identity": Kind("the same credentials lead to another account", "whoami"),
    "staleList": Kind("a page of a listing misses what was made in the last `seconds`", "list", 300),
    "unreachable": Kind("a page of a listing comes without one zone or host: `place`, or the first", "list"),
    "machineLost": Kind("a running machine vanishes, as if somebody had removed it", "list"),
    "noCapacity": Kind("no capacity for `place` and `machineType`, or anywhere", "launch"),
    "quota": Kind("the account's quota is used up", "launch"),
    "lateRefusal": Kind("one machine is accepted, boots, and is refused after `seconds` (0: when it would run)", "launch"),
    "rollback": Kind("a launch is accepted and undone after `seconds`, with machines that ran already", "launch", 30),
    "slowDelete": Kind("one deletion takes `seconds` longer", "delete", 600),
    "stuckAttach": Kind("an attachment stays busy for `seconds` (0: until it is released by hand)", "attach"),
    "stuckDetach": Kind("a detachment stays busy for `seconds` (0: until it is released by hand)", "detach"),
}


class Fault(Camel):
    """operation, kind, place, machineType: globs of what it strikes. kind: Machine, Disk, Network, LoadBalancer, Volume, Account."""

    name: str = Field(description="Which fault: " + ", ".join(FAULTS))
    operation: str = Field(default="", description="Glob of requests; absent: those that it can strike")
    kind: str = Field(default="*", description="Glob of kinds of things")
    place: str = Field(default="*", description="Glob of zones or hosts")
    machine_type: str = Field(default="*", description="Glob of machine types")
    times: int | None = Field(default=1, ge=1, description="How often; null: always")
    probability: float = Field(default=1.0, ge=0, le=1, description="Of striking when it could")
    seconds: float | None = Field(default=None, ge=0, description="See the fault")
    when: Literal["before", "after"] = Field(default="after", description="Of crash: before or after the effect")

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in FAULTS:
            near = difflib.get_close_matches(name, FAULTS, n=1)
            raise ValueError(
                f"no such fault; did you mean {near[0]}?" if near else f"no such fault; known: {', '.join(FAULTS)}"
            )
        return name


class Faults:
    """`cloud.faults`."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def add(
        self,
        name: str,
        *,
        operation: str = "",
        kind: str = "*",
        place: str = "*",
        machine_type: str = "*",
        times: int | None = 1,
        probability: float = 1.0,
        seconds: float | None = None,
        when: Literal["before", "after"] = "after",
    ) -> str:
        """Plant one; returns its id. Raises pydantic's ValidationError for what is no fault."""
        fault = Fault(
            name=name,
            operation=operation,
            kind=kind,
            place=place,
            machine_type=machine_type,
            times=times,
            probability=probability,
            seconds=seconds,
            when=when,
        )
        with self._cloud.state.write():
            return self._put(fault, self._cloud.new_id("fault"))

    def plant(self, faults: Iterable[Fault]) -> None:
        """Those of a config: each once in the life of the account, however often the config is read."""
        with self._cloud.state.write():
            for number, fault in enumerate(faults):
                text = json.dumps([number, fault.model_dump()], sort_keys=True)
                id = "fault-" + hashlib.sha256(text.encode()).hexdigest()[:12]
                if id not in self._cloud.state.table(FaultRecord):
                    self._put(fault, id)

    def clear(self) -> None:
        with self._cloud.state.write():
            for record in list(self._cloud.state.table(FaultRecord).values()):
                self._cloud.state.put(replace(record, times=record.taken))

    def all(self) -> list[FaultRecord]:
        """Every fault ever planted, with how often it struck."""
        with self._cloud.state.read():
            return list(self._cloud.state.table(FaultRecord).values())

    @property
    def planted(self) -> bool:
        """Whether there is any fault at all. Within read() or write()."""
        return bool(self._cloud.state.table(FaultRecord))

    def take(
        self,
        names: Iterable[str],
        operation: str,
        kind: str,
        place: str | None = None,
        machine_type: str | None = None,
        when: str = "",
    ) -> FaultRecord | None:
        """The first planted fault that strikes here, used up by one. place and machine_type None: the request names none."""
        state = self._cloud.state
        with state.read():
            if not self.planted:
                return None
        with state.write():
            for record in list(state.table(FaultRecord).values()):
                if (
                    record.name in names
                    and (record.times is None or record.taken < record.times)
                    and fnmatchcase(operation, record.operation)
                    and fnmatchcase(kind, record.kind)
                    and (place is None or fnmatchcase(place, record.place))
                    and (machine_type is None or fnmatchcase(machine_type, record.machine_type))
                    and (not when or record.name != "crash" or record.when == when)
                ):
                    hit = draw(self._cloud.settings.seed, f"{record.id}/{record.tries}") < record.probability
                    record = replace(record, tries=record.tries + 1, taken=record.taken + hit)
                    state.put(record)
                    if hit:
                        return record
        return None

    def extra_delay(self, kind: str) -> float:
        """Seconds that this deletion takes longer."""
        slow = self.take(("slowDelete",), "delete", kind)
        return slow.seconds if slow else 0.0

    def _put(self, fault: Fault, id: str) -> str:
        kind = FAULTS[fault.name]
        self._cloud.state.put(
            FaultRecord(
                id=id,
                name=fault.name,
                operation=fault.operation or kind.operation,
                place=fault.place,
                kind=fault.kind,
                machine_type=fault.machine_type,
                times=fault.times,
                probability=fault.probability,
                seconds=kind.seconds if fault.seconds is None else fault.seconds,
                when=fault.when,
            )
        )
        return id
