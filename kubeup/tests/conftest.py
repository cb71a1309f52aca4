"""The command as a person types it, run in this process against real servers in the background, each with a state of its own."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubeup_core.statedir import born

PROVIDER = """
apiVersion: kubeup.dev/v1alpha1
kind: Provider
metadata: {name: yard}
spec: {type: sim, config: {bootSeconds: [0, 0], deleteSeconds: 0, networkSeconds: 0, volumeSeconds: 0, attachSeconds: 0}}
"""
CLUSTER = """
apiVersion: kubeup.dev/v1alpha1
kind: Cluster
metadata: {name: demo}
spec: {provider: yard}
"""
POOL = """
apiVersion: kubeup.dev/v1alpha1
kind: NodePool
metadata: {name: web}
spec: {cluster: demo, replicas: 2}
"""


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


class Command:
    """A home of one's own. Calling it runs `kubeup ARGS`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.state = home / "state"
        self.env = {
            "HOME": str(home), "KUBEUP_STATE": str(self.state), "KUBEUP_SIM_FILE": str(home / "sim.db"), "KUBECONFIG": "",
            "COLUMNS": "120",
        }  # fmt: skip

    def __call__(self, *args: str, stdin: str = "", code: int | None = 0) -> Done:
        """Fails with all that was said when the exit code is another one; None takes any."""
        from kubeup.main import main

        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            for key, value in self.env.items():
                patch.setenv(key, value)
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
            with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
                main(list(args))
        done = Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())
        assert code is None or done.code == code, f"kubeup {' '.join(args)} gave {done.code}\n{done.out}\n{done.err}"
        assert "Traceback" not in done.err
        return done

    def json(self, *args: str) -> Any:
        return json.loads(self(*args, "-o", "json").out)

    def spawn(self, *args: str, **more: Any) -> subprocess.Popen[str]:
        """As a process of its own."""
        command = [sys.executable, "-m", "kubeup", *args]
        piped: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | more
        return subprocess.Popen(command, env={**os.environ, **self.env}, **piped)

    def write(self, *texts: str, name: str = "cluster.yaml") -> str:
        file = self.home / name
        file.write_text("\n---\n".join(texts))
        return str(file)

    @property
    def server(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.state / "server.json").read_text())
        return found

    def kill(self) -> None:
        """kill -9 of the server; returns when it is gone."""
        pid = int(self.server["pid"])
        os.kill(pid, signal.SIGKILL)
        until(lambda: born(pid) == "")

    def close(self) -> None:
        self("stop", code=None)


def until(holds: Callable[[], object], seconds: float = 30) -> None:
    """Real processes take real time: look until it holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s"
        time.sleep(0.05)


@pytest.fixture(name="until")
def _until() -> Callable[..., None]:
    return until


@pytest.fixture
def kubeup(tmp_path: Path) -> Iterator[Command]:
    """Nothing has run there yet."""
    command = Command(tmp_path)
    yield command
    command.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """With a server that runs, shared by the tests of a module."""
    command = Command(tmp_path_factory.mktemp("home"))
    command("apply", "-f", command.write(PROVIDER))
    yield command
    command.close()


@pytest.fixture(scope="session")
def texts() -> dict[str, str]:
    """Manifests to build from."""
    return {"provider": PROVIDER, "cluster": CLUSTER, "pool": POOL}
