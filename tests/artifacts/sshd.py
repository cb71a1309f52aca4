"""Real sshd processes on loopback: each is a host of its own, as far as SSH, users, sudo and a few folders go.

Each runs in a mount namespace of its own (where root runs the tests), over which it sees its own users and rules of sudo, and its own
version of the folders in `private`, which outlive the process as a host's disk outlives a crash. `reboot` does nothing there, and the
machine's init is out of reach. Used by the tests of whatever speaks SSH. Standard library only but for the keys.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SBIN = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
ME = "root" if os.geteuid() == 0 else os.environ.get("USER", "nobody")

PASSWORD = "open sesame"
"""Of the user `asks`, whom sudo asks for it."""


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
    """host_key: the public one. start() and stop() by its own process id; the port stays. private: folders that are its own."""

    folder: Path
    authorized: str
    options: dict[str, str] = field(default_factory=dict)
    host_key_kinds: tuple[str, ...] = ("ed25519",)
    port: int = 0
    host_key: str = ""
    process: subprocess.Popen[bytes] | None = None
    private: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.home = self.folder / "home"
        self.home.mkdir(parents=True)
        self.new_host_keys()
        self.port = self.port or free_port()
        (self.folder / "bin").mkdir()
        (self.folder / "bin/reboot").write_text(
            "#!/bin/sh\n# It shares its kernel and its init with the machine that runs the tests.\n"
        )
        (self.folder / "bin/reboot").chmod(0o755)
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

    def start(self) -> Sshd:
        settings = {
            "Port": str(self.port), "ListenAddress": "127.0.0.1", "PidFile": "none", "StrictModes": "no", "UsePAM": "no",
            "AuthorizedKeysFile": "none", "AuthorizedKeysCommand": f"/usr/bin/echo {self.authorized}",
            "AuthorizedKeysCommandUser": ME, "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no", "PermitRootLogin": "prohibit-password", "LogLevel": "ERROR",
            "Subsystem": "sftp internal-sftp", **self.options,
            "SetEnv": f"HOME={self.home} PATH={self.folder / 'bin'}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
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
        until = time.monotonic() + 60
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
                lines += [f"{user}:x:19000:0:99999:7:::" for user in ("kubeup", "noshell")]
                lines += [f"asks:{_hash(PASSWORD)}:19000:0:99999:7:::"]
            (self.folder / name).write_text("\n".join(lines) + "\n")
            (self.folder / name).chmod(mode)
        small = self.folder / "small"
        small.mkdir(exist_ok=True)
        binds = f"mount -t tmpfs -o size=64k tmpfs {small}; " + "; ".join(
            f"mount --bind {self.folder / name} /etc/{name}" for name in ("passwd", "shadow", "sudoers")
        )
        binds += "; [ ! -d /run/systemd ] || mount -t tmpfs tmpfs /run/systemd"  # nobody here talks to the machine's init
        for number, folder in enumerate(self.private):
            own = self.folder / f"private-{number}"
            own.mkdir(exist_ok=True)
            Path(folder).mkdir(parents=True, exist_ok=True)
            binds += f"; mount --bind {own} {folder}"
        return f'set -e; {binds}; exec "$@"'

    def inside(self, folder: str) -> Path:
        """Where one of its private folders lies for us."""
        return self.folder / f"private-{self.private.index(folder)}"

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

    def access(self, **changes: Any) -> Any:
        from kubeup_core.supplier import Access

        given = {"kind": "ssh", "address": "127.0.0.1", "port": self.port, "user": ME, "host_key": self.host_key}
        return Access(**{**given, **changes})


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def descendants(pid: int) -> list[int]:
    found = children(pid)
    return [*found, *(one for child in found for one in descendants(child))]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _hash(password: str) -> str:
    done = subprocess.run(["openssl", "passwd", "-6", "-stdin"], input=password, capture_output=True, text=True, check=True)
    return done.stdout.strip()
