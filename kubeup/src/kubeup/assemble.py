"""What a server is made of, put together: state directory, store, verbs, plugins, controllers, HTTPS. Used by serve and --once.

The parts do not know each other; this is the one place that does. It holds the state directory's lock for as long as it lives,
says in server.json who and where it is, and notices when the installed distributions have changed under it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from kubeup_core.statedir import StateDir, StateDirError, born

from . import __version__, daemon
from .errors import NO_SERVER, CommandError
from .state import State

BEAT_SECONDS = 15.0


class Server:
    """A running server, as a context. `until` is set when it should end by itself because its code was replaced."""

    def __init__(
        self, state: State, *, port: int | None = None, plugins: tuple[str, ...] = (), until: threading.Event | None = None
    ) -> None:
        self._state = state
        self._port = port
        self._plugins = tuple(str(Path(p).absolute()) for p in plugins)
        self._until = until
        self._stack = contextlib.ExitStack()
        self._ended = threading.Event()
        self._facts: dict[str, Any] = {}
        self.replaced = False
        self.url = ""

    def __enter__(self) -> Server:
        try:
            self._start()
        except (StateDirError, OSError) as error:
            self._stack.close()
            raise CommandError(str(error), code=NO_SERVER) from error
        except BaseException:
            self._stack.close()
            raise
        return self
