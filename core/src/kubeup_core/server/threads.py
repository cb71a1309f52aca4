"""Threads for what waits: a write waits for the disk, a long list for the store; the loop must not.

Leaner than the standard executor where it counts: 64 writes that one commit has made durable wake the loop once, not 64 times.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

_Job = tuple[asyncio.Future[Any], Callable[[], Any]]


class Threads:
    """For one event loop. Threads start when they are first needed."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._done: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._threads: list[threading.Thread] = []
        self._telling = False
        self._busy = 0

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises, once a thread has done it."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._busy += 1
        if self._busy > len(self._threads) < self._limit:
            thread = threading.Thread(target=self._work, name=f"request-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._jobs.put((done, work))
        return await done

    def close(self) -> None:
        """Finish what has begun. Called when the loop has ended."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            done, work = job
            result, error = None, None
            try:
                result = work()
            except BaseException as raised:
                error = raised
            self._done.append((done, result, error))
            if not self._telling:
                self._telling = True
                # The loop is closed already when the server was stopped in the middle.
                with suppress(RuntimeError):
                    done.get_loop().call_soon_threadsafe(self._tell)
            del job, done, work, result, error

    def _tell(self) -> None:
        # First this, then the queue: whoever comes later calls again.
        self._telling = False
        while self._done:
            done, result, error = self._done.popleft()
            self._busy -= 1
            if done.cancelled():
                continue
            if error is None:
                done.set_result(result)
            else:
                done.set_exception(error)
