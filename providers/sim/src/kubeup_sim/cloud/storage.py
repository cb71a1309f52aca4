"""Volumes: zonal, with a limit per machine type, attached and detached in time, sometimes hanging.

An inventory of hosts has one shared storage: its volumes are in the region, and every host reaches them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from . import catalog, physics
from .errors import CloudError
from .records import Machine, Volume, carries
from .views import Expect

if TYPE_CHECKING:
    from .account import Cloud


class VolumeView(NamedTuple):
    """machine: id of the machine that holds it, also while busy. busy: "" | attaching | detaching | resizing."""

    volume: Volume
    phase: str
    machine: str
    busy: str


class Storage:
    """`cloud.storage`."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def create(self, token: str, name: str, place: str, size: int, klass: str, tags: Mapping[str, str]) -> VolumeView:
        """By token: the volume of the first call, also when it is over. Raises InvalidZone, NameInUse, QuotaExceeded."""
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.write():
            settings, table = cloud.settings, cloud.state.table(Volume)
            self._purge(now)
            for volume in table.values():
                if token and volume.token == token and now < volume.created_at + settings.token_life:
                    return self._view(volume, now)
            living = [v for v in table.values() if physics.volume_phase(v, now) not in (None, physics.OVER)]
            for volume in living:
                if volume.name == name:
                    raise CloudError("NameInUse", f"a volume named {name} exists", by=volume.id)
            if place not in ((cloud.region,) if settings.hosts else cloud.zones):
                raise CloudError("InvalidZone", f"there is no zone {place!r} in {cloud.region}")
            if place in cloud.cut():
                raise CloudError("ZoneUnavailable", f"zone {place} does not answer", retryAfter=10.0)
            full = settings.quota.volumes is not None and len(living) >= settings.quota.volumes
            if full or cloud.faults.take(("quota",), "create", "Volume", place):
                raise CloudError("QuotaExceeded", f"the account {cloud.account} has reached its quota of volumes")
            id = cloud.new_id("vol")
            volume = Volume(
                id=id,
                name=name,
                tags=dict(tags),
                created_at=now,
                visible_at=now + settings.settle * physics.draw(settings.seed, f"seen/{id}"),
                place=place,
                size=size,
                klass=klass,
                token=token,
                ready_at=now + settings.volume_seconds,
            )
            cloud.state.put(volume)
            return self._view(volume, now)

    def modify(self, target: Expect, size: int, tags: Mapping[str, str]) -> VolumeView:
        """Grow, and write the tags anew. Raises InvalidVolume.NotFound, IncorrectState while it is busy."""
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.write():
            volume = self._expected(target)
            if size > volume.size:
                view = self._view(volume, now)
                if view.phase != physics.RUNNING or view.busy:
                    raise CloudError("IncorrectState", f"volume {volume.id} is {view.busy or view.phase}", retryAfter=1.0)
                volume = replace(volume, size=size, grown_at=now + cloud.settings.volume_seconds)
            volume = replace(volume, tags=dict(tags))
            cloud.state.put(volume)
            return self._view(volume, now)

    def attach(self, target: Expect, to: Expect) -> None:
        """Starts it. Raises VolumeInUse, AttachmentLimitExceeded, InvalidVolume.ZoneMismatch, IncorrectState, the NotFounds."""
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.write():
            settings = cloud.settings
            volume, machine = self._expected(target), self._machine(to)
            view = self._view(volume, now)
            if view.machine == machine.id and view.busy != "detaching":
                return
            if view.machine:
                raise CloudError("VolumeInUse", f"volume {volume.id} is attached to {view.machine}", by=view.machine)
            if view.phase != physics.RUNNING:
                raise CloudError("IncorrectState", f"volume {volume.id} is {view.phase}", retryAfter=1.0)
            if not settings.hosts and volume.place != machine.place:
                raise CloudError(
                    "InvalidVolume.ZoneMismatch",
                    f"volume {volume.id} is in {volume.place}, machine {machine.id} in {machine.place}",
                )
            limit = catalog.TYPES[machine.machine_type].max_volumes if machine.machine_type in catalog.TYPES else None
            if limit is not None and self._attached_to(machine.id, now) >= limit:
                raise CloudError(
                    "AttachmentLimitExceeded",
                    f"machine {machine.id} ({machine.machine_type}) has its {limit} volumes",
                    by=machine.id,
                )
            hang = cloud.faults.take(("stuckAttach",), "attach", "Volume", volume.place)
            attached_at = None if hang and not hang.seconds else now + (hang.seconds if hang else settings.attach_seconds)
            volume = replace(volume, machine=machine.id, attached_at=attached_at, detached_at=None, detaching=False)
            cloud.state.put(volume)

    def detach(self, target: Expect, machine_id: str) -> None:
        """Starts it; done already is fine, as when another machine holds it. Raises InvalidVolume.NotFound."""
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.write():
            volume = self._expected(target)
            view = self._view(volume, now)
            if view.machine != machine_id or view.busy == "detaching":
                return
            hang = cloud.faults.take(("stuckDetach",), "detach", "Volume", volume.place)
            detached_at = None if hang and not hang.seconds else now + (hang.seconds if hang else cloud.settings.attach_seconds)
            cloud.state.put(replace(volume, detaching=True, detached_at=detached_at))

    def find(self, tags: Mapping[str, str]) -> tuple[list[VolumeView], frozenset[str]]:
        """With these tags; and the zones that did not answer, which are left out."""
        cloud, now = self._cloud, self._cloud.now()
        newest = now
        with cloud.state.read():
            cut = set(cloud.cut())
            if (dark := cloud.faults.take(("unreachable",), "list", "Volume")) is not None:
                cut.add(dark.place if dark.place != "*" else cloud.zones[0])
            if (stale := cloud.faults.take(("staleList",), "list", "Volume")) is not None:
                newest = now - stale.seconds
            found = [
                self._view(volume, now)
                for volume in cloud.state.table(Volume).values()
                if volume.visible_at <= now
                and volume.created_at <= newest
                and volume.place not in cut
                and carries(volume.tags, tags)
                and physics.volume_phase(volume, now) not in (None, physics.OVER)
            ]
            return found, frozenset(cut & set(cloud.zones))

    def get(self, id: str) -> VolumeView | None:
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.read():
            volume = cloud.state.table(Volume).get(id)
            known = volume is not None and physics.volume_phase(volume, now) not in (None, physics.OVER)
            return self._view(volume, now) if volume is not None and known else None

    def delete(self, target: Expect) -> VolumeView | None:
        """Ask for it; what is left of it now, None when it is over. Raises InvalidVolume.NotFound, VolumeInUse."""
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.write():
            volume = self._expected(target)
            view = self._view(volume, now)
            if view.machine:
                raise CloudError("VolumeInUse", f"volume {volume.id} is attached to {view.machine}", by=view.machine)
            if volume.gone_at is None:
                volume = replace(volume, gone_at=now + cloud.settings.delete_seconds + cloud.faults.extra_delay("Volume"))
                cloud.state.put(volume)
            return self._view(volume, now) if physics.volume_phase(volume, now) else None

    def _expected(self, target: Expect) -> Volume:
        volume = self._cloud.state.table(Volume).get(target.id)
        if volume is None or physics.volume_phase(volume, self._cloud.now()) in (None, physics.OVER):
            raise CloudError("InvalidVolume.NotFound", f"there is no volume {target.id}")
        target.check(volume)
        return volume

    def _machine(self, target: Expect) -> Machine:
        machine = self._cloud.state.table(Machine).get(target.id)
        phase = machine and physics.machine_phase(machine, self._cloud.settings, self._cloud.now())
        if machine is None or phase in (None, physics.OVER):
            raise CloudError("InvalidMachine.NotFound", f"there is no machine {target.id}")
        target.check(machine)
        if phase not in (physics.RUNNING, physics.STOPPED):
            raise CloudError("IncorrectState", f"machine {machine.id} is {phase}", retryAfter=1.0)
        return machine

    def _purge(self, now: float) -> None:
        """Drop volumes that are over and whose token nobody may repeat any more."""
        cloud = self._cloud
        for volume in list(cloud.state.table(Volume).values()):
            over = physics.volume_phase(volume, now) in (None, physics.OVER)
            if over and now >= volume.created_at + cloud.settings.token_life:
                cloud.state.remove(volume)

    def _attached_to(self, machine: str, now: float) -> int:
        return sum(
            self._view(v, now).machine == machine for v in self._cloud.state.table(Volume).values() if v.machine == machine
        )

    def _view(self, volume: Volume, now: float) -> VolumeView:
        cloud = self._cloud
        phase = physics.volume_phase(volume, now) or physics.OVER
        holder = cloud.state.table(Machine).get(volume.machine)
        machine, busy = physics.attachment(volume, holder, cloud.settings, now)
        return VolumeView(volume, phase, machine, busy or ("resizing" if now < volume.grown_at else ""))
