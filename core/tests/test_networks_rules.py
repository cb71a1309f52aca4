"""Which traffic a network lets through, and which pools could not reach the rest of their cluster. Pure."""

from __future__ import annotations

from typing import Any

import pytest
from kubeup_core.controllers.network_rules import providers_of, reachable, rules
from kubeup_core.kinds import Cluster, LoadBalancer, Machine, NodePool


def cluster(fabrics: dict[str, str] | None = None, **spec: Any) -> Cluster:
    networks = [{"provider": name, "id": "n", "state": "Ready", "fabric": fabric} for name, fabric in (fabrics or {}).items()]
    return Cluster.model_validate(
        {"metadata": {"name": "demo"}, "spec": {"provider": "home", **spec}, "status": {"networks": networks}}
    )


def kubernetes(fabrics: dict[str, str] | None = None, **spec: Any) -> Cluster:
    return cluster(fabrics, kubernetes={"version": "v1.34.1"}, **spec)


def pool(**spec: Any) -> NodePool:
    return NodePool.model_validate({"metadata": {"name": "p"}, "spec": {"cluster": "demo", **spec}})


def balancer(**spec: Any) -> LoadBalancer:
    listeners = [{"port": 80, "targetPort": 8080}]
    return LoadBalancer.model_validate(
        {"metadata": {"name": "lb"}, "spec": {"cluster": "demo", "listeners": listeners, **spec}}
    )


def opened(found: Any) -> set[tuple[str, str, str, int]]:
    """What is open to more than the cluster itself."""
    return {(r.from_role, r.to_role, r.protocol, r.low) for r in found if r.from_role == "*"}


def test_machines_of_a_plain_cluster_reach_each_other_and_nobody_else_reaches_them() -> None:
    found = rules(cluster(), [])
    assert [(r.from_role, r.to_role, r.protocol) for r in found] == [("plain", "plain", "all")]


def test_ssh_is_open_only_where_machines_are_reached_by_it() -> None:
    assert opened(rules(cluster(), [], ssh_port=2222)) == {("*", "plain", "tcp", 2222)}


def test_the_endpoint_of_kubernetes_is_open_when_it_is_public() -> None:
    assert opened(rules(kubernetes(), [])) == {("*", "controlPlane", "tcp", 6443)}
    assert opened(rules(kubernetes(endpoint={"exposure": "internal"}), [])) == set()


def test_the_target_ports_of_a_public_balancer_are_open_and_its_health_port_too() -> None:
    assert opened(rules(cluster(), [balancer(health={"port": 9000})])) == {
        ("*", "plain", "tcp", 8080),
        ("*", "plain", "tcp", 9000),
    }


def sources(found: Any) -> dict[tuple[str, int], tuple[str, ...]]:
    return {(r.to_role, r.low): r.sources for r in found if r.from_role == "*"}


def test_what_a_balancer_allows_is_all_that_its_members_let_in() -> None:
    lb = balancer(allowFrom=["192.0.2.0/24", "10.0.0.0/8"], health={"port": 9000})
    allowed = ("10.0.0.0/8", "192.0.2.0/24")
    assert sources(rules(cluster(), [lb])) == {("plain", 8080): allowed, ("plain", 9000): allowed}
    lb.status.pool = "front-lb"
    assert sources(rules(cluster(), [lb])) == {("loadBalancer", 80): allowed}
    assert opened(rules(cluster(), [balancer(allowFrom=[])])) == set()


def test_who_is_allowed_besides_everybody_makes_no_difference() -> None:
    both = balancer(allowFrom=["10.0.0.0/8", "0.0.0.0/0"])
    assert rules(cluster(), [both]) == rules(cluster(), [balancer()])


def test_two_balancers_of_one_port_let_in_whom_either_allows() -> None:
    found = rules(cluster(), [balancer(allowFrom=["10.0.0.0/8"]), balancer(allowFrom=["192.0.2.0/24"])])
    assert [r.sources for r in found if r.from_role == "*"] == [("10.0.0.0/8",), ("192.0.2.0/24",)]


