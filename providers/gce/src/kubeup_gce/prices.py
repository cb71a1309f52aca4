"""Estimated prices out of `prices.json`: for ordering offers everywhere, to be shown only in the region that they are of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any


@cache
def table() -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads((Path(__file__).parent / "prices.json").read_text())
    return found


def estimate(machine_type: str, cores: float, memory: int) -> float | None:
    """USD per hour on demand; None for a family that the table does not have. memory: bytes."""
    known = table()
    if machine_type in known["types"]:
        return float(known["types"][machine_type])
    family = machine_type.partition("-")[0]
    rates = known["custom" if "-custom-" in machine_type else "families"].get(family)
    return None if rates is None else round(cores * rates["core"] + memory / 1024**3 * rates["GiB"], 5)


_GIB_PER_CORE = {"standard": 4.0, "highmem": 8.0, "highcpu": 1.0}
_GIB_PER_CORE_N1 = {"standard": 3.75, "highmem": 6.5, "highcpu": 0.9}


def by_name(machine_type: str) -> float | None:
    """An estimate for a machine whose type is known by its name only, as in n2-standard-4 or e2-custom-4-8192."""
    family, _, rest = machine_type.partition("-")
    shape, _, size = rest.partition("-")
    numbers = [float(part) for part in size.split("-") if part.isdigit()]
    if shape == "custom" and len(numbers) == 2:
        return estimate(machine_type, numbers[0], int(numbers[1]) * 1024**2)
    per_core = (_GIB_PER_CORE_N1 if family == "n1" else _GIB_PER_CORE).get(shape)
    if per_core is not None and len(numbers) == 1:
        return estimate(machine_type, numbers[0], int(numbers[0] * per_core * 1024**3))
    return estimate(machine_type, 0, 0) if machine_type in table()["types"] else None


def shown(region: str) -> bool:
    """Whether prices of this region are known. Elsewhere they are of use for comparing only."""
    return bool(region == table()["region"])
