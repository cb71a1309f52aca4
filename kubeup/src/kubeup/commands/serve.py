"""`kubeup serve`: the server in the foreground. The background server of `up` is this, detached."""

from __future__ import annotations

import signal
import threading

import click

from ..options import plugin_option
from ..state import State


@click.command("serve")
@click.option("--port", type=click.IntRange(0, 65535), help="Port on 127.0.0.1; chosen once and kept when absent.")
@plugin_option
@click.option("--background", is_flag=True, hidden=True)
@click.pass_obj
@click.pass_context
def command(context: click.Context, state: State, port: int | None, plugins: tuple[str, ...], background: bool) -> None:
    """Run the server in the foreground until it is told to stop (Ctrl-C, SIGTERM).

    One server owns a state directory. It listens on 127.0.0.1 only; its kubeconfig lies in the state directory.
    """
    import logging

    state.local("serve")
    level = logging.DEBUG if context.meta.get("kubeup.verbose") else logging.INFO
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("kubeup", "kubeup_core"):
        logging.getLogger(name).setLevel(level)
    from ..assemble import Server

    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with Server(state, port=port, plugins=plugins, until=ended) as server:
        click.echo(f"serving on {server.url}; kubeconfig {state.kubeconfig}")
        ended.wait()
    if server.replaced:
        server.start_again()