def test_control_planes_behind_a_balancer_let_in_whom_the_endpoint_allows_and_one_alone_everybody() -> None:
    """Nodes come to one alone by its public address, and from theirs."""
    endpoint = {"allowFrom": ["192.0.2.0/24"]}
    behind = kubernetes(endpoint=endpoint, controlPlane={"replicas": 3})
    assert sources(rules(behind, [])) == {("controlPlane", 6443): ("192.0.2.0/24",)}
    assert sources(rules(kubernetes(endpoint=endpoint), [])) == {("controlPlane", 6443): ("0.0.0.0/0",)}


def test_an_internal_balancer_opens_nothing_to_the_world() -> None:
    assert opened(rules(cluster(), [balancer(exposure="internal")])) == set()


def test_a_balancer_for_control_planes_opens_theirs_only() -> None:
    members = {"selector": {"kubeup.dev/role": "controlPlane"}}
    found = opened(rules(kubernetes(endpoint={"exposure": "internal"}), [balancer(members=members)]))
    assert found == {("*", "controlPlane", "tcp", 8080)}


def test_a_balancer_of_named_machines_opens_the_roles_that_they_have() -> None:
    machine = Machine.model_validate({"metadata": {"name": "m"}, "spec": {"cluster": "demo", "role": "worker"}})
    lb = balancer(members={"machines": ["m", "not-there-yet"]})
    assert ("*", "worker", "tcp", 8080) in opened(rules(kubernetes(), [lb], [machine]))


def test_rules_do_not_depend_on_the_order_of_balancers() -> None:
    one, two = balancer(), balancer(listeners=[{"port": 53, "protocol": "UDP"}])
    assert rules(cluster(), [one, two]) == rules(cluster(), [two, one])


def test_a_pool_may_name_one_provider_or_several_or_leave_it_to_the_cluster() -> None:
    assert providers_of(cluster(), pool()) == ("home",)
    assert providers_of(cluster(), pool(provider="away")) == ("away",)
    offers = [{"provider": "lab"}, {"provider": "cloud"}, {"provider": "lab", "spot": True}]
    assert providers_of(cluster(), pool(provider="away", offers=offers)) == ("lab", "cloud")


def test_one_fabric_over_two_providers_works() -> None:
    assert reachable(kubernetes({"home": "vpc-1", "away": "vpc-1"}), pool(provider="away")) is None


def test_different_fabrics_are_a_problem_that_names_both_and_what_to_do() -> None:
    problem = reachable(kubernetes({"home": "aws:vpc-1", "away": "docker:ab12"}), pool(provider="away"))
    assert problem is not None
    assert problem.message == "pool p (docker:ab12) and the control plane (aws:vpc-1) cannot reach each other"
    assert "set network.routed: true" in problem.remedy
    assert "use two clusters" in problem.remedy


def test_routed_networks_are_believed() -> None:
    routed = kubernetes({"home": "aws:vpc-1", "away": "docker:ab12"}, network={"routed": True})
    assert reachable(routed, pool(provider="away")) is None


def test_only_the_offer_that_cannot_be_reached_is_refused() -> None:
    mixed = kubernetes({"home": "a", "near": "a", "far": "b"})
    overflowing = pool(offers=[{"provider": "near"}, {"provider": "far"}])
    assert reachable(mixed, overflowing, "near") is None
    assert reachable(mixed, overflowing, "far") is not None
    assert reachable(mixed, overflowing) is not None


def test_nothing_is_refused_before_the_fabrics_are_known() -> None:
    assert reachable(kubernetes({"home": "", "away": "b"}), pool(provider="away")) is None


def test_two_places_without_networks_are_not_taken_for_one() -> None:
    assert reachable(kubernetes(), pool(provider="away")) is not None


@pytest.mark.parametrize("provider", ["home", "away"])
def test_machines_of_a_plain_cluster_need_not_reach_each_other(provider: str) -> None:
    assert reachable(cluster({"home": "a", "away": "b"}), pool(provider=provider)) is None
