"""AWS's error codes become the core's decisions, set by set; each code stands in one set only."""

from itertools import combinations

import pytest
from botocore.exceptions import SSLError, UnauthorizedSSOTokenError
from kubeup_aws import client, decisions
from kubeup_aws.decisions import decided
from kubeup_core import Blocked, Denied, InvalidSpec, NoCapacity, NotFound, NotReady, Place, SupplierError, Taken, Unknown

SETS: dict[str, type[SupplierError]] = {
    "THROTTLED": NotReady, "NO_CAPACITY": NoCapacity, "NO_ROOM_IN_ZONE": NoCapacity, "QUOTA": NoCapacity, "FULL_MACHINE": NoCapacity,
    "DENIED": Denied, "STILL_USED": Blocked, "CHANGING": NotReady, "TAKEN": Taken, "NOT_FOUND": NotFound, "SAME_TOKEN": Unknown,
    "SILENT": Unknown,
}  # fmt: skip
SCOPE = Place(place="us-east-1a", machine_type="m7i.large", spot=False)


@pytest.mark.parametrize(("name", "error"), SETS.items(), ids=SETS)
def test_every_code_of_a_set_becomes_its_decision(name: str, error: type[SupplierError]) -> None:
    for code in getattr(decisions, name):
        found = decided("run_instances", code, "said so", status=503, request_id="r-1", scope=SCOPE)
        assert (type(found), found.code, found.request_id) == (error, code, "r-1")


def test_no_code_stands_in_two_sets() -> None:
    for one, other in combinations(SETS, 2):
        assert not getattr(decisions, one) & getattr(decisions, other), (one, other)


def test_what_ends_in_not_found_is_not_found() -> None:
    assert isinstance(decided("x", "InvalidVpcID.NotFound", ""), NotFound)


def test_an_unknown_code_is_judged_by_its_status() -> None:
    assert isinstance(decided("x", "NeverSeen", "", status=500), Unknown)
    assert isinstance(decided("x", "NeverSeen", "", status=400), InvalidSpec)


def test_a_lack_of_capacity_reaches_as_far_as_it_is() -> None:
    def scope(code: str) -> Place:
        error = decided("run_instances", code, "", scope=SCOPE)
        assert isinstance(error, NoCapacity)
        return error.scope

    assert scope("InsufficientInstanceCapacity") == SCOPE
    assert scope("InsufficientFreeAddressesInSubnet") == Place(place="us-east-1a")
    assert scope("VcpuLimitExceeded") == Place(spot=False)


def test_a_quota_is_for_a_person() -> None:
    error = decided("run_instances", "VcpuLimitExceeded", "you have 64", scope=SCOPE)
    assert isinstance(error, NoCapacity)
    assert error.person
    assert "Service Quotas" in error.remedy


def test_a_limit_that_nobody_wrote_down_is_a_quota() -> None:
    error = decided("create_vpc", "SomethingNewLimitExceeded", "", scope=SCOPE)
    assert isinstance(error, NoCapacity)
    assert error.person


def test_a_service_linked_role_that_may_not_be_made_is_denied_with_what_to_do() -> None:
    error = decided("run_instances", decisions.SERVICE_LINKED_ROLE, "")
    assert isinstance(error, Denied)
    assert "iam:CreateServiceLinkedRole" in error.remedy


def test_tls_that_breaks_may_have_had_its_effect_and_is_not_a_lack_of_rights() -> None:
    assert isinstance(client._broken("run_instances", SSLError(endpoint_url="https://ec2", error="reset")), Unknown)
    assert isinstance(client._broken("run_instances", UnauthorizedSSOTokenError()), Denied)
