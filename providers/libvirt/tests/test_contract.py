"""The contract tests of the core, against a real libvirtd with qemu under emulation. No guest boots: none is needed.

What is lost, or finds no room, is lost on the wire (conftest.py), in front of the real thing; the real faults are in test_faults.py,
which kills libvirtd and fills a pool. Not offered here: pages and zones (a libvirt answers whole or not at all), and dead machines that
are still shown (libvirt forgets what was undefined).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kubeup_core import Context, Launch, Template
from kubeup_core.testing import MachineContract, NetworkContract, Rig, VolumeContract
from kubeup_libvirt import LibvirtConfig, build
from kubeup_libvirt.marks import name_of


class Contract:
    @pytest.fixture(autouse=True)
    def _at_libvirt(self, hypervisor, clean, wire, request: pytest.FixtureRequest) -> None:
        self.hypervisor = hypervisor
        self.wire = wire
        self.clean = clean
        # These launch anew for each request of a launch: one machine shows every place to be interrupted at
        self.members = 1 if any(word in request.node.name for word in ("killed", "spent")) else 2

    def supply(self) -> Rig:
        import libvirt

        daemon = self.hypervisor
        connection = libvirt.open(daemon.uri)
        broken = [False]

        def suppliers(context: Context):
            def charge(bucket: str, cost: float) -> None:
                context.charge(bucket, cost)
                if broken[0]:
                    from kubeup_core import NotReady

                    raise NotReady("the wire is cut")

            images = {"debian-12": "default/empty.qcow2"}
            own = Context(installation=context.installation, charge=charge, images=images)
            return build(LibvirtConfig(uri=daemon.uri), own)

        def everything() -> set[str]:
            pool = connection.storagePoolLookupByName("default")
            return {
                *(d.UUIDString() for d in connection.listAllDomains()),
                *(n.UUIDString() for n in connection.listAllNetworks()),
                *(v for v in pool.listVolumes() if v != "empty.qcow2"),
            }

        def squat(launch: Launch) -> None:
            named = name_of(launch.members[0].name, launch.member_mark(0))
            connection.defineXML(
                f"<domain type='qemu'><name>{named}</name><memory>65536</memory><os><type arch='x86_64'>hvm</type></os></domain>"
            )

        def existing_network() -> tuple[dict[str, object], str]:
            xml = f"<network><name>theirs-{uuid.uuid4().hex[:8]}</name><ip address='10.213.7.1' prefix='24'/></network>"
            network = connection.networkDefineXML(xml)
            network.create()
            return {"network": network.name()}, network.UUIDString()

        @contextmanager
        def unreachable(place: str) -> Iterator[None]:
            broken[0] = True
            try:
                yield
            finally:
                broken[0] = False

        @contextmanager
        def losing(what: str) -> Iterator[None]:
            self.wire.lose = what
            try:
                yield
            finally:
                self.wire.lose = ""

        @contextmanager
        def no_capacity(room: int) -> Iterator[None]:
            self.wire.room = room
            try:
                yield
            finally:
                self.wire.room = None

        def close() -> None:
            connection.close()
            self.clean()

        return Rig(
            build=suppliers,
            template=Template(cpu=1, memory=2**26, disk=2**24, arch="", image="debian-12"),
            advance=lambda: time.sleep(0.05),
            patience=1200,
            longest_call=120.0,
            members=self.members,
            volume_size=2**24,
            network=None if isinstance(self, NetworkContract) else {},
            everything=everything,
            unreachable=unreachable,
            requests=lambda: self.wire.requests,
            no_capacity=no_capacity,
            lost_reply=lambda: losing("reply"),
            lost_request=lambda: losing("request"),
            squat=squat,
            existing_network=existing_network,
            close=close,
        )


class TestMachines(Contract, MachineContract):
    pass


class TestNetworks(Contract, NetworkContract):
    pass


class TestVolumes(Contract, VolumeContract):
    pass
