"""Owner references: Background, Foreground and Orphan, as kubectl's --cascade asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubeup_core.controllers.garbage import GarbageController
from kubeup_core.kinds import KINDS, Cluster, Kind, Machine, NodePool
from kubeup_core.objects import Resource
from kubeup_core.testing.harness import Harness
from kubeup_core.verbs import Actor, DeleteOptions

USER = Actor("tester")


@pytest.fixture
def h(tmp_path: Path) -> Iterator[Harness]:
    with Harness(tmp_path, controllers=lambda env: [GarbageController(env)]) as harness:
        yield harness


def kind_of(model: type[Resource]) -> Kind:
    return next(k for k in KINDS if k.model is model)


def delete(h: Harness, model: type[Resource], name: str, propagation: str, namespace: str = "default") -> None:
    h.verbs.delete(kind_of(model), namespace, name, USER, DeleteOptions(propagation))


def pool(h: Harness, name: str = "web", **metadata: Any) -> NodePool:
    h.apply({"kind": "NodePool", "metadata": {"name": name, **metadata}, "spec": {"cluster": "demo"}})
    return h.get(NodePool, name)


def machine(h: Harness, name: str, *owners: Resource, **metadata: Any) -> Machine:
    references = [owner.reference().to_dict() for owner in owners]
    for reference in references[1:]:
        reference.pop("controller")
    meta = {"name": name, "ownerReferences": references, **metadata}
    h.apply({"kind": "Machine", "metadata": meta, "spec": {"cluster": "demo"}})
    return h.get(Machine, name)


def test_background_deletes_the_owner_at_once_and_then_its_dependents(h: Harness) -> None:
    machine(h, "web-0", pool(h))
    delete(h, NodePool, "web", "Background")
    assert h.find(NodePool, "web") is None
    assert h.find(Machine, "web-0") is not None
    h.settle()
    assert h.find(Machine, "web-0") is None


def test_foreground_keeps_the_owner_until_its_dependents_are_gone(h: Harness) -> None:
    machine(h, "web-0", pool(h), finalizers=["example.com/wait"])
    delete(h, NodePool, "web", "Foreground")
    h.settle()
    assert h.get(NodePool, "web").deleting
    assert h.get(Machine, "web-0").deleting
    h.edit(Machine, "web-0", metadata={"finalizers": None})
    h.settle()
    assert h.find(Machine, "web-0") is None
    assert h.find(NodePool, "web") is None


def test_foreground_does_not_wait_for_dependents_that_do_not_block(h: Harness) -> None:
    owner = pool(h)
    reference = owner.reference(block=False).to_dict()
    meta = {"name": "web-0", "ownerReferences": [reference], "finalizers": ["example.com/wait"]}
    h.apply({"kind": "Machine", "metadata": meta, "spec": {"cluster": "demo"}})
    delete(h, NodePool, "web", "Foreground")
    h.settle()
    assert h.find(NodePool, "web") is None
    assert h.get(Machine, "web-0").deleting


def test_orphan_lets_the_dependents_live_without_their_owner(h: Harness) -> None:
    machine(h, "web-0", pool(h))
    delete(h, NodePool, "web", "Orphan")
    h.settle()
    assert h.find(NodePool, "web") is None
    left = h.get(Machine, "web-0")
    assert left.metadata.owner_references is None
    assert not left.deleting


def test_a_dependent_with_another_living_owner_stays_and_forgets_the_dead_one(h: Harness) -> None:
    first, second = pool(h, "first"), pool(h, "second")
    machine(h, "shared", first, second)
    delete(h, NodePool, "first", "Background")
    h.settle()
    owners = h.get(Machine, "shared").metadata.owner_references or []
    assert [owner.uid for owner in owners] == [second.uid]


def test_a_new_owner_of_the_same_name_is_not_the_owner(h: Harness) -> None:
    machine(h, "web-0", pool(h), finalizers=["example.com/wait"])
    delete(h, NodePool, "web", "Background")
    pool(h)
    h.settle()
    assert h.get(Machine, "web-0").deleting


def test_what_was_left_behind_while_nothing_ran_is_collected_at_the_next_start(h: Harness) -> None:
    machine(h, "web-0", pool(h))
    delete(h, NodePool, "web", "Background")
    h.crash()
    h.settle()
    assert h.find(Machine, "web-0") is None


def test_a_dependent_created_after_its_owner_went_is_collected(h: Harness) -> None:
    owner = pool(h)
    delete(h, NodePool, "web", "Background")
    h.settle()
    machine(h, "web-0", owner)
    h.settle()
    assert h.find(Machine, "web-0") is None


def test_grandchildren_go_with_their_grandparent(h: Harness) -> None:
    h.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": {"provider": "sim"}})
    child = pool(h, ownerReferences=[h.get(Cluster, "demo").reference().to_dict()])
    machine(h, "web-0", child)
    delete(h, Cluster, "demo", "Foreground")
    h.settle()
    assert (h.find(Cluster, "demo"), h.find(NodePool, "web"), h.find(Machine, "web-0")) == (None, None, None)


def test_an_owner_of_an_unknown_kind_is_never_taken_for_gone(h: Harness) -> None:
    reference = {"apiVersion": "example.com/v1", "kind": "Thing", "name": "x", "uid": "1", "controller": True}
    h.apply({"kind": "Machine", "metadata": {"name": "m", "ownerReferences": [reference]}, "spec": {"cluster": "demo"}})
    h.settle()
    assert h.get(Machine, "m").metadata.owner_references


def test_a_protected_dependent_is_reported_and_deleted_once_it_may_be(h: Harness) -> None:
    machine(h, "web-0", pool(h))
    h.edit(Machine, "web-0", spec={"protect": True})
    delete(h, NodePool, "web", "Background")
    h.settle(30)
    assert not h.get(Machine, "web-0").deleting
    assert any("DeletionRefused" in line for line in h.messages("web-0"))
    h.edit(Machine, "web-0", spec={"protect": False})
    h.settle()
    assert h.find(Machine, "web-0") is None


def test_a_re_check_writes_nothing(h: Harness) -> None:
    machine(h, "web-0", pool(h))
    h.settle()
    before = h.writes.total()
    h.crash()
    h.settle()
    assert h.writes.total() == before
