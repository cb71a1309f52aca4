"""`kubeup restart`: stop the background server if it runs, and start it with the same plugins."""

from __future__ import annotations

import click

from .. import daemon
from ..errors import BAD_INPUT, CommandError
from ..state import State


@click.command("restart")
@click.pass_obj
def command(state: State) -> None:
    """Stop the background server and start it again."""
    state.local("restart")
    if not state.exists:
        raise CommandError(f"there is no state in {state.path}", "kubeup up -f FILE starts from nothing", BAD_INPUT)
    click.echo(f"the server runs, pid {daemon.restart(state)}")
