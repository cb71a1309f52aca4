"""What happens inside a simulated machine: a handful of shell commands, jobs of steps (`jobs.py`), and handlers that a test adds.

It is honest: a command that it does not know ends with 127, as in a shell, and nothing claims to have happened. Handlers live in
this process only.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

from .jobs import Jobs
from .records import Machine

_OPERATORS = frozenset({"|", "||", "&", "&&", ">", ">>", "<", "(", ")"})

Handler = Callable[[Machine, str, bytes], tuple[int, bytes]]
"""(machine, the whole script, stdin) -> (exit code, output)."""


class Guest:
    """`cloud.guest`."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.jobs = Jobs()
        self._handlers: list[tuple[re.Pattern[str], Handler]] = []

    def on(self, pattern: str, handler: Handler) -> None:
        """Scripts in which the regular expression is found go to this handler; the latest one added is asked first."""
        self._handlers.insert(0, (re.compile(pattern), handler))

    def run(self, machine: Machine, script: str, stdin: bytes) -> tuple[int, bytes]:
        for pattern, handler in self._handlers:
            if pattern.search(script):
                return handler(machine, script, stdin)
        answer = self.jobs.answer(machine, self._now(), script, stdin)
        if answer is not None:
            return answer
        code, output = 0, b""
        for words in _commands(script):
            if words[0] == "exit":
                return (int(words[1]) if words[1:] else code), output
            code, text = self._command(machine, words, stdin)
            output += text
        return code, output

    @staticmethod
    def _command(machine: Machine, words: list[str], stdin: bytes) -> tuple[int, bytes]:
        match words:
            case ["true" | ":"]:
                return 0, b""
            case ["false"]:
                return 1, b""
            case [_, *rest] if _OPERATORS & set(rest):
                return 2, f"sh: this machine knows single commands only, not {' '.join(words)}\n".encode()
            case ["echo", *rest]:
                return 0, (" ".join(rest) + "\n").encode()
            case ["hostname"]:
                return 0, f"{machine.hostname}\n".encode()
            case ["cat"]:
                return 0, stdin
            case _:
                return 127, f"sh: {words[0]}: not found\n".encode()


def _commands(script: str) -> list[list[str]]:
    """The words of each command; they end at a line or a semicolon. Any other punctuation is a word of its own."""
    found: list[list[str]] = []
    for line in script.splitlines():
        found.append([])
        for word in shlex.shlex(line, posix=True, punctuation_chars=True):
            if word == ";":
                found.append([])
            else:
                found[-1].append(word)
    return [words for words in found if words]
