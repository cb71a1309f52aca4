"""The contract tests on the emulator: a project for each, operations that take three seconds of its clock."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from kubeup_core import Context, Launch, Ref, Suppliers
from kubeup_core.testing import LoadBalancerContract, MachineContract, NetworkContract, Rig, VolumeContract
from kubeup_emulators.gce import Emulator, World, traffic
from kubeup_gce import GceConfig, build, marks

GiB = 1024**3
CHANGING = ("*.insert", "*.bulkInsert", "*.delete", "*.patch", "*.attach*", "*.detach*", "*.setLabels", "*.resize", "*.reset")


class Project:
    """One project, and what the rig does to it."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator, self.world = emulator, emulator.world()
        self.world.page = 3
        self.world.most_disks = 4

    def rig(self, step: float) -> Rig:
        """step: seconds that pass between two looks. What is made of many parts is looked at less often."""
        return Rig(
            build=lambda context: build(self.config(self.world), context),
            advance=lambda: self.world.advance(step),
            patience=120,
            settle_steps=int(36 / step),
            volume_size=10 * GiB,
            everything=self.everything,
            requests=lambda: len(self.world.calls),
            elsewhere=self.elsewhere,
            page=3,
            broken_page=self.broken_page,
            unreachable=self.unreachable,
            stale=self.stale,
            no_capacity=self.no_capacity,
            late_refusal=lambda: self.world.having("instances.bulkInsert", late=("ZONE_RESOURCE_POOL_EXHAUSTED", "sold out")),
            rollback=self.rollback,
            lost_reply=lambda: self.lost("reply"),
            lost_request=lambda: self.lost("request"),
            squat=self.squat,
            existing_network=self.existing_network,
            traffic=self.traffic,
        )

    def config(self, world: World) -> GceConfig:
        return GceConfig(project=world.project, region="us-central1", endpoint=self.emulator.url)

    def everything(self) -> Collection[str]:
        """As the suppliers' ids: zone/name of machines and disks, names of all else."""
        found = []
        for path in self.world.everything():
            parts = path.split("/")
            short = f"{parts[1]}/{parts[-1]}" if parts[-2] in ("instances", "disks") else parts[-1]
            found.append(short)
        return found

    def elsewhere(self, context: Context) -> Suppliers:
        return build(self.config(self.emulator.world()), context)

    @contextmanager
    def broken_page(self) -> Iterator[None]:
        fault = self.world.plant("*.aggregatedList", error=(503, "backendError", "the second page did not come"), times=None)
        fault.after = 1
        try:
            yield
        finally:
            self.world.faults.remove(fault)

    @contextmanager
    def unreachable(self, place: str) -> Iterator[None]:
        self.world.cut = {place or "*"}
        try:
            yield
        finally:
            self.world.cut = set()

    @contextmanager
    def stale(self) -> Iterator[None]:
        self.world.lag = True
        try:
            yield
        finally:
            self.world.lag = False

    @contextmanager
    def no_capacity(self, room: int) -> Iterator[None]:
        self.world.refuse_at_once, self.world.room = True, {f"us-central1-{letter}": room for letter in "abc"}
        try:
            yield
        finally:
            self.world.refuse_at_once, self.world.room = False, {}

    @contextmanager
    def rollback(self) -> Iterator[None]:
        self.world.rolls_back = True
        try:
            yield
        finally:
            self.world.rolls_back = False

    @contextmanager
    def lost(self, what: str) -> Iterator[None]:
        with ExitStack() as faults:
            for methods in CHANGING:
                faults.enter_context(self.world.having(methods, lost=what))
            yield

    def squat(self, launch: Launch) -> None:
        name = marks.machine_name(launch.members[0].name, launch.member_mark(0))
        card = {"networkIP": "10.0.0.9"}
        body: dict[str, Any] = {"name": name, "kind": "compute#instance", "networkInterfaces": [card], "disks": []}
        self.world.add(f"zones/{launch.offer.place}", "instances", body)

    def existing_network(self) -> tuple[dict[str, object], str]:
        network = self.world.add("global", "networks", {"name": "theirs", "kind": "compute#network"}, lasts=0)
        body = {
            "name": "theirs",
            "network": f"projects/{self.world.project}/global/networks/theirs",
            "ipCidrRange": "10.7.0.0/16",
        }
        self.world.add("regions/us-central1", "subnetworks", {**body, "kind": "compute#subnetwork"}, lasts=0)
        return {"network": "theirs"}, network.name

    def traffic(self, ref: Ref) -> Collection[str]:
        return traffic(self.world, f"regions/us-central1/backendServices/{ref.id}")


class _OnTheEmulator:
    @pytest.fixture(autouse=True)
    def _with(self, emulator: Emulator) -> None:
        self.emulator = emulator

    step = 3.0

    def supply(self) -> Rig:
        return Project(self.emulator).rig(self.step)


class TestMachines(_OnTheEmulator, MachineContract):
    step = 1.0


class TestNetworks(_OnTheEmulator, NetworkContract):
    pass


class TestLoadBalancers(_OnTheEmulator, LoadBalancerContract):
    pass


class TestVolumes(_OnTheEmulator, VolumeContract):
    pass
