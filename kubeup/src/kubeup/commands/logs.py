"""`kubeup logs`: what the background server wrote."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

import click

from .. import daemon
from ..errors import BAD_INPUT, CommandError
from ..state import State


@click.command("logs")
@click.option("-n", "--lines", default=200, show_default=True, type=click.IntRange(min=0), help="Last lines to print.")
@click.option("-f", "--follow", is_flag=True, help="Go on printing until the server ends.")
@click.pass_obj
def command(state: State, lines: int, follow: bool) -> None:
    """What the background server wrote."""
    state.local("logs")
    if not state.log.exists():
        raise CommandError(f"no server has run on {state.path} yet", "kubeup up -f FILE starts one", BAD_INPUT)
    at = _tail(state.log, lines)
    if follow:
        _follow(state, at)


def _tail(file: Path, lines: int) -> int:
    """Print the last lines; the position behind them."""
    with file.open(errors="replace") as log:
        for line in deque(log, lines):
            click.echo(line, nl=False)
        return log.tell()


def _follow(state: State, at: int) -> None:
    import time

    with state.log.open(errors="replace") as log:
        log.seek(at, os.SEEK_SET)
        while True:
            ended = daemon.running(state) is None
            text = log.read()
            if text:
                click.echo(text, nl=False)
            elif ended:
                return
            else:
                time.sleep(0.2)
