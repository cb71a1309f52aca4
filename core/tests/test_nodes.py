"""Workload clusters as kubeup sees them: is the API there, what do its Nodes say, labels and taints, tokens, the functional check."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from kubeup_core.controllers.nodes import Nodes
from kubeup_core.kinds import Cluster, Machine
from kubeup_core.runtime.controller import Key
from kubeup_core.testing.harness import Harness

Make = Callable[..., Harness]
ME = ("cluster", Key("default", "demo"))


def up(h: Harness, *machines: str, **pool: Any) -> Nodes:
    """Cluster demo with Kubernetes, its API answering, and a Node for each Machine."""
    h.provider()
    kubernetes = {"version": "v1.34.1"}
    h.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": {"provider": "sim", "kubernetes": kubernetes}})
    secret = {"value": base64.b64encode(b"a kubeconfig").decode()}
    h.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "demo-kubeconfig"}, "data": secret})
    spec = {"cluster": "demo", "replicas": 0, "paused": False, **pool}
    h.apply({"kind": "NodePool", "metadata": {"name": "workers"}, "spec": spec})
    for name in machines:
        worker = {"cluster": "demo", "role": "worker", "pool": "workers"}
        h.apply({"kind": "Machine", "metadata": {"name": name}, "spec": worker})
        joined(h, name)
        h.workload().join(name)
    h.until(lambda: all(m.status.is_true("Ready") for m in h.machines()))
    return book(h)


def joined(h: Harness, name: str) -> None:
    """As if it had been bootstrapped: what that takes is tested elsewhere."""
    machine = h.get(Machine, name)
    machine.status.set_condition("Bootstrapped", True, "Joined", now=h.clock.wall())
    h.client.update_status(machine)


def book(h: Harness) -> Nodes:
    return h.manager.env.shared(Nodes)


def machine(h: Harness, name: str) -> Machine:
    return h.get(Machine, name)


def demo(h: Harness) -> Cluster:
    return h.get(Cluster, "demo")


def test_a_machine_is_shown_what_its_node_says(harness: Make) -> None:
    h = harness()
    nodes = up(h, "a")
    view = nodes.of(machine(h, "a"))
    assert view is not None
    assert (view.name, view.ready, view.kubelet_version) == ("a", True, "v1.34.1")
    assert nodes.health(machine(h, "a")).ok is True
    assert nodes.api(demo(h)).ok is True
    assert nodes.version(demo(h)) == "v1.34.1"
