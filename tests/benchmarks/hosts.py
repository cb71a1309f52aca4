"""A bootstrap of 20 steps on 1 host and on 50, over SSH: kubeup, and Ansible with the same steps on the same hosts.

The hosts are real sshd processes on this machine (root on Debian), so 50 of them share its cores with what drives them. A step sleeps
for a fifth of a second: what is beyond four seconds is connecting, sending, asking and telling. ansible-playbook is taken from the
PATH (pip install ansible-core, in an environment of its own), and left out where it is missing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from artifacts.sshd import Sshd, key_pair  # noqa: E402

STEPS, SLEEP = 20, 0.2
MANY = 50

PLUGIN = f'''
"""A bootstrapper whose steps sleep."""
from typing import Any
from kubeup_core import hookimpl
from kubeup_core.bootstrapper import Step, Task
from pydantic import BaseModel, ConfigDict

class Config(BaseModel):
    model_config = ConfigDict(extra="forbid")

class Sleepy:
    def check(self, cluster: Any) -> Any: return ()
    def newest(self) -> str: return "v1.34.1"
    def hops(self, have: str, want: str) -> Any: return ()
    def steps(self, task: Task, cluster: Any, node: Any, secrets: Any = None) -> Any:
        if task is not Task.PREPARE:
            return (Step(name="wait", title="waits", script="sleep 3600", timeout=4000),)
        return tuple(Step(name=f"step-{{n}}", title="sleeps", script="sleep {SLEEP}") for n in range({STEPS}))
    def addons(self, cluster: Any) -> Any: return ()
    def certificates(self, cluster: Any) -> str: return ""
    def etcd_list(self, cluster) -> str: return "true"
    def etcd_members(self, output: bytes) -> Any: return ()
    def etcd_remove(self, member: Any) -> str: return "true"

@hookimpl
def kubeup_register_bootstrappers(register: Any) -> None:
    register.bootstrapper(name="sleepy", config=Config, build=Sleepy)
'''


def hosts() -> Iterator[tuple[str, str]]:
    """A bootstrap of 20 steps of 0.2 s on hosts over SSH: seconds"""
    with tempfile.TemporaryDirectory(prefix="kubeup-hosts-") as name:
        folder = Path(name)
        private, public = key_pair()
        key = folder / "key"
        key.write_text(private)
        key.chmod(0o600)
        made = [
            Sshd(folder / f"h{n}", public, {"MaxStartups": "200"}, private=("/var/lib/kubeup", "/var/lib/kubeup-host"))
            for n in range(MANY)
        ]
        try:
            for sshd in made:
                sshd.start()
            yield from _measured(folder, key, made)
        finally:
            for sshd in made:
                sshd.stop()


def _measured(folder: Path, key: Path, made: list[Sshd]) -> Iterator[tuple[str, str]]:
    one, many = _kubeup(folder / "one", key, made[:1]), _kubeup(folder / "many", key, made)
    yield "kubeup, 1 host", f"{one:.1f} s"
    yield f"kubeup, {MANY} hosts", f"{many:.1f} s ({many / one:.2f} x)"
    program = shutil.which("ansible-playbook")
    if program is None:
        yield "Ansible", "not on the PATH"
        return
    one, theirs = _ansible(program, folder, key, made[:1]), _ansible(program, folder, key, made)
    yield "Ansible, 1 host", f"{one:.1f} s"
    yield f"Ansible, {MANY} hosts, {MANY} forks, pipelining", f"{theirs:.1f} s ({theirs / one:.2f} x)"
    yield "kubeup against Ansible", f"{many / theirs:.2f} x"


def _kubeup(home: Path, key: Path, made: list[Sshd]) -> float:
    """From `kubeup up`, with no server yet, until each of these hosts has done all steps."""
    home.mkdir()
    plugin = home / "sleepy.py"
    plugin.write_text(PLUGIN)
    env = {**os.environ, "KUBEUP_STATE": str(home / "state"), "HOME": str(home), "KUBECONFIG": str(home / "state/kubeconfig")}
    inventory = [
        {"name": f"h{n}", "address": "127.0.0.1", "port": s.port, "hostKey": s.host_key, "internalAddress": f"10.9.0.{n + 1}"}
        for n, s in enumerate(made)
    ]
    small = {"cpu": 1, "memory": "64Mi", "disk": "1Gi"}
    kubernetes = {"version": "v1.34.1", "bootstrapper": "sleepy"}
    spec = {
        "provider": "rack",
        "kubernetes": kubernetes,
        "machine": small,
        "endpoint": {"host": "192.0.2.1", "loadBalancer": "none"},
    }
    documents: list[dict[str, Any]] = [
        {
            "kind": "Provider",
            "metadata": {"name": "rack"},
            "spec": {"type": "ssh", "config": {"key": {"path": str(key)}, "hosts": inventory}},
        },
        {"kind": "Cluster", "metadata": {"name": "demo"}, "spec": spec},
    ]
    if len(made) > 1:
        pool = {"cluster": "demo", "replicas": len(made) - 1, "machine": small}
        documents.append({"kind": "NodePool", "metadata": {"name": "w"}, "spec": pool})
    file = home / "cluster.yaml"
    file.write_text(yaml.safe_dump_all({"apiVersion": "kubeup.dev/v1alpha1", **d} for d in documents))
    program = str(Path(sys.executable).parent / "kubeup")
    began = time.monotonic()
    up = subprocess.Popen([program, "up", "--plugin", str(plugin), "-f", str(file)], env=env, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 300
    try:
        done = [sshd.inside("/var/lib/kubeup") / "done" for sshd in made]
        while sum(len(list(d.glob("step-*"))) == STEPS for d in done) < len(made):
            assert up.poll() is None, "kubeup up has ended"
            assert time.monotonic() < until, (
                f"not within five minutes; look with KUBEUP_STATE={home}/state kubeup why cluster/demo"
            )
            time.sleep(0.05)
        return time.monotonic() - began
    finally:
        up.terminate()
        up.wait()
        subprocess.run([program, "stop"], env=env, capture_output=True, check=False)
        for sshd in made:  # whose they were is forgotten, for the next run
            for folder in sshd.private:
                for child in sshd.inside(folder).iterdir():
                    shutil.rmtree(child) if child.is_dir() else child.unlink()


def _ansible(program: str, folder: Path, key: Path, made: list[Sshd]) -> float:
    inventory = {
        "all": {
            "hosts": {f"h{n}": {"ansible_host": "127.0.0.1", "ansible_port": s.port} for n, s in enumerate(made)},
            "vars": {
                "ansible_user": "root",
                "ansible_ssh_private_key_file": str(key),
                "ansible_python_interpreter": "/usr/bin/python3",
                "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null",
            },
        }
    }
    tasks = [{"name": f"step {n}", "ansible.builtin.shell": f"sleep {SLEEP}"} for n in range(STEPS)]
    (folder / "hosts.json").write_text(json.dumps(inventory))
    (folder / "play.yaml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    env = {**os.environ, "ANSIBLE_FORKS": str(MANY), "ANSIBLE_PIPELINING": "1", "ANSIBLE_STRATEGY": "free", "HOME": str(folder)}
    began = time.monotonic()
    subprocess.run(
        [program, "-i", str(folder / "hosts.json"), str(folder / "play.yaml")], env=env, check=True, capture_output=True
    )
    return time.monotonic() - began
