"""The contract tests of the core, against real sshd processes that are hosts, and against containers with systemd that are.

Not offered here: networks (hosts stand in one that somebody else keeps), pages, capacity that is refused late (a claim is there or
not), machines that are dead and still shown (a host lives), and batches (each host is claimed by itself).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from kubeup_core import Context, Launch, Template, Unknown
from kubeup_core.testing import MachineContract, Rig, VolumeContract
from kubeup_ssh import SshConfig, build
from kubeup_ssh.doors import Doors

CHANGES = ("claim", "release", "make", "up", "down", "remove")


class Contract:
    fixture = "hosts"

    @pytest.fixture(autouse=True)
    def _on_hosts(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        self.hosts = request.getfixturevalue(self.fixture)
        self.calls = 0
        self.fault = ""
        rebooted: dict[str, int | None] = {}
        run, stream = Doors.run, Doors.stream

        def watched(doors: Doors, host: Any, script: str, stdin: bytes = b"", timeout: float = 30.0) -> Any:
            self.calls += 1
            before = self.hosts.sshds[host.name].process if "exec reboot" in script else None
            change = script.rsplit("\n", 2)[-2].split(" ")[0] in CHANGES
            if self.fault == "request" and change:
                raise Unknown("the connection was lost")
            result = run(doors, host, script, stdin, timeout)
            if "exec reboot" in script and result[0] == 0:
                rebooted[host.name] = before
            if self.fault == "reply" and change:
                raise Unknown("the connection was lost")
            return result

        def streamed(doors: Doors, *args: Any) -> Any:
            return stream(doors, *args)

        monkeypatch.setattr(Doors, "run", watched)
        monkeypatch.setattr(Doors, "stream", streamed)
        yield
        for name, before in rebooted.items():  # a host goes down only after it has answered: not into the next test
            self.hosts.rebooted(name, before)

    def supply(self) -> Rig:
        @contextmanager
        def lost(what: str) -> Iterator[None]:
            self.fault = what
            try:
                yield
            finally:
                self.fault = ""

        @contextmanager
        def unreachable(place: str) -> Iterator[None]:
            names = [place] if place else list(self.hosts.sshds)
            for name in names:
                self.hosts.sshds[name].stop()
            try:
                yield
            finally:
                for name in names:
                    self.hosts.sshds[name].start()

        @contextmanager
        def no_capacity(room: int) -> Iterator[None]:
            free = [n for n in self.hosts.sshds if not (self.hosts.inside(n) / "claim").exists()]
            for name in free[room:]:
                (self.hosts.inside(name) / "kept").write_text("somebody works on it\n")
            try:
                yield
            finally:
                for name in free[room:]:
                    (self.hosts.inside(name) / "kept").unlink()

        def squat(launch: Launch) -> None:
            claim = self.hosts.inside(launch.members[0].slot) / "claim"
            claim.write_text('other Machine them 0\n{"mark": {"installation": "other", "cluster": "c", "cluster_name": "c", '
                             '"kind": "Machine", "maker": "them", "index": 0, "keep": false}, "name": "theirs"}\n')  # fmt: skip

        def close() -> None:
            self.hosts.reset()

        def lost_reply() -> AbstractContextManager[None]:
            return lost("reply")

        def lost_request() -> AbstractContextManager[None]:
            return lost("request")

        return Rig(
            build=self.suppliers,
            advance=lambda: time.sleep(0.02),
            template=Template(cpu=1, memory=2**27, disk=2**30, arch="", image="debian-12"),
            volume_size=2**20,
            wires=("paramiko", "kubeup_ssh_executor"),
            everything=lambda: self.hosts.claims(),
            requests=lambda: self.calls,
            unreachable=unreachable,
            no_capacity=no_capacity,
            lost_reply=lost_reply,
            lost_request=lost_request,
            squat=squat,
            close=close,
        )

    def suppliers(self, context: Context) -> Any:
        return build(SshConfig.model_validate(self.hosts.config()), context)


class TestMachines(Contract, MachineContract):
    pass


class TestVolumes(Contract, VolumeContract):
    pass


@pytest.mark.docker
class TestMachinesOfContainers(Contract, MachineContract):
    fixture = "containers"


@pytest.mark.docker
class TestVolumesOfContainers(Contract, VolumeContract):
    fixture = "containers"
