"""Networks: one per cluster and Provider, none made twice, none deleted too early or left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubeup_core.kinds import Cluster, Machine, NodePool
from kubeup_core.testing.harness import Crash, Harness


@pytest.fixture
def h(tmp_path: Path) -> Iterator[Harness]:
    with Harness(tmp_path, cloud={"boot_seconds": (1, 1)}) as harness:
        harness.provider()
        yield harness


def cluster(h: Harness, name: str = "demo", **spec: Any) -> None:
    h.apply({"kind": "Cluster", "metadata": {"name": name}, "spec": {"provider": "sim", **spec}})


def pool(h: Harness, name: str = "web", **spec: Any) -> None:
    h.apply({"kind": "NodePool", "metadata": {"name": name}, "spec": {"cluster": "demo", **spec}})


def networks(h: Harness) -> list[str]:
    return [line.id for line in h.cloud.console.everything() if line.kind == "Network"]


def records(h: Harness, name: str = "demo") -> dict[str, str]:
    return {n.provider: n.state for n in h.get(Cluster, name).status.networks}


def ready(h: Harness) -> bool:
    return h.condition(Cluster, "demo", "Ready")[0] == "True"


def test_each_cluster_has_its_own(h: Harness) -> None:
    cluster(h)
    cluster(h, "other")
    h.settle()
    assert len(networks(h)) == 2
    assert records(h) == records(h, "other") == {"sim": "Ready"}


def test_two_providers_of_one_account_share_one(h: Harness) -> None:
    h.provider("sim-b")
    cluster(h)
    pool(h, provider="sim-b")
    h.until(lambda: ready(h))
    assert len(networks(h)) == 1
    assert records(h) == {"sim": "Ready", "sim-b": "Ready"}
    h.delete(NodePool, "web")
    h.until(lambda: records(h) == {"sim": "Ready"})
    assert len(networks(h)) == 1
    h.delete(Cluster, "demo")
    h.until(lambda: h.find(Cluster, "demo") is None)
    assert networks(h) == []


def test_a_second_account_gets_its_own_and_loses_it_when_it_is_no_longer_used(h: Harness) -> None:
    h.provider("away", account="second")
    cluster(h)
    pool(h, provider="away")
    h.until(lambda: ready(h))
    assert records(h) == {"sim": "Ready", "away": "Ready"}
    assert len(networks(h)) == 1
    status = h.get(Cluster, "demo").status
    assert len({n.fabric for n in status.networks}) == 2
    h.edit(NodePool, "web", spec={"provider": "sim"})
    h.until(lambda: records(h) == {"sim": "Ready"} and h.get(Cluster, "demo").status.providers == ["sim"])
    h.until(lambda: ready(h))


def test_a_network_in_use_stays_until_the_last_machine_is_out(h: Harness) -> None:
    h.provider("away", account="second")
    cluster(h)
    pool(h, provider="away")
    h.until(lambda: ready(h))
    machine = h.machines()[0]
    h.edit(Machine, machine.name, metadata={"finalizers": [*machine.finalizers, "example.com/wait"]})
    h.delete(NodePool, "web")
    h.advance(120)
    assert records(h)["away"] == "Ready"
    h.edit(Machine, machine.name, metadata={"finalizers": None})
    h.until(lambda: "away" not in records(h))


def test_a_lost_reply_to_its_creation_makes_no_second_one(h: Harness) -> None:
    h.cloud.faults.add("lostReply", operation="create", kind="Network")
    h.cloud.configure({"settle": 20.0})
    cluster(h)
    h.until(lambda: ready(h))
    assert len(networks(h)) == 1


def test_a_lost_request_is_sent_again(h: Harness) -> None:
    h.cloud.faults.add("lostRequest", operation="create", kind="Network")
    cluster(h)
    h.until(lambda: ready(h))
    assert len(networks(h)) == 1


@pytest.mark.parametrize("fault", ["lostReply", "lostRequest", "throttle"])
def test_a_deletion_that_goes_wrong_is_finished(h: Harness, fault: str) -> None:
    cluster(h)
    h.until(lambda: ready(h))
    h.cloud.faults.add(fault, operation="delete", kind="Network", times=2)
    h.delete(Cluster, "demo")
    h.until(lambda: h.find(Cluster, "demo") is None)
    assert networks(h) == []


@pytest.mark.parametrize("moment", range(1, 9))
def test_a_crash_at_any_request_makes_no_second_one_and_leaves_none(h: Harness, moment: int) -> None:
    h.cloud.configure({"settle": 5.0})
    cluster(h)
    h.step()
    numbers = iter(range(1, 1000))

    def strike(point: str) -> None:
        if "Network" in point and next(numbers) == moment:
            raise Crash

    h.cloud.strike = strike
    try:
        h.until(lambda: ready(h))
        h.delete(Cluster, "demo")
        h.until(lambda: h.find(Cluster, "demo") is None)
    except Crash:
        h.crash()
        if not h.get(Cluster, "demo").deleting:
            h.until(lambda: ready(h))
            assert len(networks(h)) == 1
            h.delete(Cluster, "demo")
        h.until(lambda: h.find(Cluster, "demo") is None)
    assert networks(h) == []


def test_denied_credentials_are_said_and_it_goes_on_when_they_work(h: Harness) -> None:
    cluster(h)
    h.cloud.faults.add("denied", kind="Network", operation="create")
    h.step()
    h.advance(1)
    status, _, message = h.condition(Cluster, "demo", "NetworkReady")
    assert status == "False"
    assert "sim" in message
    h.until(lambda: ready(h))


def test_one_that_vanished_is_made_again(h: Harness) -> None:
    cluster(h)
    h.until(lambda: ready(h))
    first = networks(h)
    mark = {"kubeup/installation": h.manager.env.installation}
    for network, _ in h.cloud.networking.find(mark):
        h.cloud.state.remove(network)
    h.until(lambda: networks(h) != [])
    h.until(lambda: ready(h) and records(h) == {"sim": "Ready"})
    assert networks(h) != first
    assert [n.id for n in h.get(Cluster, "demo").status.networks] == networks(h)


def test_one_that_the_overrides_name_is_used_and_never_deleted(h: Harness) -> None:
    theirs = h.cloud.networking.create("theirs", "10.99.0.0/16", {"team": "other"}).id
    cluster(h, overrides={"sim": {"network": theirs}})
    h.until(lambda: ready(h))
    assert [n.id for n in h.get(Cluster, "demo").status.networks] == [theirs]
    before = h.writes.total()
    h.advance(1800)
    assert h.writes.total() == before
    h.delete(Cluster, "demo")
    h.until(lambda: h.find(Cluster, "demo") is None)
    assert networks(h) == [theirs]


def test_the_firewall_follows_the_load_balancers(h: Harness) -> None:
    cluster(h)
    h.until(lambda: ready(h))

    def opened() -> set[int]:
        network, _ = h.cloud.networking.get(networks(h)[0])
        return {rule[3] for rule in network.rules if rule[0] == "*"}

    assert opened() == set()
    spec = {"cluster": "demo", "listeners": [{"port": 80, "targetPort": 8080}]}
    h.apply({"kind": "LoadBalancer", "metadata": {"name": "front"}, "spec": spec})
    h.until(lambda: opened() == {8080})
