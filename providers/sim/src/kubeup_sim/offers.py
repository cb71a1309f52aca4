"""What the simulated cloud offers for a wish: machine types in zones, or the free hosts of an inventory. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from kubeup_core.supplier import Context, Offer, Problem, Template
from pydantic import ValidationError

from .cloud import Settings, catalog
from .cloud.catalog import MachineType
from .config import SimOverrides

OVERRIDES = "spec.overrides.sim"
HOST_TYPE = "host"
"""The machine type of every host of an inventory."""


def problems(want: Template, settings: Settings, context: Context) -> Sequence[Problem]:
    """Why there would be no offer, each with the field and what to write there."""
    overrides = _overrides(want.overrides)
    if not isinstance(overrides, SimOverrides):
        return overrides
    found = []
    if _image(want, overrides, context) is None:
        found.append(
            Problem(
                path="spec.machine.image",
                message=f"there is no image for {want.image!r}",
                remedy=f"use one of {', '.join(catalog.IMAGES)}, or set spec.images in the Provider",
            )
        )
    if settings.hosts:
        return found
    if overrides.machine_type is not None and overrides.machine_type not in catalog.TYPES:
        found.append(
            Problem(
                path=f"{OVERRIDES}.machineType",
                message=f"there is no machine type {overrides.machine_type!r}",
                remedy=f"use one of {', '.join(catalog.TYPES)}",
            )
        )
    elif not _types(want, overrides, context):
        found.append(
            Problem(
                path=f"{OVERRIDES}.machineType" if overrides.machine_type else "spec.machine",
                message=f"no machine type has {want.cpu:g} cpu, {want.memory / catalog.GIB:g}Gi memory and arch {want.arch or 'any'}",
                remedy="ask for less, or allow more types in spec.machineTypes of the Provider",
            )
        )
    return found


def price(machine_type: str, *, spot: bool) -> float | None:
    """Per hour; None for a host of an inventory."""
    kind = catalog.TYPES.get(machine_type)
    return None if kind is None else round(kind.price * (catalog.SPOT if spot else 1), 5)


def on_demand(want: Template, zones: Sequence[str], context: Context) -> Sequence[Offer]:
    """Cheapest first; zones take turns at an equal price."""
    overrides = _overrides(want.overrides)
    image = _image(want, overrides, context) if isinstance(overrides, SimOverrides) else None
    if not isinstance(overrides, SimOverrides) or image is None:
        return ()
    return tuple(
        Offer(
            place=zone,
            machine_type=kind.name,
            arch=kind.arch,
            spot=want.spot,
            cpu=kind.cpu,
            memory=kind.memory,
            image=image,
            price_per_hour=price(kind.name, spot=want.spot),
            reach=frozenset({zone}),
            max_volumes=kind.max_volumes,
        )
        for kind in _types(want, overrides, context)
        for zone in zones
        if not context.zones or zone in context.zones
    )


def inventory(want: Template, region: str, free: Sequence[str], context: Context) -> Sequence[Offer]:
    """One offer with the free hosts as slots; nothing is known of their size, so each is taken to be as large as wanted."""
    overrides = _overrides(want.overrides)
    image = _image(want, overrides, context) if isinstance(overrides, SimOverrides) else None
    if image is None:
        return ()
    return (
        Offer(
            place=region,
            machine_type=HOST_TYPE,
            arch=want.arch or "amd64",
            spot=False,
            cpu=want.cpu,
            memory=want.memory,
            image=image,
            slots=tuple(free),
            reach=frozenset({region}),
        ),
    )


def _overrides(values: Mapping[str, object]) -> SimOverrides | Sequence[Problem]:
    try:
        return SimOverrides.model_validate(dict(values))
    except ValidationError as error:
        known = ", ".join(sorted(field.alias or name for name, field in SimOverrides.model_fields.items()))
        return tuple(
            Problem(
                path=".".join([OVERRIDES, *(str(part) for part in detail["loc"])]),
                message=detail["msg"],
                remedy=f"known fields: {known}",
            )
            for detail in error.errors(include_url=False, include_input=False, include_context=False)
        )


def _types(want: Template, overrides: SimOverrides, context: Context) -> list[MachineType]:
    allowed = context.machine_types
    return [
        kind
        for kind in catalog.fitting(want.cpu, want.memory, want.arch)
        if overrides.machine_type in (None, kind.name)
        and (not allowed or any(fnmatchcase(kind.name, pattern) for pattern in allowed))
    ]


def _image(want: Template, overrides: SimOverrides, context: Context) -> str | None:
    return overrides.image or context.images.get(want.image) or catalog.IMAGES.get(want.image)
