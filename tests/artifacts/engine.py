"""The Docker engine of the tests: the one that answers already, else one that is started here.

Used by the fixture `docker_engine` (fixtures.py). The engine started here keeps to itself: its own socket, data, state and pid
file under one temporary folder, its own empty configuration, no default bridge; one rule in the host's packet filter. Test
processes, and test runs, of one user share it: each holds a shared lock while it uses the engine, and whoever can
get the exclusive lock at its end was the last and stops it. Locks die with their process, so a killed run leaves an
engine that the next run takes over. Speaks HTTP to the socket itself: no SDK, no docker command.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO
from urllib.parse import quote

from .system import find

DEFAULT = "unix:///var/run/docker.sock"
START_SECONDS = 60.0
STOP_SECONDS = 30.0


class NoEngine(Exception):
    """No engine answers and none can be started here. The message is for people."""


@dataclass(frozen=True)
class Engine:
    """host: a Docker host URL. image: the name of a loaded image for machines. only: gives the labels that whatever it lists has, for
    a test that counts its own: other processes use the engine meanwhile."""

    host: str
    image: str
    only: Callable[[], Mapping[str, str]] = dict

    @property
    def env(self) -> dict[str, str]:
        """For the processes that a test starts."""
        return {"DOCKER_HOST": self.host}

    def ps(self, **labels: str) -> list[dict[str, Any]]:
        """All containers, also stopped ones, whose `kubeup.dev/` labels are these (`ps(cluster_name="demo")`), as the engine's
        API lists them (Id, Names, State, Labels ...)."""
        return list(self._listing("/containers/json?all=1&", labels))

    def networks(self, **labels: str) -> list[dict[str, Any]]:
        """As `ps`, of networks."""
        return list(self._listing("/networks?", labels))

    def volumes(self, **labels: str) -> list[dict[str, Any]]:
        """As `ps`, of named volumes."""
        return list(self._listing("/volumes?", labels)["Volumes"] or ())

    def remove(self, container: str) -> None:
        """Take a container away behind everybody's back. Gone already is fine."""
        self.call("DELETE", f"/containers/{container}?force=1&v=1", fine=(204, 404))

    def call(self, method: str, path: str, body: Any = None, fine: tuple[int, ...] = (200, 201, 204)) -> Any:
        """One request to the engine's API. Raises AssertionError on another status than `fine`."""
        return request(self.host, method, path, body, fine)

    def _listing(self, path: str, labels: Mapping[str, str]) -> Any:
        wanted = [f"kubeup.dev/{name.replace('_', '-')}={value}" for name, value in {**self.only(), **labels}.items()]
        return self.call("GET", path + "filters=" + quote(json.dumps({"label": wanted} if wanted else {})))


@contextmanager
def shared(image: Path, name: str) -> Iterator[Engine]:
    """An engine with `image` (a root file system as a tar) loaded under `name`, for as long as the context lasts.

    Raises NoEngine.
    """
    if host := answering():
        load(host, image, name)
        yield Engine(host, name)
        return
    can_start()
    folder = Path(tempfile.gettempdir(), f"kubeup-engine-{os.geteuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        raise NoEngine(f"{folder} belongs to somebody else")
    with (folder / "users.lock").open("w") as users:
        host = f"unix://{folder}/docker.sock"
        try:
            with locked(folder / "start.lock"):
                fcntl.flock(users, fcntl.LOCK_SH)
                if not pings(host):
                    start(folder, host)
                load(host, image, name)
            yield Engine(host, name)
        finally:
            with locked(folder / "start.lock"):
                if last(users):
                    stop(folder)


def last(users: TextIO) -> bool:
    """Whether nobody else holds the lock of those who use the engine."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(users, fcntl.LOCK_UN)  # before the next one asks, or both would think that the other still uses it
        return False
    return True


def answering() -> str:
    """The host of the engine that this user's commands would reach, or "" when none answers."""
    host = os.environ.get("DOCKER_HOST") or DEFAULT
    return host if pings(host) else ""


def can_start() -> None:
    """Raises NoEngine with all that is missing."""
    lacks = []
    if os.geteuid() != 0:
        lacks.append("root")
    lacks += [command for command in ("dockerd", "iptables") if find(command) is None]
    if lacks:
        raise NoEngine(
            f"no Docker engine answers at {os.environ.get('DOCKER_HOST') or DEFAULT}, and starting one takes {', '.join(lacks)}: "
            "start Docker, or run `make test` as root on Debian, which installs docker.io"
        )


def start(folder: Path, host: str) -> None:
    """Start dockerd and wait until it answers. Raises NoEngine with the end of its log."""
    clean(folder)
    log = folder / "dockerd.log"
    (folder / "daemon.json").write_text("{}")
    command = [
        find("dockerd") or "dockerd", "--host", host, "--config-file", str(folder / "daemon.json"),
        "--data-root", str(folder / "data"), "--exec-root", str(folder / "exec"), "--pidfile", str(folder / "dockerd.pid"),
        "--bridge", "none", "--iptables=false", "--ip-masq=false", "--ip-forward=false",
        "--default-address-pool", "base=10.213.0.0/16,size=24",
    ]  # fmt: skip
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", start_new_session=True
        )
    filter_rule("-I", folder)
    until = time.monotonic() + START_SECONDS
    while not pings(host):
        if daemon.poll() is not None or time.monotonic() > until:
            end = log.read_text(errors="replace")[-1500:]
            daemon.kill()
            daemon.wait()
            raise NoEngine(f"dockerd did not come up:\n{end}")
        time.sleep(0.05)
    _started[folder] = daemon


