"""What an account still has room for: capacity, quota, names, hosts, addresses, volumes. Asked member by member in a launch."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from . import catalog, physics
from .errors import CloudError
from .records import Machine, Network, Volume

if TYPE_CHECKING:
    from .account import Cloud
    from .views import Wanted

OWNER = "kubeup/installation"
"""The tag that says whose a host is, for the message."""

DEFAULT_CIDR = "172.31.0.0/16"
"""Of machines that are launched into no network."""


class Room:
    """Within one write(). living: machines that take up room now. addresses: index -> the address it will have."""

    def __init__(self, cloud: Cloud, wanted: Wanted, living: Sequence[Machine], now: float) -> None:
        self.addresses: dict[int, str] = {}
        self._cloud, self._wanted, self._now = cloud, wanted, now
        self._volumes: set[str] = set()  # that earlier members of this launch have
        self._names = {machine.name for machine in living}
        self._held = {m.slot: m.tags.get(OWNER, "somebody") for m in living if m.slot}
        self._quota = None if cloud.settings.quota.machines is None else cloud.settings.quota.machines - len(living)
        self._capacity = self._left(living)
        self._free = self._addresses(living)
        self._fault = cloud.faults.take(("noCapacity", "quota"), "launch", "Machine", wanted.place, wanted.machine_type)

    def take(self, index: int) -> None:
        """Room for one more: raises CloudError, or counts it."""
        name, _, slot, volumes = self._wanted.members[index]
        if self._fault is not None:
            raise self._planted()
        if slot:
            self._claim(slot)
        if name in self._names:
            raise CloudError("NameInUse", f"a machine named {name} exists", by=name)
        if self._quota is not None and self._quota < 1:
            raise self._over_quota()
        if self._capacity is not None and self._capacity < 1:
            raise self.exhausted()
        for volume in volumes:
            self._attachable(volume)
        address = next(self._free, None)
        if address is None:
            raise CloudError("InsufficientFreeAddresses", f"network {self._wanted.network} has no free address", place=None)
        self.addresses[index] = address
        self._names.add(name)
        self._volumes.update(volumes)
        if slot:
            self._held[slot] = "another member of this launch"
        if self._quota is not None:
            self._quota -= 1
        if self._capacity is not None:
            self._capacity -= 1

    def exhausted(self) -> CloudError:
        return self.no_capacity(self._wanted.place, self._wanted.machine_type, self._wanted.spot)

    @staticmethod
    def no_capacity(place: str | None, machine_type: str | None, spot: bool | None, after: float | None = None) -> CloudError:
        what = f"{machine_type or 'any machine type'}{' (spot)' if spot else ''} in {place or 'any zone'}"
        return CloudError(
            "InsufficientInstanceCapacity",
            f"there is no capacity for {what}",
            place=place,
            machineType=machine_type,
            spot=spot,
            retryAfter=after,
        )

    def _planted(self) -> CloudError:
        fault = self._fault
        assert fault is not None
        if fault.name == "quota":
            return self._over_quota()
        place = None if fault.place == "*" else self._wanted.place
        kind = None if fault.machine_type == "*" else self._wanted.machine_type
        spot = None if place is None and kind is None else self._wanted.spot
        return self.no_capacity(place, kind, spot, fault.seconds or None)

    def _over_quota(self) -> CloudError:
        return CloudError("QuotaExceeded", f"the account {self._cloud.account} has reached its quota of machines")

    def _claim(self, slot: str) -> None:
        if slot in self._cloud.cut():
            raise CloudError("HostUnreachable", f"host {slot} does not answer")
        if (by := self._held.get(slot)) is not None:
            raise CloudError("HostInUse", f"host {slot} is held by {by}", by=by)

    def _left(self, living: Sequence[Machine]) -> int | None:
        wanted = self._wanted
        fitting = [
            entry
            for entry in self._cloud.settings.capacity
            if entry.place in ("*", wanted.place)
            and entry.machine_type in ("*", wanted.machine_type)
            and entry.spot in (None, wanted.spot)
        ]
        if not fitting:
            return None
        entry = max(fitting, key=lambda e: (e.place != "*") + (e.machine_type != "*") + (e.spot is not None))
        used = sum(
            machine.place == wanted.place
            and (entry.machine_type == "*" or machine.machine_type == wanted.machine_type)
            and (entry.spot is None or machine.spot == wanted.spot)
            for machine in living
        )
        return entry.machines - used

    def _attachable(self, volume_id: str) -> None:
        cloud, settings = self._cloud, self._cloud.settings
        if settings.attach == "none":
            raise CloudError("AttachNotSupported", "this cloud attaches no volumes")
        volume = cloud.state.table(Volume).get(volume_id)
        if volume is None or physics.volume_phase(volume, self._now) != physics.RUNNING:
            raise CloudError("InvalidVolume.NotFound", f"there is no volume {volume_id} that could be attached")
        holder, _ = physics.attachment(volume, cloud.state.table(Machine).get(volume.machine), settings, self._now)
        if volume_id in self._volumes:
            holder = "another member of this launch"
        if holder:
            raise CloudError("VolumeInUse", f"volume {volume_id} is attached to {holder}", by=holder)
        if not settings.hosts and volume.place != self._wanted.place:
            raise CloudError(
                "InvalidVolume.ZoneMismatch", f"volume {volume_id} is in {volume.place}, not in {self._wanted.place}"
            )
        limit = catalog.TYPES[self._wanted.machine_type].max_volumes if not settings.hosts else None
        if limit is not None and any(len(volumes) > limit for _, _, _, volumes in self._wanted.members):
            raise CloudError("AttachmentLimitExceeded", f"{self._wanted.machine_type} takes {limit} volumes at most")

    def _addresses(self, living: Sequence[Machine]) -> Iterator[str]:
        network = self._cloud.state.table(Network).get(self._wanted.network)
        span = ipaddress.IPv4Network(network.cidr if network else DEFAULT_CIDR)
        used = {machine.internal for machine in living if machine.network == self._wanted.network}
        first, last = int(span.network_address) + 10, int(span.broadcast_address)
        for number in range(first, last):
            address = f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
            if address not in used:
                yield address
