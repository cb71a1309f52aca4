"""Serves the app with uvicorn, over TLS, on a thread of its own.

Called by `kubeup serve` and by tests. The socket is bound before the thread starts, so that the port is known at once; `start`
returns when requests are answered. `stop` ends the watches first, and gives what is under way a few seconds.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
from types import TracebackType
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .auth import Redact
from .certificates import Certificates

MAX_HEAD = 64 * 1024
"""Bytes of a request line with its headers."""

GRACE_SECONDS = 2
KEEP_ALIVE_SECONDS = 120
BACKLOG = 1024


class ServerThread:
    """A server that runs until it is stopped. `port` 0 takes a free one; `url` says where it is."""

    def __init__(self, app: FastAPI, certificates: Certificates, *, token: str, host: str = "127.0.0.1", port: int = 0) -> None:
        self._app = app
        self._socket = socket.create_server((host, port), backlog=BACKLOG)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"https://{host}:{self.port}"
        # A filter of a logger is not asked for the lines of those below it.
        for name in ("uvicorn.error", "kubeup_core.server.app"):
            _redact(logging.getLogger(name), token)
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http=_Protocol,
            ws="none",
            lifespan="off",
            ssl_certfile=certificates.certificate,
            ssl_keyfile=certificates.key,
            ssl_version=ssl.PROTOCOL_TLS_SERVER,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        self._server = _Server(config, app)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)

    def start(self) -> ServerThread:
        """Returns when it answers. Raises what kept it from starting."""
        self._thread.start()
        self._server.up.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def stop(self) -> None:
        """Returns when nothing runs any more. May be called twice."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join()
        self._socket.close()
        self._app.state.threads.close()

    def __enter__(self) -> ServerThread:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except BaseException as error:
            self._failure = error
        finally:
            self._server.up.set()


class _Server(uvicorn.Server):
    """Says when it is up, and ends the watches before it waits for requests to end."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app
        self.up = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.watches.close()
        await super().shutdown(sockets)
        # A client that does not answer the end of TLS would keep the loop from closing.
        for connection in list(self.server_state.connections):
            if isinstance(connection, HttpToolsProtocol):
                connection.transport.abort()
        await asyncio.sleep(0)


class _Protocol(HttpToolsProtocol):
    """uvicorn's, with a limit to what stands before a body: the parser itself would keep any length."""

    _in_head = True
    _waiting = 0
    _head = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Writes have an audit line; who else asked what is nobody's business.
        self.access_log = False

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            # The parser keeps a header that has not ended; its callbacks do not know of it yet.
            self._waiting += len(data)
            if self._waiting > MAX_HEAD:
                self._refuse()

    def on_message_begin(self) -> None:
        self._in_head, self._waiting, self._head = True, 0, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)  # With the colon, the blank and the end of the line.
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        if self._head > MAX_HEAD:
            self._refuse()
        else:
            super().send_400_response(msg)

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > MAX_HEAD:
            raise ValueError("the headers are too large")  # The parser stops, and says so through send_400_response.

    def _refuse(self) -> None:
        text = b"the headers of the request are too large\n"
        head = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain\r\nconnection: close\r\n"
        self.transport.write(head + f"content-length: {len(text)}\r\n\r\n".encode() + text)
        self.transport.close()


def _redact(logger: logging.Logger, token: str) -> None:
    for old in [f for f in logger.filters if isinstance(f, Redact)]:
        logger.removeFilter(old)
    logger.addFilter(Redact(token))
