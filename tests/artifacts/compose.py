"""Hosts for the tests of whatever speaks SSH: containers with systemd and a real sshd, services of docker-compose by pytest-docker.

`compose_file` writes what is handed to pytest-docker; a `Service` is one of its hosts afterwards, with the same face as
sshd.py's `Sshd`. What is kubeup's on a host lies in volumes, so it is there also while the host is down, and outlives a reboot. Each
host has a boot id and host keys of its own. The image is the docker provider's for machines; cloud-init and containerd are off.
"""

from __future__ import annotations

import base64
import json
import random
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .engine import Engine
from .sshd import key_pair

FOLDERS = ("/var/lib/kubeup", "/var/lib/kubeup-host")
UP_SECONDS = 120.0
PORTS = range(20000, 30000)
"""Below those that the kernel gives to connections: a host's port has to stay when it starts again."""

CAPABILITIES = ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE")
"""One by one: `privileged` asks for some that a sandboxed engine lacks."""

BOOT = r"""
set -eu
mkdir -p -m 700 /root/.ssh
echo "$AUTHORIZED" >/root/.ssh/authorized_keys
(umask 077 && echo "$HOST_KEY" | base64 -d >/etc/ssh/ssh_host_ed25519_key)
touch /etc/cloud/cloud-init.disabled
for unit in containerd.service cloud-init-hotplugd.socket; do ln -sf /dev/null "/etc/systemd/system/$unit"; done
[ -e /dev/loop-control ] || mknod /dev/loop-control c 10 237
number=0
while [ $number -lt 64 ]; do
    [ -e /dev/loop$number ] || mknod /dev/loop$number b 7 $number
    number=$((number + 1))
done
cat /proc/sys/kernel/random/uuid >/run/boot-id
mount --bind /run/boot-id /proc/sys/kernel/random/boot_id
exec /sbin/init
"""


def compose_file(folder: Path, image: str, names: Sequence[str], authorized: str) -> tuple[Path, dict[str, tuple[int, str]]]:
    """-> the file, and for each host the port of its sshd on 127.0.0.1 and its public host key.

    authorized  the public key that may log in as root
    """
    told, services = {}, {}
    for name, port in zip(names, free_ports(len(names)), strict=True):
        private, public = key_pair()
        told[name] = (port, public)
        services[name] = {
            "image": image, "hostname": name, "restart": "always", "stop_signal": "SIGRTMIN+3", "tty": True,
            "entrypoint": ["/bin/sh", "-c", BOOT.replace("$", "$$")], "cap_add": list(CAPABILITIES),
            "security_opt": ["seccomp=unconfined", "apparmor=unconfined"], "device_cgroup_rules": ["b 7:* rwm", "c 10:237 rwm"],
            "environment": {"AUTHORIZED": authorized, "HOST_KEY": base64.b64encode(private.encode()).decode(), "container": "docker"},
            "ports": [f"127.0.0.1:{port}:22"], "tmpfs": ["/run:exec,mode=755", "/tmp:exec,mode=1777"],
            "volumes": ["/sys/fs/cgroup:/sys/fs/cgroup:ro", *FOLDERS],
        }  # fmt: skip
    file = folder / "compose.yaml"
    file.write_text(json.dumps({"version": "2.4", "services": services}, indent=1))  # JSON is YAML
    return file, told


def free_ports(count: int) -> list[int]:
    """In a row."""
    while True:
        first = random.choice(PORTS)
        try:
            for port in range(first, first + count):
                with socket.socket() as sock:
                    sock.bind(("127.0.0.1", port))
        except OSError:
            continue
        return list(range(first, first + count))


@dataclass
class Service:
    """One host. container: its id. port, host_key: of its sshd."""

    engine: Engine
    container: str
    port: int
    host_key: str

    def __post_init__(self) -> None:
        found = self._about()["Mounts"]
        self._folders = {m["Destination"]: Path(m["Source"]) for m in found if m["Destination"] in FOLDERS}

    @property
    def process(self) -> int | None:
        """Of its systemd, as this machine numbers it; None while it is down."""
        return self._about()["State"]["Pid"] or None

    def inside(self, folder: str) -> Path:
        """Where one of FOLDERS lies for us."""
        return self._folders[folder]

    def stop(self) -> None:
        """The power goes off."""
        self.engine.call("POST", f"/containers/{self.container}/kill", fine=(204, 409))
        self.engine.call("POST", f"/containers/{self.container}/wait", fine=(200, 404))

    def start(self) -> Service:
        self.engine.call("POST", f"/containers/{self.container}/start", fine=(204, 304))
        self.wait()
        return self

    def wait(self) -> None:
        """Until its sshd answers as one."""
        until = time.monotonic() + UP_SECONDS
        while not self.answers():
            assert time.monotonic() < until, f"no sshd on a host within {UP_SECONDS:.0f} s: {self._about()['State']}"
            time.sleep(0.05)

    def up_again(self, before: int | None) -> None:
        """Until it has gone down and its sshd answers anew. before: `process` of the run that ends."""
        until = time.monotonic() + UP_SECONDS
        while self.process in (before, None):
            assert time.monotonic() < until, f"no reboot within {UP_SECONDS:.0f} s: {self._about()['State']}"
            time.sleep(0.05)
        self.wait()

    def answers(self) -> bool:
        """The engine's proxy takes connections also while nobody listens behind it, so the banner counts."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as sock:
                sock.settimeout(5)
                return sock.recv(4) == b"SSH-"
        except OSError:
            return False

    def _about(self) -> Any:
        return self.engine.call("GET", f"/containers/{self.container}/json")
