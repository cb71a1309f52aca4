"""What `guest.sh` says, as data and errors: the host's facts, whose it is, its volumes. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from kubeup_core import Blocked, Denied, InvalidSpec, Mark, NoCapacity, NotFound, NotReady, Place, SupplierError, Taken, Unknown

TAKEN, BUSY, KEPT, OVER, NOT_OURS, FULL, IN_USE, MISSING, ELSEWHERE, UNABLE, DOWN = range(41, 52)
"""Exit codes of guest.sh."""

ARCHES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, kw_only=True)
class VolumeLook:
    """size: bytes that there are, fewer than `wanted` while it is half-made. attached: id of a machine, "" when it is down."""

    id: str
    mark: Mark
    wanted: int
    size: int
    attached: str = ""


@dataclass(frozen=True, kw_only=True)
class Look:
    """A host as it is now. claim: whose it is; holder: that machine's name. kept: why nobody gets it. room: bytes for volumes."""

    cpu: int
    memory: int
    disk: int
    arch: str
    os: str
    boot: str
    address: str
    room: int
    claim: Mark | None = None
    holder: str = ""
    kept: str = ""
    volumes: tuple[VolumeLook, ...] = ()

    @property
    def facts(self) -> Mapping[str, str]:
        return {
            "cpu": str(self.cpu),
            "memory": f"{self.memory // 2**20}Mi",
            "disk": f"{self.disk // 2**30}Gi",
            "arch": self.arch,
            "os": self.os,
        }


@dataclass
class _Section:
    name: str
    lines: list[str] = field(default_factory=list)


def key_of(mark: Mark) -> str:
    """What says whose a host is, in one word per part of `Mark.same`."""
    return f"{mark.installation} {mark.kind} {mark.maker} {mark.index}"


def claim_text(mark: Mark, name: str) -> bytes:
    """What `claim` is given as stdin."""
    return json.dumps({"mark": asdict(mark), "name": name}, sort_keys=True).encode() + b"\n"


def record_text(mark: Mark, size: int, group: str) -> bytes:
    """What `make` is given as stdin, on one line."""
    return json.dumps({"mark": asdict(mark), "size": size, "group": group}, sort_keys=True).encode()


def read(output: bytes, before: Look | None = None) -> Look:
    """What `look` printed. before: whose size it has, when it says no more than that it still runs. Raises Unknown when it cannot be
    read: the connection may have cut it off."""
    sections: list[_Section] = []
    for line in output.decode("utf-8", "replace").splitlines():
        if line.startswith("== "):
            sections.append(_Section(line[3:]))
        elif sections:
            sections[-1].lines.append(line)
    try:
        facts = dict(line.partition(" ")[::2] for line in next(s for s in sections if s.name == "host").lines)
        claimed = next((json.loads(s.lines[1]) for s in sections if s.name == "claim"), None)
        kept = next((" ".join(s.lines) for s in sections if s.name == "kept"), "")
        now: dict[str, Any] = {
            "claim": Mark(**claimed["mark"]) if claimed else None,
            "holder": claimed["name"] if claimed else "",
            "kept": kept or "",
            "volumes": tuple(_volume(s) for s in sections if s.name.startswith("volume ")),
        }
        if before is not None and facts == {"boot": before.boot}:
            return replace(before, **now)
        return Look(
            cpu=int(facts["cpu"]),
            memory=int(facts["memory"]),
            disk=int(facts["disk"] or 0),
            arch=ARCHES.get(facts["arch"], facts["arch"]),
            os=facts["os"].strip("-"),
            boot=facts["boot"],
            address=facts["address"],
            room=int(facts["room"] or 0),
            **now,
        )
    except (StopIteration, KeyError, ValueError, IndexError, TypeError) as error:
        raise Unknown(f"what the host says of itself cannot be read: {type(error).__name__}") from error


def _volume(section: _Section) -> VolumeLook:
    record: Any = json.loads(section.lines[0])
    more = dict(line.partition(" ")[::2] for line in section.lines[1:] if line)
    return VolumeLook(
        id=section.name.removeprefix("volume "),
        mark=Mark(**record["mark"]),
        wanted=int(record["size"]),
        size=int(more.get("size") or 0),
        attached=more.get("attached", ""),
    )


class Foreign(NotFound):
    """The host is another machine's. maker: of that one's mark."""

    def __init__(self, message: str, *, maker: str) -> None:
        super().__init__(message)
        self.maker = maker

    @property
    def decision(self) -> str:
        return NotFound.__name__


class NotLetIn(NotReady):
    """One host refuses the login or root, or is not who it was. That is no word about the others, as a Denied would be."""

    def __init__(self, error: Denied) -> None:
        super().__init__(error.message, code=error.code, remedy=error.remedy, retry_after=60.0)

    @property
    def decision(self) -> str:
        return NotReady.__name__


def failure(host: str, verb: str, code: int, output: bytes) -> SupplierError:
    """What an exit code of guest.sh means."""
    said = " ".join(output.decode("utf-8", "replace").split())[-300:]
    match code:
        case _ if code == TAKEN:
            return Taken(f"host {host} has been claimed already", by=said, remedy="another host is tried; or free that one")
        case _ if code == KEPT:
            return NoCapacity(f"host {host} is kept back: {said}", scope=Place(slot=host), retry_after=60.0)
        case _ if code == BUSY:
            return NotReady(f"host {host} is being changed by another call", code="Busy", retry_after=2.0)
        case _ if code == DOWN:
            return NotReady(f"host {host} cannot be judged: {said}", code="Down", retry_after=5.0)
        case _ if code == NOT_OURS:
            return Foreign(f"host {host} has another owner: {said}", maker=[*said.split(), "", "", ""][2])
        case _ if code == MISSING:
            return NotFound(f"on host {host} there is no such thing of this mark")
        case _ if code == FULL:
            return NoCapacity(f"host {host} has no room: {said}", scope=Place(slot=host), retry_after=60.0)
        case _ if code == IN_USE:
            return Blocked(f"it is in use on host {host}: {said}", by=(said or host,))
        case _ if code == ELSEWHERE:
            return Taken(f"it is attached to another machine of host {host}", by=said)
        case _ if code == UNABLE:
            return InvalidSpec(
                f"host {host} cannot do that: {said}", path="spec.config", remedy="install lvm2 and make the group there"
            )
    return Unknown(f"{verb} ended with exit code {code} on host {host}: {said}", code=str(code))
