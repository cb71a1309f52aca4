"""The vendor's web console: what people do to an account behind kubeup's back, and what they see there.

For tests (`cloud.console`) and for `python -m kubeup_sim`. It sees every installation's things at once and asks no faults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from . import catalog, physics
from .records import Balancer, Disk, Machine, Network, Resource, Volume

if TYPE_CHECKING:
    from .account import Cloud


@dataclass(frozen=True, kw_only=True)
class Line:
    """One thing of the account, as a person sees it. name: a machine's host name; full_name: its name at the place."""

    kind: str
    id: str
    name: str
    full_name: str
    phase: str
    place: str
    tags: Mapping[str, str]
    index: int

    @property
    def installation(self) -> str:
        return self.tags.get("kubeup/installation", "")


class Console:
    """Machines are named by id, by host name or by full name; LookupError says when none or several are."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def machines(self) -> list[Line]:
        """Those that are not over."""
        return [line for line in self.everything() if line.kind == "Machine"]

    def everything(self) -> list[Line]:
        """All that exists in the account and may cost money: an empty list is the proof that nothing is left."""
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.read():
            settings = cloud.settings
            phases: list[tuple[Resource, str | None]] = []
            phases += [(m, physics.machine_phase(m, settings, now)) for m in cloud.state.table(Machine).values()]
            phases += [(d, physics.RUNNING if physics.exists(d, now) else None) for d in cloud.state.table(Disk).values()]
            phases += [(n, physics.network_phase(n, now)) for n in cloud.state.table(Network).values()]
            phases += [(b, physics.balancer_phase(b, settings, now)) for b in cloud.state.table(Balancer).values()]
            phases += [(v, physics.volume_phase(v, now)) for v in cloud.state.table(Volume).values()]
            return [_line(resource, phase) for resource, phase in phases if phase not in (None, physics.OVER)]

    def kill(self, name: str) -> None:
        """Delete a machine, out of band: it stops, is over, and disappears, as after any deletion."""
        now = self._cloud.now()
        self._change(name, lambda m, s: replace(m, gone_at=now + s))

    def lose(self, name: str) -> None:
        """A machine vanishes at once and leaves nothing to be listed."""
        now = self._cloud.now()
        self._change(name, lambda m, _: replace(m, lost_at=now))

    def stop(self, name: str) -> None:
        self._change(name, lambda m, _: replace(m, stopped=True))

    def start(self, name: str) -> None:
        """A stopped machine runs again, with another boot id."""
        self._change(name, lambda m, _: replace(m, stopped=False, boots=m.boots + 1))

    def crash(self, name: str) -> None:
        """A machine reboots by itself: another boot id."""
        self._change(name, lambda m, _: replace(m, boots=m.boots + 1))

    def unplug(self, name: str) -> None:
        """It runs, and nothing reaches it."""
        self._change(name, lambda m, _: replace(m, unplugged=True))

    def plug(self, name: str) -> None:
        self._change(name, lambda m, _: replace(m, unplugged=False))

    def sicken(self, name: str) -> None:
        """What it serves does not answer: unhealthy for balancers."""
        self._change(name, lambda m, _: replace(m, sick=True))

    def cure(self, name: str) -> None:
        self._change(name, lambda m, _: replace(m, sick=False))

    def notice(self, name: str, seconds: float) -> None:
        """A spot notice: it is taken away after so many seconds."""
        now = self._cloud.now()
        self._change(name, lambda m, _: replace(m, leaving_at=now + seconds))

    def retag(self, name: str, tags: Mapping[str, str | None]) -> None:
        """Change tags of a machine; None removes one."""
        self._change(name, lambda m, _: replace(m, tags={k: v for k, v in {**m.tags, **tags}.items() if v is not None}))

    def add(self, name: str, tags: Mapping[str, str] | None = None, *, place: str = "", index: int = 0) -> str:
        """A machine that somebody made by hand, with any tags; returns its id. place: a zone, or a host of the inventory."""
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.write():
            hosts = cloud.settings.hosts
            place = place or (hosts or cloud.zones)[0]
            machine = Machine(
                id=cloud.new_id("m"),
                name=name,
                hostname=name,
                tags=dict(tags or {}),
                index=index,
                created_at=now,
                place=place,
                machine_type="host" if hosts else next(iter(catalog.TYPES)),
                spot=False,
                image="sim-debian-12",
                role="",
                network="",
                token="",
                internal="172.31.255.1",
                external="",
                slot=place if place in hosts else "",
                started_at=now,
            )
            cloud.state.put(machine)
            return machine.id

    def lose_volume(self, id: str) -> None:
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.write():
            cloud.state.put(replace(self._volume(id), lost_at=now))

    def release_volume(self, id: str) -> None:
        """An attachment or detachment that hangs is done."""
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.write():
            volume = self._volume(id)
            done = replace(volume, detached_at=now) if volume.detaching else replace(volume, attached_at=now)
            cloud.state.put(done)

    def cut(self, place: str) -> None:
        """A zone or host, or "*" for the region, answers no request until it is restored. What runs there runs on."""
        self._cloud.set_cut(place, True)

    def restore(self, place: str) -> None:
        self._cloud.set_cut(place, False)

    def _volume(self, id: str) -> Volume:
        found = self._cloud.state.table(Volume).get(id)
        if found is None:
            raise LookupError(f"there is no volume {id}")
        return found

    def _change(self, name: str, change: Callable[[Machine, float], Machine]) -> None:
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.write():
            found = [
                machine
                for machine in cloud.state.table(Machine).values()
                if name in (machine.id, machine.name, machine.hostname)
                and physics.machine_phase(machine, cloud.settings, now) not in (None, physics.OVER)
            ]
            if len(found) != 1:
                ids = ", ".join(machine.id for machine in found)
                raise LookupError(
                    f"machines {ids} are named {name}: name one by id" if found else f"there is no machine {name}"
                )
            cloud.state.put(change(found[0], cloud.settings.delete_seconds))


def _line(resource: Resource, phase: str | None) -> Line:
    return Line(
        kind={"Balancer": "LoadBalancer"}.get(type(resource).__name__, type(resource).__name__),
        id=resource.id,
        name=resource.hostname if isinstance(resource, Machine) else resource.name,
        full_name=resource.name,
        phase=(phase or "").capitalize(),
        place=getattr(resource, "place", ""),
        tags=resource.tags,
        index=resource.index,
    )
