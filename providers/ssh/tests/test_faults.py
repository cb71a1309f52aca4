"""What breaks under a step on a host: a container with systemd and a real sshd, the core's steps, a bootstrapper of the test's own.

Steps run in real time, and the core's clock is turned by the test: so the test looks, at the host, for what has come there.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubeup_core.bootstrapper import Step, Task
from kubeup_core.kinds import Cluster, Machine
from kubeup_core.testing.harness import Harness
from kubeup_core.testing.rehearsal import NAME, Rehearsal

pytestmark = [pytest.mark.docker, pytest.mark.slow]

HOME = "/var/lib/kubeup-host"
SECONDS = 90


class Stage:
    """One host, h1, whose machine `workers-0` is prepared with the steps that a test gives."""

    def __init__(self, folder: Path, hosts: Any) -> None:
        self.hosts = hosts
        self.rehearsal = Rehearsal()
        self.harness = Harness(folder, plugins=self.rehearsal.plugins())

    @property
    def host(self) -> Any:
        return self.hosts.sshds["h1"]

    def prepare(self, *steps: Step) -> None:
        self.rehearsal.more[Task.PREPARE] = steps
        h = self.harness
        kubernetes = {"version": "v1.34.1", "bootstrapper": NAME}
        small = {"cpu": 1, "memory": "128Mi", "disk": "1Gi"}
        h.apply(
            {"kind": "Provider", "metadata": {"name": "rack"}, "spec": {"type": "ssh", "config": self.hosts.config("h1")}},
            {
                "kind": "Cluster",
                "metadata": {"name": "demo"},
                "spec": {
                    "provider": "rack",
                    "machine": small,
                    "kubernetes": kubernetes,
                    "endpoint": {"host": "10.9.0.1"},
                    "controlPlane": {"overrides": {"ssh": {"hosts": ["none"]}}},
                },
            },
            {
                "kind": "NodePool",
                "metadata": {"name": "workers"},
                "spec": {"cluster": "demo", "replicas": 1, "repair": {"bootTimeout": "100h"}},
            },
        )

    def shell(self, script: str) -> str:
        """Not by ssh: from this machine, within the host's namespaces."""
        inside = ["nsenter", "-t", str(self.host.process), "-m", "-u", "-i", "-n", "-p", "-r", "-w"]
        done = subprocess.run([*inside, "sh", "-c", script], capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        return done.stdout.strip()

    def there(self, name: str) -> str:
        """A file that a step wrote, "" while there is none."""
        file = self.hosts.inside("h1", HOME) / name
        return file.read_text().strip() if file.exists() else ""

    def until(self, holds: Callable[[], object], what: str) -> None:
        """Turn the core's clock on, and wait for what takes real time."""
        end = time.monotonic() + SECONDS
        while not holds():
            assert time.monotonic() < end, f"not within {SECONDS} s: {what}; {self.told()}"
            self.harness.advance(1)

    def told(self) -> str:
        """What `kubeup why` shows of the machine."""
        found = self.harness.find(Machine, MACHINE)
        return " / ".join(str(c.message) for c in found.status.conditions) if found is not None else ""


MACHINE = "workers-0"


@pytest.fixture
def stage(containers: Any, tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path, containers)
    yield stage
    failed = [*stage.harness.failed, *stage.harness.manager.failed]
    stage.harness.close()
    stage.shell("flock -w 60 /var/lib/kubeup/lock true")  # held by the runner, which may still write its last lines
    assert failed == []


def step(name: str, script: str, **more: Any) -> Step:
    return Step(name=name, title=f"does {name}", script=script, **more)


DEB = r"""
rm -rf /tmp/deb && mkdir -p /tmp/deb/$1/DEBIAN && cd /tmp/deb && chmod 755 $1 $1/DEBIAN
printf 'Package: %s\nVersion: 1\nArchitecture: all\nMaintainer: t <t@example.org>\nDescription: t\n' $1 >$1/DEBIAN/control
printf '%s\n' '#!/bin/sh' "$2" >$1/DEBIAN/postinst && chmod 755 $1/DEBIAN/postinst
dpkg-deb -b $1 /root/$1.deb >/dev/null
"""


def test_a_step_waits_for_whoever_holds_the_lock_of_apt_and_names_him_when_that_takes_too_long(stage: Stage) -> None:
    from kubeup_kubeadm.shell import script

    install = script("lib").replace("LOCK_SECONDS=120", "LOCK_SECONDS=5") + "\ninstall_packages /root/wanted.deb\n"
    assert "LOCK_SECONDS=5" in install
    make = f"make() {{ {DEB}\n}}\n"
    stage.shell(
        f"{make} make slow 'touch /tmp/begun; until [ -e /tmp/enough ]; do sleep 0.2; done'\nmake wanted :\n"
        "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*; setsid dpkg -i /root/slow.deb >/tmp/slow.log 2>&1 </dev/null &"
        " until [ -e /tmp/begun ]; do sleep 0.1; done"
    )
    holder = stage.shell("pgrep -o -x dpkg")
    try:
        stage.prepare(step("packages", install), step("after", f"touch {HOME}/after; echo done >{HOME}/after"))
        said = f"process {holder} (dpkg) on this machine has held apt's lock"
        stage.until(lambda: said in stage.told(), "the holder of the lock is named")
        assert not stage.there("after")
    finally:
        stage.shell("touch /tmp/enough; while pgrep -x dpkg >/dev/null; do sleep 0.1; done")
    stage.harness.edit(Cluster, "demo", spec={"protect": True})  # tries again at once
    stage.until(lambda: stage.there("after"), "the package is installed, and the next step done")
    assert stage.shell("dpkg-query -W -f '${Status}' wanted") == "install ok installed"


def test_a_host_that_reboots_in_a_step_goes_on_there_and_nothing_that_was_done_is_done_again(stage: Stage) -> None:
    booted = "cat /proc/sys/kernel/random/boot_id"
    stage.prepare(
        step("first", f"echo done >>{HOME}/first"),
        step("second", f"echo begun >>{HOME}/second; [ -e {HOME}/once ] || {{ touch {HOME}/once; reboot; sleep 600; }}"),
        step("third", f"echo done >>{HOME}/third"),
    )
    before = stage.shell(booted)
    stage.until(lambda: stage.there("third"), "the steps are over")
    assert stage.shell(booted) != before
    assert stage.there("first") == "done"
    assert stage.there("second").split() == ["begun", "begun"]
    assert stage.there("third") == "done"


def test_a_host_that_goes_down_is_unknown_also_when_its_claim_cannot_be_seen_any_more(stage: Stage) -> None:
    stage.prepare(step("first", f"echo done >>{HOME}/first"))
    stage.until(lambda: stage.there("first"), "the step is over")
    before = stage.harness.get(Machine, MACHINE).uid
    stage.shell(f"touch /run/nologin; mount -t tmpfs tmpfs {HOME}")  # as systemd does it, and takes mounts away
    try:
        stage.harness.advance(120)
        assert stage.harness.get(Machine, MACHINE).status.state == "Unknown", stage.told()
    finally:
        stage.shell(f"umount {HOME}; rm /run/nologin")
    stage.until(lambda: stage.harness.get(Machine, MACHINE).status.state != "Unknown", "it is known again")
    assert stage.harness.get(Machine, MACHINE).uid == before


def test_an_sshd_that_is_killed_in_a_step_does_not_end_the_step(stage: Stage) -> None:
    stage.prepare(
        step("long", f"echo begun >>{HOME}/long; until [ -e {HOME}/go ]; do sleep 0.1; done; echo over >>{HOME}/long"),
        step("next", f"echo done >>{HOME}/next"),
    )
    stage.until(lambda: stage.there("long") == "begun", "the step has begun")
    stage.shell("systemctl stop ssh.service; pkill -KILL -x sshd || true")
    try:
        stage.until(lambda: "h1 at Provider rack does not answer" in stage.told(), "the silence is told")
        (stage.hosts.inside("h1", HOME) / "go").touch()
    finally:
        stage.shell("systemctl start ssh.service")
    stage.until(lambda: stage.there("next"), "the steps are over")
    assert stage.there("long").split() == ["begun", "over"], "it was run once"


def test_a_host_whose_disk_fills_up_in_a_step_says_so_and_goes_on_when_there_is_room(stage: Stage) -> None:
    steps = "/var/lib/kubeup"
    stage.shell(f"mount -t tmpfs -o size=400k tmpfs {steps}")
    try:
        stage.prepare(
            step("large", f"[ -e {HOME}/room ] || head -c 1000000 /dev/zero >{steps}/large\n"),
            step("next", f"echo done >>{HOME}/next"),
        )
        stage.until(lambda: "No space left on device" in stage.told(), "the full disk is told")
        assert not stage.there("next")
        stage.shell(f"rm -f {steps}/large")
        (stage.hosts.inside("h1", HOME) / "room").touch()
        stage.harness.edit(Cluster, "demo", spec={"protect": True})
        stage.until(lambda: stage.there("next"), "the steps are over")
    finally:
        stage.shell(f"umount -l {steps}")
