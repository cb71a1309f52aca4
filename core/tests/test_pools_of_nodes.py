"""Pools of a whole rehearsed Kubernetes cluster: scaled down, repaired and rolled with what runs on their Nodes in mind."""

from __future__ import annotations

import pytest
from kubeup_core.kinds import Machine, NodePool
from kubeup_core.testing.harness import Harness
from kubeup_core.testing.rehearsal import NAME

pytest.importorskip("kubeup_sim", reason="the simulated cloud is the distribution kubeup-sim: pip install kubeup-sim")


@pytest.fixture
def harness(rehearsed: Harness) -> Harness:
    """Cluster demo with one control plane and three workers that are Ready."""
    rehearsed.provider()
    kubernetes = {"version": "v1.34.1", "bootstrapper": NAME}
    rehearsed.apply(
        {"kind": "Cluster", "metadata": {"name": "demo"}, "spec": {"provider": "sim", "kubernetes": kubernetes}},
        {"kind": "NodePool", "metadata": {"name": "workers"}, "spec": {"cluster": "demo", "replicas": 3}},
    )
    rehearsed.ready(4, 1200)
    return rehearsed


def workers(h: Harness) -> list[Machine]:
    return [m for m in h.machines() if m.spec.pool == "workers"]


def test_a_smaller_pool_moves_its_pods_to_what_is_left(harness: Harness) -> None:
    for i, machine in enumerate(workers(harness)):
        harness.workload().pod(f"web{i}", machine.name, labels={"app": "web"}, grace=5)
    harness.workload().budget("two", {"app": "web"}, 2)
    harness.edit(NodePool, "workers", spec={"replicas": 1})
    harness.until(lambda: len(harness.machines()) == 2, 600)
    left = {m.name for m in harness.machines()}
    assert set(harness.workload().nodes()) == left
    assert len(harness.workload().pods()) == 3
    assert sum(len(harness.workload().pods(name)) for name in left) == 3


def test_a_worker_whose_kubelet_is_silent_is_replaced_and_its_node_goes(harness: Harness) -> None:
    lost = workers(harness)[1]
    harness.workload().silence(lost.name)
    harness.until(lambda: lost.uid not in [m.uid for m in harness.machines()], 1200)
    harness.ready(4, 1200)
    assert harness.workload().nodes() == sorted(m.name for m in harness.machines())
    for machine in workers(harness):
        assert harness.workload().node(machine.name)["metadata"]["annotations"]["kubeup.dev/machine"] == machine.uid


def test_a_changed_template_rolls_over_drained_nodes(harness: Harness) -> None:
    before = {m.uid for m in workers(harness)}
    for machine in workers(harness):
        harness.workload().pod(f"web-{machine.name}", machine.name, labels={"app": "web"}, grace=5)
    harness.workload().budget("two", {"app": "web"}, 2)
    harness.edit(NodePool, "workers", spec={"machine": {"cpu": 4}})
    harness.until(lambda: not before & {m.uid for m in harness.machines()}, 3600)
    harness.ready(4, 1200)
    assert len(harness.workload().pods()) == 3
    assert harness.workload().nodes() == sorted(m.name for m in harness.machines())
