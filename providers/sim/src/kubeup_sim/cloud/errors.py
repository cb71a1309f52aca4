"""The simulated vendor's errors: a code, a message and a request id, as SDKs give them. `client.py` turns them into decisions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

_REQUESTS = itertools.count(1)


class CloudError(Exception):
    """The place answered, and the answer is an error: nothing was changed by the request.

    details  what a program reads beside the code: place, machineType, spot, retryAfter, by, ids
    """

    def __init__(self, code: str, message: str, **details: object) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.details = details
        self.request_id = f"req-{next(_REQUESTS):08d}"

    def as_record(self) -> dict[str, object]:
        """JSON for the state file: an error that is told later (a launch that fails after it was accepted)."""
        return {"code": self.code, "message": self.message, "details": dict(self.details)}

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> CloudError:
        details = record["details"]
        assert isinstance(details, dict)
        return cls(str(record["code"]), str(record["message"]), **details)


class ConnectionLost(Exception):
    """The connection broke: the request may have had its effect, or not."""
