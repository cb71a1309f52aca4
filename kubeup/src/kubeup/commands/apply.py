"""`kubeup apply -f FILE`: declare and return. The server does the rest; `kubeup up` is this and waiting."""

from __future__ import annotations

import click

from ..applying import apply
from ..checks import check
from ..connect import server
from ..daemon import remembered
from ..manifests import load
from ..options import files_option, namespace_option, plugin_option
from ..state import State


@click.command("apply")
@files_option(required=True)
@namespace_option
@plugin_option
@click.pass_obj
def command(state: State, files: tuple[str, ...], namespace: str, plugins: tuple[str, ...]) -> None:
    """Declare what files say, and return."""
    documents = check(load(files), namespace, plugins, state)
    with server(state, plugins=plugins, say=click.echo) as api:
        apply(api, documents, click.echo, remembered(state, plugins))
