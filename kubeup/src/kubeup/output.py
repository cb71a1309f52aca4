"""What people see: tables from the server's own Table answers, JSON and YAML for programs, ages and counts in words."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click


def show(value: Any, output: str) -> None:
    """Print a value as JSON or YAML."""
    if output == "json":
        click.echo(json.dumps(value, indent=2))
    else:
        import yaml

        click.echo(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), nl=False)


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]], width: int | None = None) -> str:
    """Columns as kubectl lays them out; None is blank. width: longer lines end in an ellipsis."""
    cells = [[str(h).upper() for h in headers], *[["" if c is None else str(c) for c in row] for row in rows]]
    return "\n".join(cut("   ".join(row).rstrip(), width) for row in columns(cells))


def columns(cells: Sequence[Sequence[str]]) -> list[list[str]]:
    """Each cell padded to the width of its column."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [[cell.ljust(w) for cell, w in zip(row, widths, strict=True)] for row in cells]


def cut(text: str, width: int | None) -> str:
    """On one line of so many characters; None is as many as it takes."""
    text = " ".join(text.splitlines())
    return text if width is None or len(text) <= width else f"{text[: width - 1]}…"


def screen_width() -> int | None:
    """Of the terminal; None when standard output is none, because a pipe has no width."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def server_table(answer: dict[str, Any], wide: bool = False, namespaces: bool = False) -> str:
    """A meta.k8s.io Table as text."""
    shown = [i for i, column in enumerate(answer["columnDefinitions"]) if wide or not column.get("priority")]
    headers = [answer["columnDefinitions"][i]["name"] for i in shown]
    rows = [[row["cells"][i] for i in shown] for row in answer.get("rows") or []]
    if namespaces:
        headers.insert(0, "Namespace")
        for cells, row in zip(rows, answer.get("rows") or [], strict=True):
            cells.insert(0, row["object"]["metadata"].get("namespace", ""))
    return table(headers, rows)


def age(since: str | None, now: datetime | None = None) -> str:
    """`2026-01-01T00:00:00Z` -> `3m20s`, as kubectl says it; "" for nothing."""
    if not since:
        return ""
    then = datetime.fromisoformat(since.replace("Z", "+00:00"))
    return duration(((now or datetime.now(UTC)) - then).total_seconds())


def duration(seconds: float) -> str:
    """45 -> 45s, 200 -> 3m20s, 7300 -> 2h1m, 200000 -> 2d7h."""
    s = max(0, int(seconds))
    for size, unit, below, lower in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if s >= size:
            rest = s % size // below
            return f"{s // size}{unit}{rest}{lower}" if rest else f"{s // size}{unit}"
    return f"{s}s"


def plural(count: int, word: str) -> str:
    """3, machine -> 3 machines."""
    if count == 1:
        return f"1 {word}"
    return f"{count} {word[:-1]}ies" if word.endswith("y") else f"{count} {word}s"
