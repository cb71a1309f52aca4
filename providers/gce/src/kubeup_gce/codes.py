"""What Google's errors mean: reasons of HTTP answers and codes of operations as decisions of the contract. No SDK here.

The same thing has two spellings: answers say `quotaExceeded`, operations `QUOTA_EXCEEDED`. 403 is a quota, a rate or a right,
told apart by the reason alone; capacity comes mostly in operations, whose insert was answered with 200. Sources: the error pages
of Compute Engine and the threads that docs/how-to/gce.md names.
"""

from __future__ import annotations

from collections.abc import Mapping

from kubeup_core import Blocked, Denied, InvalidSpec, NoCapacity, NotFound, NotReady, SupplierError, Taken, Unknown

CAPACITY = frozenset(
    {
        "ZONE_RESOURCE_POOL_EXHAUSTED",
        "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
        "STOCKOUT",
        "VM_MIN_COUNT_NOT_REACHED",
        "insufficientCapacity",
        "resourcePoolExhausted",
    }
)
QUOTA = frozenset(
    {"QUOTA_EXCEEDED", "QUOTA_FOR_INSTANCES", "LIMIT_EXCEEDED", "quotaExceeded", "limitExceeded", "IP_SPACE_EXHAUSTED"}
    | {"IP_SPACE_EXHAUSTED_WITH_DETAILS"}
)
THROTTLED = frozenset(
    {
        "rateLimitExceeded",
        "userRateLimitExceeded",
        "RATE_LIMIT_EXCEEDED",
        "CONCURRENT_OPERATIONS_QUOTA_EXCEEDED",
        "RESOURCE_OPERATION_RATE_EXCEEDED",
        "operationRateExceeded",
    }
)
CHANGING = frozenset({"resourceNotReady", "RESOURCE_NOT_READY", "conditionNotMet", "CONDITION_NOT_MET"})
TAKEN = frozenset({"alreadyExists", "RESOURCE_ALREADY_EXISTS", "duplicate"})
IN_USE = frozenset(
    {"resourceInUseByAnotherResource", "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", "resourceInUse", "RESOURCE_IN_USE"}
)
GONE = frozenset({"notFound", "RESOURCE_NOT_FOUND"})
DENIED = frozenset(
    {
        "forbidden",
        "authError",
        "accessNotConfigured",
        "insufficientPermissions",
        "PERMISSIONS_ERROR",
        "accountDisabled",
        "billingDisabled",
        "projectNotLinked",
    }
)
NEVER = frozenset(
    {
        "invalid",
        "badRequest",
        "parseError",
        "INVALID_FIELD_VALUE",
        "INVALID_USAGE",
        "UNSUPPORTED_OPERATION",
        "unsupportedOperation",
        "fieldNotEditable",
        "invalidParameter",
    }
)
UNSURE = frozenset({"backendError", "internalError", "INTERNAL_ERROR", "SERVICE_UNAVAILABLE"})

CODES: tuple[tuple[frozenset[str], type[SupplierError], str], ...] = (
    (CAPACITY, NoCapacity, ""),
    (QUOTA, NoCapacity, "ask Google for a higher quota of this project and region, or free some"),
    (THROTTLED, NotReady, ""),
    (CHANGING, NotReady, ""),
    (TAKEN, Taken, "rename or remove what holds the name"),
    (IN_USE, Blocked, ""),
    (GONE, NotFound, ""),
    (DENIED, Denied, "give the account the roles that docs/how-to/gce.md lists, and enable the API compute.googleapis.com"),
    (NEVER, InvalidSpec, ""),
    (UNSURE, Unknown, ""),
)

STATUSES: Mapping[int, type[SupplierError]] = {
    400: InvalidSpec,
    401: Denied,
    403: Denied,
    404: NotFound,
    409: NotReady,
    412: NotReady,
    429: NotReady,
}
"""For reasons that no set knows; every other status is Unknown."""

MINUTE = 60.0
"""Per-minute quotas refill at the next minute; asking before is in vain."""


def decide(message: str, *, code: str = "", status: int = 0, request_id: str = "") -> SupplierError:
    """code: the reason of an answer, or the code of an operation."""
    for known, decision, remedy in CODES:
        if code in known or (known is CAPACITY and code.startswith("ZONE_RESOURCE_POOL_EXHAUSTED")):
            return _error(decision, message, code, request_id, remedy)
    return _error(STATUSES.get(status, Unknown), message, code or str(status), request_id, "")


def of_operation(operation: Mapping[str, object]) -> SupplierError | None:
    """Why a finished operation failed; None when it did not."""
    error = operation.get("error")
    errors = error.get("errors", ()) if isinstance(error, Mapping) else ()
    for one in errors:
        return decide(str(one.get("message", "")) or "an operation failed", code=str(one.get("code", "")))
    return None


def _error(decision: type[SupplierError], message: str, code: str, request_id: str, remedy: str) -> SupplierError:
    text = f"GCE: {message}"
    if decision is NoCapacity:
        return NoCapacity(text, person=code in QUOTA, code=code, request_id=request_id, remedy=remedy)
    if decision is NotReady and code in THROTTLED:
        return NotReady(text, retry_after=MINUTE, throttled=True, code=code, request_id=request_id, remedy=remedy)
    return decision(text, code=code, request_id=request_id, remedy=remedy)
