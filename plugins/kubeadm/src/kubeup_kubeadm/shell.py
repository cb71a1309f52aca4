"""Puts a step's script together: its variables, the common functions of `scripts/lib.sh`, and the files of `scripts/` that it names.

The scripts are files of their own so that `sh -n` and shellcheck read them as they are. Values come in as quoted variables only, never
as text within a script.
"""

from __future__ import annotations

import shlex
from functools import lru_cache
from importlib.resources import files


def script(*parts: str, **variables: str | int | bool) -> str:
    """Shell out of `scripts/<part>.sh`, with these variables. True and False become yes and no."""
    head = "".join(f"{name}={shlex.quote(_text(value))}\n" for name, value in sorted(variables.items()))
    return head + "\n".join(source(f"{part}.sh") for part in ("lib", *parts))


@lru_cache(maxsize=64)
def source(name: str) -> str:
    """A file of `scripts/`."""
    return (files(__package__) / "scripts" / name).read_text()


def _text(value: str | int | bool) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