def filter_rule(action: str, folder: Path) -> None:
    """Insert (-I) or delete (-D) the rule that lets containers on one bridge talk: an engine that ran before, and filtered,
    leaves a policy behind that drops what bridges forward."""
    rule = ["FORWARD", "-i", "br-+", "-o", "br-+", "-m", "comment", "--comment", str(folder), "-j", "ACCEPT"]
    iptables = [find("iptables") or "iptables", "-w"]
    there = subprocess.run([*iptables, "-C", *rule], capture_output=True).returncode == 0
    if there == (action == "-D"):
        subprocess.run([*iptables, action, *rule], capture_output=True)


_started: dict[Path, subprocess.Popen[bytes]] = {}
"""The engines that this process started, kept so that the end of each is collected by its parent."""


def stop(folder: Path) -> None:
    """End the engine of this folder, by the pid in its own pid file, with its containers; leave nothing but the locks."""
    host = f"unix://{folder}/docker.sock"
    pid = engine_pid(folder)
    if pid is not None:
        for container in request(host, "GET", "/containers/json?all=1"):
            request(host, "DELETE", f"/containers/{container['Id']}?force=1&v=1", fine=(204, 404, 409))
        for network in request(host, "GET", "/networks"):
            if network["Name"] not in ("bridge", "host", "none"):  # removes the bridge device on the host
                request(host, "DELETE", f"/networks/{network['Id']}", fine=(204, 403, 404))
        os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + STOP_SECONDS
        while engine_pid(folder) is not None and time.monotonic() < until:
            if folder in _started:
                _started[folder].poll()
            time.sleep(0.05)
    filter_rule("-D", folder)
    clean(folder)


def engine_pid(folder: Path) -> int | None:
    """The pid of the engine that runs in this folder. A pid that now belongs to another program is not it."""
    try:
        pid = int((folder / "dockerd.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()  # empty for a zombie
    except (OSError, ValueError):
        return None
    return pid if str(folder).encode() in command else None


def clean(folder: Path) -> None:
    """Remove what an engine left, after unmounting what it had mounted."""
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for target in sorted((m for m in mounted if m.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", target], capture_output=True)
    for entry in folder.iterdir():
        if entry.suffix == ".lock":
            continue
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def load(host: str, image: Path, name: str) -> None:
    """Import a root file system as an image, if it is not there yet."""
    if request(host, "GET", f"/images/{name}/json", fine=(200, 404)).get("Id"):
        return
    repository, tag = name.rsplit(":", 1)
    with image.open("rb") as file:
        request(host, "POST", f"/images/create?fromSrc=-&repo={quote(repository)}&tag={quote(tag)}", file)


def pings(host: str) -> bool:
    try:
        return bool(request(host, "GET", "/_ping") == "OK")
    except (OSError, http.client.HTTPException, AssertionError, ValueError):
        return False


def request(host: str, method: str, path: str, body: Any = None, fine: tuple[int, ...] = (200, 201, 204)) -> Any:
    """One HTTP request: JSON decoded where it is JSON, else text. A binary file as body is sent as it is."""
    is_file = hasattr(body, "read")
    content: BinaryIO | str | None = body if is_file or body is None else json.dumps(body)
    headers = {"Content-Type": "application/x-tar" if is_file else "application/json", "Host": "docker"}
    connection = prepare(host)
    try:
        connection.connect()
        connection.request(method, path, content, headers)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    finally:
        connection.close()
    assert answer.status in fine, f"{method} {path}: {answer.status} {text}"
    try:
        return json.loads(text)
    except ValueError:
        return text


def prepare(host: str) -> http.client.HTTPConnection:
    """A connection, not yet open, to a `unix://` or `tcp://` host. Raises ValueError for others."""
    scheme, _, address = host.partition("://")
    if scheme == "unix":
        return UnixConnection(address)
    if scheme == "tcp":
        return http.client.HTTPConnection(address, timeout=60)
    raise ValueError(f"the tests reach an engine by unix:// or tcp://, not by {host}")


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a local socket."""

    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=60)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
