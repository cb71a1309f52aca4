"""What a runner says of a job, read. Pure; `runner.sh` is the other side."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import Unknown

Word = Literal["missing", "needs", "started", "running", "busy", "over"]
_HEAD = b"kubeup-runner 1 "


@dataclass(frozen=True)
class StepResult:
    """state: running | done | skipped | failed | late (its time was over). seconds: whole ones. tail: the last lines of its output."""

    step: str
    state: str
    exit_code: int | None = None
    seconds: int = 0
    tail: str = field(default="", repr=False)

    @property
    def bad(self) -> bool:
        return self.state in ("failed", "late")


@dataclass(frozen=True)
class Polled:
    """word: what the runner does. needs: bytes that are there of each large file that is missing, by sha256. lines: whole lines of
    results. read: bytes of them."""

    word: Word
    needs: dict[str, int]
    lines: tuple[StepResult | Literal["finished", "failed"], ...]
    read: int


def read(output: bytes) -> Polled:
    """Raises Unknown when it is no runner's answer."""
    head, _, rest = output.partition(b"\n")
    words = head.decode("utf-8", "replace").split()[2:]
    if not head.startswith(_HEAD) or not words or words[0] not in Word.__args__:  # type: ignore[attr-defined]
        raise Unknown(f"the machine's answer is none of a runner: {_short(output)}")
    needs = {sha: int(have) for sha, _, have in (word.partition("=") for word in words[1:])} if words[0] == "needs" else {}
    whole = rest[: rest.rfind(b"\n") + 1]
    lines = [found for line in whole.splitlines() if (found := _line(line)) is not None]
    return Polled(words[0], needs, tuple(lines), len(whole))  # type: ignore[arg-type]


def last_lines(tail: str, count: int = 5) -> str:
    """For a message: the last lines with something on them, on one line."""
    return " | ".join([line.strip() for line in tail.splitlines() if line.strip()][-count:])[-500:]


def _line(line: bytes) -> StepResult | Literal["finished", "failed"] | None:
    """None for what is torn: a runner may have been killed in the middle of it, and goes on on a line of its own."""
    try:
        found: Any = json.loads(line)
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    if "step" not in found:
        return "finished" if found.get("state") == "finished" else "failed"
    return StepResult(
        str(found["step"]),
        str(found.get("state")),
        found.get("exit"),
        int(found.get("seconds", 0)),
        _text(found.get("tail", "")),
    )


def _text(tail: str) -> str:
    """Whatever a step printed, as text without control characters."""
    try:
        raw = base64.b64decode(tail)
    except (binascii.Error, ValueError):
        return ""
    text = raw.decode("utf-8", "replace").replace("\r", "\n")
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _short(output: bytes) -> str:
    return repr(output[:120].decode("utf-8", "replace"))
