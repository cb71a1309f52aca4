"""`kubeup serve`: the server in the foreground. The background server of `up` is this, detached."""

from __future__ import annotations

import signal
import threading

import click

from ..state import State


@click.command("serve")
@click.option("--port", type=click.IntRange(0, 65535), help="Port on 127.0.0.1; chosen once and kept when absent.")
@click.option("--plugin", "plugins", multiple=True, type=click.Path(exists=True), help="Load a provider from a file.")
@click.option("--background", is_flag=True, hidden=True)
@click.pass_obj
def command(state: State, port: int | None, plugins: tuple[str, ...], background: bool) -> None:
    """Run the server in the foreground until it is told to stop (Ctrl-C, SIGTERM).

    One server owns a state directory. It listens on 127.0.0.1 only; its kubeconfig lies in the state directory.
    """
    from ..assemble import Server

    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with Server(state, port=port, plugins=plugins, until=ended) as server:
        click.echo(f"serving on {server.url}; kubeconfig {state.kubeconfig}")
        ended.wait()
    if server.replaced:
        server.start_again()
