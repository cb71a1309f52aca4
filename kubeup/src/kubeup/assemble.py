"""What a server is made of, put together: state directory, store, verbs, plugins, controllers, HTTPS. Used by serve and --once.

The parts do not know each other; this is the one place that does. It holds the state directory's lock for as long as it lives,
says in server.json who and where it is, and notices when the installed distributions have changed under it.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson
from kubeup_core.bootstrap import bootstrap
from kubeup_core.controllers import all_controllers, ensure_implicit
from kubeup_core.inprocess import InProcess
from kubeup_core.kinds import Cluster, Launch, LoadBalancer, Machine, Volume
from kubeup_core.plugins import discover
from kubeup_core.requests import AuditLine
from kubeup_core.runtime.clock import SystemClock
from kubeup_core.runtime.manager import Manager
from kubeup_core.server import ServerThread, ensure_certificates, ensure_token, make_app, write_kubeconfig
from kubeup_core.statedir import StateDir, StateDirError, born
from kubeup_core.store import Store, StoreError
from kubeup_core.verbs import Verbs

from . import daemon
from .errors import NO_SERVER, CommandError
from .state import State

BEAT_SECONDS = 15.0

log = logging.getLogger(__name__)


class Server:
    """A running server, as a context.

    port   None: the one of last time, or a free one
    until  set by it when the installed distributions have changed and it wants to be started again
    once   it goes away with the command that it is part of; server.json says so
    """

    def __init__(
        self,
        state: State,
        *,
        port: int | None = None,
        plugins: tuple[str, ...] = (),
        until: threading.Event | None = None,
        once: bool = False,
    ) -> None:
        self._state = state
        self._port = port
        self._plugins = tuple(str(Path(p).absolute()) for p in plugins)
        self._until = until
        self._once = once
        self._stack = ExitStack()
        self._over = threading.Event()
        self.replaced = False
        self.url = ""

    def __enter__(self) -> Server:
        try:
            with self._stack:
                self._start()
                self._stack = self._stack.pop_all()
        except (StateDirError, StoreError, OSError) as error:
            raise CommandError(str(error), code=NO_SERVER) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def start_again(self) -> None:
        """Become the newly installed program: same process id, same arguments."""
        os.execv(sys.executable, [sys.executable, "-m", "kubeup", *sys.argv[1:]])

    def _start(self) -> None:
        """Each part, in the order in which it needs the ones before; they end in the opposite order."""
        clock = SystemClock()
        state = StateDir.open(self._state.path)
        self._stack.callback(state.close)
        store = Store(state.database)
        self._stack.callback(store.close)
        verbs = Verbs(store, clock=clock, audit=self._stack.enter_context(_Audit(state.audit)))
        bootstrap(verbs, now=clock.wall())
        plugins = discover(self._plugins)
        for broken in plugins.broken:
            log.warning("plugin %s (%s) is off: %s", broken.name, broken.distribution, broken.reason)
        client = InProcess(verbs)
        ensure_implicit(client, plugins)
        manager = Manager(client, plugins=plugins, installation=store.installation, controllers=all_controllers, clock=clock)
        certificates = ensure_certificates(state.path, now=clock.wall())
        token = ensure_token(state.token)
        app = make_app(verbs, store, token=token, clock=clock)
        server = self._bind(app, certificates, token, state.said().get("port"))
        self._stack.callback(server.stop)
        server.start()
        self.url = server.url
        write_kubeconfig(state.kubeconfig, server.url, certificates.ca, token)
        manager.start()
        self._stack.callback(manager.stop)
        self._say(state, server.port, client)
        seen = daemon.fingerprint(), _stamp()
        thread = threading.Thread(target=self._beat, args=(state, *seen), name="beat", daemon=True)
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(self._over.set)

    def _bind(self, app: Any, certificates: Any, token: str, kept: int | None) -> ServerThread:
        """On the port that was asked for, or the one of last time, so that kubeconfigs stay true; another only if that is taken."""
        wanted = self._port if self._port is not None else kept or 0
        try:
            return ServerThread(app, certificates, token=token, port=wanted)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or self._port is not None:
                raise CommandError(
                    f"port {wanted} on 127.0.0.1: {error.strerror}", "choose another --port", NO_SERVER
                ) from error
            log.warning("port %s is taken by somebody else; taking another, the kubeconfig is rewritten", wanted)
            return ServerThread(app, certificates, token=token, port=0)

    def _say(self, state: StateDir, port: int, client: InProcess) -> None:
        facts: dict[str, Any] = {
            "pid": os.getpid(), "born": born(os.getpid()), "port": port, "url": self.url, "version": version("kubeup"),
            "installed": daemon.fingerprint(), "plugins": list(self._plugins), "digests": daemon.digests(self._plugins),
            "once": self._once, "started": _now(), "ready": True,
        }  # fmt: skip
        state.say(facts)

        def good_bye() -> None:
            left = sum(len(client.list(kind)[0]) for kind in (Machine, Launch, Cluster, LoadBalancer, Volume))
            state.say({**facts, "ready": False, "stopped": _now(), "left": left})

        self._stack.callback(good_bye)

    def _beat(self, state: StateDir, installed: str, stamp: list[int]) -> None:
        """A sign of life now and then, and a look whether the installed program is still the one that runs."""
        while not self._over.wait(BEAT_SECONDS):
            with suppress(OSError):
                state.beat()
            before, stamp = stamp, _stamp()
            if self._until is not None and stamp != before and daemon.fingerprint() != installed:
                log.warning("the installed distributions have changed; starting again")
                self.replaced = True
                self._until.set()
                return


def _stamp() -> list[int]:
    """When the folders that hold distributions last changed: an installation adds to one, or takes from it."""
    times = []
    for folder in sys.path:
        with suppress(OSError):
            times.append(os.stat(folder or ".").st_mtime_ns)
    return times


class _Audit:
    """One JSON line for each mutating request: who, what, the answer. No bodies."""

    def __init__(self, path: Path) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._file = os.fdopen(fd, "ab", buffering=0)

    def __enter__(self) -> _Audit:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __call__(self, line: AuditLine) -> None:
        self._file.write(orjson.dumps(line) + b"\n")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
