"""An account at AWS for tests: moto's server behind a layer that is as strict and as slow as AWS, and breaks on request.

moto alone ignores client tokens, changes states at once, and accepts what EC2 refuses. `StrictAws` is one account of its own on a
port of its own; `strict_ec2.py` and `strict_elb.py` hold what the layer knows better. Time passes in steps, by `advance`. It was
written from AWS's documentation and from reports of others, so it tests how kubeup uses the API, and proves nothing about AWS.
"""

from __future__ import annotations

import json
import os
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlencode

from .strict_buckets import Buckets

os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # 500 images per account, three seconds

REGION = "us-east-1"
READS = re.compile(r"(Describe|Get|List)\w+|AssumeRole")
Params = dict[str, str]


class Refused(Exception):
    """An answer with an error code."""

    def __init__(self, code: str, message: str = "", status: int = 400) -> None:
        super().__init__(code, message)
        self.code, self.message, self.status = code, message or code, status


class Dropped(Exception):
    """The connection ends without an answer."""


@dataclass(frozen=True)
class Seen:
    """A request that arrived."""

    service: str
    action: str
    params: Params = field(repr=False)
    key: str = ""


@dataclass
class Fault:
    """actions: which requests, as a pattern. when: "before" or "after" the effect. times: how often."""

    actions: re.Pattern[str]
    error: Callable[[], Exception]
    when: str = "before"
    times: float = float("inf")
    skip: int = 0


