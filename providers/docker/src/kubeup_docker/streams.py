"""The two-way stream of a command that runs in a container: input in, frames with output back. Used by client.py.

The engine multiplexes stdout and stderr: each frame has a header of 8 bytes, of which the last four are its length
(Docker Engine API, "Attach to a container", stream format). Which of the two a frame belongs to is not told apart here.
"""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from kubeup_core import Unknown

CHUNK = 65536


def talk(connection: Any, stdin: bytes, timeout: float) -> Iterator[bytes]:
    """Send `stdin` and its end, yield the output until the command ends. Closes the connection.

    connection  what the SDK's exec_start(socket=True) returns
    Raises Unknown when `timeout` seconds are over: the command may still run.
    """
    # Reading goes through the reply's own buffer: what came in one piece with the reply's head is in there, and only there.
    response = connection._response
    reader = response.raw._fp.fp
    sock: socket.socket = connection._sock
    until = time.monotonic() + timeout
    try:
        if stdin:
            # Apart, as a command that answers before it has read everything would block both ends
            threading.Thread(target=_send, args=(sock, stdin), daemon=True).start()
        buffer = b""
        while chunk := _receive(reader, sock, until, timeout):
            buffer += chunk
            while len(buffer) >= 8 and len(buffer) >= (end := 8 + int.from_bytes(buffer[4:8])):
                frame, buffer = buffer[8:end], buffer[end:]
                yield frame
    finally:
        response.close()  # first: it flushes what the connection is made of
        connection.close()


def _receive(reader: io.BufferedReader, sock: socket.socket, until: float, timeout: float) -> bytes:
    left = until - time.monotonic()
    try:
        if left > 0:
            sock.settimeout(left)
            return reader.read1(CHUNK)
    except TimeoutError:
        pass
    raise Unknown(f"the command did not end within {timeout:g} s; it may still run")


def _send(sock: socket.socket, stdin: bytes) -> None:
    try:
        sock.sendall(stdin)
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the command ended without reading all of it, or the reader gave up
