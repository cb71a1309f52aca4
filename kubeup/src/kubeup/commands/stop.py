"""`kubeup stop`: end the background server. Machines stay; nobody heals them until the next `up`."""

from __future__ import annotations

import click

from .. import daemon
from ..state import State


@click.command("stop")
@click.pass_obj
def command(state: State) -> None:
    """Stop the background server; machines stay as they are, unattended."""
    if daemon.stop(state.local("stop")):
        click.echo("stopped; what it made stays and is unattended until the next `kubeup up` or `kubeup restart`")
    else:
        click.echo(f"no server runs on {state.path}")
