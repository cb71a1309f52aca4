"""The errors that a supplier may raise or put into a result. Each one is named after the decision that it asks of the core.

    SupplierError
    ├── NotFound      it is not there                     fine when deleting; otherwise it counts as one miss
    ├── NoCapacity    this place has none, or a quota     that scope cools down for all pools, the next offer is tried
    ├── Taken         somebody else holds it              never adopted: a condition, or another name
    ├── NotReady      not now (throttling is one)         waits; a throttled one empties the shared budget
    ├── Denied        credentials or rights               stops creating, still tries deletes, looks again later
    ├── InvalidSpec   it will never work                  a condition, no retry before the spec changes
    ├── Blocked       something else depends on it        that is deleted or waited for first
    └── Unknown       nobody can say what happened        the same call with the same token, or a look-up

Raised by suppliers, read by `runtime` and `controllers`. Any exception that is not a SupplierError counts as Unknown: an
AttributeError while a *successful* reply is parsed must not lead to a second machine. Errors of kubeup's own API are another
tree, in `statuses.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "Blocked",
    "Denied",
    "InvalidSpec",
    "NoCapacity",
    "NotFound",
    "NotReady",
    "Place",
    "SupplierError",
    "Taken",
    "Unknown",
]


@dataclass(frozen=True, kw_only=True)
class Place:
    """How far a lack of capacity reaches. `None` means any: Place() is the whole Provider. slot: one of `Offer.slots`."""

    place: str | None = None
    machine_type: str | None = None
    spot: bool | None = None
    slot: str | None = None

    def covers(self, place: str, machine_type: str, spot: bool) -> bool:
        """True when an offer of these three falls under this lack, or the one of its slots that it names."""
        return self.place in (None, place) and self.machine_type in (None, machine_type) and self.spot in (None, spot)


class SupplierError(Exception):
    """Base of all. Raise one of the subclasses, `from` the SDK's own error.

    message     what happened, to what; a person reads it. No secrets, no user-data.
    code        the place's own word for it (`InsufficientInstanceCapacity`), for logs and for searching
    request_id  what the vendor's support asks for
    remedy      what to do now, as an imperative sentence; may be empty
    """

    def __init__(self, message: str, *, code: str = "", request_id: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.request_id = request_id
        self.remedy = remedy

    @property
    def decision(self) -> str:
        """The class name, as it stands in `status.lastError.decision`."""
        return type(self).__name__

    def __repr__(self) -> str:
        return f"{self.decision}({self.message!r}, code={self.code!r})"


class NotFound(SupplierError):
    """Any call on what is not there, or on what carries another mark than the one given."""


class NoCapacity(SupplierError):
    """A place cannot give more, found by `launch`, or later and then in a result or a state.

    scope        what is exhausted; the core cools exactly that down, for every pool on this identity
    retry_after  seconds until another try makes sense; None leaves it to the core
    person       True for a quota: only a person can raise it, so it is a condition as well
    """

    def __init__(
        self,
        message: str,
        *,
        scope: Place | None = None,
        retry_after: float | None = None,
        person: bool = False,
        code: str = "",
        request_id: str = "",
        remedy: str = "",
    ) -> None:
        super().__init__(message, code=code, request_id=request_id, remedy=remedy)
        self.scope = scope or Place()
        self.retry_after = retry_after
        self.person = person


class Taken(SupplierError):
    """A name, host or volume that somebody else's mark holds. `by` says whose, as far as it is known."""

    def __init__(self, message: str, *, by: str = "", code: str = "", request_id: str = "", remedy: str = "") -> None:
        super().__init__(message, code=code, request_id=request_id, remedy=remedy)
        self.by = by


class NotReady(SupplierError):
    """Anything that will work later without anybody doing something: throttling, a resource still changing.

    retry_after  seconds; None leaves it to the core's back-off
    throttled    the place was asked too much: nobody takes from the bucket that was charged last, for retry_after seconds, whichever
                 cluster or Provider of this identity it is
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        throttled: bool = False,
        code: str = "",
        request_id: str = "",
        remedy: str = "",
    ) -> None:
        super().__init__(message, code=code, request_id=request_id, remedy=remedy)
        self.retry_after = retry_after
        self.throttled = throttled


class Denied(SupplierError):
    """Credentials are missing, expired or not allowed to do this. Never used for a quota: that is NoCapacity(person=True)."""


class InvalidSpec(SupplierError):
    """What was asked for will never work here. `path` is the field, from the object's root (`spec.overrides.aws.vpc`)."""

    def __init__(self, message: str, *, path: str = "", code: str = "", request_id: str = "", remedy: str = "") -> None:
        super().__init__(message, code=code, request_id=request_id, remedy=remedy)
        self.path = path


class Blocked(SupplierError):
    """A delete or a detach that something else stands in the way of. `by` names it: ids at the place, as far as known."""

    def __init__(
        self, message: str, *, by: tuple[str, ...] = (), code: str = "", request_id: str = "", remedy: str = ""
    ) -> None:
        super().__init__(message, code=code, request_id=request_id, remedy=remedy)
        self.by = by


class Unknown(SupplierError):
    """The outcome cannot be known: a time-out, a lost reply, a connection that broke in the middle."""
