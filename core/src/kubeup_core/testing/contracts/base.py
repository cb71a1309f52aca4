"""The common base of the contract classes: one fresh rig, and so one fresh place, for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .bench import Bench
from .rig import Rig


class Contract:
    """Subclass one of its children, name it Test..., and write `supply`."""

    def supply(self) -> Rig:
        """A fresh place. Called once for each test."""
        raise NotImplementedError("write supply(self) -> Rig")

    @pytest.fixture
    def bench(self) -> Iterator[Bench]:
        bench = Bench(self.supply())
        try:
            yield bench
        finally:
            bench.close()
