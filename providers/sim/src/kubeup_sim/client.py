"""The only door to the simulated cloud, as a vendor's SDK would be: budget, strike points and faults around each request, and the
vendor's errors turned into decisions.

Used by the suppliers beside it. What a request does is in `cloud/`; the tests walk CODES.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import TypeVar

from kubeup_core.errors import (
    Blocked,
    Denied,
    InvalidSpec,
    NoCapacity,
    NotFound,
    NotReady,
    Place,
    SupplierError,
    Taken,
    Unknown,
)
from kubeup_core.supplier import Context

from .cloud import Cloud, CloudError, ConnectionLost, Settings
from .cloud.records import FaultRecord

T = TypeVar("T")

BUCKET = "api"
"""The one budget of this vendor."""

CODES: dict[str, frozenset[str]] = {
    "NotFound": frozenset(
        {
            "InvalidMachine.NotFound",
            "InvalidNetwork.NotFound",
            "InvalidLoadBalancer.NotFound",
            "InvalidVolume.NotFound",
            "InvalidToken.NotFound",
            "PreconditionFailed",
        }
    ),
    "NoCapacity": frozenset(
        {"InsufficientInstanceCapacity", "InsufficientFreeAddresses", "QuotaExceeded", "AttachmentLimitExceeded"}
    ),
    "Taken": frozenset({"NameInUse", "HostInUse", "VolumeInUse"}),
    "NotReady": frozenset({"RequestLimitExceeded", "IncorrectState", "NetworkNotReady", "ZoneUnavailable"}),
    "Denied": frozenset({"AuthFailure"}),
    "InvalidSpec": frozenset(
        {
            "InvalidParameter.Count",
            "InvalidUserData",
            "InvalidHost",
            "InvalidMachineType",
            "InvalidZone",
            "InvalidNetwork.Range",
            "InvalidVolume.ZoneMismatch",
            "AttachNotSupported",
        }
    ),
    "Blocked": frozenset({"DependencyViolation"}),
    "Unknown": frozenset({"HostUnreachable"}),
}
PATHS = {
    "InvalidMachineType": "spec.overrides.sim.machineType",
    "InvalidNetwork.Range": "spec.network.machineCIDR",
    "InvalidZone": "spec.zones",
}


class TokenKnown(Exception):
    """A launch's token was used before, with other parameters: the first call landed."""


class Client:
    """Thread-safe. `call` is one request."""

    def __init__(self, cloud: Cloud, context: Context) -> None:
        self.cloud = cloud
        self._charge = context.charge

    def settings(self) -> Settings:
        with self.cloud.state.read():
            return self.cloud.settings

    def call(self, kind: str, operation: str, request: Callable[[], T]) -> T:
        """One request: charged, struck before and after, its errors those of the contract. Raises TokenKnown on a launch only."""
        self._charge(BUCKET, 1.0)
        point = f"{kind}.{operation}"
        self.cloud.requests[point] += 1
        try:
            self._strike(f"before {point}")
            self._fault(kind, operation, ("crash", "lostRequest", "throttle", "denied"), "before")
            if "*" in self.cloud.cut():
                raise ConnectionLost(f"{point}: {self.cloud.region} does not answer")
            answer = request()
            self._strike(f"after {point}")
            self._fault(kind, operation, ("crash", "lostReply"), "after")
            return answer
        except CloudError as error:
            if error.code == "IdempotentParameterMismatch":
                raise TokenKnown from error
            raise decision(error) from error
        except ConnectionLost as error:
            raise Unknown(str(error), code="ConnectionLost", remedy="repeat the request") from error

    def whoami(self) -> str:
        """The account's key, as the vendor says it now."""
        found = self.call("Account", "whoami", lambda: self.cloud.faults.take(("identity",), "whoami", "Account"))
        return f"{self.cloud.account}-other/{self.cloud.region}" if found else self.cloud.key

    def _strike(self, point: str) -> None:
        if self.cloud.strike is not None:
            self.cloud.strike(point)

    def _fault(self, kind: str, operation: str, names: tuple[str, ...], when: str) -> None:
        fault = self.cloud.faults.take(names, operation, kind, when=when)
        if fault is not None:
            _suffer(fault, f"{kind}.{operation}")


def decision(error: CloudError) -> SupplierError:
    """What the core has to decide on. A code that is not in CODES is a fault of this provider, and its outcome is unknown."""
    detail, code = error.details, error.code
    name = next((name for name, codes in CODES.items() if code in codes), "Unknown")
    after, by = detail.get("retryAfter"), str(detail.get("by", ""))
    retry_after = float(after) if isinstance(after, int | float) else None
    about = {"code": code, "request_id": error.request_id}
    match name:
        case "NotFound":
            return NotFound(error.message, **about)
        case "NoCapacity":
            return _no_capacity(error, retry_after)
        case "Taken":
            return Taken(error.message, by=by, **about)
        case "NotReady":
            return NotReady(error.message, retry_after=retry_after, throttled=code == "RequestLimitExceeded", **about)
        case "Denied":
            return Denied(error.message, remedy="give the Provider credentials that may do this", **about)
        case "InvalidSpec":
            return InvalidSpec(error.message, path=PATHS.get(code, ""), **about)
        case "Blocked":
            ids = detail.get("ids")
            return Blocked(error.message, by=tuple(str(id) for id in ids) if isinstance(ids, list) else (), **about)
        case _:
            return Unknown(error.message, **about)


def _no_capacity(error: CloudError, retry_after: float | None) -> NoCapacity:
    detail, code = error.details, error.code
    place, kind, spot = detail.get("place"), detail.get("machineType"), detail.get("spot")
    scope = Place(
        place=place if isinstance(place, str) else None,
        machine_type=kind if isinstance(kind, str) else None,
        spot=spot if isinstance(spot, bool) else None,
    )
    if code == "AttachmentLimitExceeded":
        # The machine is full, no offer is: a scope that no offer falls under.
        scope = Place(place=str(detail.get("by", "")) or "machine")
    person = code == "QuotaExceeded"
    return NoCapacity(
        error.message,
        scope=scope,
        retry_after=retry_after,
        person=person,
        code=code,
        request_id=error.request_id,
        remedy="raise the quota in the Provider's config (spec.config.quota), or delete something" if person else "",
    )


def _suffer(fault: FaultRecord, point: str) -> None:
    match fault.name:
        case "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        case "lostRequest":
            raise ConnectionLost(f"{point}: the connection broke")
        case "lostReply":
            raise ConnectionLost(f"{point}: no reply came")
        case "throttle":
            raise CloudError("RequestLimitExceeded", f"{point}: too many requests", retryAfter=fault.seconds)
        case "denied":
            raise CloudError("AuthFailure", f"{point}: the credentials were refused")
