"""What a request to the verbs is made of, and what comes back. Plain data, built by the server and by the in-process client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PatchType = Literal["json", "merge", "strategic", "apply"]


@dataclass(frozen=True)
class Actor:
    """On whose behalf. The core's own controllers are not audited: what they do is in events and conditions."""

    user: str
    groups: tuple[str, ...] = ()
    audited: bool = True


@dataclass(frozen=True)
class Options:
    """Of a write. `unknown`: complaints of whoever decoded the body (duplicate fields), treated as unknown fields are."""

    dry_run: bool = False
    field_manager: str = ""
    field_validation: Literal["Ignore", "Warn", "Strict"] = "Warn"
    force: bool = False
    subresource: Literal["", "status", "scale"] = ""
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class DeleteOptions:
    propagation: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class Answer:
    """data: the object (or Scale, Status, List) as it goes over the wire. rv: of the object, 0 where there is none."""

    data: bytes
    created: bool = False
    warnings: tuple[str, ...] = ()
    rv: int = 0


@dataclass(frozen=True)
class AuditLine:
    """Who did what, with which result. Never a body."""

    at: str
    user: str
    verb: str
    resource: str
    namespace: str
    name: str
    subresource: str
    dry_run: bool
    code: int
    reason: str = ""


WRITE = Options()
DELETE = DeleteOptions()
