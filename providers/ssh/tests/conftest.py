"""What the tests share: hosts that are real sshd processes with folders of their own, or containers with systemd as services of
docker-compose, and the installation that uses them."""

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
from kubeup_artifacts.compose import Service, compose_file
from kubeup_artifacts.sshd import SBIN, Sshd, key_pair
from kubeup_artifacts.system import advice, find

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
    """Hosts h1, h2 ...; key: a file with the private key that they let in."""

    folder: Path
    key: Path
    sshds: dict[str, Sshd | Service]

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

    def rebooted(self, name: str, before: Any) -> None:
        """Wait until a host that was told to reboot is up again. before: its `process` when it was told."""
        host = self.sshds[name]
        if isinstance(host, Service):
            host.up_again(before)

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


# -- hosts that are containers: pytest-docker's fixtures, for docker-compose 1.29, which is what Debian 12 has ----------------


@dataclass(frozen=True)
class Composed:
    """file: of docker-compose. told: for each host its port and host key. key: a file with the private key that they let in."""

    file: Path
    told: dict[str, tuple[int, str]]
    key: Path


@pytest.fixture(scope="session")
def composed(docker_engine: Any, node_image: str, tmp_path_factory: pytest.TempPathFactory) -> Composed:
    if find("docker-compose") is None:
        unavailable(advice(["docker-compose"]))
    folder = tmp_path_factory.mktemp("compose")
    private, public = key_pair()
    key = folder / "id_ed25519"
    key.write_text(private)
    key.chmod(0o600)
    file, told = compose_file(folder, node_image, [f"h{n}" for n in range(1, 5)], public)
    return Composed(file, told, key)


@pytest.fixture(scope="session")
def docker_compose_command(docker_engine: Any) -> str:
    return f"DOCKER_HOST={docker_engine.host} docker-compose"


@pytest.fixture(scope="session")
def docker_compose_file(composed: Composed) -> str:
    return str(composed.file)


@pytest.fixture(scope="session")
def docker_compose_project_name() -> str:
    return f"kubeup-hosts-{os.getpid()}"


@pytest.fixture(scope="session")
def docker_setup() -> list[str]:
    """Without `--wait`, which docker-compose has since its version 2."""
    return ["up -d"]


@pytest.fixture(scope="session")
def docker_cleanup() -> list[str]:
    return ["kill", "down -v -t 1"]


@pytest.fixture(scope="session")
def services(docker_services: Any, docker_engine: Any, composed: Composed) -> Hosts:
    """Four containers with systemd that answer over SSH, started once for all tests."""
    found: dict[str, Sshd | Service] = {}
    for name, (port, host_key) in composed.told.items():
        assert docker_services.port_for(name, 22) == port
        container = docker_services._docker_compose.execute(f"ps -q {name}").decode().strip()
        found[name] = Service(docker_engine, container, port, host_key)
    for service in found.values():
        service.wait()
    return Hosts(composed.file.parent, composed.key, found)


@pytest.fixture
def containers(services: Hosts) -> Hosts:
    """They, as new."""
    services.reset()
    return services


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
