"""A control plane that goes, on purpose or not, is drained, taken out of etcd, and replaced; the others keep their quorum."""

from __future__ import annotations

import pytest
from kubeup_core.kinds import Cluster, Machine
from kubeup_core.testing.harness import Harness
from kubeup_core.testing.rehearsal import NAME, Rehearsal

pytest.importorskip("kubeup_sim", reason="the simulated cloud is the distribution kubeup-sim: pip install kubeup-sim")

PLANES = tuple(f"demo-control-plane-{n}" for n in range(3))


@pytest.fixture
def harness(rehearsed: Harness) -> Harness:
    """Cluster demo with three control planes that are Ready."""
    rehearsed.provider()
    kubernetes = {"version": "v1.34.1", "bootstrapper": NAME}
    spec = {"provider": "sim", "kubernetes": kubernetes, "controlPlane": {"replicas": 3}}
    rehearsed.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": spec})
    rehearsed.ready(3, 1200)
    return rehearsed


def test_one_of_a_cluster_with_external_etcd_is_replaced_without_asking_any_etcd(
    harness: Harness, rehearsal: Rehearsal
) -> None:
    rehearsal.external = True
    former, members = harness.get(Machine, PLANES[1]), dict(rehearsal.etcd)
    harness.delete(Machine, PLANES[1])
    harness.until(lambda: former.uid not in [m.uid for m in harness.machines()], 600)
    assert rehearsal.etcd == members
    harness.ready(3, 1200)


def test_three_control_planes_are_three_members_of_etcd(harness: Harness, rehearsal: Rehearsal) -> None:
    assert sorted(rehearsal.etcd) == sorted(PLANES)
    assert harness.workload().nodes() == sorted(PLANES)


def test_one_that_is_deleted_leaves_etcd_before_it_is_gone_and_its_successor_joins(
    harness: Harness, rehearsal: Rehearsal
) -> None:
    former = harness.get(Machine, PLANES[1])
    members: list[list[str]] = []

    def strike(point: str) -> None:
        if point == "before Machine.delete":
            members.append(sorted(rehearsal.etcd))

    harness.cloud.strike = strike
    harness.delete(Machine, PLANES[1])
    harness.until(lambda: former.uid not in [m.uid for m in harness.machines()], 600)
    assert members[0] == [PLANES[0], PLANES[2]]
    harness.ready(3, 1200)
    assert len(rehearsal.etcd) == 3
    assert len(harness.workload().nodes()) == 3


def test_one_that_vanished_is_taken_out_of_etcd_and_replaced_unattended(harness: Harness, rehearsal: Rehearsal) -> None:
    lost = harness.get(Machine, PLANES[2])
    harness.cloud.console.kill(lost.status.id)
    harness.workload().silence(PLANES[2])
    harness.until(lambda: lost.uid not in [m.uid for m in harness.machines()], 1800)
    harness.ready(3, 1800)
    assert len(rehearsal.etcd) == 3
    assert sorted(rehearsal.etcd) == sorted(m.name for m in harness.machines())
    assert harness.workload().nodes() == sorted(rehearsal.etcd)


def test_two_that_are_deleted_at_once_leave_etcd_one_after_the_other(harness: Harness, rehearsal: Rehearsal) -> None:
    """Nobody comes after them, so neither may wait until the other is replaced."""
    harness.edit(Cluster, "demo", spec={"controlPlane": {"replicas": 1}})
    for name in PLANES[1:]:
        harness.delete(Machine, name)
    harness.until(lambda: [m.name for m in harness.machines()] == [PLANES[0]], 1800)
    harness.ready(1, 1800)
    assert list(rehearsal.etcd) == [PLANES[0]]


def test_the_others_settle_once_for_each_that_joins(harness: Harness) -> None:
    def settled() -> dict[str, int]:
        runs = harness.cloud.guest.jobs.runs
        return {
            name: sum(n for (host, step), n in runs.items() if host.startswith(name) and step == "settle") for name in PLANES
        }

    def ready() -> bool:
        return harness.get(Cluster, "demo").status.is_true("Ready")

    harness.until(ready, 600)
    assert sorted(settled().values()) == [0, 1, 2]
    assert settled()[PLANES[0]] == 2, "the first has seen both of the others join"
    before = settled()
    harness.crash()
    harness.advance(900)
    harness.until(ready, 600)
    assert settled() == before
