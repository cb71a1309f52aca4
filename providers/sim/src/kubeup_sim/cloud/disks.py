"""Boot disks of their own, for `create: steps`: the parts that a launch which was interrupted leaves behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from . import physics
from .physics import living
from .records import Disk, Operation, carries
from .views import Expect

if TYPE_CHECKING:
    from .account import Cloud


class Disks:
    """`cloud.disks`."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def create(self, token: str, place: str, tags: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
        """One boot disk per name, index by place in names; those that exist stay. Returns name -> id.

        Nothing when the token's machines were made already: their disks came, and may have gone, with them.
        """
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.write():
            operation = cloud.state.table(Operation).get(token)
            if operation is not None and now < operation.at + cloud.settings.token_life:
                return {}
            there = {disk.name: disk for disk in cloud.state.table(Disk).values() if physics.exists(disk, now)}
            new = [name for name in names if name not in there]
            ids = dict(zip(new, cloud.new_ids("disk", len(new)), strict=True))
            for index, name in enumerate(names):
                if name in ids:
                    disk = Disk(id=ids[name], name=name, tags=dict(tags), index=index, created_at=now, place=place)
                    cloud.state.put(disk)
            return {name: ids.get(name) or there[name].id for name in names}

    def find(self, tags: Mapping[str, str]) -> list[Disk]:
        """Boot disks that no machine uses."""
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.read():
            used = {machine.disk for machine in living(self._cloud, now)}
            disks = cloud.state.table(Disk).values()
            return [d for d in disks if carries(d.tags, tags) and d.id not in used and physics.exists(d, now)]

    def delete(self, targets: Sequence[Expect]) -> list[str]:
        """As delete, for boot disks; "in-use" when a machine has it."""
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.write():
            used = {machine.disk for machine in living(self._cloud, now)}
            words = []
            for target in targets:
                disk = cloud.state.table(Disk).get(target.id)
                if disk is None or not physics.exists(disk, now):
                    words.append("absent")
                elif not target.fits(disk):
                    words.append("foreign")
                elif disk.id in used:
                    words.append("in-use")
                else:
                    cloud.state.remove(disk)
                    words.append("over")
            return words
