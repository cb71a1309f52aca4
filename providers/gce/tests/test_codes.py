"""Each of Google's codes comes to one decision, whichever of its spellings is used."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import requests
import urllib3.exceptions
from google.api_core import exceptions
from kubeup_core import Blocked, Denied, InvalidSpec, NoCapacity, NotFound, NotReady, SupplierError, Taken, Unknown
from kubeup_gce import client, codes

DECISIONS: tuple[tuple[frozenset[str], type[SupplierError]], ...] = (
    (codes.CAPACITY, NoCapacity),
    (codes.QUOTA, NoCapacity),
    (codes.THROTTLED, NotReady),
    (codes.CHANGING, NotReady),
    (codes.TAKEN, Taken),
    (codes.IN_USE, Blocked),
    (codes.GONE, NotFound),
    (codes.DENIED, Denied),
    (codes.NEVER, InvalidSpec),
    (codes.UNSURE, Unknown),
)


@pytest.mark.parametrize(("code", "decision"), [(code, decision) for known, decision in DECISIONS for code in sorted(known)])
def test_a_code_is_a_decision_in_an_answer_and_in_an_operation(code: str, decision: type[SupplierError]) -> None:
    said = codes.decide("so it is", code=code, status=400)
    assert type(said) is decision
    assert said.code == code
    late = codes.of_operation({"error": {"errors": [{"code": code, "message": "so it is"}]}})
    assert type(late) is decision


def test_the_sets_cover_the_table_and_do_not_overlap() -> None:
    assert [known for known, _, _ in codes.CODES] == [known for known, _ in DECISIONS]
    for one, other in itertools.combinations([known for known, _ in DECISIONS], 2):
        assert not one & other


def test_a_quota_needs_a_person_and_a_lack_of_capacity_does_not() -> None:
    assert all(_no_capacity(code).person for code in codes.QUOTA)
    assert not any(_no_capacity(code).person for code in codes.CAPACITY)


def test_a_lack_of_capacity_with_whatever_details_is_one() -> None:
    assert isinstance(codes.decide("sold out", code="ZONE_RESOURCE_POOL_EXHAUSTED_WITH_SOMETHING_NEW"), NoCapacity)


def test_throttling_says_when_to_come_back() -> None:
    for code in codes.THROTTLED:
        said = codes.decide("too fast", code=code, status=403)
        assert isinstance(said, NotReady)
        assert said.retry_after == codes.MINUTE


@pytest.mark.parametrize(
    ("status", "decision"),
    [
        (400, InvalidSpec),
        (401, Denied),
        (403, Denied),
        (404, NotFound),
        (409, NotReady),
        (412, NotReady),
        (429, NotReady),
        (500, Unknown),
        (502, Unknown),
        (503, Unknown),
        (0, Unknown),
    ],
)
def test_a_reason_that_nobody_knows_is_judged_by_its_status(status: int, decision: type[SupplierError]) -> None:
    assert type(codes.decide("something new", code="somethingNew", status=status)) is decision


def test_an_operation_that_went_well_has_no_error() -> None:
    assert codes.of_operation({"status": "DONE"}) is None


@pytest.mark.parametrize(
    ("raised", "decision"),
    [
        (exceptions.Conflict("there", errors=[{"reason": "alreadyExists"}]), Taken),
        (exceptions.Forbidden("full", errors=[{"reason": "quotaExceeded"}]), NoCapacity),
        (exceptions.Forbidden("no", errors=[{"reason": "forbidden"}]), Denied),
        (exceptions.Forbidden("slow down", errors=[{"reason": "rateLimitExceeded"}]), NotReady),
        (exceptions.ServiceUnavailable("sold out", errors=[{"reason": "insufficientCapacity"}]), NoCapacity),
        (exceptions.ServiceUnavailable("oops"), Unknown),
        (requests.exceptions.ReadTimeout(), Unknown),
        (requests.exceptions.ConnectionError(urllib3.exceptions.ProtocolError("cut")), Unknown),
    ],
)
def test_the_sdks_errors_come_out_as_decisions(raised: Exception, decision: type[SupplierError]) -> None:
    with pytest.raises(decision) as caught, client.decided():
        raise raised
    assert caught.value.__cause__ is raised


def test_a_server_that_nobody_listens_at_has_certainly_not_been_asked(place: Any) -> None:
    compute = client.Compute("p-1", "us-central1", client.credentials("http://127.0.0.1:9", {})[0], "http://127.0.0.1:9", _free)
    with pytest.raises(NotReady, match="cannot be reached"):
        compute.get("Regions", region="us-central1")


def _free(bucket: str, cost: float) -> None:
    return None


def _no_capacity(code: str) -> NoCapacity:
    found = codes.decide("none", code=code)
    assert isinstance(found, NoCapacity)
    return found
