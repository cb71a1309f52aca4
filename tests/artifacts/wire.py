"""A breakable wire to a Docker engine: a unix socket in front of another one, which loses what it is told to lose.

Used by tests that need an engine to fall silent in the middle of things, or to be full, which a real one is not on request. One
request per connection, so that each can be judged by its method.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHANGING = (b"POST", b"PUT", b"DELETE")

SENTENCE = b'{"message": "mkdir /var/lib/docker/overlay2/0a1b: no space left on device"}'
FULL = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(SENTENCE), SENTENCE)
)


class Wire:
    """Give `host` to a client instead of the engine's. `requests` counts what came through or was lost."""

    def __init__(self, path: Path, engine_host: str) -> None:
        self.host = f"unix://{path}"
        self.requests = 0
        self._engine = engine_host.removeprefix("unix://")
        self._mode = ""
        self._room: int | None = None
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # ends accept()
        self._listener.close()

    @contextmanager
    def losing(self, what: str) -> Iterator[None]:
        """what: "requests" or "replies", of changing requests; "everything"."""
        self._mode = what
        try:
            yield
        finally:
            self._mode = ""

    @contextmanager
    def full_after(self, room: int) -> Iterator[None]:
        """Inside, the engine's disk has space for `room` more containers."""
        self._room = room
        try:
            yield
        finally:
            self._room = None

    def _refuses(self, head: bytes) -> bool:
        if self._room is None or b"/containers/create" not in head.split(b"\r\n")[0]:
            return False
        with self._lock:
            self._room -= 1
            return self._room < 0

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                if not (chunk := client.recv(65536)):
                    return
                head += chunk
            self.requests += 1
            changing = head.startswith(CHANGING)
            if self._mode == "everything" or (self._mode == "requests" and changing):
                return
            if self._refuses(head):
                client.sendall(FULL)
                return
            with socket.socket(socket.AF_UNIX) as engine:
                engine.connect(self._engine)
                if b"upgrade: tcp" not in head.lower():
                    line, rest = head.split(b"\r\n", 1)
                    kept = [h for h in rest.split(b"\r\n") if not h.lower().startswith(b"connection:")]
                    head = b"\r\n".join([line, b"Connection: close", *kept])
                engine.sendall(head)
                threading.Thread(target=_pump, args=(client, engine), daemon=True).start()
                if self._mode == "replies" and changing:
                    engine.recv(1)  # the engine is done; nobody will hear of it
                    client.shutdown(socket.SHUT_RDWR)  # closing alone would not wake who reads it in the other thread
                    return
                _pump(engine, client)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)
