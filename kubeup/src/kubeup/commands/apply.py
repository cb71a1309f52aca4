"""`kubeup apply -f FILE`: declare and return. The server does the rest; `kubeup up` is this and waiting."""

from __future__ import annotations

import click

from ..checks import check
from ..connect import server
from ..manifests import load
from ..state import State
from .up import apply, files_option, namespace_option, plugin_option


@click.command("apply")
@files_option
@namespace_option
@plugin_option
@click.pass_obj
def command(state: State, files: tuple[str, ...], namespace: str, plugins: tuple[str, ...]) -> None:
    """Declare what files say, and return."""
    documents = check(load(files), namespace, plugins)
    with server(state, plugins=plugins, say=click.echo) as api:
        apply(api, documents, click.echo)
