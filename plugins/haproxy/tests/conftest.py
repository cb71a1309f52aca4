"""What the tests share: machines that are folders of this one, each with a loopback address and a real HAProxy of its own, and real
small servers behind them; a skip when a part is missing."""

import contextlib
import http.server
import importlib.util
import itertools
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

MISSING = [name for name in ("kubeup_haproxy",) if importlib.util.find_spec(name) is None]
SBIN = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
_numbers = itertools.count(1)


class Skipped(pytest.Module):
    def collect(self) -> NoReturn:
        pytest.skip(f"not installed: {', '.join(MISSING)} (pip install -e plugins/haproxy)", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """The modules beside this one import what may not be there."""
    return Skipped.from_parent(parent, path=module_path) if MISSING else None


@pytest.fixture(scope="session")
def haproxy() -> str:
    """The real program; it gives its rights up by itself, which only root can."""
    found = shutil.which("haproxy", path=SBIN)
    if found is None:
        pytest.skip("haproxy is not on this machine. On Debian: sudo apt-get install haproxy")
    if os.geteuid() != 0:
        pytest.skip("HAProxy gives up its rights when it starts, which takes root")
    return found


def loopback() -> str:
    """An address that no other test of any process uses."""
    n = next(_numbers)
    return f"127.{100 + os.getpid() % 100}.{os.getpid() // 100 % 250}.{n % 250 + 2}"


@dataclass
class Box:
    """A machine: a folder with an address. calls: verbs that were run. path: its PATH, where it is a special one."""

    folder: Path
    address: str
    id: str
    path: str = ""
    calls: list[str] = field(default_factory=list)
    before: Callable[[str], None] = lambda verb: None
    after: Callable[[str], None] = lambda verb: None

    def execute(self, script: str, stdin: bytes = b"") -> tuple[int, bytes]:
        verb = script.rstrip().rpartition("\n")[2].split(" ")[0]
        self.before(verb)
        self.calls.append(verb)
        env = {**os.environ, "KUBEUP_ROOT": str(self.folder), **({"PATH": self.path} if self.path else {})}
        done = subprocess.run(
            ["timeout", "60", "sh", "-c", script], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env
        )
        self.after(verb)
        return done.returncode, done.stdout

    def host(self, mark: Any = None) -> Any:
        from kubeup_core import Host, Mark, Ref

        machine = Mark(installation="i", cluster="c", cluster_name="c", kind="Machine", maker=self.id)
        return Host(ref=Ref(id=self.id, mark=machine), address=self.address, execute=self.execute, mark=mark)

    def left(self) -> set[str]:
        """Everything of a balancer that is on it: files, and a process."""
        found = {str(p) for part in ("etc/kubeup", "run/kubeup-haproxy") for p in (self.folder / part).rglob("*")}
        return found | {f"process {pid}" for pid in self.processes()}

    def processes(self) -> list[int]:
        return [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and str(self.folder) in _command(p)]

    def kill(self) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _command(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return b" ".join(words).decode(errors="replace") if words[0].endswith(b"haproxy") else ""


@pytest.fixture
def boxes(haproxy: str) -> Iterator[Callable[..., Box]]:
    """boxes(): a new machine."""
    made: list[Box] = []

    def make(path: str = "") -> Box:
        folder = Path(tempfile.mkdtemp(prefix="kubeup-box-"))  # sockets have short names
        made.append(Box(folder, loopback(), f"box-{uuid.uuid4().hex[:8]}", path))
        return made[-1]

    yield make
    for box in made:
        box.kill()
        shutil.rmtree(box.folder, ignore_errors=True)


@dataclass
class NetBox(Box):
    """A machine with a network of its own: a namespace, joined to the others by a bridge."""

    namespace: str = ""

    def execute(self, script: str, stdin: bytes = b"") -> tuple[int, bytes]:
        env = {**os.environ, "KUBEUP_ROOT": str(self.folder)}
        words = ["ip", "netns", "exec", self.namespace, "timeout", "60", "sh", "-c", script]
        done = subprocess.run(words, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env)
        return done.returncode, done.stdout

    def holds(self, address: str) -> bool:
        return bool(self.execute(f"ip -o address show to {address}")[1].strip())

    def pids(self, program: str = "") -> list[int]:
        said = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=False).stdout
        return [int(pid) for pid in said.split() if program in _name(pid)]

    def kill(self, program: str = "") -> None:
        for pid in self.pids(program):
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                os.kill(pid, signal.SIGKILL)

    def cable(self, plugged: bool) -> None:
        _ip("-n", self.namespace, "link", "set", "eth0", "up" if plugged else "down")


def _name(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "one that has ended"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def pair(haproxy: str) -> Iterator[SimpleNamespace]:
    """Two machines and this one as neighbours. .boxes, .address (free, to be shared), .ours (two addresses of this machine)."""
    if shutil.which("keepalived", path=SBIN) is None:
        pytest.skip("keepalived is not on this machine. On Debian: sudo apt-get install keepalived")
    tag, net = f"ku{os.getpid() % 100000}", f"10.78.{os.getpid() % 250}"
    hub, names = f"{tag}-hub", [f"{tag}-a", f"{tag}-b"]
    boxes: list[NetBox] = []
    try:
        _ip("netns", "add", hub)
        _ip("-n", hub, "link", "add", "br0", "type", "bridge")
        _ip("-n", hub, "link", "set", "br0", "up")
        _ip("link", "add", f"{tag}-0", "type", "veth", "peer", "name", "port0", "netns", hub)
        for n in (1, 2):
            _ip("address", "add", f"{net}.{n}/24", "dev", f"{tag}-0")
        _ip("link", "set", f"{tag}-0", "up")
        for n, name in enumerate(names, 1):
            _ip("netns", "add", name)
            _ip("link", "add", f"port{n}", "netns", hub, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("-n", name, "address", "add", f"{net}.{10 + n}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", name, "link", "set", device, "up")
            folder = Path(tempfile.mkdtemp(prefix="kubeup-box-"))
            boxes.append(NetBox(folder, f"{net}.{10 + n}", f"{name}-{uuid.uuid4().hex[:4]}", namespace=name))
        for n in range(3):
            _ip("-n", hub, "link", "set", f"port{n}", "master", "br0", "up")
        yield SimpleNamespace(boxes=boxes, address=f"{net}.100", ours=(f"{net}.1", f"{net}.2"))
    finally:
        for box in boxes:
            for _ in range(3):  # the loop that starts keepalived again may be in the middle of it
                box.kill()
            shutil.rmtree(box.folder, ignore_errors=True)
        for name in (*names, hub):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", f"{tag}-0"], check=False, capture_output=True)


class Server:
    """A small HTTP(S) server that says its name. healthy: whether /readyz says so. slow: set it to let `/slow` end."""

    def __init__(self, name: str, address: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.name, self.address, self.port, self.healthy = name, address, port, True
        self.slow, self.begun = threading.Event(), threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.path == "/slow":
                    outer.begun.set()
                    outer.slow.wait(30)
                code = 200 if outer.healthy or self.path != "/readyz" else 500
                body = outer.name.encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        class Threads(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # health checks hang up in the middle

        self.http = Threads((address, port), Handler)
        if tls is not None:
            self.http.socket = tls.wrap_socket(self.http.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def member(self, drain: bool = False) -> Any:
        from kubeup_core import LBMember

        return LBMember(key=self.name, ref=None, address=self.address, drain=drain)

    def close(self) -> None:
        self.slow.set()
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def servers() -> Iterator[Callable[..., Server]]:
    """servers(name): a server on an address of its own, port 8080."""
    made: list[Server] = []

    def make(name: str, port: int = 8080, tls: ssl.SSLContext | None = None, address: str = "") -> Server:
        made.append(Server(name, address or loopback(), port, tls))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def ask() -> Callable[..., str]:
    """ask(address, port): who answers on a new connection, "" for nobody."""

    def get(address: str, port: int = 80, path: str = "/", source: str = "") -> str:
        try:
            with socket.create_connection((address, port), 10, (source, 0) if source else None) as connection:
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                answer = b"".join(iter(lambda: connection.recv(4096), b""))
        except OSError:
            return ""
        return answer.rpartition(b"\r\n\r\n")[2].decode()

    return get


@pytest.fixture
def settled() -> Callable[[Callable[[], object]], None]:
    """Wait for something that HAProxy does by itself, a short while at most."""

    def wait(look: Callable[[], object]) -> None:
        until = time.monotonic() + 30
        while not look():
            assert time.monotonic() < until, "it did not come there"
            time.sleep(0.05)

    return wait


@pytest.fixture
def wish() -> Callable[..., Any]:
    """wish(box, servers...): port 80 in front of their 8080, checked by HTTP on /readyz."""
    from kubeup_core import Listener, LoadBalancerSpec, Mark

    def make(
        box: Box, *behind: Server, draining: tuple[str, ...] = (), health: dict[str, str] | None = None, **given: Any
    ) -> Any:
        mark = given.pop("mark", None) or Mark(
            installation="inst", cluster="c1", cluster_name="demo", kind="LoadBalancer", maker=f"maker-of-{box.id}"
        )
        checks = {"protocol": "HTTP", "path": "/readyz", "interval": "0.2", "timeout": "1", "healthy": "2", "unhealthy": "2"}
        listeners = given.pop("listeners", (Listener(port=80, target=8080, health={**checks, **(health or {})}),))
        return LoadBalancerSpec(
            mark=mark, name="front", internal=True, hosts=(box.host(mark),), listeners=listeners,
            members=tuple(s.member(s.name in draining) for s in behind), **given,
        )  # fmt: skip

    return make


@pytest.fixture
def supplier() -> Iterator[Callable[..., Any]]:
    """supplier(box...): the LoadBalancerSupplier to which these are lent."""
    from kubeup_core import Context
    from kubeup_haproxy import HaproxyConfig, build

    built = []

    def make(*lent: Box, mark: Any = None, **config: Any) -> Any:
        context = Context(installation="inst", hosts=lambda: tuple(box.host(mark) for box in lent))
        built.append(build(HaproxyConfig(**config), context))
        return built[-1].load_balancers

    yield make
    for one in built:
        one.close()
