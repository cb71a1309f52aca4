"""The server in the background: find it, start it, wait for it, stop it. Used by every command that needs an API.

One server per state directory. It is started detached, as `python -m kubeup serve`, with a log file; whoever comes second becomes
its client. When the installed distributions or its `--plugin` files have changed since it started, it is started again.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import NO_SERVER, CommandError
from .state import State, born

START_SECONDS = 60.0
STOP_SECONDS = 30.0
STEP = 0.02


def fingerprint(path: list[str] | None = None) -> str:
    """Names and versions of what makes up this installation: kubeup's own distributions and every plugin. path: sys.path."""
    from importlib.metadata import distributions

    found = set()
    for dist in distributions(path=path if path is not None else sys.path):
        name = (dist.metadata["Name"] or "").lower()
        plugin = any(point.group in ("kubeup", "kubeup.commands") for point in dist.entry_points)
        if plugin or name in ("kubeup", "kubeup-core"):
            found.add(f"{name}=={dist.version}")
    return " ".join(sorted(found))


def digests(plugins: Iterable[str]) -> dict[str, str]:
    """Hash of each plugin file, by absolute path: an author edits one, and the server takes it up."""
    import hashlib

    found = {}
    for plugin in plugins:
        path = Path(plugin).absolute()
        try:
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError:
            found[str(path)] = ""
    return found


def running(state: State) -> int | None:
    """The pid of the server that owns this state directory now, or None."""
    server = state.server()
    if server is None or server.get("stopped") or not server.get("ready") or not _lives(server):
        return None
    return int(server["pid"])


def remembered(state: State, plugins: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The plugin files of this call, and those that the server was last given, as long as they are there: so that
    what was made with one can still be healed and taken down."""
    last = [p for p in (state.server() or {}).get("plugins", ()) if Path(p).exists()]
    return tuple(dict.fromkeys([*last, *(str(Path(p).absolute()) for p in plugins)]))


def ensure(state: State, plugins: tuple[str, ...] = (), say: Callable[[str], None] = lambda _: None) -> int:
    """Its pid; starts it when none runs, starts it again when it is of another installation or its plugins are others."""
    plugins = remembered(state, plugins)
    with _one_at_a_time(state):
        _wait_for_once(state, say)
        pid = running(state)
        if pid is None:
            return _start(state, plugins)
        if _is_current(state.server() or {}, plugins):
            return pid
        say("the installed distributions or plugins have changed: restarting the server")
        _stop(state)
        return _start(state, plugins)


def restart(state: State) -> int:
    """Its new pid."""
    with _one_at_a_time(state):
        _stop(state)
        return _start(state, remembered(state))


def stop(state: State) -> bool:
    """Ask it to stop and wait until it has. False when none runs."""
    if not state.path.exists():
        return False
    with _one_at_a_time(state):
        return _stop(state)


def _is_current(server: dict[str, Any], plugins: tuple[str, ...]) -> bool:
    has = server.get("digests") or {}
    return server.get("installed") == fingerprint() and all(has.get(p) == d for p, d in digests(plugins).items())


def _wait_for_once(state: State, say: Callable[[str], None]) -> None:
    """A command with --once is a server too, but one that goes away: nobody should become its client."""
    told = False
    while (pid := running(state)) is not None and (state.server() or {}).get("once"):
        if not told:
            say(f"a command with --once (pid {pid}) is at work here; waiting for it to end")
            told = True
        time.sleep(5 * STEP)


def _start(state: State, plugins: tuple[str, ...]) -> int:
    """Start it detached and wait until it answers. Raises with the last words of its log when it does not."""
    command = [sys.executable, "-m", "kubeup", "--state", str(state.path), "serve", "--background"]
    for plugin in plugins:
        command += ["--plugin", plugin]
    at = state.log.stat().st_size if state.log.exists() else 0
    before = (state.server() or {}).get("born")  # one that was just killed may look alive for a moment
    fd = os.open(state.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=fd, stderr=fd, start_new_session=True, cwd="/", close_fds=True
        )
    finally:
        os.close(fd)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        pid = running(state)  # after poll: somebody who typed `kubeup serve` may have been quicker
        if pid is not None and (state.server() or {}).get("born") != before:
            process.returncode = 0  # it outlives us on purpose: no warning about a child that was not waited for
            return pid
        if ended:
            break
        time.sleep(STEP)
    else:
        process.terminate()
        process.wait()
        raise CommandError(f"the server did not start within {START_SECONDS:.0f} s", f"see {state.log}", NO_SERVER)
    words = _last_words(state.log, at) or f"it ended with code {process.returncode} and said nothing"
    raise CommandError(f"the server did not start: {words}", f"all that it wrote: {state.log}", NO_SERVER)


def _stop(state: State) -> bool:
    pid, server = running(state), state.server()
    if pid is None or server is None:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        if not _lives(server):
            return True
        time.sleep(STEP)
    raise CommandError(
        f"the server (pid {pid}) does not stop within {STOP_SECONDS:.0f} s",
        f"it may be waiting for a provider; kill -9 {pid} loses nothing that was acknowledged",
    )


@contextmanager
def _one_at_a_time(state: State) -> Iterator[None]:
    """Of two commands that start or stop a server at the same moment, the second waits and finds what the first has done."""
    if _is_foreign(state):
        raise CommandError(
            f"{state.path} holds other things than kubeup's state", "choose another --state, or an empty directory", NO_SERVER
        )
    try:
        state.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(state.path / "commands.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CommandError(
            f"{state.path} cannot be the state directory: {error.strerror}", "choose another --state", NO_SERVER
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _is_foreign(state: State) -> bool:
    """A typing error such as --state /tmp must not put anything there, nor close it to everybody else."""
    path = state.path
    if not path.is_dir() or state.database.exists() or (path / "lock").exists():
        return False
    return bool(path.stat().st_mode & 0o077) and any(path.iterdir())


def _lives(server: dict[str, object]) -> bool:
    """Whether the process that wrote server.json still lives; a pid alone may have been given to another one."""
    pid = int(str(server.get("pid") or 0))
    return pid > 0 and born(pid) == server.get("born") and not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Ended, but its parent (a container's pid 1 may) has not asked for its exit code yet."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] in ("Z", "X")


def _last_words(log: Path, at: int) -> str:
    """What it wrote last since `at`: its error with the remedy, or else the last line."""
    try:
        with log.open("rb") as file:
            file.seek(at)
            lines = [line.strip() for line in file.read()[-8000:].decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    for i in reversed(range(len(lines))):
        if lines[i].startswith("error: "):
            return "; ".join(line.removeprefix("error: ").removeprefix("→ ") for line in lines[i : i + 2])
    return lines[-1] if lines else ""
