"""What people see while `up`, `down` or `delete` wait: one block that is redrawn on a terminal, plain lines elsewhere.

`block` lays a Picture out for a height, so that nothing scrolls away with three hundred machines; `Terminal` draws it with Rich,
`Lines` prints what has changed, each thing once, and `Nothing` is for `-o json`.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

import click

from .follow import Key, Object, Picture, Row, title
from .output import columns, duration, plural

Tell = Callable[[Key, Object | None], tuple[bool, str]]
"""(key, object) -> (whether it is where it should be, what to say of it)."""

Line = list[tuple[str, str]]
"""Pieces of text, each with its style."""

MACHINES_SHOWN = 20
"""With more, plain lines count machines instead of naming them."""

AGAIN = 2.0
"""Seconds before plain lines say something new of the same thing; the last word is always said."""

COLOURS = {"Ready": "green", "Running": "cyan", "Joining": "cyan", "Failed": "red", "Unknown": "red", "Pending": "dim"}


class View(Protocol):
    def __enter__(self) -> object: ...
    def __exit__(self, *args: Any) -> object: ...
    def show(self, picture: Picture, passed: float) -> None: ...
    def last(self, picture: Picture, passed: float) -> None: ...


def view(tell: Tell, *, quiet: bool = False) -> View:
    """The one that suits where standard output goes."""
    if quiet:
        return Nothing()
    return Terminal(tell) if sys.stdout.isatty() else Lines(tell)


def block(picture: Picture, tell: Tell, passed: float | None, height: int) -> list[Line]:
    """At most `height` lines. passed: seconds, for the last line; None when it is over."""
    told = [(key, *tell(key, obj)) for key, obj in picture.wanted.items()]
    foot: list[Line] = [] if passed is None else [[(f"{duration(passed)}  {_counts(picture.machines)}".rstrip(), "dim")]]
    room = max(height - len(foot), 2)
    need = len(picture.machines) + 2 if picture.machines else 0
    objects = _objects(told, max(room - need, min(len(told), room // 2), 1))
    rows = _machines(picture.machines, room - len(objects) - 1) if picture.machines else []
    return [*objects, *([[]] if rows else []), *rows, *foot][:height]


def _objects(told: list[tuple[Key, bool, str]], room: int) -> list[Line]:
    """One line for each object; those that are not done first, when they do not all fit."""
    shown = told
    if len(told) > room:
        shown = sorted(told, key=lambda t: t[1])[: max(room - 1, 0)]
    width = max((len(title(key)) for key, _, _ in shown), default=0)
    lines: list[Line] = []
    for key, done, text in shown:
        mark = ("✓ ", "green") if done else ("· ", "yellow")
        lines.append([mark, (f"{title(key):<{width}}  ", ""), (text, "green" if done else "")])
    if len(shown) < len(told):
        left = len(told) - len(shown)
        well = sum(t[1] for t in told) - sum(t[1] for t in shown)
        lines.append([(f"  ... and {left} more, {well} of them done", "dim")])
    return lines


def _machines(machines: list[Row], room: int) -> list[Line]:
    """A table; when it does not fit, those that are not Ready, and how many there are besides."""
    shown = machines
    if len(machines) + 1 > room:
        shown = [m for m in machines if not m.ready][: max(room - 2, 0)]
    lines: list[Line] = []
    if shown:
        cells = [["POOL", "MACHINE", "STATE", "ADDRESS"], *([m.pool, m.name, m.state, m.address] for m in shown)]
        for i, texts in enumerate(columns(cells)):
            row = shown[i - 1] if i else None
            lines.append(_row(texts, row))
    if len(shown) < len(machines) and not all(m.ready for m in machines):
        counts = Counter(m.state for m in machines) - Counter(m.state for m in shown)
        rest = ", ".join(f"{n} {state}" for state, n in counts.most_common())
        lines.append([(f"  ... and {len(machines) - len(shown)} more: {rest}" if shown else f"  {rest}", "dim")])
    return lines


def _row(texts: list[str], row: Row | None) -> Line:
    if row is None:
        return [("  " + "   ".join(texts), "dim")]
    pool, name, state, address = texts
    note = "" if row.ready else row.message
    return [(f"  {pool}   {name}   ", ""), (state, COLOURS.get(row.state, "yellow")), (f"   {address}   ", ""), (note, "dim")]


def _counts(machines: list[Row]) -> str:
    return f"{plural(len(machines), 'machine')}, {sum(m.ready for m in machines)} Ready" if machines else ""


class Terminal:
    """One block, redrawn in place; what it was at the end stays."""

    def __init__(self, tell: Tell) -> None:
        from rich.console import Console
        from rich.live import Live

        self._tell = tell
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")

    def __enter__(self) -> Terminal:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, picture: Picture, passed: float) -> None:
        self._draw(block(picture, self._tell, passed, self._console.height - 1))

    def last(self, picture: Picture, passed: float) -> None:
        self._draw(block(picture, self._tell, None, self._console.height - 1))

    def _draw(self, lines: list[Line]) -> None:
        from rich.text import Text

        whole = Text(no_wrap=True, overflow="ellipsis")
        for i, line in enumerate(lines):
            whole.append("\n" if i else "")
            for text, style in line:
                whole.append(text.replace("\n", " "), style or None)
        self._live.update(whole, refresh=True)


class Lines:
    """For pipes and logs: a line when something has changed, not too often about the same thing."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._said: dict[str, str] = {}
        self._when: dict[str, float] = {}

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()

    def show(self, picture: Picture, passed: float) -> None:
        self._say(picture, passed, last=False)

    def last(self, picture: Picture, passed: float) -> None:
        self._say(picture, passed, last=True)

    def _say(self, picture: Picture, passed: float, *, last: bool) -> None:
        for name, done, text in self._news(picture):
            early = passed - self._when.get(name, -AGAIN) < AGAIN
            if not text or self._said.get(name) == text or (early and not done and not last):
                continue
            self._said[name], self._when[name] = text, passed
            click.echo(f"{name}: {text}")
        sys.stdout.flush()

    def _news(self, picture: Picture) -> list[tuple[str, bool, str]]:
        news = [(title(key), *self._tell(key, obj)) for key, obj in picture.wanted.items()]
        if len(picture.machines) > MACHINES_SHOWN:
            news.append(("machines", False, _counts(picture.machines)))
        else:
            shown = [m for m in picture.machines if m.state != "Pending"]
            news += [(f"machine/{m.name}", m.ready, f"{m.state} {m.address}".strip()) for m in shown]
        return news


class Nothing:
    """For programs: only the result counts."""

    def __enter__(self) -> Nothing:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, picture: Picture, passed: float) -> None:
        pass

    def last(self, picture: Picture, passed: float) -> None:
        pass
