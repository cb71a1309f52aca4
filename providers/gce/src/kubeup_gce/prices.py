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


def shown(region: str) -> bool:
    """Whether prices of this region are known. Elsewhere they are of use for comparing only."""
    return bool(region == table()["region"])