class StrictAws:
    """One account. `url` and `environment` are what a client needs."""

    def __init__(self, region: str = REGION) -> None:
        from werkzeug.serving import WSGIRequestHandler, make_server

        from .strict_ec2 import Ec2
        from .strict_elb import Elb

        self.region = region
        self.account = f"{random.SystemRandom().randrange(10**11, 10**12)}"
        self.step = 0
        self.seen: list[Seen] = []
        self.faults: list[Fault] = []
        self.parameters: dict[str, str] = {}
        self.lock = threading.RLock()
        self.buckets: Buckets | None = None  # set: requests beyond EC2's limits are refused
        self.ec2 = Ec2(self)
        self.elb = Elb(self)

        class Quiet(WSGIRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_request(self, *_: object) -> None:
                """Nobody reads it."""

        self._server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.ec2.furnish()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def advance(self) -> None:
        """One step of time."""
        with self.lock:
            self.step += 1
            self.ec2.advance()
            self.elb.advance()

    def count(self, *actions: str) -> int:
        """Requests so far, of these actions or of all."""
        return sum(1 for seen in self.seen if not actions or seen.action in actions)

    def actions(self) -> Counter[str]:
        return Counter(seen.action for seen in self.seen)

    @contextmanager
    def fault(
        self,
        actions: str,
        error: str | Callable[[], Exception],
        *,
        status: int = 400,
        when: str = "before",
        times: float = float("inf"),
        skip: int = 0,
        message: str = "",
    ) -> Iterator[Fault]:
        """Inside, requests whose action matches get this error code, or Dropped."""
        make = (lambda: Refused(error, message, status)) if isinstance(error, str) else error
        fault = Fault(re.compile(actions), make, when, times, skip)
        self.faults.append(fault)
        try:
            yield fault
        finally:
            self.faults.remove(fault)

    def changes_lost(self, when: str) -> Any:
        """Inside, changing requests arrive (when="after") or do not (when="before"), and nobody answers."""
        return self.fault(r"(?!Describe|Get|List|AssumeRole).*", Dropped, when=when)

    def everything(self) -> set[str]:
        """Ids of all that is there and may cost something."""
        with self.lock:
            return self.ec2.everything() | self.elb.everything()

    # -- WSGI ------------------------------------------------------------------------------------------------------------

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        found = re.search(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
        key, _, service = found.groups() if found else ("", self.region, "ec2")
        if service == "ssm":
            action, params = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2], json.loads(body or b"{}")
        else:
            params = dict(parse_qsl(body.decode(), keep_blank_values=True))
            action = params.get("Action", "")
        try:
            with self.lock:
                status, kind, data = self._answer(Seen(service, action, params, key), environ)
        except Refused as refused:
            status, kind, data = refused.status, "text/xml", _error(service, refused)
        except Dropped:
            _hang_up(environ)
            status, kind, data = 500, "text/plain", b""
        start_response(f"{status} -", [("Content-Type", kind), ("Content-Length", str(len(data)))])
        return [data]

    def _answer(self, seen: Seen, environ: dict[str, Any]) -> tuple[int, str, bytes]:
        self.seen.append(seen)
        self._strike(seen, "before")
        if self.buckets is not None and self.buckets.refuses(seen):
            raise Refused("RequestLimitExceeded", "Request limit exceeded.", 503)
        handler = None
        if seen.service == "ssm":
            handler = self._ssm
        else:
            place = {"ec2": self.ec2, "elasticloadbalancing": self.elb}.get(seen.service)
            handler = getattr(place, seen.action, None)
        self._environ = environ
        answer = handler(dict(seen.params)) if handler else self.forward(seen.params)
        self._strike(seen, "after")
        if isinstance(answer, bytes):
            return 200, "application/x-amz-json-1.1" if seen.service == "ssm" else "text/xml", answer
        return answer

    def _strike(self, seen: Seen, when: str) -> None:
        for fault in self.faults:
            if fault.when == when and fault.times > 0 and fault.actions.fullmatch(seen.action):
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                raise fault.error()

    def _ssm(self, params: dict[str, Any]) -> bytes:
        if params["Name"] not in self.parameters:
            raise Refused("ParameterNotFound")
        return json.dumps({"Parameter": {"Name": params["Name"], "Value": self.parameters[params["Name"]]}}).encode()

    # -- moto ------------------------------------------------------------------------------------------------------------

    def forward(self, params: Mapping[str, str]) -> tuple[int, str, bytes]:
        """What moto says."""
        from io import BytesIO

        body = urlencode(params).encode()
        environ = {
            **{k: v for k, v in self._environ.items() if not k.startswith("werkzeug.")},
            "HTTP_X_MOTO_ACCOUNT_ID": self.account,
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": BytesIO(body),
        }
        said: list[Any] = []
        data = b"".join(_moto()(environ, lambda status, headers, *_: said.extend([status, dict(headers)])))
        return int(said[0].split()[0]), said[1].get("Content-Type", "text/xml"), data

    def xml(self, params: Mapping[str, str]) -> str:
        """The same, where it must work; an error of moto's goes to the client."""
        status, _, data = self.forward(params)
        text = data.decode()
        if status != 200:
            code, message = re.search(r"<Code>(.*?)</Code>", text), re.search(r"<Message>(.*?)</Message>", text, re.DOTALL)
            raise Refused(code[1] if code else "InternalError", message[1] if message else text[:200], status)
        return text

    def backend(self, service: str) -> Any:
        """moto's own objects."""
        from moto.backends import get_backend

        return get_backend(service)[self.account][self.region]


@cache
def _moto() -> Any:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    return DomainDispatcherApplication(create_backend_app)


def _error(service: str, refused: Refused) -> bytes:
    if service == "ssm":
        return json.dumps({"__type": refused.code, "message": refused.message}).encode()
    inner = f"<Error><Type>Sender</Type><Code>{refused.code}</Code><Message>{refused.message}</Message></Error>"
    if service == "ec2":
        return f"<Response><Errors>{inner}</Errors><RequestID>strict</RequestID></Response>".encode()
    return f"<ErrorResponse>{inner}<RequestId>strict</RequestId></ErrorResponse>".encode()


def _hang_up(environ: dict[str, Any]) -> None:
    import socket

    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)


def quick_tags(backend: Any) -> None:
    """moto's EC2 looks through all tags of the account for those of one resource, for each that it lists."""
    slow = backend.describe_tags

    def quick(filters: dict[str, list[str]] | None = None) -> list[dict[str, str]]:
        ids = (filters or {}).get("resource-id", [])
        if filters is None or set(filters) != {"resource-id"} or any("*" in id for id in ids):
            found: list[dict[str, str]] = slow(filters)
            return found
        return [{"resource_id": id, "key": k, "value": v} for id in ids for k, v in dict(backend.tags.get(id, {})).items()]

    backend.describe_tags = quick


def numbered(params: Mapping[str, str], prefix: str) -> list[str]:
    """The values of `Prefix.1`, `Prefix.2` ..."""
    found = {int(m[1]): value for key, value in params.items() if (m := re.fullmatch(rf"{re.escape(prefix)}\.(\d+)", key))}
    return [found[i] for i in sorted(found)]
