"""What HAProxy says of its servers, as states of members. Pure; used by `balancers.py`.

A member stands behind each listener once. It is as bad as its worst place; one that drains is `unused` when no process, of those too
that a reload replaced, has a connection to it any more.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

_CHECKED_NOT_YET = ("", "INI", "* INI")
_ORDER = ("unhealthy", "initial", "healthy")


@dataclass(frozen=True, kw_only=True)
class Server:
    """One line of `show stat`: a member behind one listener."""

    member: str
    status: str
    checked: str
    connections: int


def servers(stat: str) -> tuple[Server, ...]:
    """Lines of CSV with a header that begins with "# "; what is no server is left out."""
    rows = csv.DictReader(stat.lstrip("# ").splitlines())
    return tuple(
        Server(
            member=row["svname"],
            status=row.get("status") or "",
            checked=row.get("check_status") or "",
            connections=int(row.get("scur") or 0),
        )
        for row in rows
        if row.get("svname") not in (None, "FRONTEND", "BACKEND")
    )


def members(now: str, before: Iterable[str], wanted: Mapping[str, bool]) -> dict[str, str]:
    """wanted: each member, and whether it drains. -> initial | healthy | unhealthy | draining | unused; absent: not there yet."""
    here = servers(now)
    busy = {s.member for s in (*here, *(s for stat in before for s in servers(stat))) if s.connections > 0}
    found: dict[str, str] = {}
    for key, drains in wanted.items():
        mine = [s for s in here if s.member == key]
        if drains:
            found[key] = "draining" if key in busy else "unused"
        elif mine:
            found[key] = _worst({_state(s) for s in mine})
    return found


def _state(server: Server) -> str:
    if server.status.startswith("DOWN"):
        return "unhealthy"
    # A new one begins in the middle ("UP 1/3"); what an earlier process knew to be up is "UP" before its first check in this one.
    return "initial" if server.checked in _CHECKED_NOT_YET and server.status != "UP" else "healthy"


def _worst(states: Collection[str]) -> str:
    return next(state for state in _ORDER if state in states)
