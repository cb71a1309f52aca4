"""`kubeup backup FILE`: an online, verified copy of the state, taken while a server runs or not."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import BAD_INPUT, CommandError
from ..state import State


@click.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def command(state: State, file: Path) -> None:
    """Write a verified copy of the state to FILE, mode 0600. It holds secrets.

    Put it back as kubeup.db of a state directory whose server is stopped: it then starts paused, because it cannot know what
    has happened since.
    """
    from kubeup_core.store import StoreError, backup

    state.local("backup")
    if not state.exists:
        raise CommandError(f"there is no state in {state.path}", "kubeup up -f FILE makes one", BAD_INPUT)
    try:
        backup(state.database, file)
    except StoreError as error:
        raise CommandError(str(error), code=BAD_INPUT) from error
    click.echo(f"wrote {file} ({file.stat().st_size // 1024} KiB), verified; it holds secrets, keep it so")
