"""Requests and answers at the level of ASGI, as small as they can be: every resource request goes through here.

Reading a body with its limits, query parameters, JSON and Status answers. What a path means is in `routes.py`.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import orjson

from ..statuses import BadRequest, StatusError, Timeout, TooLarge

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

MAX_BODY = 3 * 2**20
BODY_SECONDS = 60
JSON = "application/json"
YAML = "application/yaml"

_ZIP_FROM = 128 * 1024
"""Smaller answers are not worth the time; kube-apiserver has the same limit."""


class Disconnected(Exception):
    """The client went away before its body was complete; there is nobody to answer."""


class Request:
    """One request. `path` is decoded; query and headers are read when asked for."""

    __slots__ = ("_headers", "_query", "method", "path", "receive", "scope")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.receive = receive
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self._query: dict[str, str] | None = None
        self._headers: dict[bytes, bytes] | None = None

    def header(self, name: bytes) -> str:
        """The first header of that (lower-case) name, "" when there is none."""
        if self._headers is None:
            self._headers = dict(reversed(self.scope["headers"]))
        return self._headers.get(name, b"").decode("latin-1")

    @property
    def query(self) -> dict[str, str]:
        """The first value of each parameter."""
        if self._query is None:
            self._query = {}
            if raw := self.scope.get("query_string"):
                for key, value in parse_qsl(raw.decode("latin-1"), keep_blank_values=True):
                    self._query.setdefault(key, value)
        return self._query

    def flag(self, name: str) -> bool:
        """A boolean parameter, as Go parses them: present without a value is false only when it says so."""
        value = self.query.get(name)
        return value is not None and value not in ("0", "f", "F", "false", "False", "FALSE")

    async def body(self) -> bytes:
        """All of it. Raises TooLarge, Timeout when it does not arrive, Disconnected."""
        declared = self.header(b"content-length")
        if declared.isdigit() and int(declared) > MAX_BODY:
            raise _too_large()
        message = await self.receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            whole: bytes = message.get("body", b"")
            if len(whole) > MAX_BODY:
                raise _too_large()
            return whole
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await self._rest(message)
        except TimeoutError:
            raise Timeout(f"the body of the request did not arrive within {BODY_SECONDS} s") from None

    async def _rest(self, message: MutableMapping[str, Any]) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            if message["type"] == "http.disconnect":
                raise Disconnected
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > MAX_BODY:
                raise _too_large()
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)
            message = await self.receive()


def _too_large() -> TooLarge:
    return TooLarge(f"the body of the request is larger than {MAX_BODY // 2**20} MiB; make the object smaller")


async def answer(send: Send, code: int, body: bytes, content_type: bytes = b"application/json", headers: Headers = ()) -> None:
    """A whole answer."""
    fixed = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": code, "headers": [*fixed, *headers]})
    await send({"type": "http.response.body", "body": body})


async def answer_text(send: Send, code: int, text: str) -> None:
    await answer(send, code, text.encode(), b"text/plain; charset=utf-8", [(b"x-content-type-options", b"nosniff")])


async def answer_error(send: Send, error: StatusError) -> None:
    """A Status. A body that was too large was not read to its end, so the connection cannot be used again."""
    headers: list[tuple[bytes, bytes]] = []
    if error.retry_after is not None:
        headers.append((b"retry-after", str(error.retry_after).encode()))
    if isinstance(error, TooLarge | Timeout):
        headers.append((b"connection", b"close"))
    await answer(send, error.code, orjson.dumps(error.to_status()), headers=headers)


async def answer_cached(send: Send, request: Request, body: bytes, content_type: str, etag: str) -> None:
    """For documents that clients keep: 304 when they have this one."""
    headers = [(b"etag", etag.encode()), (b"vary", b"Accept"), (b"cache-control", b"public")]
    if etag in [tag.strip() for tag in request.header(b"if-none-match").split(",")]:
        await send({"type": "http.response.start", "status": 304, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
        return
    zipped, more = compressed(request, body)
    await answer(send, 200, zipped, content_type.encode(), [*headers, *more])


def compressed(request: Request, body: bytes) -> tuple[bytes, Headers]:
    """gzip for large answers, where the client takes it."""
    if len(body) < _ZIP_FROM or "gzip" not in request.header(b"accept-encoding"):
        return body, ()
    return gzip.compress(body, 1), [(b"content-encoding", b"gzip")]


def etag_of(body: bytes) -> str:
    """In quotes, as headers want it."""
    return f'"{hashlib.sha256(body).hexdigest()[:32].upper()}"'


def positive_int(query: dict[str, str], name: str) -> int:
    """A number in the query; absent or negative is 0. Raises BadRequest."""
    text = query.get(name, "")
    if not text:
        return 0
    try:
        number = int(text)
    except ValueError:
        raise BadRequest(f'strconv.ParseInt: parsing "{text[:40]}": invalid syntax: {name} must be a number') from None
    if number >= 2**63:
        raise BadRequest(f'strconv.ParseInt: parsing "{text[:40]}": value out of range')
    return max(number, 0)
