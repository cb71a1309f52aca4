"""Ways to get a machine: zones, machine types with what they have, images of families, and the offers made from them.

Used by machines.py. What is read is kept for an hour: it changes when Google opens a zone or releases an image.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from math import ceil
from typing import TypeVar

from kubeup_core import Context, InvalidSpec, NotFound, Offer, Problem, SupplierError, Template

from . import config, prices
from .client import Compute, Record

T = TypeVar("T")
MiB, GiB = 1024**2, 1024**3
KEPT = 3600.0
PER_ZONE = 3
"""Offers of each zone: the cheapest ones, so that one type that is sold out is not the end."""
TYPES = ("e2-*", "n2-*", "n2d-*", "t2d-*", "t2a-*")
SHARED = {"e2-micro": 0.25, "e2-small": 0.5, "e2-medium": 1.0}
"""Cores that a shared one lasts for; the API says 2 of each."""
ARCHITECTURES = {"X86_64": "amd64", "ARM64": "arm64"}

FAMILIES: Mapping[str, Mapping[str, str]] = {
    "debian-12": {"amd64": "debian-cloud/debian-12", "arm64": "debian-cloud/debian-12-arm64"},
    "ubuntu-22.04": {"amd64": "ubuntu-os-cloud/ubuntu-2204-lts", "arm64": "ubuntu-os-cloud/ubuntu-2204-lts-arm64"},
    "ubuntu-24.04": {"amd64": "ubuntu-os-cloud/ubuntu-2404-lts-amd64", "arm64": "ubuntu-os-cloud/ubuntu-2404-lts-arm64"},
}
"""Family -> project and family at Google, which tells a family's newest image."""


@dataclass(frozen=True)
class MachineType:
    name: str
    cores: float
    memory: int  # bytes
    arch: str
    disks: int  # persistent ones, that of the system included

    @property
    def price(self) -> float | None:
        return prices.estimate(self.name, self.cores, self.memory)


