"""What the region has: zones, machine types and in which zones they are, with prices from a dated file. Asked once an hour.

Called by `offers.py`, and by the suppliers for zones and limits. `prices.json` holds what the API does not tell; DescribeInstanceTypes
tells all else.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, TypeVar

from kubeup_core import InvalidSpec

from .client import Aws

T = TypeVar("T")

HOUR = 3600.0
MiB = 1024**2
ARCHS = {"x86_64": "amd64", "arm64": "arm64"}
PRICES: dict[str, Any] = json.loads(files(__package__).joinpath("prices.json").read_text())

DEFAULT_TYPES = tuple(f"{family}.*" for family in ("t3", "t4g", "m6i", "m7i", "m7g", "c7i", "c7g", "r7i", "r7g"))
"""Where Provider.spec.machineTypes names none: general, of computing and of memory, of one to two generations. All of them Nitro."""

SLOTS = 28
"""Attachments of most Nitro types: disks, network interfaces and instance stores together."""


@dataclass(frozen=True, kw_only=True)
class MachineType:
    """cpu: cores; memory: bytes; max_volumes: data volumes that fit; price: USD per hour on demand, None where nobody wrote it down."""

    name: str
    cpu: float
    memory: int
    arch: str
    max_volumes: int
    price: float | None


class Catalog:
    """Thread-safe. What was asked is kept for an hour."""

    def __init__(self, aws: Aws, zones: Sequence[str]) -> None:
        self._aws = aws
        self._wanted = tuple(zones)
        self._lock = threading.Lock()
        self._kept: dict[Hashable, tuple[float, Any]] = {}

    def zones(self) -> tuple[str, ...]:
        """Zones that may be used, sorted. Raises InvalidSpec for one that the account does not have."""
        return self.kept("zones", self._zones)

    def types(self, names: Sequence[str]) -> tuple[MachineType, ...]:
        """Types by name or glob, the cheapest first."""
        return self.kept(("types", *names), lambda: self._types(names))

    def places(self, names: Sequence[str]) -> dict[str, frozenset[str]]:
        """type -> the zones that have it."""
        return self.kept(("places", *names), lambda: self._places(names))

    def limit(self, name: str) -> int:
        """Data volumes that fit to a machine of this type."""
        found = [t for t in self.types((name,)) if t.name == name]
        return found[0].max_volumes if found else SLOTS - 2

    def kept(self, key: Hashable, ask: Callable[[], T]) -> T:
        """The answer of the last hour. Two threads may ask at once, which costs a request and no wait."""
        with self._lock:
            known = self._kept.get(key)
        if known is not None and time.monotonic() - known[0] < HOUR:
            answer: T = known[1]
            return answer
        answer = ask()
        with self._lock:
            self._kept[key] = (time.monotonic(), answer)
        return answer

    def _zones(self) -> tuple[str, ...]:
        found = self._aws.read(
            "ec2", "describe_availability_zones", Filters=[{"Name": "zone-type", "Values": ["availability-zone"]}]
        )["AvailabilityZones"]
        usable = {zone["ZoneName"] for zone in found if zone.get("State", "available") == "available"}
        if strange := sorted(set(self._wanted) - usable):
            raise InvalidSpec(
                f"region {self._aws.region} has no zone {strange[0]}",
                path="spec.zones",
                remedy=f"it has {', '.join(sorted(usable))}",
            )
        return tuple(sorted(set(self._wanted) or usable))

    def _types(self, names: Sequence[str]) -> tuple[MachineType, ...]:
        filters = [{"Name": "instance-type", "Values": list(names)}]
        found = self._aws.pages("ec2", "describe_instance_types", "InstanceTypes", Filters=filters, MaxResults=100)
        types = [_type(entry) for entry in found]
        return tuple(sorted(types, key=lambda t: (t.price if t.price is not None else float("inf"), t.cpu, t.memory, t.name)))

    def _places(self, names: Sequence[str]) -> dict[str, frozenset[str]]:
        filters = [{"Name": "instance-type", "Values": list(names)}]
        found = self._aws.pages(
            "ec2", "describe_instance_type_offerings", "InstanceTypeOfferings",
            LocationType="availability-zone", Filters=filters, MaxResults=1000,
        )  # fmt: skip
        places: dict[str, set[str]] = {}
        for entry in found:
            places.setdefault(entry["InstanceType"], set()).add(entry["Location"])
        return {name: frozenset(zones) for name, zones in places.items()}


def price(name: str) -> float | None:
    """USD per hour, on demand."""
    family, _, size = name.partition(".")
    base, factor = PRICES["families"].get(family), PRICES["sizes"].get(size)
    return None if base is None or factor is None else round(base * factor, 5)


def _type(entry: dict[str, Any]) -> MachineType:
    archs = [ARCHS[a] for a in entry.get("ProcessorInfo", {}).get("SupportedArchitectures", ()) if a in ARCHS]
    return MachineType(
        name=entry["InstanceType"],
        cpu=float(entry["VCpuInfo"]["DefaultVCpus"]),
        memory=entry["MemoryInfo"]["SizeInMiB"] * MiB,
        arch=archs[0] if archs else "",
        max_volumes=_max_volumes(entry),
        price=price(entry["InstanceType"]),
    )


def _max_volumes(entry: dict[str, Any]) -> int:
    """The root disk takes one. Where all attachments share their slots, one interface and the instance stores go as well."""
    ebs = entry.get("EbsInfo", {})
    told = ebs.get("MaximumEbsAttachments")
    if told and ebs.get("AttachmentLimitType") == "dedicated":
        return int(told) - 1
    stores = sum(disk.get("Count", 0) for disk in entry.get("InstanceStorageInfo", {}).get("Disks", ()))
    return max(1, int(told or SLOTS) - 2 - int(stores))
