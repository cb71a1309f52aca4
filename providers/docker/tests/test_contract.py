"""The contract tests of the core, against a real engine.

Not offered here: pages and zones (an engine answers whole or not at all) and dead machines that are still shown (an engine
forgets what was removed; an exited container can be started again, so it is STOPPED).
"""

from __future__ import annotations

import time
import uuid
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from kubeup_artifacts.wire import Wire
from kubeup_core import Context, Launch, Template
from kubeup_core.testing import MachineContract, NetworkContract, Rig, VolumeContract
from kubeup_docker import DockerConfig, build
from kubeup_docker.marks import name

pytestmark = pytest.mark.docker


class Contract:
    @pytest.fixture(autouse=True)
    def _on_the_engine(self, docker_engine, pretender: str, tmp_path: Path) -> None:
        self.engine = docker_engine
        self.image = pretender
        self.folder = tmp_path

    def supply(self) -> Rig:
        engine = self.engine
        wire = Wire(self.folder / "wire", engine.host)
        installations: set[str] = set()
        others: list[str] = []

        def suppliers(context: Context):
            installations.add(context.installation)
            images = {"debian-12": self.image}
            context = Context(installation=context.installation, charge=context.charge, images=images)
            return build(DockerConfig(host=wire.host), context)

        def everything() -> set[str]:
            """What tests at the same time make on this engine is not looked at."""
            volumes = engine.call("GET", "/volumes")["Volumes"] or ()
            return {
                item.get("Id") or item["Name"]
                for item in [*engine.ps(), *engine.networks(), *volumes]
                if (item["Labels"] or {}).get("kubeup.dev/installation") in installations or item.get("Id") in others
            }

        def squat(launch: Launch) -> None:
            named = name(launch.members[0].name, launch.member_mark(0))
            made = engine.call("POST", f"/containers/create?name={named}", {"Image": self.image, "Cmd": ["true"]})
            others.append(made["Id"])

        def existing_network() -> tuple[dict[str, object], str]:
            made = engine.call("POST", "/networks/create", {"Name": f"theirs-{uuid.uuid4().hex[:8]}"})
            others.append(made["Id"])
            return {"network": made["Id"]}, made["Id"]

        def unreachable(place: str) -> AbstractContextManager[None]:
            return wire.losing("everything")

        def close() -> None:
            wire.close()
            for id in everything():
                engine.remove(id)
            for id in everything():
                engine.call("DELETE", f"/networks/{id}", fine=(204, 404))
            for id in everything():
                engine.call("DELETE", f"/volumes/{id}", fine=(204, 404))

        return Rig(
            build=suppliers,
            template=Template(cpu=1, memory=2**27, disk=2**30, arch="", image="debian-12"),
            advance=lambda: time.sleep(0.02),
            members=2,
            everything=everything,
            requests=lambda: wire.requests,
            lost_reply=lambda: wire.losing("replies"),
            lost_request=lambda: wire.losing("requests"),
            unreachable=unreachable,
            no_capacity=wire.full_after,
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
