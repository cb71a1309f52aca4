"""One project: what is in it, the operations that run in it, its clock, and the faults that a test has planted.

Nothing here knows HTTP or a resource type; `compute.py` says what each request does. All access is under `lock`.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatch
from typing import Any

Body = dict[str, Any]
ROOT = "https://www.googleapis.com/compute/v1/"


class ApiError(Exception):
    """An answer other than 200, as Google words it."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


@dataclass
class Fault:
    """What happens to requests of some methods (`instances.*`). Exactly one of the four.

    error  (status, reason, message): the answer, and nothing is done
    late   (code, message): accepted, and the operation fails
    lost   "request": it never arrives; "reply": done, and the answer never arrives
    times  how often; None for always
    after  how many requests go well before
    """

    methods: str
    error: tuple[int, str, str] | None = None
    late: tuple[str, str] | None = None
    lost: str = ""
    times: int | None = 1
    after: int = 0
    seen: int = 0


@dataclass
class Item:
    """One resource. ready_at: until then what needs it is told resourceNotReady; listed_at: until then no list shows it."""

    scope: str
    collection: str
    body: Body
    made_at: float
    ready_at: float
    listed_at: float
    deleting: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.body["name"])

    @property
    def path(self) -> str:
        return f"{self.scope}/{self.collection}/{self.name}"


@dataclass
class Running:
    """An operation, and what is done when it ends: `finish` returns (code, message) when it failed."""

    body: Body
    scope: str
    begins: float
    ends: float
    finish: Callable[[], tuple[str, str] | None]
    request_id: str = ""
    over: bool = False


