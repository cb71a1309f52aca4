"""What the tests share: hosts that are real sshd processes with folders of their own, and the installation that uses them."""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from kubeup_artifacts.sshd import SBIN, Sshd, key_pair

MISSING = [name for name in ("paramiko", "kubeup_ssh_executor", "kubeup_ssh") if importlib.util.find_spec(name) is None]
STEPS, HOST = "/var/lib/kubeup", "/var/lib/kubeup-host"


class Skipped(pytest.Module):
    def collect(self) -> NoReturn:
        pytest.skip(f"not installed: {', '.join(MISSING)} (pip install -e providers/ssh)", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """The modules beside this one import what may not be there."""
    return Skipped.from_parent(parent, path=module_path) if MISSING else None


@dataclass
class Hosts:
    """Some sshd processes that are hosts h1, h2 ...; key: a file with the private key that they let in."""

    folder: Path
    key: Path
    sshds: dict[str, Sshd]

    def config(self, *names: str, **more: Any) -> dict[str, Any]:
        """The Provider's config."""
        hosts = [
            {
                "name": name,
                "address": "127.0.0.1",
                "port": s.port,
                "hostKey": s.host_key,
                "internalAddress": f"10.9.0.{s.port % 250 + 1}",
            }
            for name, s in self.sshds.items()
            if not names or name in names
        ]
        return {"hosts": hosts, "key": {"path": str(self.key)}, **more}

    def inside(self, name: str, folder: str = HOST) -> Path:
        return self.sshds[name].inside(folder)

    def claims(self) -> set[str]:
        """All marks of machines on all hosts, and all volumes, whoever made them."""
        found = {f"{n}: {c.read_text().splitlines()[0]}" for n in self.sshds if (c := self.inside(n) / "claim").exists()}
        return found | {f"{n}/{v.stem}" for n in self.sshds for v in (self.inside(n) / "volumes").glob("*.json")}

    def reset(self) -> None:
        """As new: nothing on any host, all of them up."""
        for sshd in self.sshds.values():
            for folder in (HOST, STEPS):
                for image in sshd.inside(folder).glob("volumes/*.img"):
                    _loop_down(image)
                for child in sshd.inside(folder).iterdir():
                    shutil.rmtree(child) if child.is_dir() else child.unlink()
            if sshd.process is None:
                sshd.start()


def _loop_down(image: Path) -> None:
    done = subprocess.run(["losetup", "-n", "-O", "NAME", "-j", str(image)], capture_output=True, text=True, check=False)
    for device in done.stdout.split():
        subprocess.run(["losetup", "-d", device], check=False)


@pytest.fixture(scope="session")
def many_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Hosts]]:
    """many_hosts(3): so many, started once for all tests."""
    for command in ("sshd", "sudo"):
        if shutil.which(command, path=SBIN) is None or os.geteuid() != 0:
            unavailable(f"no {command} on this machine, or not root. On Debian: sudo apt-get install openssh-server sudo")
    folder = tmp_path_factory.mktemp("hosts")
    private, public = key_pair()
    key = folder / "id_ed25519"
    key.write_text(private)
    key.chmod(0o600)
    made: dict[str, Sshd] = {}

    def make(count: int) -> Hosts:
        for number in range(len(made) + 1, count + 1):
            sshd = Sshd(folder / f"h{number}", public, {"MaxStartups": "100", "MaxSessions": "20"}, private=(STEPS, HOST))
            made[f"h{number}"] = sshd.start()
        return Hosts(folder, key, {name: made[name] for name in list(made)[:count]})

    yield make
    for sshd in made.values():
        for image in sshd.inside(HOST).glob("volumes/*.img"):
            _loop_down(image)
        sshd.stop()


@pytest.fixture
def hosts(many_hosts: Callable[[int], Hosts]) -> Hosts:
    """Six of them, as new."""
    found = many_hosts(6)
    found.reset()
    return found


@pytest.fixture
def place(hosts: Hosts) -> Iterator[Callable[..., SimpleNamespace]]:
    """place("installation", **config): the suppliers of an installation that has these hosts."""
    from kubeup_core import Context
    from kubeup_ssh import SshConfig, build

    built = []

    def make(installation: str = "one", *names: str, secrets: dict[str, str] | None = None, **config: Any) -> SimpleNamespace:
        context = Context(installation=installation, provider=f"uid-{installation}", secrets=secrets or {})
        made = build(SshConfig.model_validate(hosts.config(*names, **config)), context)
        built.append(made)
        return SimpleNamespace(suppliers=made, machines=made.machines, volumes=made.volumes, installation=installation)

    yield make
    for one in built:
        one.close()


def unavailable(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI=true and a part is missing: {reason}", pytrace=False)
    pytest.skip(reason)
