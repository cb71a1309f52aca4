"""Concrete ways to get a machine: the cheapest types that are large enough, in each zone that has them. Called by `machines.py`.

Where spot is wanted, spot offers come first and on-demand ones after them, to fall back on. A spot price is not asked for, as it moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kubeup_core import InvalidSpec, Offer, Problem, Template

from .catalog import DEFAULT_TYPES, Catalog, MachineType
from .config import PATH, overrides, problems
from .images import Images, unknown

MOST = 6
"""Types that are offered: what is much larger than wanted helps nobody."""


def faults(want: Template, images: Images) -> list[Problem]:
    """What is wrong with a template. No request."""
    if wrong := problems(want.overrides):
        return wrong
    if overrides(want.overrides).ami is None and not images.known(want.image):
        error = unknown(want.image)
        return [Problem(path=error.path, message=error.message, remedy=error.remedy)]
    return []


def offers(want: Template, catalog: Catalog, images: Images, globs: Sequence[str]) -> list[Offer]:
    over = overrides(want.overrides)
    names = (over.machine_type,) if over.machine_type else tuple(globs) or DEFAULT_TYPES
    found = catalog.types(names)
    if over.machine_type and not found:
        raise InvalidSpec(
            f"there is no instance type {over.machine_type} here", path=f"{PATH}.machineType", remedy="correct it"
        )
    archs = ({want.arch} if want.arch else {"amd64", "arm64"}) & (images.archs(want.image) or {"amd64", "arm64"})
    if not want.arch and not over.machine_type:
        archs &= {"amd64"}  # software that nobody checked for arm64 is not put there because it is cheaper
    fit = [t for t in found if t.arch in archs and (over.machine_type or (t.cpu >= want.cpu and t.memory >= want.memory))][
        :MOST
    ]
    if not fit:
        return []
    places, zones = catalog.places(names), catalog.zones()
    there = [
        _offer(machine, zone, over.ami or images.id(want.image, machine.arch))
        for machine in fit
        for zone in zones
        if zone in places.get(machine.name, ())
    ]
    spot = want.spot if over.spot is None else over.spot
    return [*(replace(offer, spot=True, price_per_hour=None) for offer in there if spot), *there]


def _offer(machine: MachineType, zone: str, image: str) -> Offer:
    return Offer(
        place=zone,
        machine_type=machine.name,
        arch=machine.arch,
        spot=False,
        cpu=machine.cpu,
        memory=machine.memory,
        image=image,
        price_per_hour=machine.price,
        reach=frozenset({zone}),
        max_volumes=machine.max_volumes,
    )