class World:
    def __init__(self, project: str) -> None:
        self.project = project
        self.duration = 3.0  # seconds that an operation takes
        self.lock = threading.RLock()
        self.items: dict[str, Item] = {}
        self.operations: dict[str, Running] = {}
        self.faults: list[Fault] = []
        self.calls: list[str] = []
        self.room: dict[str, int] = {}  # zone -> machines that it still has
        self.refuse_at_once = False  # a short zone says so in the answer, not in the operation
        self.rolls_back = False  # bulk inserts fall short at their end, and take back what they made
        self.quota: int | None = None  # machines of the project
        self.cut: set[str] = set()  # zones that do not answer; "*" is all of the place
        self.lag = False  # lists do not show what is made now
        self.page: int | None = None
        self.most_disks: int | None = None
        self.unhealthy: set[str] = set()  # names of machines that fail health checks
        self.rate: tuple[float, float] | None = None  # of each group: requests at once, requests per second
        self.refused = 0  # requests that came too fast
        self._tokens: dict[str, tuple[float, float]] = {}  # group of requests -> what is left of its bucket, and when
        self._by_request: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._now: float | None = 1_800_000_000.0

    # -- time --

    def now(self) -> float:
        return time.time() if self._now is None else self._now

    def advance(self, seconds: float = 1.0) -> None:
        with self.lock:
            assert self._now is not None, "this world runs in real time"
            self._now += seconds
            self.settle()

    def real_time(self) -> None:
        """For processes that have clocks of their own."""
        self._now = None

    def settle(self) -> None:
        """What is due by now happens, in its order."""
        due = [o for o in self.operations.values() if not o.over and o.ends <= self.now()]
        for operation in sorted(due, key=lambda o: o.ends):
            operation.over = True
            failed = operation.finish()
            operation.body.update(status="DONE", progress=100, endTime=stamp(operation.ends))
            if failed is not None:
                code, message = failed
                operation.body["error"] = {"errors": [{"code": code, "message": message}]}
                operation.body["httpErrorStatusCode"] = 400
                operation.body["httpErrorMessage"] = "BAD REQUEST"

    # -- operations --

    def number(self) -> str:
        return str(7_000_000_000_000_000_000 + next(self._numbers))

    def operation(
        self,
        kind: str,
        scope: str,
        target: str,
        finish: Callable[[], tuple[str, str] | None] | None = None,
        *,
        request_id: str = "",
        group: str = "",
        lasts: float | None = None,
        **more: Any,
    ) -> Body:
        number = self.number()
        name = f"operation-{number}"
        body: Body = {
            "kind": "compute#operation",
            "id": number,
            "name": name,
            "operationType": kind,
            "targetLink": self.link(target),
            "targetId": number,
            "status": "RUNNING",
            "progress": 0,
            "user": "tests@example.com",
            "insertTime": stamp(self.now()),
            "startTime": stamp(self.now()),
            "selfLink": self.link(f"{scope}/operations/{name}"),
            **more,
        }
        place, _, where = scope.partition("/")
        if where:
            body[place.removesuffix("s")] = self.link(scope)
        if request_id:
            body["clientOperationId"] = request_id
            self._by_request[request_id] = name
        if group:
            body["operationGroupId"] = group
        ends = self.now() + (self.duration if lasts is None else lasts)
        self.operations[name] = Running(body, scope, self.now(), ends, finish or (lambda: None), request_id)
        return body

    def replay(self, request_id: str) -> Body | None:
        """The operation of a request that came before."""
        name = self._by_request.get(request_id)
        return self.operations[name].body if name else None

    # -- resources --

    def link(self, path: str) -> str:
        return f"{ROOT}projects/{self.project}/{path}"

    def linked(self, value: Any) -> Any:
        """Partial addresses written out, as answers have them."""
        if isinstance(value, dict):
            return {key: self.linked(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.linked(item) for item in value]
        if isinstance(value, str) and value.startswith("projects/"):
            return ROOT + value
        return value

    def local(self, link: str) -> str:
        """`zones/z/instances/n` out of an address of this project, else ""."""
        prefix = f"projects/{self.project}/"
        return link[link.index(prefix) + len(prefix) :] if prefix in link else ""

    def mentions(self, body: Any) -> Iterator[str]:
        """Local paths in a body."""
        if isinstance(body, dict):
            for key, value in body.items():
                if key not in ("selfLink", "users", "zone", "region", "description", "metadata"):
                    yield from self.mentions(value)
        elif isinstance(body, list):
            for value in body:
                yield from self.mentions(value)
        elif isinstance(body, str) and "/" in body and (path := self.local(body)):
            yield path

    def add(self, scope: str, collection: str, body: Body, lasts: float | None = None) -> Item:
        body = self.linked(deepcopy(body))
        body.update(id=self.number(), creationTimestamp=stamp(self.now()))
        body["selfLink"] = self.link(f"{scope}/{collection}/{body['name']}")
        place, _, where = scope.partition("/")
        if where:
            body[place.removesuffix("s")] = self.link(scope)
        listed = float("inf") if self.lag else self.now()
        item = Item(scope, collection, body, self.now(), self.now() + (self.duration if lasts is None else lasts), listed)
        self.items[item.path] = item
        return item

    def remove(self, path: str) -> None:
        self.items.pop(path, None)

    def users(self, path: str) -> list[str]:
        """Paths of what needs this one."""
        return [item.path for item in self.items.values() if item.path != path and path in set(self.mentions(item.body))]

    # -- faults --

    def plant(self, methods: str, **what: Any) -> Fault:
        with self.lock:
            self.faults.append(Fault(methods, **what))
            return self.faults[-1]

    @contextmanager
    def having(self, methods: str, **what: Any) -> Iterator[Fault]:
        fault = self.plant(methods, **{"times": None, **what})
        try:
            yield fault
        finally:
            with self.lock:
                self.faults.remove(fault)

    def strikes(self, method: str) -> Fault | None:
        for fault in self.faults:
            if fnmatch(method, fault.methods) and fault.times != 0:
                fault.seen += 1
                if fault.seen <= fault.after:
                    continue
                fault.times = None if fault.times is None else fault.times - 1
                return fault
        return None

    def throttled(self, method: str) -> bool:
        """A token bucket for each group of requests, as the per-minute quotas of the API are in effect."""
        if self.rate is None:
            return False
        verb = method.rpartition(".")[2].lower()
        group = "list" if "list" in verb else "read" if verb.startswith("get") else "mutate"
        (size, refill), now = self.rate, time.monotonic() if self._now is None else self._now
        tokens, filled = self._tokens.get(group, (size, now))
        tokens = min(size, tokens + (now - filled) * refill)
        over = tokens < 1
        self._tokens[group] = (tokens if over else tokens - 1, now)
        self.refused += over
        return over

    # -- for tests --

    def everything(self) -> list[str]:
        """Of whatever type and whoever made it, but for what each new project has."""
        with self.lock:
            return sorted(item.path for item in self.items.values())

    def count(self, pattern: str = "*") -> int:
        return sum(1 for call in self.calls if fnmatch(call, pattern))


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
