"""What the tests share: real sshd processes on loopback, each with its own host key, configuration, users and home, in a folder of
the test; a skip when a part is missing."""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import pytest

MISSING = [name for name in ("paramiko", "kubeup_ssh_executor") if importlib.util.find_spec(name) is None]
SBIN = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
ME = "root" if os.geteuid() == 0 else os.environ.get("USER", "nobody")


class Skipped(pytest.Module):
    def collect(self) -> NoReturn:
        pytest.skip(f"not installed: {', '.join(MISSING)} (pip install -e plugins/ssh-executor)", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """The modules beside this one import what may not be there."""
    return Skipped.from_parent(parent, path=module_path) if MISSING else None


def key_pair(kind: str = "ed25519") -> tuple[str, str]:
    """(private key as OpenSSH writes it, public key as `type base64`)."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    key = {
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "ecdsa": lambda: ec.generate_private_key(ec.SECP256R1()),
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
    }[kind]()
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption()).decode()
    return private, key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH).decode()


@dataclass
class Sshd:
    """host_key: the public one. start() and stop() by its own process id; the port stays."""

    folder: Path
    authorized: str
    options: dict[str, str] = field(default_factory=dict)
    host_key_kinds: tuple[str, ...] = ("ed25519",)
    port: int = 0
    host_key: str = ""
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.home = self.folder / "home"
        self.home.mkdir(parents=True)
        self.new_host_keys()
        self.port = self.port or _free_port()
        (self.folder / "sudoers").write_text("kubeup ALL=(ALL) NOPASSWD: ALL\nasks ALL=(ALL) ALL\n")
        (self.folder / "sudoers").chmod(0o440)

    def new_host_keys(self) -> None:
        """As after a reinstallation."""
        publics = []
        for kind in self.host_key_kinds:
            private, public = key_pair(kind)
            file = self.folder / f"host_{kind}"
            file.write_text(private)
            file.chmod(0o600)
            publics.append(public)
        self.host_key = publics[0]
        self.host_keys = publics

    def start(self) -> "Sshd":
        settings = {
            "Port": str(self.port), "ListenAddress": "127.0.0.1", "PidFile": "none", "StrictModes": "no", "UsePAM": "no",
            "AuthorizedKeysFile": "none", "AuthorizedKeysCommand": f"/usr/bin/echo {self.authorized}",
            "AuthorizedKeysCommandUser": ME, "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no", "PermitRootLogin": "prohibit-password", "LogLevel": "ERROR",
            "Subsystem": "sftp internal-sftp", "SetEnv": f"HOME={self.home}", **self.options,
        }  # fmt: skip
        lines = [f"HostKey {self.folder / f'host_{kind}'}" for kind in self.host_key_kinds]
        config = self.folder / "sshd_config"
        config.write_text("\n".join([*lines, *(f"{name} {value}" for name, value in settings.items())]) + "\n")
        command = [shutil.which("sshd", path=SBIN) or "sshd", "-D", "-e", "-f", str(config)]
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
            command = ["unshare", "-m", "sh", "-c", self._own_users(), "sh", *command]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log, cwd=self.folder)
        until = time.monotonic() + 20
        while not _answers(self.port):
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < until, "sshd does not come up"
            time.sleep(0.02)
        return self

    def _own_users(self) -> str:
        """Users and sudo's rules of this sshd alone, over those of the machine: in a mount namespace of its own."""
        for name, mode in (("passwd", 0o644), ("shadow", 0o600)):
            lines = Path("/etc", name).read_text().splitlines()
            if name == "passwd":
                lines = [f"root:x:0:0:root:{self.home}:/bin/bash", *(line for line in lines if not line.startswith("root:"))]
                lines += [f"{user}:x:{uid}:{uid}::/:/bin/sh" for uid, user in enumerate(("kubeup", "asks"), 60001)]
                lines += ["noshell:x:60003:60003::/:/usr/sbin/nologin"]
            else:
                lines += [f"{user}:x:19000:0:99999:7:::" for user in ("kubeup", "asks", "noshell")]
            (self.folder / name).write_text("\n".join(lines) + "\n")
            (self.folder / name).chmod(mode)
        small = self.folder / "small"
        small.mkdir(exist_ok=True)
        binds = f"mount -t tmpfs -o size=64k tmpfs {small}; " + "; ".join(
            f"mount --bind {self.folder / name} /etc/{name}" for name in ("passwd", "shadow", "sudoers")
        )
        return f'set -e; {binds}; exec "$@"'

    def stop(self) -> None:
        """The listener and all that it started for connections, as when the machine dies."""
        if self.process is None:
            return
        for pid in [*descendants(self.process.pid), self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def connections(self) -> int:
        """Logins that are open."""
        assert self.process is not None
        return len(children(self.process.pid))

    def access(self, **changes: object):
        from kubeup_core.supplier import Access

        given = {"kind": "ssh", "address": "127.0.0.1", "port": self.port, "user": ME, "host_key": self.host_key}
        return Access(**{**given, **changes})


@pytest.fixture(scope="session")
def login() -> tuple[str, str]:
    """The key pair that every sshd here lets in."""
    return key_pair()


@pytest.fixture
def sshd(tmp_path: Path, login: tuple[str, str]) -> Iterator[Callable[..., Sshd]]:
    """sshd(host_key_kinds=("rsa",), MaxSessions="2"): one more, started."""
    for command in ("sshd", "sudo"):
        if shutil.which(command, path=SBIN) is None:
            unavailable(f"no {command} on this machine. On Debian: sudo apt-get install openssh-server sudo")
    started: list[Sshd] = []

    def start(host_key_kinds: tuple[str, ...] = ("ed25519",), authorized: str = "", **options: str) -> Sshd:
        folder = tmp_path / f"sshd-{len(started)}"
        started.append(Sshd(folder, authorized or login[1], options, host_key_kinds))
        return started[-1].start()

    yield start
    for one in started:
        one.stop()


@pytest.fixture
def make_key_pair() -> Callable[[str], tuple[str, str]]:
    return key_pair


@pytest.fixture
def key_pair_of_nobody() -> tuple[str, str]:
    """One that no sshd here lets in unless told."""
    return key_pair()


@pytest.fixture
def sshd_key() -> str:
    """The public host key of a host that is not there."""
    return key_pair()[1]


@pytest.fixture
def free_port() -> int:
    return _free_port()


@pytest.fixture
def users() -> None:
    """The users kubeup, asks and noshell, which an sshd of root's alone can have."""
    if os.geteuid() != 0:
        unavailable("users of its own need root")


@pytest.fixture
def executor(login: tuple[str, str]) -> Iterator[object]:
    from kubeup_core.executor import Keys
    from kubeup_ssh_executor import SshExecutor

    one = SshExecutor(Keys(private_key=login[0]))
    yield one
    one.close()


@pytest.fixture
def run(executor) -> Callable[..., tuple[int, bytes]]:
    """run(access, script, stdin=b"", timeout=20) -> (exit code, output)."""

    def act(access, script: str, stdin: bytes = b"", timeout: float = 20.0) -> tuple[int, bytes]:
        parts = list(executor.execute(access, script, stdin, timeout))
        assert isinstance(parts[-1], int)
        return parts[-1], b"".join(parts[:-1])

    return act


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def descendants(pid: int) -> list[int]:
    found = children(pid)
    return [*found, *(one for child in found for one in descendants(child))]


def unavailable(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI=true and a part is missing: {reason}", pytrace=False)
    pytest.skip(reason)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex(("127.0.0.1", port)) == 0
