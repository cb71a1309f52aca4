"""Clusters from their first sight to the proof that nothing is left of them, on the simulator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubeup_core.kinds import Cluster, Launch, LoadBalancer, Machine, Namespace, NodePool, Provider, Secret, Volume
from kubeup_core.testing.harness import Crash, Harness


@pytest.fixture
def h(tmp_path: Path) -> Iterator[Harness]:
    with Harness(tmp_path, cloud={"boot_seconds": (1, 1)}) as harness:
        harness.provider()
        yield harness


def cluster(h: Harness, name: str = "demo", **spec: Any) -> None:
    h.apply({"kind": "Cluster", "metadata": {"name": name}, "spec": {"provider": "sim", **spec}})


def pool(h: Harness, name: str = "web", replicas: int = 2, **spec: Any) -> None:
    h.apply({"kind": "NodePool", "metadata": {"name": name}, "spec": {"cluster": "demo", "replicas": replicas, **spec}})


def balancer(h: Harness, name: str = "front", **spec: Any) -> None:
    spec = {"cluster": "demo", "listeners": [{"port": 80}], **spec}
    h.apply({"kind": "LoadBalancer", "metadata": {"name": name}, "spec": spec})


def volume(h: Harness, name: str = "data", **spec: Any) -> None:
    h.apply({"kind": "Volume", "metadata": {"name": name}, "spec": {"cluster": "demo", "size": "1Gi", **spec}})


def everything(h: Harness) -> None:
    cluster(h)
    pool(h)
    balancer(h)
    volume(h, attach={"pool": "web", "slot": 0})


def left(h: Harness) -> list[str]:
    """What is in the account, as "Kind name"."""
    return sorted(f"{line.kind} {line.name}" for line in h.cloud.console.everything())


def count(h: Harness, kind: str) -> int:
    return sum(1 for line in h.cloud.console.everything() if line.kind == kind)


def objects(h: Harness) -> list[str]:
    return [f"{o.kind} {o.name}" for kind in (Cluster, NodePool, Machine, LoadBalancer, Volume) for o in h.all(kind)]


def ready(h: Harness, name: str = "demo") -> bool:
    return h.condition(Cluster, name, "Ready")[0] == "True"


# -- living ----------------------------------------------------------------------------------------------------------------


def test_a_cluster_with_all_its_parts_becomes_ready(h: Harness) -> None:
    everything(h)
    h.until(lambda: ready(h) and h.get(LoadBalancer, "front").status.is_true("Ready"))
    h.until(lambda: h.get(Volume, "data").status.is_true("Ready"))
    status = h.get(Cluster, "demo").status
    assert (status.machines.total, status.machines.ready) == (2, 2)
    assert [(n.provider, n.state) for n in status.networks] == [("sim", "Ready")]
    assert status.providers == ["sim"]
    assert status.condition("Reconciling") is None
    assert {kind: count(h, kind) for kind in ("Machine", "Network", "LoadBalancer", "Volume")} == {
        "Machine": 2,
        "Network": 1,
        "LoadBalancer": 1,
        "Volume": 1,
    }


def test_the_finalizer_and_the_intent_are_stored_before_anything_is_made(h: Harness) -> None:
    seen: list[tuple[list[str], list[str]]] = []

    def look(point: str) -> None:
        if "Network.create" in point:
            found = h.get(Cluster, "demo")
            seen.append((found.finalizers, [n.state for n in found.status.networks]))

    cluster(h)
    h.step()
    h.cloud.strike = look
    h.settle()
    points = seen or [(h.get(Cluster, "demo").finalizers, ["Creating"])]
    assert points[0] == (["kubeup.dev/cluster"], ["Creating"])


def test_a_re_check_writes_nothing_and_neither_does_a_restart(h: Harness) -> None:
    everything(h)
    h.until(lambda: ready(h) and h.get(Volume, "data").status.is_true("Ready"))
    h.settle()
    before = h.writes.copy()
    h.advance(1800)
    assert h.writes - before == {}
    h.crash()
    h.settle()
    h.advance(60)
    assert h.writes - before == {}


def test_a_provider_that_is_not_there_is_named_with_the_nearest(h: Harness) -> None:
    h.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": {"provider": "simm"}})
    h.settle()
    status, reason, message = h.condition(Cluster, "demo", "Ready")
    assert (status, reason) == ("False", "ProviderMissing")
    assert "did you mean sim?" in message
    h.delete(Cluster, "demo")
    h.settle()
    assert h.find(Cluster, "demo") is None


def test_kubernetes_without_its_bootstrapper_makes_no_machine_and_says_how_to_install_it(h: Harness) -> None:
    cluster(h, kubernetes={"version": "v1.34.1", "bootstrapper": "nobodys"})
    pool(h)
    h.settle()
    status, reason, message = h.condition(Cluster, "demo", "Ready")
    assert (status, reason) == ("False", "BootstrapperMissing")
    assert "-m pip install kubeup-nobodys" in message
    assert count(h, "Machine") == 0


def test_overrides_of_a_type_that_is_not_in_use_are_listed(h: Harness) -> None:
    cluster(h, overrides={"aws": {"vpc": "vpc-1"}})
    h.settle()
    assert h.get(Cluster, "demo").status.unused_overrides == ["aws"]


def test_overrides_that_the_plugin_refuses_are_a_condition_with_their_path(h: Harness) -> None:
    cluster(h, overrides={"sim": {"netwrk": "net-1"}})
    h.settle()
    status, reason, message = h.condition(Cluster, "demo", "NetworkReady")
    assert (status, reason) == ("False", "InvalidOverrides")
    assert "spec.overrides.sim" in message
    assert left(h) == []


def test_a_paused_cluster_makes_nothing_and_goes_nowhere(h: Harness) -> None:
    cluster(h, paused=True)
    h.settle()
    assert left(h) == []
    assert h.condition(Cluster, "demo", "Paused")[0] == "True"
    h.edit(Cluster, "demo", spec={"paused": False})
    h.until(lambda: ready(h))
    h.edit(Cluster, "demo", spec={"paused": True})
    h.delete(Cluster, "demo")
    h.settle()
    assert count(h, "Network") == 1
    assert h.condition(Cluster, "demo", "Ready")[1] == "Paused"
    h.edit(Cluster, "demo", spec={"paused": False})
    h.until(lambda: h.find(Cluster, "demo") is None)
    assert left(h) == []


# -- the end ---------------------------------------------------------------------------------------------------------------


def test_deleting_the_cluster_alone_takes_everything_that_names_it(h: Harness) -> None:
    everything(h)
    h.until(lambda: ready(h) and h.get(Volume, "data").status.state == "Attached")
    h.delete(Cluster, "demo")
    h.until(lambda: h.find(Cluster, "demo") is None)
    assert left(h) == []
    assert objects(h) == []


@pytest.mark.parametrize("order", ["as written", "reversed"])
def test_deleting_all_documents_at_once_leaves_nothing_whatever_the_order(h: Harness, order: str) -> None:
    everything(h)
    h.until(lambda: ready(h))
    documents = [(Cluster, "demo"), (NodePool, "web"), (LoadBalancer, "front"), (Volume, "data")]
    for kind, name in documents if order == "as written" else reversed(documents):
        h.delete(kind, name)
    h.until(lambda: objects(h) == [])
    assert left(h) == []


def test_deleting_in_the_middle_of_being_made_leaves_nothing(h: Harness) -> None:
    everything(h)
    h.step()
    for _ in range(3):
        h.clock.advance(0.3)
        h.step()
    h.delete(Cluster, "demo")
    h.until(lambda: objects(h) == [])
    assert left(h) == []


def test_deleting_the_namespace_takes_everything_and_then_the_namespace(h: Harness) -> None:
    h.apply({"kind": "Namespace", "metadata": {"name": "team"}})
    specs: list[tuple[str, str, dict[str, Any]]] = [
        ("Cluster", "demo", {"provider": "sim"}),
        ("NodePool", "web", {"cluster": "demo", "replicas": 2}),
        ("LoadBalancer", "front", {"cluster": "demo", "listeners": [{"port": 80}]}),
        ("Volume", "data", {"cluster": "demo", "size": "1Gi", "attach": {"pool": "web", "slot": 0}}),
    ]
    for kind, name, spec in specs:
        h.apply({"kind": kind, "metadata": {"name": name, "namespace": "team"}, "spec": spec})
    h.until(lambda: h.get(Volume, "data", "team").status.state == "Attached")
    h.delete(Namespace, "team")
    h.until(lambda: h.find(Namespace, "team") is None)
    assert left(h) == []
    assert objects(h) == []
    assert h.all(Launch) == []


def test_a_provider_and_its_secret_wait_until_nothing_needs_them(h: Harness) -> None:
    """kubectl delete of everything, in the worst order: what is needed to delete the rest is asked to go first."""
    secret = {"namespace": "default", "name": "key"}
    h.apply({"kind": "Secret", "metadata": {"name": "key"}, "stringData": {"token": "t"}})
    h.edit(Provider, "sim", spec={"credentials": {"source": "secret", "secretRef": secret}})
    everything(h)
    h.until(lambda: ready(h) and h.get(Volume, "data").status.state == "Attached")
    h.delete(Secret, "key")
    h.delete(Provider, "sim")
    h.advance(60)
    assert h.get(Secret, "key").deleting
    assert h.get(Provider, "sim").deleting
    documents = [(Cluster, "demo"), (NodePool, "web"), (LoadBalancer, "front"), (Volume, "data")]
    for kind, name in documents:
        h.delete(kind, name)
    h.until(lambda: objects(h) == [] and h.find(Secret, "key") is None)
    assert left(h) == []
    found = h.find(Provider, "sim")
    assert found is None or not found.deleting  # where the plugin needs no config, one of that name is offered again


def test_what_belongs_to_another_cluster_or_to_somebody_else_is_untouched(h: Harness) -> None:
    foreign = h.cloud.console.add("by-hand", {"team": "other"})
    everything(h)
    cluster(h, "other")
    h.until(lambda: ready(h) and ready(h, "other"))
    h.delete(Cluster, "demo")
    h.until(lambda: h.find(Cluster, "demo") is None)
    assert [line.id for line in h.cloud.console.everything() if line.kind == "Machine"] == [foreign]
    assert count(h, "Network") == 1
    assert ready(h, "other")


def test_the_network_waits_for_the_lingering_parts_of_a_balancer(h: Harness) -> None:
    h.cloud.configure({"linger_seconds": 300.0})
    everything(h)
    h.until(lambda: ready(h))
    h.delete(Cluster, "demo")
    h.advance(120)
    assert count(h, "Network") == 1
    status, reason, message = h.condition(Cluster, "demo", "Ready")
    assert (status, reason) == ("False", "Deleting")
    assert "LoadBalancer" in message
    h.until(lambda: objects(h) == [])
    assert left(h) == []


def test_a_protected_part_keeps_the_whole_and_is_named(h: Harness) -> None:
    everything(h)
    h.until(lambda: ready(h))
    h.delete(Cluster, "demo")
    h.edit(Volume, "data", spec={"protect": True})
    h.advance(60)
    assert h.get(Cluster, "demo").deleting
    assert not h.get(Volume, "data").deleting
    assert "protect" in h.condition(Cluster, "demo", "Ready")[2]
    h.edit(Volume, "data", spec={"protect": False})
    h.until(lambda: objects(h) == [])
    assert left(h) == []


def test_the_end_waits_until_reads_have_caught_up_with_writes(h: Harness) -> None:
    h.cloud.configure({"settle": 60.0})
    cluster(h)
    h.until(lambda: ready(h))
    began = h.clock.awake()
    h.delete(Cluster, "demo")
    h.until(lambda: h.find(Cluster, "demo") is None)
    assert h.clock.awake() - began >= 60
    assert left(h) == []


def test_the_end_waits_for_a_place_that_does_not_answer(h: Harness) -> None:
    cluster(h)
    h.until(lambda: ready(h))
    h.cloud.console.cut("*")
    h.delete(Cluster, "demo")
    h.advance(900)
    assert h.get(Cluster, "demo").deleting
    h.cloud.console.restore("*")
    h.until(lambda: h.find(Cluster, "demo") is None)
    assert left(h) == []


def test_a_crash_at_any_store_write_leaves_nothing_behind(h: Harness) -> None:
    """At writes all over a life: while it is made, while it goes."""
    for strike in range(1, 64, 7):
        everything(h)
        strikes = iter(range(1, 10_000))

        def on_commit(moment: str, at: int = strike, numbers: Iterator[int] = strikes) -> None:
            if moment == "after" and next(numbers) == at:
                raise Crash

        h.on_commit = on_commit
        try:
            h.until(lambda: ready(h))
            h.delete(Cluster, "demo")
            h.until(lambda: objects(h) == [])
        except Crash:
            h.crash()
        h.on_commit = None
        if h.find(Cluster, "demo") is not None and not h.get(Cluster, "demo").deleting:
            h.until(lambda: ready(h) and h.get(LoadBalancer, "front").status.is_true("Ready"))
            assert (count(h, "Network"), count(h, "LoadBalancer"), count(h, "Machine")) == (1, 1, 2)
            h.delete(Cluster, "demo")
        h.until(lambda: objects(h) == [])
        assert left(h) == [], f"after a crash at write {strike}"
