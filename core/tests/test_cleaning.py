"""Hosts of an inventory outlive their machines: what was done to one is undone before its place gets it back, or it is kept back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kubeup_core.bootstrapper import Step, Task
from kubeup_core.controllers.cleaning import CLEANED
from kubeup_core.kinds import Cluster, Machine, NodePool
from kubeup_core.plugins import Plugins, discover
from kubeup_core.testing.harness import Crash, Harness
from kubeup_core.testing.rehearsal import NAME, Rehearsal

CP, W = "demo-control-plane-0", "workers-0"
HOSTS = ("h1", "h2", "h3")


class Laundry:
    """A harness with hosts, and in what order which steps were done on them, and machines deleted."""

    def __init__(self, h: Harness) -> None:
        self.h = h
        self.done: list[tuple[str, str]] = []
        h.cloud.guest.jobs.watchers.append(lambda machine, step: self.done.append((machine.name, step.name)))

    def cluster(self, workers: int = 1, **spec: Any) -> None:
        self.h.provider()
        kubernetes = {"version": "v1.34.1", "bootstrapper": NAME}
        self.h.apply(
            {"kind": "Cluster", "metadata": {"name": "demo"}, "spec": {"provider": "sim", "kubernetes": kubernetes, **spec}},
            {"kind": "NodePool", "metadata": {"name": "workers"}, "spec": {"cluster": "demo", "replicas": workers}},
        )
        self.h.until(lambda: [m.status.state for m in self.h.machines()] == ["Ready"] * (workers + 1), 900)

    def steps_of(self, name: str) -> list[str]:
        return [step for machine, step in self.done if machine.startswith(name)]

    def shrink(self) -> None:
        self.h.edit(NodePool, "workers", spec={"replicas": 0})


@pytest.fixture
def laundry(tmp_path: Path) -> Iterator[Callable[..., Laundry]]:
    made: list[Harness] = []

    def make(hosts: tuple[str, ...] = HOSTS, plugins: Plugins | None = None, rehearsal: Rehearsal | None = None) -> Laundry:
        rehearsal = rehearsal or Rehearsal()
        cloud = {"boot_seconds": (1, 1), **({"hosts": hosts} if hosts else {})}
        h = Harness(tmp_path, plugins=rehearsal.plugins(plugins), cloud=cloud)
        made.append(h)
        rehearsal.follow(h)
        rehearsal.silent(h)
        return Laundry(h)

    yield make
    for h in made:
        failed = [*h.failed, *h.manager.failed]
        h.close()
        assert failed == []


def test_a_host_is_cleaned_before_its_place_gets_it_back(laundry: Callable[..., Laundry]) -> None:
    it = laundry()
    it.cluster()
    seen: list[tuple[list[str], tuple[str, str, str]]] = []

    def strike(point: str) -> None:
        if point == "before Machine.delete":
            seen.append((it.steps_of(W)[-2:], it.h.condition(Machine, W, CLEANED)))

    it.h.cloud.strike = strike
    it.shrink()
    it.h.until(lambda: it.h.find(Machine, W) is None, 120)
    steps, condition = seen[0]
    assert steps == ["leave", "cleaned"]
    assert condition[:2] == ("True", "Cleaned")
    assert len(it.h.rented()) == 1


def test_its_next_machine_does_every_step_anew_and_it_is_cleaned_again(laundry: Callable[..., Laundry]) -> None:
    it = laundry(hosts=("h1", "h2"))
    it.cluster()
    for _ in range(2):
        it.shrink()
        it.h.until(lambda: it.h.find(Machine, W) is None, 120)
        it.h.edit(NodePool, "workers", spec={"replicas": 1})
        it.h.until(lambda: it.h.find(Machine, W) is not None and it.h.get(Machine, W).status.state == "Ready", 600)
    assert it.steps_of(W).count("leave") == 2
    assert it.steps_of(W).count("runtime") == 3
    assert it.steps_of(W).count("join") == 3


def test_all_hosts_of_a_cluster_are_cleaned_when_it_goes(laundry: Callable[..., Laundry]) -> None:
    it = laundry()
    it.cluster(2)
    it.h.delete(Cluster, "demo")
    it.h.until(lambda: not it.h.all(Cluster), 300)
    assert [step for _, step in it.done].count("leave") == 3
    assert it.h.rented() == []


def test_machines_that_are_destroyed_are_not_cleaned(laundry: Callable[..., Laundry]) -> None:
    it = laundry(hosts=())
    it.cluster()
    it.shrink()
    it.h.until(lambda: it.h.find(Machine, W) is None, 120)
    assert "leave" not in it.steps_of(W)


def test_a_host_that_cannot_be_cleaned_is_kept_back_and_says_which_step_failed_and_what_to_do(
    laundry: Callable[..., Laundry],
) -> None:
    it = laundry()
    it.cluster()
    it.h.cloud.guest.jobs.fail("leave", times=4, output="umount: busy\n")
    it.shrink()
    it.h.until(lambda: it.h.condition(Machine, W, "Ready")[1] == "CleaningFailed", 300)
    status, _, message = it.h.condition(Machine, W, "Ready")
    assert status == "False"
    assert re.search(r"h\d cannot be cleaned, so it is kept back", message)
    assert "umount: busy" in message
    assert "kubeup.dev/abandon" in message
    assert len(it.h.rented()) == 2
    it.h.until(lambda: it.h.find(Machine, W) is None, 1500)
    assert len(it.h.rented()) == 1, "it was tried again, and went well"


def test_a_host_that_does_not_answer_is_waited_for_and_cleaned_when_it_is_back(laundry: Callable[..., Laundry]) -> None:
    it = laundry()
    it.cluster()
    host = next(launch.spec.members[0].slot for launch in it.h.launches() if launch.spec.members[0].name == W)
    it.h.cloud.console.cut(host)
    it.h.delete(Machine, W)
    it.h.advance(900)
    assert it.h.find(Machine, W) is not None
    assert "leave" not in it.steps_of(W)
    it.h.cloud.console.restore(host)
    it.h.until(lambda: it.h.find(Machine, W) is None or it.h.get(Machine, W).metadata.deletion_timestamp is None, 300)
    assert "leave" in it.steps_of(W)


def test_one_that_is_given_up_goes_without_being_cleaned(laundry: Callable[..., Laundry]) -> None:
    it = laundry()
    it.cluster()
    it.h.cloud.guest.jobs.fail("leave", times=1000)
    it.shrink()
    it.h.until(lambda: it.h.condition(Machine, W, "Ready")[1] == "CleaningFailed", 300)
    it.h.edit(Machine, W, metadata={"annotations": {"kubeup.dev/abandon": "its disk is broken"}})
    it.h.until(lambda: it.h.find(Machine, W) is None, 120)
    assert "cleaned" not in it.steps_of(W)


def test_files_that_hold_secrets_and_keys_are_taken_off(laundry: Callable[..., Laundry]) -> None:
    it = laundry()
    it.h.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "v"}})
    files = [
        {"path": "/etc/secret", "secretRef": {"name": "s", "key": "k"}},
        {"path": "/etc/open", "content": "hello"},
    ]
    it.cluster(machine={"files": files, "sshKeys": ["ssh-ed25519 AAAA me"]})
    scripts: list[str] = []
    it.h.cloud.guest.jobs.watchers.append(lambda machine, step: scripts.append(step.script))
    it.shrink()
    it.h.until(lambda: it.h.find(Machine, W) is None, 120)
    (own,) = [s for s in scripts if "authorized_keys" in s]
    assert "rm -f /etc/secret" in own
    assert "/etc/open" not in own


def test_what_balancers_left_on_a_host_is_taken_off(laundry: Callable[..., Laundry]) -> None:
    found = dict(discover().providers)
    sim = found["sim"]

    def build(config: Any, context: Any) -> Any:
        made = sim.build(config, context)
        return replace(made, capabilities=replace(made.capabilities, clean="box wipe"))

    found["sim"] = replace(sim, build=build)
    it = laundry(plugins=Plugins(found))
    it.h.provider()
    it.h.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": {"provider": "sim"}})
    spec = {"cluster": "demo", "role": "loadBalancer"}
    it.h.apply({"kind": "Machine", "metadata": {"name": "lb"}, "spec": spec})
    it.h.until(lambda: it.h.get(Machine, "lb").status.state == "Ready", 120)
    it.h.delete(Machine, "lb")
    it.h.until(lambda: it.h.find(Machine, "lb") is None, 120)
    assert it.steps_of("lb") == ["balancer-sim", "cleaned"]


@pytest.mark.parametrize("nth", range(1, 14, 2))
def test_a_crash_at_any_write_never_gives_back_a_host_that_is_not_clean(laundry: Callable[..., Laundry], nth: int) -> None:
    rehearsal = Rehearsal()
    rehearsal.more[Task.LEAVE] = (Step(name="more", title="more", script=":"),)
    it = laundry(rehearsal=rehearsal)
    it.cluster()
    left, dirty = [nth], []

    def on_commit(moment: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Crash

    def strike(point: str) -> None:
        if point == "before Machine.delete" and it.steps_of(W)[-3:] != ["leave", "more", "cleaned"]:
            dirty.append(it.steps_of(W))

    it.h.cloud.strike = strike
    it.h.on_commit = on_commit
    try:
        it.shrink()
        it.h.until(lambda: it.h.find(Machine, W) is None, 120)
    except Crash:
        it.h.on_commit = None
        it.h.crash()
        it.shrink()
        it.h.until(lambda: it.h.find(Machine, W) is None, 300)
    assert dirty == []
    assert it.steps_of(W).count("leave") == 1
