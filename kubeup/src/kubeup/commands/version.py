"""`kubeup version`: the command, the server of this state directory (or of --context), and the plugins."""

from __future__ import annotations

import platform
from typing import Any

import click

from .. import daemon
from ..connect import existing
from ..errors import CommandError
from ..options import output_option
from ..output import show
from ..state import State


@click.command("version")
@output_option
@click.pass_obj
def command(state: State, output: str | None) -> None:
    """Versions of the command, the server and the plugins."""
    from importlib.metadata import version

    installed = daemon.fingerprint().split()
    server, stale = _server(state, " ".join(installed))
    facts: dict[str, Any] = {
        "kubeup": version("kubeup"),
        "python": platform.python_version(),
        "server": server,
        "installed": installed,
    }
    if output:
        show(facts, output)
        return
    click.echo(f"kubeup {facts['kubeup']} (Python {facts['python']})")
    click.echo(f"server {server}" if server else "server not running")
    for line in installed:
        click.echo(f"  {line}")
    if stale:
        click.echo("the server runs other versions than these; it restarts itself soon, and `kubeup restart` does it now")


def _server(state: State, installed: str) -> tuple[str | None, bool]:
    """(its version as it says it itself, whether it runs other distributions than this command)."""
    if not state.context and daemon.running(state) is None:
        return None, False
    try:
        with existing(state) as api:
            said = api.request("GET", "/version").get("gitVersion", "")
    except CommandError:
        if state.context:
            raise
        return None, False
    stale = not state.context and (state.server() or {}).get("installed") != installed
    return str(said).rpartition("+kubeup-")[2] or str(said), stale
