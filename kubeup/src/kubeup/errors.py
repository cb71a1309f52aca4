"""What a command ends with when it does not end well: one line, a remedy, and an exit code that scripts can rely on.

0    it did what it says
1    something failed that no other code names
2    the command line itself is wrong
3    the input is wrong: a file, a field, a reference; nothing was changed
4    not reached in the time given; the server goes on trying
5    no server answers
6    the API refused: protected, in conflict, not found
130  interrupted; what was applied stays
"""

from __future__ import annotations

FAILED = 1
USAGE = 2
BAD_INPUT = 3
TIMED_OUT = 4
NO_SERVER = 5
REFUSED = 6
INTERRUPTED = 130


class CommandError(Exception):
    """Printed as `error: MESSAGE` and, below it, `  → REMEDY`. Never with a traceback, unless -v."""

    def __init__(self, message: str, remedy: str = "", code: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.code = code


class BadInput(CommandError):
    """A file, a field or a reference. `problems` are all that were found, each a line of its own."""

    def __init__(self, problems: list[str], remedy: str = "") -> None:
        super().__init__("\n       ".join(problems), remedy, BAD_INPUT)
        self.problems = problems
