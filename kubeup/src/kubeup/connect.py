"""How a command gets an API: from the running server, from one it starts in the background, or from one of its own (--once).

With --context it is the API of that context, and no server is started or stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from . import daemon
from .api import Api, way
from .errors import NO_SERVER, CommandError
from .state import State


@contextmanager
def server(
    state: State, *, once: bool = False, plugins: tuple[str, ...] = (), say: Callable[[str], None] = lambda _: None
) -> Iterator[Api]:
    """An API that answers. With once, a server lives inside this process for as long as the block lasts, unless one runs."""
    if state.context:
        yield from _api(state)
    elif once and daemon.running(state) is None:
        from .assemble import Server

        with Server(state, plugins=daemon.remembered(state, plugins), once=True):
            yield from _api(state)
    else:
        daemon.ensure(state, plugins, say)
        yield from _api(state)


@contextmanager
def existing(state: State) -> Iterator[Api]:
    """The API of the server that runs. Raises when none does."""
    if not state.context and daemon.running(state) is None:
        raise CommandError(f"no server runs on {state.path}", "kubeup restart starts it, kubeup up -f FILE too", NO_SERVER)
    yield from _api(state)


def _api(state: State) -> Iterator[Api]:
    api = Api(way(state))
    try:
        yield api
    finally:
        api.close()
