"""What the simulated account remembers. One dataclass per kind of row; JSON-ready fields only.

A record is never changed in place: `State.put` takes a new one (`dataclasses.replace`). So what a listing handed out stays as it
was, and "is it the same object" tells cheaply whether something changed. Times are epoch seconds of the account's clock; the phase
of a thing is a function of them (`physics.py`), so nothing has to run while nobody looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Error = dict[str, Any]
"""CloudError.as_record()."""


@dataclass(kw_only=True)
class Record:
    id: str


@dataclass(kw_only=True)
class Resource(Record):
    """What carries tags and a name. visible_at: from when on listings show it (by id it is known at once)."""

    name: str
    tags: dict[str, str]
    index: int = 0
    created_at: float = 0.0
    visible_at: float = 0.0
    gone_at: float | None = None  # deletion was asked for; over at that time


def carries(tags: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether all wanted tags are there; `*` stands for any value."""
    return wanted.items() <= tags.items() or (
        "*" in wanted.values() and all(key in tags and value in ("*", tags[key]) for key, value in wanted.items())
    )


@dataclass(kw_only=True)
class Machine(Resource):
    hostname: str
    place: str
    machine_type: str
    spot: bool
    image: str
    role: str
    network: str
    token: str
    internal: str
    external: str
    user_data_digest: str = ""
    disk: str = ""
    slot: str = ""
    boot: float = 0.0
    started_at: float | None = None
    stopped: bool = False
    unplugged: bool = False  # out of band: runs, but nothing on the network reaches it
    sick: bool = False  # out of band: what it serves does not answer
    boots: int = 1
    lost_at: float | None = None
    rollback_at: float | None = None
    refuse_at: float | None = None
    error: Error | None = None
    leaving_at: float | None = None


@dataclass(kw_only=True)
class Disk(Resource):
    """A boot disk of its own (create: steps). Without a machine it is a leftover."""

    place: str


@dataclass(kw_only=True)
class Network(Resource):
    cidr: str
    ready_at: float
    rules: list[list[Any]] | None = None  # None: the firewall is not set yet
    ssh_keys: list[str] = field(default_factory=list)
    addresses: int = 0


@dataclass(kw_only=True)
class Balancer(Resource):
    """members: key -> {machine, address, since, drain_from, drain_until}; those that were left out stay while they drain."""

    internal: bool
    network: str
    address: str
    ready_at: float
    listeners: list[dict[str, Any]] = field(default_factory=list)
    members: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(kw_only=True)
class Volume(Resource):
    place: str
    size: int
    klass: str
    token: str
    ready_at: float
    grown_at: float = 0.0  # growing is done at that time
    machine: str = ""  # attached to, or attaching or detaching
    attached_at: float | None = None  # the attachment is done at that time; None with a machine: it hangs
    detached_at: float | None = None  # the detachment is done at that time
    detaching: bool = False  # asked for; with detached_at None it hangs
    lost_at: float | None = None


@dataclass(kw_only=True)
class Operation(Record):
    """What became of a launch, by its token. machines: index -> id, "" where it was refused; errors: index -> why."""

    digest: str
    at: float
    visible_at: float
    machines: list[str]
    errors: dict[str, Error] = field(default_factory=dict)
    rollback_at: float | None = None
    rollback_error: Error | None = None


@dataclass(kw_only=True)
class FaultRecord(Record):
    """A planted fault; see faults.py. times None: for ever. taken: how often it struck, tries: how often it might have."""

    name: str
    operation: str
    place: str
    kind: str
    machine_type: str
    times: int | None
    probability: float
    seconds: float
    when: str
    taken: int = 0
    tries: int = 0


@dataclass(kw_only=True)
class Account(Record):
    """The one row about the account itself. number: the last one given to a resource; cut: places that do not answer."""

    number: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    cut: list[str] = field(default_factory=list)


KINDS: dict[str, type[Record]] = {
    kind.__name__: kind for kind in (Account, Machine, Disk, Network, Balancer, Volume, Operation, FaultRecord)
}
