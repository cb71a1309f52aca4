"""What the contract tests say again and again: skips, well-formed results, marks that do not fit, phases in order."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import NoReturn, TypeVar

import pytest

from ...errors import SupplierError
from ...supplier import Phase, Ref, Result

T = TypeVar("T")

ALIVE = frozenset({Phase.PARTIAL, Phase.PENDING, Phase.RUNNING, Phase.STOPPED, Phase.UNKNOWN})
_RANK = {
    Phase.PARTIAL: 0,
    Phase.PENDING: 1,
    Phase.RUNNING: 2,
    Phase.STOPPED: 2,
    Phase.FAILED: 3,
    Phase.DELETING: 4,
    Phase.GONE: 5,
}


def not_offered(what: str) -> NoReturn:
    pytest.skip(f"not offered: {what}")


def offered(hook: T | None, what: str) -> T:
    """The hook of the rig, or a skip that says what is missing."""
    if hook is None:
        not_offered(what)
    return hook


def unmarked(ref: Ref) -> Ref:
    """The same id under a mark that it does not carry, of the same installation and cluster."""
    return Ref(id=ref.id, mark=replace(ref.mark, maker=str(uuid.uuid4())))


def well_formed(results: object, count: int, name: str) -> None:
    """A sequence of Results, one per input, with our errors only."""
    assert isinstance(results, list | tuple), f"{name} returns {type(results).__name__}, not a sequence of Result"
    assert all(isinstance(result, Result) for result in results), f"{name} returns {results}"
    assert len(results) == count, f"{name} returns {len(results)} results for {count} inputs"
    wrong = [r.error for r in results if r.error is not None and not isinstance(r.error, SupplierError)]
    assert not wrong, f"{name} puts {wrong} into results, which are not errors of kubeup_core"


class Lives:
    """Watches that no phase goes backwards."""

    def __init__(self) -> None:
        self._last: dict[str, Phase] = {}

    def see(self, id: str, phase: Phase) -> None:
        before = self._last.get(id)
        if phase == Phase.UNKNOWN:
            return
        assert before is None or _RANK[phase] >= _RANK[before], f"{id} went from {before} back to {phase}"
        self._last[id] = phase
