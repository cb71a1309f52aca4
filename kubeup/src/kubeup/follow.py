"""Watching things become what they should be: what `up` and `down` wait for, and the lines they draw meanwhile.

`Picture` is one look at the objects concerned; `follow` looks until a condition holds, redrawing on a terminal and printing a
plain line for every change elsewhere. Nothing is decided here: what Ready means, the controllers say.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import click

from .api import Api, kind_for, kind_named
from .output import duration, table

Object = dict[str, Any]
INTERVAL = 0.25
MACHINES_SHOWN = 20


@dataclass
class Picture:
    """One look. `wanted`: the applied objects as they are now (None: gone); `machines`: of the clusters concerned."""

    wanted: dict[tuple[str, str, str], Object | None]
    machines: list[Object] = field(default_factory=list)

    def waiting(self) -> list[tuple[str, str]]:
        """(kind/name, why) of what is not Ready yet."""
        out = []
        for (kind, _, name), obj in self.wanted.items():
            if obj is None:
                out.append((f"{kind.lower()}/{name}", "is gone"))
            elif not ready(obj):
                out.append((f"{kind.lower()}/{name}", message(obj)))
        return out


def condition(obj: Object, type_: str) -> Object:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    found: Object = next((c for c in conditions if c["type"] == type_), {})
    return found


def ready(obj: Object) -> bool:
    """Ready=True for the generation that was applied; kinds without conditions are ready when they are there."""
    if obj["kind"] in ("Namespace", "Secret", "Event", "Lease", "Launch"):
        return True
    found = condition(obj, "Ready")
    seen = found.get("observedGeneration") or (obj.get("status") or {}).get("observedGeneration") or 0
    return found.get("status") == "True" and seen >= obj["metadata"].get("generation", 0)


def message(obj: Object) -> str:
    """Why it is not Ready, in the controllers' words."""
    return condition(obj, "Ready").get("message") or condition(obj, "Ready").get("reason") or "nobody has looked at it yet"


def look(api: Api, keys: Iterable[tuple[str, str, str]]) -> Picture:
    """One look at (kind, namespace, name) and the machines of the clusters among them."""
    wanted: dict[tuple[str, str, str], Object | None] = {}
    clusters: set[tuple[str, str]] = set()
    for key in keys:
        kind, namespace, name = key
        obj = api.find(kind_named(kind), name, namespace)
        wanted[key] = obj
        cluster = name if kind == "Cluster" else str(((obj or {}).get("spec") or {}).get("cluster") or "")
        if cluster:
            clusters.add((namespace, cluster))
    machines = []
    for namespace in sorted({ns for ns, _ in clusters}):
        every = api.list(_machine(), namespace)
        machines += [m for m in every if (namespace, m["spec"]["cluster"]) in clusters]
    return Picture(wanted, machines)


def _machine() -> Any:
    from kubeup_core.kinds import Machine

    return kind_for(Machine)


def follow(
    look_: Callable[[], Picture], done: Callable[[Picture], bool], draw: Callable[[Picture], list[str]], timeout: float
) -> tuple[bool, Picture]:
    """Look until done or until so many seconds have passed. True when done."""
    began = time.monotonic()
    screen = _Screen() if sys.stdout.isatty() else _Lines()
    with screen:
        while True:
            picture = look_()
            if done(picture):
                screen.last(draw(picture))
                return True, picture
            screen.show(draw(picture), time.monotonic() - began)
            if time.monotonic() - began > timeout:
                screen.last(draw(picture))
                return False, picture
            time.sleep(INTERVAL)


def machine_lines(machines: list[Object]) -> list[str]:
    """A table of the machines; beyond MACHINES_SHOWN only those that are not Ready, then counts."""
    shown = machines if len(machines) <= MACHINES_SHOWN else [m for m in machines if not ready(m)][:MACHINES_SHOWN]
    lines = []
    if shown:
        rows = [[_pool(m), m["metadata"]["name"], _state(m), _address(m), _note(m)] for m in shown]
        lines = table(["Pool", "Machine", "State", "Address", ""], rows).splitlines()
    if len(shown) < len(machines):
        up = sum(ready(m) for m in machines)
        lines.append(f"... {up} of {len(machines)} machines Ready")
    return lines


def _pool(m: Object) -> str:
    return m["spec"].get("pool") or ""


def _state(m: Object) -> str:
    if m["metadata"].get("deletionTimestamp"):
        return "Deleting"
    return str((m.get("status") or {}).get("state") or "Pending")


def _address(m: Object) -> str:
    addresses = (m.get("status") or {}).get("addresses") or ()
    return addresses[0]["address"] if addresses else ""


def _note(m: Object) -> str:
    if ready(m):
        return ""
    text = message(m)
    return "" if text.startswith("nobody") else text[:80]


class _Lines:
    """For pipes and logs: each line once, when it first appears."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()

    def show(self, lines: list[str], seconds: float) -> None:
        for line in lines:
            if line.strip() and line not in self._seen:
                self._seen.add(line)
                click.echo(line)
        sys.stdout.flush()

    def last(self, lines: list[str]) -> None:
        self.show(lines, 0)


class _Screen:
    """For terminals: one block that is redrawn, with the seconds that have passed."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(highlight=False), refresh_per_second=8, transient=False)

    def __enter__(self) -> _Screen:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, lines: list[str], seconds: float) -> None:
        from rich.text import Text

        self._live.update(Text("\n".join([*lines, f"{duration(seconds)} ..."])))

    def last(self, lines: list[str]) -> None:
        from rich.text import Text

        self._live.update(Text("\n".join(lines)), refresh=True)
