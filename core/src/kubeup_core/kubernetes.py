"""The Client protocol over HTTPS: to a `kubeup serve` elsewhere, or to a real kube-apiserver with our kinds.

The same errors and the same behaviour as in process (`inprocess.py`), so that controllers cannot tell; `request` is the raw
door for commands that need a path. Watches run on threads of their own and find their place again by themselves. Imports httpx:
nothing light may import this module.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import httpx
import orjson

from .client import Event
from .kinds import Kind, kind_of
from .login import Login, read_kubeconfig
from .objects import Resource
from .statuses import BadRequest, Expired, NotFound, StatusError, Unavailable, from_status

R = TypeVar("R", bound=Resource)

log = logging.getLogger(__name__)

MANAGER = "kubeup"
PAGE = 500
WATCH_SECONDS = 240
"""How long one watch request lasts; then it is asked again from where it was."""

_TIMEOUT = httpx.Timeout(60, connect=10)
_WATCH_TIMEOUT = httpx.Timeout(10, read=WATCH_SECONDS + 60)
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 10.0

Key = tuple[str, str]
Objects = list[R]


class HttpClient:
    """Thread-safe."""

    def __init__(self, login: Login, *, manager: str = MANAGER) -> None:
        self._url = login.url
        headers = {"User-Agent": f"{manager}/0", "Accept": "application/json"}
        if login.token:
            headers["Authorization"] = f"Bearer {login.token}"
        self._http = httpx.Client(
            base_url=login.url,
            verify=tls_context(login),
            headers=headers,
            timeout=_TIMEOUT,
            # A watch keeps its connection; a limit would let watches starve everything else.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
            trust_env=False,
        )
        self._write = {"fieldManager": manager, "fieldValidation": "Ignore"}
        self._watching: set[_Watch[Any]] = set()

    @classmethod
    def from_kubeconfig(cls, path: Path, context: str = "", *, manager: str = MANAGER) -> HttpClient:
        """Raises ConfigError."""
        return cls(read_kubeconfig(path, context), manager=manager)

    def close(self) -> None:
        """Ends the watches as well."""
        for watch in list(self._watching):
            watch.end()
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Any:
        """One request for JSON by its path. Raises what the server says as a StatusError, Unavailable when none answers."""
        return orjson.loads(self._send(method, path, params, body, content_type, accept))

    # -- the protocol ----------------------------------------------------------------------------------------------------

    def get(self, kind: type[R], name: str, namespace: str = "") -> R:
        return _decode(kind, self._send("GET", path_of(kind_of(kind), namespace, name)))

    def find(self, kind: type[R], name: str, namespace: str = "") -> R | None:
        try:
            return self.get(kind, name, namespace)
        except NotFound:
            return None

    def list(self, kind: type[R], namespace: str | None = None, *, labels: str = "", fields: str = "") -> tuple[list[R], str]:
        selectors = {"labelSelector": labels, "fieldSelector": fields}
        return self._list(kind, namespace, {name: value for name, value in selectors.items() if value})

    def create(self, obj: R) -> R:
        kind = type(obj)
        data = self._send("POST", path_of(kind_of(kind), obj.namespace), self._write, obj.to_dict())
        return _decode(kind, data)

    def update(self, obj: R) -> R:
        return self._update(obj, "")

    def update_status(self, obj: R) -> R:
        return self._update(obj, "status")

    def delete(
        self,
        kind: type[R],
        name: str,
        namespace: str = "",
        *,
        uid: str | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] = "Background",
    ) -> None:
        options: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
        if uid:
            options["preconditions"] = {"uid": uid}
        self._send("DELETE", path_of(kind_of(kind), namespace, name), None, options)

    def watch(self, kind: type[R], since: str, deliver: Callable[[Event[R]], None]) -> Callable[[], None]:
        """Raises Expired when the server does not reach back to `since`; list again then."""
        if not since.isdigit():
            raise BadRequest(f'invalid resource version: "{since}"')
        known: dict[Key, R] = {}
        if since != "0":
            # What there was at `since`: without it, nobody could tell later what vanished while the place was lost.
            objects, _ = self._list(kind, None, {"resourceVersion": since, "resourceVersionMatch": "Exact"})
            known = {_key(obj): obj for obj in objects}
        watch = _Watch(self, kind, since, known, deliver)
        self._watching.add(watch)
        watch.start()

        def end() -> None:
            self._watching.discard(watch)
            watch.end()

        return end

    # -- how it is done --------------------------------------------------------------------------------------------------

    @contextmanager
    def stream(self, path: str, params: Mapping[str, str]) -> Iterator[httpx.Response]:
        """A request whose answer is read line by line. Raises as `request` does."""
        try:
            with self._http.stream("GET", path, params=params, timeout=_WATCH_TIMEOUT) as answer:
                if answer.status_code >= 400:
                    raise answered(answer.read(), answer.status_code)
                yield answer
        except httpx.HTTPError as error:
            raise self._unavailable(error) from error

    def _list(self, kind: type[R], namespace: str | None, params: dict[str, str]) -> tuple[Objects[R], str]:
        path = path_of(kind_of(kind), namespace or "")
        items: Objects[R] = []
        page = {**params, "limit": str(PAGE)}
        while True:
            try:
                answer = orjson.loads(self._send("GET", path, page))
            except Expired:
                if "continue" not in page:
                    raise
                # The first pages are too old by now; all at once is always possible.
                items, page = [], params
                continue
            items += [_decode(kind, orjson.dumps(item)) for item in answer["items"]]
            more = answer["metadata"].get("continue")
            if not more:
                return items, answer["metadata"]["resourceVersion"]
            kept = {name: value for name, value in page.items() if not name.startswith("resourceVersion")}
            page = {**kept, "continue": more}

    def _update(self, obj: R, subresource: str) -> R:
        kind = type(obj)
        path = path_of(kind_of(kind), obj.namespace, obj.name, subresource)
        return _decode(kind, self._send("PUT", path, self._write, obj.to_dict()))

    def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> bytes:
        headers = {"Accept": accept}
        content = None
        if body is not None:
            headers["Content-Type"] = content_type
            content = orjson.dumps(body)
        try:
            answer = self._http.request(method, path, params=params, headers=headers, content=content)
        except httpx.HTTPError as error:
            raise self._unavailable(error) from error
        if answer.status_code >= 400:
            raise answered(answer.content, answer.status_code)
        return answer.content

    def _unavailable(self, error: httpx.HTTPError) -> Unavailable:
        return Unavailable(f"the server at {self._url} does not answer ({type(error).__name__}); is it running?", retry_after=1)


class _Watch(Generic[R]):
    """One watch, on its thread: request after request, each from where the last one ended."""

    def __init__(
        self,
        client: HttpClient,
        kind: type[R],
        since: str,
        known: dict[Key, R],
        deliver: Callable[[Event[R]], None],
    ) -> None:
        self._client = client
        self._kind = kind
        self._rv = since
        self._known = known
        self._deliver = deliver
        self._ended = threading.Event()
        self._answer: httpx.Response | None = None
        self._path = path_of(kind_of(kind))
        self._thread = threading.Thread(target=self._run, name=f"watch-{kind_of(kind).plural}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Nothing is delivered any more once this has returned and the delivery that may be under way is done."""
        self._ended.set()
        if (answer := self._answer) is not None:
            stream = answer.extensions.get("network_stream")
            connection = stream.get_extra_info("socket") if stream is not None else None
            if connection is not None:
                # Closing would not wake a thread that reads.
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        wait = _FIRST_WAIT
        while not self._ended.is_set():
            try:
                self._follow()
                wait = _FIRST_WAIT
            except Expired:
                if self._again():
                    wait = _FIRST_WAIT
                    continue
            except StatusError as error:
                if not self._ended.is_set():
                    log.warning("watch of %s: %s; again in %.1f s", self._path, error.message, wait)
            self._ended.wait(wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    def _follow(self) -> None:
        """One request to its end. Raises Expired when the place is lost."""
        params = {
            "watch": "true",
            "resourceVersion": self._rv,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        with self._client.stream(self._path, params) as answer:
            self._answer = answer
            try:
                for line in answer.iter_lines():
                    if self._ended.is_set():
                        return
                    if line:
                        self._take(orjson.loads(line))
            finally:
                self._answer = None

    def _take(self, event: dict[str, Any]) -> None:
        kind, obj = event["type"], event["object"]
        if kind == "ERROR":
            raise from_status(obj)
        if kind == "BOOKMARK":
            self._rv = obj["metadata"]["resourceVersion"]
            return
        self._say(kind, _decode(self._kind, orjson.dumps(obj)))
        self._rv = obj["metadata"]["resourceVersion"]

    def _say(self, kind: Literal["ADDED", "MODIFIED", "DELETED"], obj: R) -> None:
        key = _key(obj)
        old = self._known.pop(key, None)
        if kind != "DELETED":
            self._known[key] = obj
        if not self._ended.is_set():
            self._deliver(Event(kind, obj, old))

    def _again(self) -> bool:
        """List anew, and deliver what is different from what was known."""
        try:
            objects, rv = self._client.list(self._kind)
        except StatusError as error:
            log.warning("list of %s: %s", self._path, error.message)
            return False
        now = {_key(obj): obj for obj in objects}
        for key, old in list(self._known.items()):
            if key not in now or now[key].uid != old.uid:
                self._say("DELETED", old)
        for key, obj in now.items():
            known = self._known.get(key)
            if known is None:
                self._say("ADDED", obj)
            elif known.metadata.resource_version != obj.metadata.resource_version:
                self._say("MODIFIED", obj)
        self._rv = rv
        return True


def path_of(kind: Kind, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """The URL's path of a collection, an object, a subresource. Without a namespace: of all namespaces."""
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    inside = f"/namespaces/{namespace}" if kind.namespaced and namespace else ""
    return "/".join(part for part in (f"{root}{inside}/{kind.plural}", name, subresource) if part)


def tls_context(login: Login) -> ssl.SSLContext:
    """Trusts the login's authority only, and shows its certificate."""
    context = ssl.create_default_context(cadata=login.ca or None)
    if login.certificate:
        _load(context, login.certificate)
    return context


def _load(context: ssl.SSLContext, certificate: str) -> None:
    """ssl reads certificates from files only: from one that is only memory, where there is such a thing."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("certificate", os.MFD_CLOEXEC), "w") as file:
            file.write(certificate)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
        return
    fd, name = tempfile.mkstemp()
    try:
        with os.fdopen(fd, "w") as file:
            file.write(certificate)
        context.load_cert_chain(name)
    finally:
        os.unlink(name)


def answered(data: bytes, code: int) -> StatusError:
    """What a refusal says: a Status object, or whatever stands in front of the server."""
    try:
        status = orjson.loads(data)
    except ValueError:
        status = {}
    if not isinstance(status, dict) or status.get("kind") != "Status":
        status = {"message": data[:200].decode(errors="replace").strip()}
    return from_status(status, code)


def _decode(kind: type[R], data: bytes) -> R:
    obj = kind.from_bytes(data)
    obj.metadata.managed_fields = None
    return obj


def _key(obj: Resource) -> Key:
    return obj.namespace, obj.name
