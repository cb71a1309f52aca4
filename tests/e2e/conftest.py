"""A kubeup of one's own for end-to-end tests: real processes, with their own state directory and their own simulated cloud."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Kubeup:
    """The command and kubectl, as a person types them."""

    home: Path
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.state = self.home / "state"
        keep = {k: v for k, v in os.environ.items() if not k.startswith("KUBE")}
        self.env = {
            **keep, "HOME": str(self.home), "KUBEUP_STATE": str(self.state), "KUBEUP_SIM_FILE": str(self.home / "sim.db"),
            "KUBECONFIG": str(self.state / "kubeconfig"), "KUBECACHEDIR": str(self.home / "cache"), **self.env,
        }  # fmt: skip

    def __call__(self, *args: str, code: int = 0, stdin: str = "", seconds: float = 300) -> str:
        """Run `kubeup ARGS`; its output. Fails with everything it said when the exit code is another."""
        return self._run([str(BIN / "kubeup"), *args], code, stdin, seconds)

    def kubectl(self, *args: str, code: int = 0, stdin: str = "") -> str:
        return self._run([str(BIN / "kubectl"), *args], code, stdin)

    def sim(self, *args: str) -> str:
        return self._run([sys.executable, "-m", "kubeup_sim", *args], 0, "")

    def get(self, what: str, *args: str) -> Any:
        return json.loads(self.kubectl("get", what, *args, "-o", "json"))

    def installation(self) -> str:
        """The id on the marks of whatever this kubeup makes. From its file: after `kubeup down` there is no server to ask."""
        with closing(sqlite3.connect(f"file:{self.state}/kubeup.db?mode=ro", uri=True)) as db:
            (data,) = db.execute("SELECT data FROM objects WHERE resource = 'installations.kubeup.dev'").fetchone()
        return str(json.loads(data)["status"]["id"])

    def marked(self) -> dict[str, str]:
        """The label of whatever this kubeup makes."""
        return {"installation": self.installation()}

    def machines(self, *, ready: bool | None = None) -> list[dict[str, Any]]:
        found = [m for m in self.get("machines")["items"] if not m["metadata"].get("deletionTimestamp")]
        return [m for m in found if ready is None or _ready(m) == ready]

    def at_provider(self) -> list[str]:
        """Everything that the simulated cloud has, of whatever installation."""
        return [line for line in self.sim("ls", "-o", "json").splitlines() if line.strip() not in ("", "[]")]

    def write(self, text: str, name: str = "cluster.yaml") -> str:
        file = self.home / name
        file.write_text(text)
        return str(file)

    @property
    def pid(self) -> int:
        return int(json.loads((self.state / "server.json").read_text())["pid"])

    def kill(self) -> None:
        """kill -9 of the server."""
        os.kill(self.pid, signal.SIGKILL)

    def _run(self, command: list[str], code: int, stdin: str, seconds: float = 300) -> str:
        done = subprocess.run(
            command, cwd=ROOT, env=self.env, input=stdin, capture_output=True, text=True, check=False, timeout=seconds
        )
        assert done.returncode == code, f"{' '.join(command)} gave {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout + done.stderr


def _ready(machine: dict[str, Any]) -> bool:
    conditions = (machine.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def until(holds: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Real processes take real time: look until it holds. Fails with the words given."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.1)


@pytest.fixture
def kubeup(tmp_path: Path) -> Iterator[Kubeup]:
    command = Kubeup(tmp_path)
    yield command
    subprocess.run([str(BIN / "kubeup"), "stop"], env=command.env, capture_output=True, check=False)
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)


@pytest.fixture(name="until")
def _until() -> Callable[..., None]:
    return until
