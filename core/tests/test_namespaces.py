"""Namespace termination: everything in it goes, and the namespace goes last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubeup_core.controllers.namespace import NamespaceController
from kubeup_core.kinds import Launch, Machine, Namespace, NodePool, Secret
from kubeup_core.statuses import Forbidden
from kubeup_core.testing.harness import Harness


@pytest.fixture
def h(tmp_path: Path) -> Iterator[Harness]:
    with Harness(tmp_path, controllers=lambda env: [NamespaceController(env)]) as harness:
        harness.apply({"kind": "Namespace", "metadata": {"name": "team"}})
        yield harness


def put(h: Harness, kind: str, name: str, spec: dict[str, Any] | None = None, **metadata: Any) -> None:
    body: dict[str, Any] = {"kind": kind, "metadata": {"name": name, "namespace": "team", **metadata}}
    h.apply(body | ({"spec": spec} if spec else {}))


def conditions(h: Harness) -> dict[str, tuple[str, str]]:
    found = h.get(Namespace, "team").status.conditions or []
    return {c["type"]: (c["status"], c["message"]) for c in found}


def test_an_empty_namespace_goes(h: Harness) -> None:
    h.delete(Namespace, "team")
    h.settle()
    assert h.find(Namespace, "team") is None


def test_contents_of_every_kind_go_with_it(h: Harness) -> None:
    put(h, "Cluster", "demo", {"provider": "sim"})
    put(h, "NodePool", "web", {"cluster": "demo"})
    put(h, "Machine", "m", {"cluster": "demo"})
    put(h, "LoadBalancer", "front", {"cluster": "demo", "listeners": [{"port": 80}]})
    put(h, "Volume", "data", {"cluster": "demo", "size": "1Gi"})
    put(h, "Secret", "key")
    h.delete(Namespace, "team")
    h.settle()
    assert h.find(Namespace, "team") is None
    assert h.all(Secret) == []


def test_it_waits_for_finalizers_and_says_what_is_left(h: Harness) -> None:
    put(h, "Machine", "m", {"cluster": "demo"}, finalizers=["example.com/wait"])
    h.delete(Namespace, "team")
    h.settle()
    assert h.get(Namespace, "team").status.phase == "Terminating"
    status, message = conditions(h)["NamespaceContentRemaining"]
    assert status == "True"
    assert "machines.kubeup.dev has 1 left" in message
    h.edit(Machine, "m", "team", metadata={"finalizers": None})
    h.settle()
    assert h.find(Namespace, "team") is None


def test_secrets_and_launches_go_after_what_needs_them(h: Harness) -> None:
    put(h, "Secret", "key")
    offer = {"place": "a", "machineType": "small", "arch": "amd64", "spot": False, "cpu": 1.0, "memory": 1, "image": "x"}
    template = {"cpu": 1.0, "memory": 1, "disk": 1, "arch": "amd64", "image": "x"}
    launch = {"cluster": "demo", "clusterUID": "u", "provider": "sim", "identity": "i", "role": "plain", "members": []}
    put(h, "Launch", "launch", {**launch, "offer": offer, "template": template})
    put(h, "NodePool", "web", {"cluster": "demo"}, finalizers=["example.com/wait"])
    h.delete(Namespace, "team")
    h.settle()
    assert h.find(Secret, "key", "team") is not None
    assert h.find(Launch, "launch", "team") is not None
    h.edit(NodePool, "web", "team", metadata={"finalizers": None})
    h.settle()
    assert h.find(Namespace, "team") is None


def test_nothing_can_be_created_in_a_namespace_that_goes(h: Harness) -> None:
    put(h, "Machine", "m", {"cluster": "demo"}, finalizers=["example.com/wait"])
    h.delete(Namespace, "team")
    h.settle()
    with pytest.raises(Forbidden):
        put(h, "Machine", "late", {"cluster": "demo"})


def test_what_became_protected_meanwhile_is_named(h: Harness) -> None:
    put(h, "Machine", "m", {"cluster": "demo"})
    h.delete(Namespace, "team")
    h.edit(Machine, "m", "team", spec={"protect": True})
    h.settle(30)
    status, message = conditions(h)["NamespaceDeletionContentFailure"]
    assert status == "True"
    assert '"spec":{"protect":false}' in message
    h.edit(Machine, "m", "team", spec={"protect": False})
    h.settle()
    assert h.find(Namespace, "team") is None


def test_a_restart_in_the_middle_goes_on(h: Harness) -> None:
    put(h, "Machine", "m", {"cluster": "demo"}, finalizers=["example.com/wait"])
    h.delete(Namespace, "team")
    h.crash()
    h.settle()
    h.crash()
    h.edit(Machine, "m", "team", metadata={"finalizers": None})
    h.settle()
    assert h.find(Namespace, "team") is None


def test_a_namespace_that_waits_is_not_written_again(h: Harness) -> None:
    put(h, "Machine", "m", {"cluster": "demo"}, finalizers=["example.com/wait"])
    h.delete(Namespace, "team")
    h.settle()
    before = h.writes.total()
    h.advance(3600)
    h.crash()
    h.settle()
    assert h.writes.total() == before
