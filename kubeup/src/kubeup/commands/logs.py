"""`kubeup logs`: what the background server wrote."""

from __future__ import annotations

import os
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
    if not state.log.exists():
        raise CommandError(f"no server has run on {state.path} yet", "kubeup up -f FILE starts one", BAD_INPUT)
    for line in _tail(state.log, lines):
        click.echo(line)
    if follow:
        _follow(state)


def _tail(file: Path, lines: int) -> list[str]:
    return file.read_text(errors="replace").splitlines()[-lines:] if lines else []


def _follow(state: State) -> None:
    import time

    with state.log.open(errors="replace") as file:
        file.seek(0, os.SEEK_END)
        while True:
            text = file.read()
            if text:
                click.echo(text, nl=False)
            elif daemon.running(state) is None:
                return
            else:
                time.sleep(0.2)
