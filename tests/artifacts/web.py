"""A small web server for tests, on an address and a port of its own choice: what `repository.py` and `registry.py` answer with.

Reading only: there is nothing to write, log in to or list that a test did not put there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EVERY_ADDRESS = "0.0.0.0"


@dataclass(frozen=True)
class Served:
    """port: where it listens, on every address unless one was given, so also on those of networks made later."""

    port: int

    def at(self, address: str = "127.0.0.1") -> str:
        """host:port for somebody who reaches this machine as `address`: for a container, its network's gateway."""
        return f"{address}:{self.port}"

    def url(self, address: str = "127.0.0.1") -> str:
        return f"http://{self.at(address)}"


class Handler(BaseHTTPRequestHandler):
    """Keeps connections open, as clients expect, and says nothing on standard error."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def answer(self, status: int, content: bytes, media_type: str, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up in the middle is its own business."""


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler], address: str = EVERY_ADDRESS, port: int = 0) -> Iterator[Served]:
    """Answer with `handler`, in threads, for as long as the context lasts. port 0: any free one."""
    server = Server((address, port), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield Served(server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
