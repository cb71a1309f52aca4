"""A cluster gets another version of Kubernetes: control planes first, one machine at a time, each only when everything works."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import Any

import pytest
from kubeup_core.controllers.plans import cluster_plan, made_with
from kubeup_core.kinds import Cluster, Machine, NodePool
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
def harness(rehearsed: Harness) -> Harness:
    rehearsed.provider()
    return rehearsed


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


def test_a_hop_waits_for_a_member_whose_node_is_not_known(harness: Harness) -> None:
    up(harness, 1, 2)
    harness.workload("demo").request("DELETE", "/api/v1/nodes/web-0")
    harness.until(lambda: not harness.get(Machine, "web-0").status.is_true("Ready"))
    upgrade(harness, MIDDLE)
    harness.until(lambda: said(harness).startswith("Upgrading"))
    assert "when the Nodes of web-0 are known again" in said(harness)
    assert begun(harness) == []
    harness.until(lambda: ready(harness) and set(versions(harness).values()) == {MIDDLE}, 7200)  # its pool has replaced it


def test_several_hops_with_binaries_of_one_version_are_refused_before_anything_is_touched(harness: Harness) -> None:
    up(harness, 1, 0)
    harness.edit(Cluster, "demo", spec={"kubernetes": {"version": NEW, "source": "preinstalled"}})
    harness.until(lambda: said(harness).startswith("InvalidSpec"), 600)
    assert f"go to {MIDDLE} with its own first" in said(harness)
    harness.advance(300)
    assert begun(harness) == []
    upgrade(harness, MIDDLE)
    harness.until(lambda: ready(harness) and set(versions(harness).values()) == {MIDDLE}, 3600)


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


def nodes(h: Harness) -> dict[str, dict[str, Any]]:
    return {n["metadata"]["name"]: n for n in h.workload("demo").request("GET", "/api/v1/nodes")["items"]}


def closed(h: Harness) -> list[str]:
    return [name for name, node in nodes(h).items() if node["spec"].get("unschedulable")]


def workers(h: Harness) -> list[str]:
    return [name for name, _, _ in begun(h) if name.startswith("web")]


def all_at(h: Harness, version: str) -> bool:
    return ready(h) and set(versions(h).values()) == {version}


def test_a_worker_is_emptied_before_its_upgrade_and_opened_after_it(harness: Harness) -> None:
    up(harness, 1, 2)
    workload = harness.workload("demo")
    for n in range(4):
        workload.pod(f"app-{n}", f"web-{n % 2}")
    seen: dict[str, tuple[list[str], list[str]]] = {}

    def watch(machine: object, step: object) -> None:
        if step.name == "upgrade":  # type: ignore[attr-defined]
            name = begun(harness)[-1][0]
            seen[name] = (workload.pods(name), closed(harness))

    harness.cloud.guest.jobs.watchers.append(watch)
    upgrade(harness, MIDDLE)
    harness.until(lambda: all_at(harness, MIDDLE), 3600)
    assert seen["web-0"] == ([], ["web-0"])
    assert seen["web-1"] == ([], ["web-1"])
    assert closed(harness) == []
    assert len(workload.pods()) == 4


def test_a_worker_that_a_person_has_closed_stays_closed(harness: Harness) -> None:
    up(harness, 1, 2)
    harness.workload("demo").request("PATCH", "/api/v1/nodes/web-1", body={"spec": {"unschedulable": True}})
    upgrade(harness, MIDDLE)
    harness.until(lambda: all_at(harness, MIDDLE), 3600)
    assert closed(harness) == ["web-1"]


def test_a_disruption_budget_holds_an_upgrade_and_is_named(harness: Harness) -> None:
    up(harness, 1, 1)
    workload = harness.workload("demo")
    workload.pod("db-0", "web-0", labels={"app": "db"})
    workload.budget("db", {"app": "db"}, 1)
    upgrade(harness, MIDDLE)
    harness.until(lambda: said(harness).startswith("DrainBlocked"), 3600)
    assert "db-0 may not be evicted" in said(harness)
    assert workers(harness) == []
    harness.edit(NodePool, "web", spec={"drain": {"onTimeout": "Force"}})
    harness.until(lambda: all_at(harness, MIDDLE), 3600)


def test_as_many_workers_at_once_as_may_be_unavailable(harness: Harness) -> None:
    up(harness, 1, 5)
    harness.edit(NodePool, "web", spec={"update": {"maxUnavailable": 2}})
    most = 0

    def look(moment: str) -> None:
        nonlocal most
        most = max(most, len(closed(harness)))

    harness.on_commit = look
    upgrade(harness, MIDDLE)
    harness.until(lambda: all_at(harness, MIDDLE), 3600)
    harness.on_commit = None
    assert most == 2
    assert sorted(workers(harness)) == [f"web-{n}" for n in range(5)]


def test_a_pool_that_is_to_be_replaced_gets_new_machines_once_the_control_planes_run_it(harness: Harness) -> None:
    up(harness, 3, 2)
    harness.edit(NodePool, "web", spec={"update": {"upgrade": "Replace"}})
    before = {m.uid for m in harness.all(Machine) if m.spec.pool == "web"}
    upgrade(harness, MIDDLE)
    harness.until(lambda: len(begun(harness)) == 2, 3600)
    assert {m.uid for m in harness.all(Machine) if m.spec.pool == "web"} == before
    harness.until(lambda: all_at(harness, MIDDLE) and len(versions(harness)) == 5, 7200)
    assert not before & {m.uid for m in harness.all(Machine)}
    assert workers(harness) == []


def test_a_replaced_pool_goes_through_every_hop(harness: Harness) -> None:
    up(harness, 1, 1)
    harness.edit(NodePool, "web", spec={"update": {"upgrade": "Replace"}})
    lowest: list[str] = []

    def look(moment: str) -> None:
        found = harness.get(Cluster, "demo").status.version or ""
        if found and found not in lowest[-1:]:
            lowest.append(found)

    harness.on_commit = look
    upgrade(harness, NEW)
    harness.until(lambda: all_at(harness, NEW) and harness.get(Cluster, "demo").status.version == NEW, 7200)
    harness.on_commit = None
    assert lowest == [OLD, MIDDLE, NEW]


def test_a_pool_replaced_by_hand_is_waited_for(harness: Harness) -> None:
    up(harness, 1, 1)
    harness.edit(NodePool, "web", spec={"update": {"upgrade": "Replace", "strategy": "OnDelete"}})
    upgrade(harness, MIDDLE)
    harness.until(lambda: "delete them one by one" in said(harness), 3600)
    harness.delete(Machine, "web-0")
    harness.until(lambda: all_at(harness, MIDDLE), 3600)


def test_a_crash_at_any_write_upgrades_and_opens_each_worker_once(harness: Harness) -> None:
    up(harness, 1, 3)
    harness.edit(NodePool, "web", spec={"update": {"maxUnavailable": 2}})
    writes = 0

    def crash(moment: str) -> None:
        nonlocal writes
        writes += moment == "before"
        if writes % 3 == 2:
            writes += 1
            raise Crash

    upgrade(harness, MIDDLE)
    for _ in range(12):
        harness.on_commit = crash
        with contextlib.suppress(Crash):
            harness.advance(120)
        harness.on_commit = None
        harness.crash()
    harness.until(lambda: all_at(harness, MIDDLE) and not closed(harness), 3600)
    assert sorted(workers(harness)) == ["web-0", "web-1", "web-2"]


def test_a_control_plane_that_joins_in_the_middle_gets_the_next_version_and_a_worker_does_not(harness: Harness) -> None:
    up(harness, 3, 1)
    harness.cloud.guest.jobs.slow["upgrade"] = 120.0
    upgrade(harness, MIDDLE)
    harness.until(lambda: list(versions(harness).values()).count(MIDDLE) == 1, 3600)
    cluster = harness.get(Cluster, "demo")
    new = Machine.model_validate(
        {"metadata": {"name": "x", "uid": "x"}, "spec": {"cluster": "demo", "role": "controlPlane", "provider": "sim"}}
    )
    env = harness.manager.env
    harness.until(lambda: made_with(env, harness.get(Cluster, "demo"), new) == MIDDLE, 60)
    worker = new.model_copy(update={"spec": new.spec.model_copy(update={"role": "worker"})})
    assert made_with(env, harness.get(Cluster, "demo"), worker) == OLD
    assert cluster.status.version == OLD


def test_machines_made_during_an_upgrade_get_the_bundle_of_their_version(harness: Harness) -> None:
    old, new = ({"path": f"/srv/{n}.tar", "sha256": n * 64} for n in ("a", "b"))
    up(harness, 1, 1)
    harness.edit(Cluster, "demo", spec={"kubernetes": {"bundle": old}})
    harness.until(lambda: ready(harness), 600)
    harness.cloud.guest.jobs.slow["upgrade"] = 120.0
    harness.edit(Cluster, "demo", spec={"kubernetes": {"version": MIDDLE, "bundle": new}})
    harness.until(lambda: said(harness).startswith("Upgrading: demo-control-plane-0 is being"), 600)
    env, cluster = harness.manager.env, harness.get(Cluster, "demo")
    assert cluster_plan(env, cluster).version == OLD
    assert cluster_plan(env, cluster).bundle.path == "/srv/a.tar"  # type: ignore[union-attr]
    assert cluster_plan(env, cluster, version=MIDDLE).bundle.path == "/srv/b.tar"  # type: ignore[union-attr]
    harness.until(lambda: all_at(harness, MIDDLE), 3600)
    assert cluster_plan(env, harness.get(Cluster, "demo")).bundle.path == "/srv/b.tar"  # type: ignore[union-attr]
