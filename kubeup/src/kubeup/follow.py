"""Watching things become what they should be: what `up`, `down` and `delete` wait for.

`look` takes a Picture of the objects concerned, `follow` takes one after the other until a condition holds, less often the longer
it takes and the more there is to look at. How a Picture is drawn is in `screen.py`. Nothing is decided here: what Ready means, the
controllers say.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from .api import Api

if TYPE_CHECKING:
    from .screen import View

Object = dict[str, Any]
Key = tuple[str, str, str]
"""(kind, namespace, name); namespace is "" for what belongs to none."""

SHORTEST, LONGEST = 0.25, 5.0
"""Seconds between two looks."""

SINGLY = 4
"""So many objects of a kind are asked for one by one; more are listed."""


class Row(NamedTuple):
    """One machine, as the server's table has it."""

    cluster: str
    pool: str
    name: str
    state: str
    ready: bool
    address: str
    message: str


@dataclass
class Picture:
    """One look. `wanted`: the objects concerned as they are now (None: not there); `machines`: of the clusters concerned."""

    wanted: dict[Key, Object | None]
    machines: list[Row] = field(default_factory=list)

    def waiting(self) -> list[tuple[Key, str]]:
        """What is not Ready yet, and why."""
        return [
            (key, "is gone" if obj is None else message(obj))
            for key, obj in self.wanted.items()
            if obj is None or not ready(obj)
        ]

    def there(self) -> list[tuple[Key, Object]]:
        """What is not gone yet."""
        return [(key, obj) for key, obj in self.wanted.items() if obj is not None]


def title(key: Key) -> str:
    """`nodepool/web`, and with its namespace where that is not the usual one: `nodepool/team/web`."""
    kind, namespace, name = key
    return "/".join(part for part in (kind.lower(), namespace if namespace != "default" else "", name) if part)


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
    found = condition(obj, "Ready")
    unsaid = "is not launched yet" if obj["kind"] == "Machine" else "is waiting for its turn"
    return str(found.get("message") or found.get("reason") or unsaid)


def leaving(obj: Object) -> str:
    """What an object that is being deleted waits for, in the controllers' words where they have said any."""
    told = condition(obj, "Ready")
    if told.get("message") and told.get("status") != "True":
        return str(told["message"])
    foreign = [f for f in obj["metadata"].get("finalizers") or () if not f.startswith("kubeup.dev/")]
    if foreign:
        return f"waits for whoever put the finalizer {', '.join(foreign)} there to take it away"
    return "is being deleted"


def look(api: Api, keys: Iterable[Key]) -> Picture:
    """One look at these objects, and at the machines of the clusters among them."""
    wanted: dict[Key, Object | None] = dict.fromkeys(keys)
    groups: dict[tuple[str, str], list[str]] = {}
    for kind, namespace, name in wanted:
        groups.setdefault((kind, namespace), []).append(name)
    for (kind, namespace), names in groups.items():
        if len(names) <= SINGLY:
            found = {name: api.find(kind, name, namespace) for name in names}
        else:
            found = {o["metadata"]["name"]: o for o in api.list(kind, namespace)}
        for name in names:
            wanted[kind, namespace, name] = found.get(name)
    return Picture(wanted, machines(api, wanted))


def machines(api: Api, wanted: dict[Key, Object | None]) -> list[Row]:
    """Of the clusters that the keys name or their objects belong to."""
    clusters: set[tuple[str, str]] = set()
    for (kind, namespace, name), obj in wanted.items():
        cluster = name if kind == "Cluster" else str(((obj or {}).get("spec") or {}).get("cluster") or "")
        if cluster:
            clusters.add((namespace, cluster))
    rows = []
    for namespace in sorted({ns for ns, _ in clusters}):
        table = api.table("machines", namespace, include="None")
        at = {column["name"]: i for i, column in enumerate(table["columnDefinitions"])}
        for row in table.get("rows") or ():
            found = _row(row["cells"], at)
            if (namespace, found.cluster) in clusters:
                rows.append(found)
    return sorted(rows, key=lambda row: (row.pool, len(row.name), row.name))


def _row(cells: list[Any], at: dict[str, int]) -> Row:
    def cell(name: str) -> str:
        return str(cells[at[name]] or "") if name in at else ""

    return Row(
        cluster=cell("Cluster"),
        pool=cell("Pool"),
        name=cell("Name"),
        state=cell("State") or "Pending",
        ready=cell("Ready") == "True",
        address=cell("Address"),
        message=cell("Message"),
    )


def follow(look_: Callable[[], Picture], done: Callable[[Picture], bool], view: View, timeout: float) -> tuple[bool, Picture]:
    """Look until done or until so many seconds have passed. True when done."""
    began = time.monotonic()
    with view:
        while True:
            at = time.monotonic()
            picture = look_()
            passed = time.monotonic() - began
            if done(picture):
                view.last(picture, passed)
                return True, picture
            if passed > timeout:
                view.last(picture, passed)
                return False, picture
            view.show(picture, passed)
            time.sleep(min(pause(passed, time.monotonic() - at), max(timeout - passed, 0.01)))


def pause(passed: float, took: float) -> float:
    """Seconds until the next look: longer when looking is work, and when nothing has to be quick any more."""
    patience = SHORTEST if passed < 20 else 1.0 if passed < 120 else 2.0
    return min(max(patience, 8 * took), LONGEST)
