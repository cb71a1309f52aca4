"""What the tests share: real sshd processes on loopback, each in a folder of the test; a skip when a part is missing."""

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from kubeup_artifacts.sshd import PASSWORD, SBIN, Sshd, free_port, key_pair

MISSING = [name for name in ("paramiko", "kubeup_ssh_executor") if importlib.util.find_spec(name) is None]


class Skipped(pytest.Module):
    def collect(self) -> NoReturn:
        pytest.skip(f"not installed: {', '.join(MISSING)} (pip install -e plugins/ssh-executor)", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """The modules beside this one import what may not be there."""
    return Skipped.from_parent(parent, path=module_path) if MISSING else None


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
def unused_port() -> int:
    return free_port()


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
def password() -> str:
    """What sudo asks the user `asks` for."""
    return PASSWORD


@pytest.fixture
def run(executor) -> Callable[..., tuple[int, bytes]]:
    """run(access, script, stdin=b"", timeout=20) -> (exit code, output)."""

    def act(access, script: str, stdin: bytes = b"", timeout: float = 20.0) -> tuple[int, bytes]:
        parts = list(executor.execute(access, script, stdin, timeout))
        assert isinstance(parts[-1], int)
        return parts[-1], b"".join(parts[:-1])

    return act


def unavailable(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI=true and a part is missing: {reason}", pytrace=False)
    pytest.skip(reason)