class Catalog:
    def __init__(self, compute: Compute, context: Context, zones: Sequence[str]) -> None:
        self._compute, self._context = compute, context
        self.zones = tuple(zone for zone in zones if not context.zones or zone in context.zones)
        self._kept: dict[str, tuple[float, object]] = {}
        self._lock = threading.Lock()

    def check(self, want: Template) -> list[Problem]:
        found = config.overrides(want.overrides)
        if isinstance(found, list):
            return found
        if not self.zones:
            names = ", ".join(self._context.zones)
            return [
                Problem(
                    path="spec.zones", message=f"{self._compute.region} has no zone of {names}", remedy="correct spec.zones"
                )
            ]
        if found.image is None and want.image not in self._context.images and want.image not in FAMILIES:
            known = ", ".join(sorted(FAMILIES))
            return [
                Problem(
                    path="spec.machine.image",
                    message=f"no image is known for the family {want.image}",
                    remedy=f"use one of {known}, or name an image in spec.images of the Provider or in overrides.gce.image",
                )
            ]
        return []

    def offers(self, want: Template) -> list[Offer]:
        """Cheapest first, and where spot is wanted, all of these before the same on demand, to fall back on. A zone that does not
        answer has none; raises when that is all of them."""
        problems = self.check(want)
        if problems:
            raise InvalidSpec(problems[0].message, path=problems[0].path, remedy=problems[0].remedy)
        chosen = config.required(want.overrides)
        found: list[tuple[float, Offer]] = []
        failed: SupplierError | None = None
        for zone in self.zones:
            try:
                types = self._types(zone)
            except SupplierError as error:
                failed = error
                continue
            fitting = sorted(self._fitting(types, want, chosen.machine_type), key=_rank)[:PER_ZONE]
            found += [(_rank(one), self._offer(zone, one, want, chosen)) for one in fitting]
        if failed is not None and not found:
            raise failed
        there = [offer for _, offer in sorted(found, key=lambda pair: (pair[0], pair[1].place))]
        return [*(replace(offer, spot=True, price_per_hour=None) for offer in there if want.spot), *there]

    def _fitting(self, types: Sequence[MachineType], want: Template, named: str | None) -> list[MachineType]:
        if named is not None:
            known = [one for one in types if one.name == named] or [one for one in (_custom(named),) if one]
            return [one for one in known if want.arch in ("", one.arch)]
        globs = self._context.machine_types or TYPES
        fits = [one for one in types if one.cores >= want.cpu and one.memory >= want.memory and want.arch in ("", one.arch)]
        fits = [one for one in fits if any(fnmatch(one.name, glob) for glob in globs)]
        own = _tailored(want)
        if own is not None and any(fnmatch(own.name, glob) for glob in globs) and want.arch in ("", own.arch):
            fits.append(own)
        return fits

    def _offer(self, zone: str, one: MachineType, want: Template, chosen: config.GceOverrides) -> Offer:
        return Offer(
            place=zone,
            machine_type=one.name,
            arch=one.arch,
            spot=False,
            cpu=one.cores,
            memory=one.memory,
            image=self._image(chosen.image or self._context.images.get(want.image), want.image, one.arch),
            price_per_hour=one.price if prices.shown(self._compute.region) else None,
            reach=frozenset({zone}),
            max_volumes=one.disks - 1,
        )

    def _image(self, named: str | None, family: str, arch: str) -> str:
        """`projects/P/global/images/I`, the newest of a family at this moment."""
        if named is None:
            project, _, name = FAMILIES[family][arch].partition("/")
        elif found := re.fullmatch(r"projects/([^/]+)/global/images/family/([^/]+)", named):
            project, name = found[1], found[2]
        else:
            return named if named.startswith("projects/") else f"projects/{self._compute.project}/global/images/{named}"
        return self._remembered(f"image {project}/{name}", lambda: self._newest(project, name))

    def _newest(self, project: str, family: str) -> str:
        try:
            found = self._compute.ask("Images", "get_from_family", project=project, family=family)
        except NotFound as error:
            raise InvalidSpec(f"there is no image family {family} in {project}", path="spec.machine.image") from error
        return f"projects/{project}/global/images/{found['name']}"

    def _types(self, zone: str) -> Sequence[MachineType]:
        return self._remembered(f"types {zone}", lambda: [_type(r) for r in self._compute.all("MachineTypes", zone=zone)])

    def _remembered(self, key: str, read: Callable[[], T]) -> T:
        with self._lock:
            known = self._kept.get(key)
        if known is None or time.monotonic() - known[0] > KEPT:
            known = (time.monotonic(), read())
            with self._lock:
                self._kept[key] = known
        return known[1]  # type: ignore[return-value]


def _type(record: Record) -> MachineType:
    name = str(record["name"])
    return MachineType(
        name=name,
        cores=SHARED.get(name, float(record.get("guest_cpus", 0))),
        memory=int(record.get("memory_mb", 0)) * MiB,
        arch=ARCHITECTURES.get(str(record.get("architecture", "X86_64")), "amd64"),
        disks=int(record.get("maximum_persistent_disks", 16)),
    )


def _tailored(want: Template) -> MachineType | None:
    """An E2 of just that size: an even number of cores up to 32, 0.5 to 8 GiB for each, in steps of 256 MiB."""
    cores = max(2, ceil(want.cpu / 2) * 2)
    memory = max(ceil(want.memory / (256 * MiB)) * 256, cores * 512)
    cores = max(cores, ceil(memory / 8192 / 2) * 2)
    memory = max(memory, cores * 512)
    return _custom(f"e2-custom-{cores}-{memory}") if cores <= 32 and memory <= 128 * 1024 else None


def _custom(name: str) -> MachineType | None:
    """cores and MiB stand in the name of a custom type."""
    found = re.fullmatch(r"(?:\w+-)?custom-(\d+)-(\d+)(?:-ext)?", name)
    if found is None:
        return None
    return MachineType(name=name, cores=float(found[1]), memory=int(found[2]) * MiB, arch="amd64", disks=128)


def _rank(one: MachineType) -> float:
    """For comparing: the estimate, or for families without one, what their size would cost as N2."""
    return one.price or prices.estimate("n2-unknown", one.cores, one.memory) or 0.0
