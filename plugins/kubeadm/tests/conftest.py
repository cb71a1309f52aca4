"""What the tests of this plugin share: plans to render, and a skip when it is not installed."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from kubeup_core.bootstrapper import Step

MISSING = [name for name in ("kubeup_kubeadm",) if importlib.util.find_spec(name) is None]


class Skipped(pytest.Module):
    def collect(self) -> NoReturn:
        pytest.skip(f"not installed: {', '.join(MISSING)} (pip install -e plugins/kubeadm)", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """The modules beside this one import what may not be there."""
    return Skipped.from_parent(parent, path=module_path) if MISSING else None


CA = """-----BEGIN CERTIFICATE-----
MIIBgDCCASegAwIBAgIUFllBmH1Zk8AFr7jryORVKYH9K7owCgYIKoZIzj0EAwIw
FTETMBEGA1UEAwwKa3ViZXJuZXRlczAgFw0yNjExMjMwMjE3MzdaGA8yMTI2MTAz
MDAyMTczN1owFTETMBEGA1UEAwwKa3ViZXJuZXRlczBZMBMGByqGSM49AgEGCCqG
SM49AwEHA0IABHtiNEdy5ZOXEBuEf6+yLK4vqiidSVGkWzuwCsiUy6TbeRYIOnTs
mgbdj7PY3/AL8zzfU6xs5PIwZa1EGBCl/jajUzBRMB0GA1UdDgQWBBTpPFc7lEGL
zMBqHtrzi15RbitvAzAfBgNVHSMEGDAWgBTpPFc7lEGLzMBqHtrzi15RbitvAzAP
BgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0cAMEQCIFfgxb82vLbyUWENl85z
c/rhnuGOxlweyX3xWmTOAPTJAiARcHnJfyS0gIP0Cd8DfidQfPpZkU/DSNllVmHg
u3L6Zw==
-----END CERTIFICATE-----
"""


@pytest.fixture
def plan() -> Callable[..., object]:
    """A ClusterPlan that is complete; fields may be given."""
    from kubeup_core.bootstrapper import ClusterPlan

    def make(version: str = "v1.36.4", **given: object) -> ClusterPlan:
        whole = {"name": "demo", "host": "10.0.0.10", "ca": CA, **given}
        return ClusterPlan(version=version, **whole)

    return make


@pytest.fixture
def node() -> Callable[..., object]:
    """A NodePlan: a worker unless told otherwise."""
    from kubeup_core.bootstrapper import NodePlan

    def make(role: str = "worker", **given: object) -> NodePlan:
        return NodePlan(**{"name": "demo-1", "role": role, "address": "10.0.0.11", **given})

    return make


@pytest.fixture
def secrets() -> object:
    from kubeup_core.bootstrapper import Secrets

    pki = {name: f"-----BEGIN PRIVATE KEY-----\n{name}\n" for name in ("ca.key", "etcd/ca.key", "front-proxy-ca.key", "sa.key")}
    return Secrets(pki={**pki, "ca.crt": CA}, token="abcdef.0123456789abcdef")


FOLDERS = r"(?<![\w.}/])/(?=(?:etc|var|run|opt|proc|sys|boot|usr|lib|root)/)"
TOOLS = """awk basename base64 cat chmod cmp cp cut date df dirname find grep head id install ln ls mkdir mktemp mv nproc
    readlink rm rmdir sed sh sha256sum sort tail tar timeout touch tr wc"""
QUIET = {
    "sleep": "read -r now </proc/uptime; echo $((now + 30)) >/proc/uptime",
    "systemctl": ":",
    "journalctl": ":",
    "modprobe": ":",
    "swapoff": ":",
    "ip": ":",
    "curl": "echo ok",
    "uname": "case $1 in -r) echo 6.1.0 ;; *) echo x86_64 ;; esac",
}


class Machine:
    """A machine made of a folder: scripts run on this one, with that folder in the place of /, and with commands that stand in for the
    real ones. A Debian 12 on which nothing is installed yet. Its time goes on only while somebody sleeps."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "bin").mkdir(parents=True)
        for tool in TOOLS.split():
            if found := shutil.which(tool):
                (root / "bin" / tool).symlink_to(found)
        for name, text in QUIET.items():
            self.command(name, text)
        self.file("/etc/os-release", "ID=debian\n")
        self.file("/etc/resolv.conf", "nameserver 10.0.0.2\n")
        self.file("/proc/swaps", "Filename Type Size Used Priority\n")
        self.file("/proc/mounts", "")
        self.file("/proc/1/cmdline", "/sbin/init\0")
        self.file("/proc/self/status", "CapBnd:\t000001ffffffffff\n")
        self.file("/sys/fs/cgroup/cgroup.controllers", "cpu memory\n")
        self.file("/proc/uptime", "0\n")
        self.file("/boot/config-6.1.0", "")
        for folder in ("/run/systemd/system", "/var/lib/kubeup", "/usr/local/bin", "/usr/local/lib", "/etc/systemd/system"):
            (root / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def command(self, name: str, text: str) -> None:
        """In the text, a path is one of the machine's. Every call is written down."""
        path = self.root / "bin" / name
        path.unlink(missing_ok=True)
        path.write_text(self.moved(f'#!/bin/sh\necho "{name} $*" >>/var/lib/calls\n{text}\n'))
        path.chmod(0o755)

    def without(self, name: str) -> None:
        (self.root / "bin" / name).unlink()

    @property
    def calls(self) -> list[str]:
        return self.read("/var/lib/calls").splitlines() if self.there("/var/lib/calls") else []

    def file(self, path: str, text: str = "", mode: int = 0o644) -> Path:
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)
        return target

    def path(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def there(self, path: str) -> bool:
        return os.path.lexists(self.path(path))

    def read(self, path: str) -> str:
        return self.path(path).read_text().replace(str(self.root), "")

    def moved(self, script: str) -> str:
        return re.sub(FOLDERS, f"{self.root}/", script)

    def sh(self, script: str) -> tuple[int, str]:
        own = "\n".join(line for line in script.splitlines() if not line.startswith("PATH=/usr"))
        env = {**os.environ, "PATH": str(self.root / "bin")}
        done = subprocess.run(["/bin/sh", "-eu"], input=self.moved(own).encode(), capture_output=True, timeout=60, env=env)
        return done.returncode, (done.stdout + done.stderr).decode().replace(str(self.root), "")

    def run(self, step: "Step") -> tuple[int, str]:
        for file in step.files:
            self.file(file.path, file.content.decode(), file.mode)
        return self.sh(step.script)

    def fails(self, step: "Step") -> str:
        """What it ends with, and the Machine's status."""
        code, text = self.run(step)
        assert code != 0, text
        return text.strip().splitlines()[-1]

    def does(self, step: "Step") -> str:
        code, text = self.run(step)
        assert code == 0, text
        return text


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


@pytest.fixture
def step() -> Callable[..., object]:
    """One step of a task, by its name without a version."""
    from kubeup_core.bootstrapper import Secrets
    from kubeup_kubeadm import build

    def find(task: object, name: str, cluster: object, node: object, secrets: object = None) -> "Step":
        steps = build().steps(task, cluster, node, secrets or Secrets())
        return next(s for s in steps if re.sub(r"(-\d+){3}$", "", s.name) == name)

    return find
