"""The contract tests pass on suppliers that keep the contract, with every hook offered: not one of them is skipped."""

from __future__ import annotations

from pathlib import Path

from kubeup_core.plugins import load_file
from kubeup_core.testing import LoadBalancerContract, MachineContract, NetworkContract, Rig, VolumeContract

reference = load_file(Path(__file__).with_name("reference.py"))


class TestMachines(MachineContract):
    def supply(self) -> Rig:
        return reference.rig_of(Rig)


class TestNetworks(NetworkContract):
    def supply(self) -> Rig:
        return reference.rig_of(Rig)


class TestLoadBalancers(LoadBalancerContract):
    def supply(self) -> Rig:
        return reference.rig_of(Rig)


class TestVolumes(VolumeContract):
    def supply(self) -> Rig:
        return reference.rig_of(Rig)
