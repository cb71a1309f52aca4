"""The app: FastAPI with its docs page, health checks and version, and the API's own routes as plain ASGI in front of them.

`make_app` is called by whoever starts a server (`serving.py` serves it). Every request goes through `_Api`, which checks the
token, finds the route, and turns each error into a Status; nothing that went wrong inside leaves a trace outside but an id.
"""

from __future__ import annotations

import logging
import platform
import secrets
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import version as installed_version
from typing import Any

from fastapi import FastAPI
from fastapi import Request as FastRequest
from fastapi.responses import PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from ..kinds import KINDS, Kind
from ..runtime.clock import Clock, SystemClock
from ..statuses import InternalError, StatusError
from ..store import Store
from ..verbs import Verbs
from .auth import PUBLIC, Tokens
from .discovery import Discovery
from .events import served as served_kinds
from .http import Disconnected, Receive, Request, Scope, Send, answer_error, answer_text
from .openapi import OpenAPI
from .resources import NOT_FOUND, Resources
from .reviews import is_review, review
from .routes import Routes
from .threads import Threads
from .watches import Watches

log = logging.getLogger(__name__)

KUBERNETES = "1.36"
"""The version whose API this is; kubectl warns when it is more than one minor away from its own."""

WRITERS = 64
"""Threads for requests that wait for the disk: so many writes share one fsync."""


def make_app(
    verbs: Verbs,
    store: Store,
    *,
    token: str,
    clock: Clock | None = None,
    kinds: Sequence[Kind] = KINDS,
    address: str = "127.0.0.1",
    ready: Callable[[], bool] = lambda: True,
) -> FastAPI:
    """The ASGI app. `address` is host:port as discovery says it, `ready` decides /readyz."""
    clock = clock or SystemClock()
    threads = Threads(WRITERS)
    kinds_served = served_kinds(kinds)
    watches = Watches(verbs, store, clock, threads)
    openapi = OpenAPI(kinds_served, installed_version("kubeup-core"))
    app = FastAPI(title="kubeup", version=installed_version("kubeup-core"), redoc_url=None)
    app.openapi = lambda: openapi.whole  # type: ignore[method-assign]
    app.state.watches = watches
    app.state.threads = threads
    _add_routes(app, ready)
    resources = Resources(verbs, watches, clock, threads)
    app.add_middleware(
        _Api,
        tokens=Tokens(token),
        routes=Routes(kinds_served),
        resources=resources,
        discovery=Discovery([one.kind for one in kinds_served], address),
        openapi=openapi,
        clock=clock,
    )
    return app


def _add_routes(app: FastAPI, ready: Callable[[], bool]) -> None:
    @app.get("/healthz", response_class=PlainTextResponse, tags=["server"])
    @app.get("/livez", response_class=PlainTextResponse, tags=["server"])
    def alive() -> str:
        return "ok"

    @app.get("/readyz", response_class=PlainTextResponse, tags=["server"])
    def is_ready() -> Response:
        return PlainTextResponse("ok") if ready() else PlainTextResponse("not ready", 503)

    @app.get("/version", tags=["server"])
    def version() -> dict[str, str]:
        major, minor = KUBERNETES.split(".")
        return {
            "major": major,
            "minor": minor,
            "gitVersion": f"v{KUBERNETES}.0+kubeup-{app.version}",
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "",
            "compiler": "cpython",
            "platform": f"linux/{platform.machine()}",
        }

    @app.exception_handler(HTTPException)
    async def plain(request: FastRequest, error: HTTPException) -> Response:
        text = NOT_FOUND if error.status_code == 404 else f"{error.detail}\n"
        return PlainTextResponse(text, error.status_code)


class _Api:
    """Outermost: authentication, the routes of the API, and what happens when something fails."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        tokens: Tokens,
        routes: Routes,
        resources: Resources,
        discovery: Discovery,
        openapi: OpenAPI,
        clock: Clock,
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._routes = routes
        self._resources = resources
        self._discovery = discovery
        self._openapi = openapi
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def sending(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        request = Request(scope, receive)
        try:
            await self._dispatch(request, sending)
        except StatusError as error:
            if not started:
                await answer_error(send, error)
        except Disconnected:
            pass
        except Exception as error:
            number = _log(request, error)
            if started:
                # The answer is broken off; there is no other way left to tell the client.
                raise _Aborted from None
            message = f"an internal error occurred; the server's log has it under {number}"
            await answer_error(send, InternalError(message))

    async def _dispatch(self, request: Request, send: Send) -> None:
        path = request.path
        if path in PUBLIC:
            await self._app(request.scope, request.receive, send)
            return
        actor = self._tokens.actor(request.scope["headers"])
        if path.startswith(("/api/", "/apis/")) and (target := self._routes.resolve(path)) is not None:
            await self._resources.handle(request, send, target, actor)
        elif self._discovery.has(path):
            if request.method in ("GET", "HEAD"):
                await self._discovery.answer(request, send)
            else:
                await answer_text(send, 405, "Method Not Allowed\n")
        elif is_review(path):
            await review(request, send, actor, self._clock.wall())
        elif path.startswith("/openapi/"):
            await self._openapi.answer(request, send)
        elif path.startswith(("/api/", "/apis/")):
            await answer_text(send, 404, NOT_FOUND)
        else:
            await self._app(request.scope, request.receive, send)


class _Aborted(Exception):
    """An answer that had begun cannot be finished."""


def _log(request: Request, error: Exception) -> str:
    """Where it happened, under an id. Not what the error says: it may quote a body, and bodies hold secrets."""
    number = secrets.token_hex(4)
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s: %s %s failed with %s\n%s", number, request.method, request.path, type(error).__name__, where)
    return number
