"""What crosses the simulated vendor's API: requests that are more than a word, and descriptions of machines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .errors import CloudError
from .records import Machine, Operation, Resource

HOST_UNREACHABLE = "HostUnreachable"


class MachineView(NamedTuple):
    """A machine as described: its record, its phase now, the ids of its volumes."""

    machine: Machine
    phase: str
    volumes: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """One page of a listing. next: what to ask the next page with, "" on the last. unreachable: places left out."""

    items: Sequence[MachineView]
    next: str
    unreachable: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A launch, in the vendor's words. members: (name, hostname, host or "", volumes); started False: only created."""

    token: str
    place: str
    machine_type: str
    spot: bool
    image: str
    role: str
    network: str
    user_data: bytes
    tags: Mapping[str, str]
    members: Sequence[tuple[str, str, str, tuple[str, ...]]]
    started: bool = True

    def digest(self) -> str:
        """Of what must be equal when a token is repeated."""
        words = [
            self.place,
            self.machine_type,
            self.spot,
            self.image,
            self.role,
            self.network,
            dict(self.tags),
            list(self.members),
        ]
        return hashlib.sha256(json.dumps(words, sort_keys=True).encode() + self.user_data).hexdigest()


@dataclass(frozen=True)
class Expect:
    """A thing by id, and what must be on it for the request to touch it."""

    id: str
    tags: Mapping[str, str]
    index: int

    def fits(self, resource: Resource) -> bool:
        return resource.index == self.index and self.tags.items() <= resource.tags.items()

    def check(self, resource: Resource) -> None:
        """Raises PreconditionFailed when other tags are on it."""
        if not self.fits(resource):
            raise CloudError("PreconditionFailed", f"{self.id} does not carry the tags that were expected on it")


class Launched(NamedTuple):
    """What became of a launch. machines: those that the place still knows, by id. state: done | revocable | rolled-back."""

    operation: Operation
    machines: Mapping[str, MachineView]
    state: str
    unreachable: frozenset[str]
