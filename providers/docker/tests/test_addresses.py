"""Which address a machine gets, without an engine."""

from __future__ import annotations

import ipaddress

import pytest
from kubeup_docker.addresses import free, in_use, must_yield, wanted
from kubeup_docker.records import Container, Network


def network(subnet: str, gateway: str = "") -> Network:
    return Network(id="n", name="n", labels={}, created="", subnet=subnet, gateway=gateway)


def container(id: str, address: str = "", state: str = "running", fixed: bool = True) -> Container:
    held = frozenset({address} if fixed and address else ())
    return Container(id=id, name=id, state=state, labels={}, image="i", addresses={"n": address}, fixed=held)


def test_the_same_seed_gives_the_same_address_as_long_as_it_is_free() -> None:
    first = free(network("172.20.0.0/16"), (), "launch/0")
    assert free(network("172.20.0.0/16"), (), "launch/0") == first
    assert free(network("172.20.0.0/16"), (), "launch/1") != first
    second = free(network("172.20.0.0/16"), {first}, "launch/0")
    assert second not in ("", first)


@pytest.mark.parametrize(
    ("address", "given"),
    [("10.0.0.9", "10.0.0.9"), ("10.0.0.8", ""), ("10.0.0.1", ""), ("10.0.1.9", ""), ("", ""), ("fd00::9", "")],
)
def test_an_address_that_is_asked_for_is_given_when_it_is_inside_and_free(address: str, given: str) -> None:
    assert wanted(network("10.0.0.0/24", gateway="10.0.0.1"), {"10.0.0.8"}, address) == given


@pytest.mark.parametrize("subnet", ["10.0.0.0/29", "10.0.0.0/24"])
def test_every_address_that_may_be_used_is_given_once_and_then_none(subnet: str) -> None:
    used: set[str] = set()
    while address := free(network(subnet), used, f"seed-{len(used)}"):
        assert address not in used
        used.add(address)
    net = ipaddress.IPv4Network(subnet)
    never = {net[0], net[1], net[-1]}  # the network, the engine's own, the broadcast
    assert not {ipaddress.IPv4Address(a) for a in used} & never
    assert all(ipaddress.IPv4Address(a) in net for a in used)
    assert len(used) == (5 if net.prefixlen == 29 else 256 - 3 - 16)


def test_the_gateway_is_not_given_wherever_it_is() -> None:
    used = set()
    while address := free(network("10.0.0.0/29", "10.0.0.4"), used, "seed"):
        used.add(address)
    assert "10.0.0.4" not in used


def test_an_address_is_in_use_also_while_its_container_is_stopped_or_was_never_started() -> None:
    stopped = Container(id="s", name="s", state="exited", labels={}, image="i", fixed=frozenset({"10.0.0.3"}))
    assert in_use([stopped, container("a", "10.0.0.2", fixed=False), container("b")]) == {"10.0.0.2", "10.0.0.3"}


def test_of_two_that_were_never_started_exactly_one_yields() -> None:
    a, b = container("a", "10.0.0.2", "created"), container("b", "10.0.0.2", "created")
    assert [must_yield(a, [a, b]), must_yield(b, [a, b])] == [False, True]


def test_one_that_was_started_before_keeps_its_address() -> None:
    mine, older = container("a", "10.0.0.2", "created"), container("b", "10.0.0.2", "exited")
    assert must_yield(mine, [mine, older])
    assert not must_yield(mine, [mine, container("c", "10.0.0.3")])
