"""What people read while artifacts are made: each step, how long it has taken, and about how long it will still take.

Used by the builders of this folder; prints to standard error: a bar where that is a terminal, else a line now and then.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

EVERY_SECONDS = 15.0
REDRAWN_SECONDS = 0.5
BAR = 24
CLEAR = "\r\x1b[K"


class Step:
    """One step under way. Its maker sets `share`, the part that is done (0 to 1), when it knows; `note` goes on the lines."""

    def __init__(self, what: str, about: float) -> None:
        self.what = what
        self.about = about
        self.share = 0.0
        self.note = ""
        self.began = time.monotonic()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began

    def left(self) -> float:
        """Seconds, as far as one can say: from the share that is done once that says something, before that from `about`."""
        if self.share > 0.1:
            return self.elapsed * (1 - self.share) / self.share
        return max(self.about - self.elapsed, 0.0)

    def bar(self, width: int) -> str:
        """One line of a terminal of this width."""
        part = min(self.elapsed / (self.elapsed + self.left() + 0.01), 0.99)
        full = round(part * BAR)
        return f"[{'#' * full}{'.' * (BAR - full)}] {part:3.0%} {self.line()}"[: width - 1]

    def line(self) -> str:
        left = f"about {minutes(self.left())} left" if self.left() >= 1 else "nearly done"
        return f"{self.what}: {minutes(self.elapsed)}, {left}{f' ({self.note})' if self.note else ''}"


@contextmanager
def step(what: str, about: float = 0.0) -> Iterator[Step]:
    """Says that `what` begins, which takes `about` so many seconds, how it goes, and when it is over."""
    now = Step(what, about)
    over = threading.Event()
    terminal = sys.stderr.isatty()

    def draw() -> None:
        print(CLEAR + now.bar(shutil.get_terminal_size().columns), end="", file=sys.stderr, flush=True)

    def report() -> None:
        while not over.wait(REDRAWN_SECONDS if terminal else EVERY_SECONDS):
            if terminal:
                draw()
            else:
                say(now.line())

    if terminal:
        draw()
    else:
        say(f"{what}{f' (about {minutes(about)})' if about else ''} ...")
    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        yield now
    finally:
        over.set()
        reporter.join()
        if terminal:
            print(CLEAR, end="", file=sys.stderr, flush=True)
    say(f"{what}: done in {minutes(now.elapsed)}")


def say(line: str) -> None:
    print(line if sys.stderr.isatty() else f"[artifacts] {line}", file=sys.stderr, flush=True)


def minutes(seconds: float) -> str:
    """12 s, 3:05 min."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60}:{whole % 60:02d} min"
