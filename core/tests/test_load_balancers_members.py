"""Which machines are put behind a load balancer. Pure."""

from __future__ import annotations

from typing import Any

import pytest
from kubeup_core.controllers.members import Backend, Chosen, choose
from kubeup_core.kinds import Cluster, LoadBalancer, Machine
from kubeup_core.supplier import Mark, Ref

HERE = "sim"
BOTH = frozenset({"machine", "address"})


def machine(name: str, state: str = "Ready", *, deleting: bool = False, labels: Any = None, **spec: Any) -> Machine:
    metadata: dict[str, Any] = {"name": name, "namespace": "default", "labels": labels}
    if deleting:
        metadata["deletionTimestamp"] = "2027-01-01T00:00:00Z"
    addresses = [{"type": "ExternalIP", "address": "192.0.2.1"}, {"type": "InternalIP", "address": "10.0.0.1"}]
    status = {"state": state, "id": f"i-{name}", "addresses": addresses, "resolved": {"provider": HERE, "zone": "z"}}
    return Machine.model_validate({"metadata": metadata, "spec": {"cluster": "demo", **spec}, "status": status})


def balancer(**members: Any) -> LoadBalancer:
    spec = {"cluster": "demo", "listeners": [{"port": 80}], "members": members}
    return LoadBalancer.model_validate({"metadata": {"name": "lb", "namespace": "default"}, "spec": spec})


def backend(machine: Machine) -> Backend | None:
    """Machines whose name begins with "far" are of another account."""
    mark = Mark(installation="i", cluster="c", cluster_name="demo", kind="Machine", maker="l")
    far = machine.name.startswith("far")
    ref = None if far else Ref(id=machine.status.id or "", mark=mark)
    return Backend(machine=machine, provider="away" if far else HERE, ref=ref)


def pick(
    lb: LoadBalancer, *machines: Machine, serving: Any = (), members_by: frozenset[str] = BOTH, fabrics: Any = None, **spec: Any
) -> Chosen:
    networks = [{"provider": n, "id": "n", "state": "Ready", "fabric": f} for n, f in (fabrics or {}).items()]
    cluster = Cluster.model_validate(
        {"metadata": {"name": "demo"}, "spec": {"provider": HERE, **spec}, "status": {"networks": networks}}
    )
    return choose(lb, cluster, HERE, machines, members_by=members_by, serving=serving, backend=backend)


def keys(chosen: Chosen) -> list[tuple[str, bool]]:
    return [(m.key, m.drain) for m in chosen.wish]


def test_labels_select_and_so_do_what_every_machine_is() -> None:
    lb = balancer(selector={"kubeup.dev/pool": "web", "tier": "front"})
    chosen = pick(
        lb,
        machine("b", pool="web", labels={"tier": "front"}),
        machine("a", pool="web", labels={"tier": "front"}),
        machine("c", pool="db", labels={"tier": "front"}),
        machine("d", pool="web"),
    )
    assert keys(chosen) == [("a", False), ("b", False)]


def test_names_select_too() -> None:
    assert keys(pick(balancer(machines=["b", "z"]), machine("a"), machine("b"))) == [("b", False)]


def test_without_either_it_is_every_machine_but_control_planes() -> None:
    assert keys(pick(balancer(), machine("a"), machine("cp", role="controlPlane"))) == [("a", False)]


def test_machines_of_other_clusters_are_never_members() -> None:
    other = machine("a")
    other.spec.cluster = "other"
    assert keys(pick(balancer(), other)) == []


@pytest.mark.parametrize("state", ["Failed", "Deleting"])
def test_a_machine_that_is_over_is_left_out(state: str) -> None:
    assert keys(pick(balancer(), machine("a", state))) == []


def test_a_machine_that_cannot_be_seen_stays_where_it_is() -> None:
    assert keys(pick(balancer(), machine("a", "Unknown"))) == [("a", False)]


def test_a_machine_without_an_address_waits() -> None:
    new = machine("a", "Launching")
    new.status.addresses = []
    assert keys(pick(balancer(), new)) == []


def test_a_machine_that_is_being_deleted_drains_when_it_is_behind_the_balancer() -> None:
    assert keys(pick(balancer(), machine("a", deleting=True), serving={"a"})) == [("a", True)]


def test_a_machine_that_is_being_deleted_is_never_added() -> None:
    assert keys(pick(balancer(), machine("a", deleting=True))) == []


def test_members_are_named_by_their_internal_address_and_their_mark() -> None:
    member = pick(balancer(), machine("a")).wish[0]
    assert (member.address, member.place, member.ref and member.ref.id) == ("10.0.0.1", "z", "i-a")


def test_a_balancer_that_takes_addresses_only_is_given_no_refs() -> None:
    assert pick(balancer(), machine("a"), members_by=frozenset({"address"})).wish[0].ref is None


def test_a_machine_of_another_account_goes_in_by_address_within_one_fabric() -> None:
    chosen = pick(balancer(), machine("far"), fabrics={HERE: "f", "away": "f"})
    assert keys(chosen) == [("far", False)]
    assert chosen.wish[0].ref is None


def test_a_machine_of_another_account_is_refused_where_addresses_are_not_taken() -> None:
    chosen = pick(balancer(), machine("far"), machine("near"), members_by=frozenset({"machine"}))
    assert keys(chosen) == [("near", False)]
    assert "take only machines of their own account" in chosen.refused["far"]


def test_a_machine_on_another_fabric_is_refused_with_both_named() -> None:
    chosen = pick(balancer(), machine("far"), fabrics={HERE: "vpc-1", "away": "lan-2"})
    assert keys(chosen) == []
    assert "(lan-2)" in chosen.refused["far"]
    assert "(vpc-1)" in chosen.refused["far"]
    assert "network.routed: true" in chosen.refused["far"]


def test_routed_fabrics_are_believed() -> None:
    routed = pick(balancer(), machine("far"), fabrics={HERE: "vpc-1", "away": "lan-2"}, network={"routed": True})
    assert keys(routed) == [("far", False)]
