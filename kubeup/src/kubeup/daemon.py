"""The server in the background: find it, start it, wait for it, stop it. Used by every command that needs an API.

One server per state directory. It is started detached, as `python -m kubeup serve`, with a log file; whoever comes second becomes
its client. When the installed distributions have changed since it started, it is restarted, because its plugins are others now.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path

from .errors import NO_SERVER, CommandError
from .state import State

START_SECONDS = 30.0
STOP_SECONDS = 30.0


def fingerprint() -> str:
    """Names and versions of what makes up this installation: kubeup's own distributions and every plugin."""
    found = set()
    for dist in distributions():
        name = (dist.metadata["Name"] or "").lower()
        plugin = any(point.group in ("kubeup", "kubeup.commands") for point in dist.entry_points)
        if plugin or name in ("kubeup", "kubeup-core"):
            found.add(f"{name}=={dist.version}")
    return " ".join(sorted(found))


def running(state: State) -> int | None:
    """The pid of the server that owns this state directory now, or None."""
    server = state.server()
    if server is None or server.get("stopped") or not server.get("ready") or not _is(server):
        return None
    return int(server["pid"])


def ensure(state: State, plugins: tuple[str, ...] = (), say: Callable[[str], None] = lambda _: None) -> int:
    """Its pid; starts it when none runs, restarts it when it is of another installation or lacks a --plugin."""
    pid = running(state)
    if pid is not None:
        server = state.server() or {}
        wanted = {str(Path(p).absolute()) for p in plugins}
        if server.get("installed") == fingerprint() and wanted <= set(server.get("plugins", [])):
            return pid
        say("the installed distributions or plugins have changed: restarting the server")
        plugins = tuple(sorted(wanted | set(server.get("plugins", []))))
        stop(state)
    return start(state, plugins)


def start(state: State, plugins: tuple[str, ...] = ()) -> int:
    """Start it detached and wait until it answers. Raises with the last words of its log when it does not."""
    state.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [sys.executable, "-m", "kubeup", "--state", str(state.path), "serve", "--background"]
    for plugin in plugins:
        command += ["--plugin", str(Path(plugin).absolute())]
    at = state.log.stat().st_size if state.log.exists() else 0
    fd = os.open(state.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=fd, stderr=fd, start_new_session=True, cwd="/", close_fds=True
        )
    finally:
        os.close(fd)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        server = state.server() or {}
        if server.get("pid") == process.pid and server.get("ready"):
            process.returncode = 0  # it outlives us on purpose: no warning about a child that was not waited for
            return process.pid
        if process.poll() is not None:
            break
        time.sleep(0.02)
    else:
        process.terminate()
        process.wait()
    raise CommandError(_last_words(state.log, at) or "the server did not start", f"kubeup logs, or see {state.log}", NO_SERVER)


def stop(state: State) -> bool:
    """Ask it to stop and wait until it has. False when none runs."""
    pid = running(state)
    server = state.server()
    if pid is None or server is None:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        if not _is(server):
            return True
        time.sleep(0.02)
    raise CommandError(
        f"the server (pid {pid}) does not stop within {STOP_SECONDS:.0f} s",
        f"it may be waiting for a provider; kill -9 {pid} loses nothing that was acknowledged",
    )


def _is(server: dict[str, object]) -> bool:
    """Whether the process that wrote server.json still lives; a pid alone may have been given to another one."""
    from kubeup_core.statedir import born

    pid = int(str(server.get("pid") or 0))
    return pid > 0 and born(pid) == server.get("born")


def _last_words(log: Path, at: int) -> str:
    try:
        with log.open("rb") as file:
            file.seek(at)
            lines = [line for line in file.read()[-4000:].decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or [""])[-1].removeprefix("error: ")
