"""The contract tests on simulated accounts: machines on demand, machines in steps, and hosts of an inventory."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from kubeup_core.runtime.clock import FakeClock
from kubeup_core.supplier import Context, Launch, Ref, Suppliers
from kubeup_core.testing import LoadBalancerContract, MachineContract, NetworkContract, Rig, VolumeContract
from kubeup_sim import Cloud, SimConfig, build, open_cloud
from kubeup_sim.cloud import ConnectionLost
from kubeup_sim.marks import full_name

NUMBERS = itertools.count()
CHANGING = ("launch", "start", "create", "update", "setMembers", "delete", "attach", "detach", "reboot")


class Account:
    """One simulated account with a clock of its own, and what the rig does to it."""

    def __init__(self, **config: object) -> None:
        self.clock = FakeClock()
        self.name = f"contract-{next(NUMBERS)}"
        self.cloud = Cloud(clock=self.clock, name=self.name)
        self.config = SimConfig.model_validate({"file": f"memory:{self.name}", "pageSize": 2, **config})

    def rig(self) -> Rig:
        return Rig(
            build=lambda context: build(self.config, context),
            advance=lambda: self.clock.advance(1.0),
            patience=120,
            close=self.cloud.close,
            everything=self.everything,
            requests=lambda: self.cloud.requests.total(),
            elsewhere=self.elsewhere,
            page=2,
            broken_page=self.broken_page,
            unreachable=self.unreachable,
            stale=lambda: self.having("staleList", "list"),
            no_capacity=self.no_capacity,
            late_refusal=lambda: self.having("lateRefusal", "launch"),
            rollback=lambda: self.having("rollback", "launch"),
            lost_reply=lambda: self.having("lostReply", *CHANGING),
            lost_request=lambda: self.having("lostRequest", *CHANGING),
            die=lambda ref: self.cloud.console.kill(ref.id),
            squat=self.squat,
            existing_network=self.existing_network,
            traffic=self.traffic,
        )

    def everything(self) -> Collection[str]:
        return [line.id for line in self.cloud.console.everything()]

    def elsewhere(self, context: Context) -> Suppliers:
        return build(self.config.model_copy(update={"account": "another"}), context)

    @contextmanager
    def having(self, fault: str, *operations: str) -> Iterator[None]:
        for operation in operations:
            self.cloud.faults.add(fault, operation=operation, times=None)
        try:
            yield
        finally:
            self.cloud.faults.clear()

    @contextmanager
    def broken_page(self) -> Iterator[None]:
        pages = itertools.count()

        def strike(point: str) -> None:
            if point == "before Machine.list" and next(pages) > 0:
                raise ConnectionLost("the second page did not come")

        self.cloud.strike = strike
        try:
            yield
        finally:
            self.cloud.strike = None

    @contextmanager
    def unreachable(self, place: str) -> Iterator[None]:
        self.cloud.console.cut(place or "*")
        try:
            yield
        finally:
            self.cloud.console.restore(place or "*")

    @contextmanager
    def no_capacity(self, room: int) -> Iterator[None]:
        self.cloud.configure({"capacity": [{"machines": len(self.cloud.console.machines()) + room}]})
        try:
            yield
        finally:
            self.cloud.configure({"capacity": []})

    def squat(self, launch: Launch) -> None:
        member = launch.members[0]
        self.cloud.console.add(full_name(member.name, launch.mark), place=member.slot)

    def existing_network(self) -> tuple[dict[str, object], str]:
        network = self.cloud.networking.create("somebody-else", "", {})
        return {"network": network.id}, network.id

    def traffic(self, ref: Ref) -> Collection[str]:
        view = self.cloud.balancing.get(ref.id)
        return [key for key, health in view.health.items() if health == "healthy"] if view else []


class TestMachines(MachineContract):
    def supply(self) -> Rig:
        return Account().rig()


class TestMachinesInSteps(MachineContract):
    def supply(self) -> Rig:
        return Account(create="steps").rig()


class TestMachinesThatSettleLate(MachineContract):
    def supply(self) -> Rig:
        rig = Account(settle=20, bootSeconds=[5, 60]).rig()
        rig.settle_steps = 25
        return rig


class TestHosts(MachineContract):
    def supply(self) -> Rig:
        return Account(hosts=[f"h{number}" for number in range(200)]).rig()


class TestNetworks(NetworkContract):
    def supply(self) -> Rig:
        return Account().rig()


class TestLoadBalancers(LoadBalancerContract):
    def supply(self) -> Rig:
        return Account(lingerSeconds=5).rig()


class TestVolumes(VolumeContract):
    def supply(self) -> Rig:
        return Account().rig()


class TestVolumesAtLaunch(VolumeContract):
    def supply(self) -> Rig:
        return Account(attach="launch").rig()


class TestVolumesOfHosts(VolumeContract):
    def supply(self) -> Rig:
        return Account(hosts=[f"h{number}" for number in range(200)]).rig()


def test_an_account_is_found_by_the_name_of_its_memory() -> None:
    account = Account()
    assert open_cloud(f"memory:{account.name}") is account.cloud
    account.cloud.close()
