"""The emulator as a web server on 127.0.0.1: FastAPI, one server for all worlds of a process, told apart by their project.

Each request and each answer is checked against Google's description; a wrong answer of ours is a 500 that says so.
"""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.types import Receive, Scope, Send

from . import compute, discovery
from .world import ApiError, World

_NUMBERS = itertools.count(1)
_PREFIX = "/compute/v1/"


class Emulator:
    """One server. `world()` makes a project; `url` is what clients get as their endpoint."""

    def __init__(self) -> None:
        self.worlds: dict[str, World] = {}
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(_application(self.worlds), log_level="critical", lifespan="off", access_log=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def world(self, project: str = "") -> World:
        project = project or f"project-{next(_NUMBERS)}"
        self.worlds[project] = World(project)
        return self.worlds[project]

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()


class _Lost(Response):
    """An answer that breaks off: the client reads fewer bytes than were announced."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})


def _application(worlds: Mapping[str, World]) -> FastAPI:
    application = FastAPI(openapi_url=None)

    @application.api_route(_PREFIX + "{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    async def serve(path: str, request: Request) -> Response:
        return _answer(worlds, request.method, path, dict(request.query_params), await request.body())

    return application


def _answer(worlds: Mapping[str, World], verb: str, path: str, query: dict[str, str], raw: bytes) -> Response:
    try:
        parts = path.split("/")
        world = worlds.get(parts[1]) if len(parts) > 1 else None
        if parts[0] != "projects" or world is None:
            world = _public(worlds, path)
        if world is None:
            raise ApiError(403, "forbidden", f"Required permission for '{path}'")
        return _in(world, verb, path, query, raw)
    except ApiError as error:
        return _error(error)


def _public(worlds: Mapping[str, World], path: str) -> World | None:
    """Images of Google's own projects belong to nobody; any world answers."""
    return next(iter(worlds.values()), None) if "-cloud/global/images/" in path else None


def _in(world: World, verb: str, path: str, query: dict[str, str], raw: bytes) -> Response:
    found = discovery.match(verb, path)
    if found is None:
        raise ApiError(404, "notFound", f"no such method: {verb} {path}")
    method, variables = found
    with world.lock:
        world.settle()
        world.calls.append(method.id)
        query = {key: value for key, value in query.items() if key not in ("$alt", "alt", "$prettyPrint")}
        wrong = discovery.unknown_parameters(method, query)
        body: Any = json.loads(raw) if raw else {}
        if method.request:
            wrong += discovery.problems(method.request, body)
        if wrong:
            raise ApiError(400, "invalid", "; ".join(wrong))
        if world.throttled(method.id):
            raise ApiError(403, "rateLimitExceeded", "Quota exceeded for quota metric 'Queries' per minute")
        if "*" in world.cut or variables.get("zone", "") in world.cut:
            raise ApiError(503, "backendError", "the place does not answer")
        fault = world.strikes(method.id)
        if fault is not None and fault.error is not None:
            raise ApiError(*fault.error)
        if fault is not None and fault.lost == "request":
            return _Lost()
        answer = compute.perform(world, method.id, variables, query, body, fault.late if fault else None)
        if fault is not None and fault.lost == "reply":
            return _Lost()
        ours = discovery.problems(method.response, answer)
        if ours:
            raise ApiError(500, "emulatorIsWrong", "; ".join(ours))
        return Response(json.dumps(answer), media_type="application/json")


def _error(error: ApiError) -> Response:
    one = {"message": error.message, "domain": "global", "reason": error.reason}
    body = {"error": {"code": error.status, "message": error.message, "errors": [one]}}
    return Response(json.dumps(body), status_code=error.status, media_type="application/json")
