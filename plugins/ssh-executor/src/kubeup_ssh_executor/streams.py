"""The two-way stream of one command: input in, output back, then the exit code. Used by executor.py.

Output is read while input is still being sent, by two threads: a command that answers before it has read everything would block
both ends otherwise. Channels are paramiko's, whose time-outs and errors are the standard library's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from kubeup_core.errors import Unknown

CHUNK = 65536

TURN = 0.5
"""Seconds after which a quiet channel is looked at."""

QUIET = 2
"""Turns of silence after the exit code, and then it is the end: what the command left running still holds its output open."""


def talk(channel: Any, stdin: bytes, deadline: float, who: str) -> Iterator[bytes | int]:
    """deadline: monotonic seconds. Raises Unknown: the time was over, or the connection was lost. Closes the channel."""
    over = threading.Event()
    try:
        if stdin:
            threading.Thread(target=_send, args=(channel, stdin, over), name="ssh-stdin", daemon=True).start()
        else:
            channel.shutdown_write()
        yield from _output(channel, deadline, who)
        channel.status_event.wait(max(0.0, deadline - time.monotonic()))
        if channel.exit_status < 0:
            raise Unknown(f"the connection to {who} was lost while a command ran; nobody knows how far it came", code="Lost")
        yield channel.exit_status
    finally:
        over.set()
        with suppress(OSError, EOFError):  # closing says goodbye, which a dead connection does not take
            channel.close()


def _output(channel: Any, deadline: float, who: str) -> Iterator[bytes]:
    quiet = 0
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise Unknown(f"a command on {who} did not end in time; it may still run", code="Timeout")
        channel.settimeout(min(TURN, left))
        try:
            chunk = channel.recv(CHUNK)
        except TimeoutError:
            quiet += bool(channel.status_event.is_set())
            if quiet >= QUIET:
                return
            continue
        if not chunk:
            return
        quiet = 0
        yield chunk


def _send(channel: Any, data: bytes, over: threading.Event) -> None:
    view = memoryview(data)
    try:
        while view and not over.is_set():
            try:
                view = view[channel.send(view[:CHUNK]) :]
            except TimeoutError:
                continue  # the command has not read on for a while; its own time limit is the reader's business
        channel.shutdown_write()
    except (OSError, EOFError):
        return  # the command ended without reading all of it, or the connection broke: the reader sees which
