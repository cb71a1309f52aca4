"""What the simulated cloud sells: zones, machine types with prices, images. Fixed data, and how a wish is matched with it."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 1024**3
ZONES = "abc"
SPOT = 0.3
"""The price of spot, as a share of the price on demand."""


@dataclass(frozen=True, kw_only=True)
class MachineType:
    """memory: bytes; price: per hour, on demand; max_volumes: data volumes that can be attached."""

    name: str
    cpu: float
    memory: int
    arch: str
    price: float
    max_volumes: int


def _types() -> tuple[MachineType, ...]:
    sizes: list[tuple[str, int, int]] = [
        ("g1", 1, 1),
        ("g1m", 1, 2),
        ("g2", 2, 4),
        ("g2m", 2, 8),
        ("g4", 4, 8),
        ("g4m", 4, 16),
        ("g8", 8, 16),
    ]
    sizes += [("g8m", 8, 32), ("g16", 16, 32), ("g16m", 16, 64), ("g32m", 32, 128)]
    return tuple(
        MachineType(
            name=f"{name}{suffix}",
            cpu=cpu,
            memory=gib * GIB,
            arch=arch,
            price=round(0.012 * cpu + 0.004 * gib, 4),
            max_volumes=4 if cpu <= 2 else 16,
        )
        for arch, suffix in (("amd64", ""), ("arm64", "-arm"))
        for name, cpu, gib in sizes
    )


TYPES = {kind.name: kind for kind in _types()}
IMAGES = {family: f"sim-{family}" for family in ("debian-12", "debian-13", "ubuntu-22.04", "ubuntu-24.04")}


def zones(region: str) -> tuple[str, ...]:
    return tuple(f"{region}{letter}" for letter in ZONES)


def fitting(cpu: float, memory: int, arch: str) -> list[MachineType]:
    """Types that are at least so large, cheapest first; arch "" is any."""
    found = [t for t in TYPES.values() if t.cpu >= cpu and t.memory >= memory and arch in ("", t.arch)]
    return sorted(found, key=lambda t: (t.price, t.arch, t.name))
