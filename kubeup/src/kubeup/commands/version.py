"""`kubeup version`: the command, the server of this state directory, and the plugins."""

from __future__ import annotations

import platform

import click

from .. import __version__, daemon
from ..output import output_option, show
from ..state import State


@click.command("version")
@output_option
@click.pass_obj
def command(state: State, output: str | None) -> None:
    """Versions of the command, the server and the plugins."""
    server = state.server() or {}
    running = daemon.running(state) is not None
    facts = {
        "kubeup": __version__,
        "python": platform.python_version(),
        "server": server.get("version") if running else None,
        "installed": daemon.fingerprint().split(),
    }
    if output:
        show(facts, output)
        return
    click.echo(f"kubeup {__version__} (Python {facts['python']})")
    click.echo(f"server {facts['server']} (pid {server['pid']})" if running else "server not running")
    for line in daemon.fingerprint().split():
        click.echo(f"  {line}")
    if running and server.get("installed") != daemon.fingerprint():
        click.echo("the server runs other versions than these: kubeup restart")
