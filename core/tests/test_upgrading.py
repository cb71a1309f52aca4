"""A cluster gets another version of Kubernetes: control planes first, one machine at a time, each only when everything works."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from kubeup_core.kinds import Cluster, Machine
from kubeup_core.kinds.builtins import Event
from kubeup_core.testing.harness import Crash, Harness
from kubeup_core.testing.rehearsal import NAME, Rehearsal

pytest.importorskip("kubeup_sim", reason="the simulated cloud is the distribution kubeup-sim: pip install kubeup-sim")

OLD, MIDDLE, NEW = "v1.33.2", "v1.34.0", "v1.35.1"


class Hopping(Rehearsal):
    """One minor at a time, as every real bootstrapper has it."""

    def hops(self, have: str, want: str) -> Sequence[str]:
        return {(OLD, NEW): (MIDDLE, NEW), (MIDDLE, NEW): (NEW,)}.get((have, want), super().hops(have, want))


@pytest.fixture
def rehearsal() -> Rehearsal:
    return Hopping()


@pytest.fixture
def harness(tmp_path: Path, rehearsal: Rehearsal) -> Iterator[Harness]:
    with Harness(tmp_path, plugins=rehearsal.plugins(), cloud={"boot_seconds": (1, 1)}) as h:
        rehearsal.follow(h)
        rehearsal.silent(h)
        h.provider()
        yield h
        assert [*h.failed, *h.manager.failed] == []


def up(h: Harness, planes: int, workers: int) -> None:
    kubernetes = {"version": OLD, "bootstrapper": NAME}
    spec = {"provider": "sim", "kubernetes": kubernetes, "controlPlane": {"replicas": planes}}
    h.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": spec})
    if workers:
        h.apply({"kind": "NodePool", "metadata": {"name": "web"}, "spec": {"cluster": "demo", "replicas": workers}})
    h.until(lambda: ready(h), 1800)


def ready(h: Harness) -> bool:
    cluster = h.get(Cluster, "demo")
    return cluster.status.is_true("Ready") and cluster.status.observed_generation == cluster.metadata.generation


def upgrade(h: Harness, version: str) -> None:
    h.edit(Cluster, "demo", spec={"kubernetes": {"version": version}})


def versions(h: Harness) -> dict[str, str]:
    nodes = h.workload("demo").request("GET", "/api/v1/nodes")["items"]
    return {n["metadata"]["name"]: n["status"]["nodeInfo"]["kubeletVersion"] for n in nodes}


def said(h: Harness) -> str:
    condition = h.get(Cluster, "demo").status.condition("Ready")
    return f"{condition.reason}: {condition.message}" if condition is not None else ""


def begun(h: Harness) -> list[tuple[str, str, bool]]:
    """(node, version, first) of every upgrade that a machine has run, in order."""
    found = []
    for script in h.upgrades:  # type: ignore[attr-defined]
        about = json.loads(script.split(" ", 1)[1]) if not script.startswith("{") else json.loads(script)
        found.append((about["name"], about["upgraded"], about["first"]))
    return found


@pytest.fixture(autouse=True)
def listen(harness: Harness) -> None:
    harness.upgrades = []  # type: ignore[attr-defined]

    def done(machine: object, step: object) -> None:
        if step.name == "upgrade":  # type: ignore[attr-defined]
            text = step.script  # type: ignore[attr-defined]
            harness.upgrades.append(text[text.index("{") :].strip())  # type: ignore[attr-defined]

    harness.cloud.guest.jobs.watchers.append(done)


def test_control_planes_go_first_one_by_one_and_then_the_workers(harness: Harness) -> None:
    up(harness, 3, 2)
    upgrade(harness, MIDDLE)
    harness.until(lambda: ready(harness) and set(versions(harness).values()) == {MIDDLE}, 3600)
    names = [name for name, _, _ in begun(harness)]
    assert sorted(names[:3]) == [f"demo-control-plane-{n}" for n in range(3)]
    assert names[3:] == ["web-0", "web-1"]
    assert [first for _, _, first in begun(harness)] == [True, False, False, False, False]
    assert harness.get(Cluster, "demo").status.control_plane.version == MIDDLE  # type: ignore[union-attr]


def test_two_minors_are_two_hops_and_nobody_skips_one(harness: Harness) -> None:
    up(harness, 1, 1)
    upgrade(harness, NEW)
    harness.until(lambda: ready(harness) and set(versions(harness).values()) == {NEW}, 3600)
    plane, worker = "demo-control-plane-0", "web-0"
    assert [(n, v) for n, v, _ in begun(harness)] == [(plane, MIDDLE), (worker, MIDDLE), (plane, NEW), (worker, NEW)]


def test_a_machine_that_fails_stops_the_upgrade_and_says_so_and_nobody_else_is_touched(harness: Harness) -> None:
    up(harness, 3, 1)
    harness.cloud.guest.jobs.fail("upgrade", times=99, code=7, output="no space left")
    upgrade(harness, MIDDLE)
    harness.until(lambda: said(harness).startswith("UpgradeFailed"), 3600)
    assert "no space left" in said(harness)
    assert "exit code 7" in said(harness)
    assert list(versions(harness).values()).count(OLD) == 4


def test_a_crash_at_any_write_goes_on_where_it_was(harness: Harness) -> None:
    up(harness, 3, 1)
    writes = 0

    def crash(moment: str) -> None:
        nonlocal writes
        writes += moment == "before"
        if writes % 4 == 3:
            writes += 1
            raise Crash

    upgrade(harness, MIDDLE)
    for _ in range(12):
        harness.on_commit = crash
        with contextlib.suppress(Crash):
            harness.advance(120)
        harness.on_commit = None
        harness.crash()
    harness.until(lambda: ready(harness) and set(versions(harness).values()) == {MIDDLE}, 3600)
    names = [name for name, _, _ in begun(harness)]
    assert sorted(set(names)) == sorted(names), "each machine was upgraded once"
    assert len(list(harness.all(Machine))) == 4


def test_the_version_set_back_cancels_an_upgrade_that_failed_before_anything_ran_it(harness: Harness) -> None:
    up(harness, 1, 1)
    harness.cloud.guest.jobs.fail("upgrade", times=99, code=7, output="no such package")
    upgrade(harness, MIDDLE)
    harness.until(lambda: said(harness).startswith("UpgradeFailed"), 3600)
    upgrade(harness, OLD)
    harness.until(lambda: ready(harness), 3600)
    assert set(versions(harness).values()) == {OLD}
    cancelled = [e.message for e in harness.all(Event) if e.reason == "UpgradeCancelled"]
    assert len(cancelled) == 1
    assert f"to {MIDDLE}, which failed on demo-control-plane-0" in cancelled[0]


def test_another_version_is_gone_for_when_the_wanted_one_failed_and_nothing_runs_it(harness: Harness) -> None:
    up(harness, 1, 1)
    harness.cloud.guest.jobs.fail("upgrade", times=3, code=7, output="no such package")
    upgrade(harness, "v1.33.9")
    harness.until(lambda: said(harness).startswith("UpgradeFailed"), 3600)
    upgrade(harness, MIDDLE)
    harness.until(lambda: ready(harness) and set(versions(harness).values()) == {MIDDLE}, 6 * 3600)


def test_a_control_plane_lost_while_another_is_upgraded_is_replaced_and_holds_nothing_up(harness: Harness) -> None:
    up(harness, 3, 1)
    harness.cloud.guest.jobs.fail("upgrade", times=4, code=7, output="no space left")
    upgrade(harness, MIDDLE)
    harness.until(lambda: said(harness).startswith("UpgradeFailed"), 3600)
    busy = harness.get(Cluster, "demo").status.control_plane.upgrading  # type: ignore[union-attr]
    lost = next(m for m in harness.all(Machine) if m.spec.role == "controlPlane" and m.uid != busy)
    harness.delete(Machine, lost.name)
    harness.until(lambda: ready(harness) and set(versions(harness).values()) == {MIDDLE}, 6 * 3600)
    assert lost.uid not in {m.uid for m in harness.all(Machine)}
