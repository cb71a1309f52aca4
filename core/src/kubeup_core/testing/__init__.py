"""What a plugin's own tests import: the contract tests that every supplier must pass, and the rig they run on.

    class TestMachines(MachineContract):
        def supply(self) -> Rig:
            return Rig(build=lambda context: build(ToyConfig(url=...), context))

Looked up when first used, so that other test helpers beside the contracts can be had without pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .contracts.load_balancers import LoadBalancerContract
    from .contracts.machines import MachineContract
    from .contracts.networks import NetworkContract
    from .contracts.rig import Rig
    from .contracts.volumes import VolumeContract

__all__ = ["LoadBalancerContract", "MachineContract", "NetworkContract", "Rig", "VolumeContract"]

_WHERE = {
    "LoadBalancerContract": ".contracts.load_balancers",
    "MachineContract": ".contracts.machines",
    "NetworkContract": ".contracts.networks",
    "Rig": ".contracts.rig",
    "VolumeContract": ".contracts.volumes",
}


def __getattr__(name: str) -> object:
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(_WHERE[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
