"""Catches a supplier that sleeps: while a test watches, time.sleep and timed waits stop the watched thread instead of waiting.

Used by `Bench.must_not_wait` alone. This is the one module of the contracts that touches time.sleep, and only to replace it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from unittest import mock


class Waited(BaseException):
    """A supplier slept."""


@contextmanager
def no_sleep_in(thread: threading.Thread, wires: Collection[str] = ()) -> Iterator[None]:
    """time.sleep, and a timed wait on an Event, stop `thread` instead of waiting. Other threads (a server) are left alone, and so are
    Events of the packages in `wires`: there it is an answer from the network that is waited for."""
    sleep, wait = time.sleep, threading.Event.wait

    def no_sleep(seconds: float) -> None:
        if threading.current_thread() is thread and seconds > 0:
            raise Waited(f"time.sleep({seconds})")
        sleep(seconds)

    def no_wait(event: threading.Event, timeout: float | None = None) -> bool:
        caller = str(sys._getframe(1).f_globals.get("__name__", "")).partition(".")[0]
        if threading.current_thread() is thread and timeout and not event.is_set() and caller not in wires:
            raise Waited(f"Event.wait({timeout})")
        return wait(event, timeout)

    with mock.patch("time.sleep", no_sleep), mock.patch("threading.Event.wait", no_wait):
        yield
