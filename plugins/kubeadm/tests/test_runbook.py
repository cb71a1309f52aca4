"""The script that `kubeup steps --as-script` prints for a machine, run under sh: real steps, stand-ins for kubeadm and curl, and the
machine's folders below a temporary one."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from kubeup_core.bootstrapper import Secrets, Task
from kubeup_core.controllers.runbook import TOKEN, Chapter, script
from kubeup_kubeadm import build

BOOTSTRAPPER = build()
GIVEN = "012345.fedcba9876543210"
KEY = "(tls.key of Secret demo-ca)\n"


class Machine:
    """folder: its root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("bin", "etc", "var/lib/kubeup", "run"):
            (folder / name).mkdir(parents=True)
        self.has("curl", "exit 0")
        self.has(
            "kubeadm",
            f'mkdir -p {folder}/seen\ncp "$3" {folder}/seen/\ncp -r {folder}/run/kubeup/pki {folder}/seen/ 2>/dev/null || :\n'
            f"mkdir -p {folder}/etc/kubernetes\necho joined >{folder}/etc/kubernetes/kubelet.conf",
        )

    def has(self, program: str, text: str) -> None:
        path = self.folder / "bin" / program
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def run(self, task: Task, cluster, node, secrets: Secrets, **environment: str) -> subprocess.CompletedProcess[str]:
        steps = tuple(s for s in BOOTSTRAPPER.steps(task, cluster, node, secrets) if s.name != "ready")
        text = script([Chapter(task=task, machines=(), steps=steps)], "a test").replace('[ "$(id -u)" = 0 ]', "true")
        for folder in ("/etc/kubernetes", "/var/lib/kubeup", "/run/kubeup"):
            text = text.replace(folder, f"{self.folder}{folder}")
        text = text.replace("PATH=/usr/local/sbin:", f"PATH={self.folder}/bin:/usr/local/sbin:")
        (self.folder / "script").write_text(text)
        known = {**os.environ, **environment}
        return subprocess.run(["sh", str(self.folder / "script")], capture_output=True, text=True, timeout=60, env=known)


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("version", ["v1.21.14", "v1.30.14", "v1.36.4"])
def test_a_workers_script_joins_with_the_token_that_it_is_given(version, machine, plan, node):
    cluster, secrets = plan(version, cni="none"), Secrets(token=TOKEN)
    refused = machine.run(Task.JOIN, cluster, node(), secrets)
    assert refused.returncode != 0
    assert "TOKEN: make one on a control plane with: kubeadm token create" in refused.stderr
    assert not (machine.folder / "seen").exists()
    done = machine.run(Task.JOIN, cluster, node(), secrets, TOKEN=GIVEN)
    assert done.returncode == 0, done.stderr
    (config,) = yaml.safe_load_all((machine.folder / "seen" / "kubeadm.yaml").read_text())
    assert config["discovery"]["bootstrapToken"]["token"] == GIVEN
    assert not (machine.folder / "run/kubeup/kubeadm.yaml").exists(), "the step takes the token away"
    again = machine.run(Task.JOIN, cluster, node(), secrets, TOKEN=GIVEN)
    assert again.returncode == 0, again.stderr


def test_a_control_planes_script_begins_with_the_keys_that_it_asks_for(machine, plan, node, secrets):
    placeholders = replace(secrets, pki={"ca.key": KEY, "etcd/ca.key": KEY}, token="")
    cluster = plan(cni="none", ca="")
    missing = machine.run(Task.INIT, cluster, node("controlPlane"), placeholders)
    key = machine.folder / "run/kubeup/pki/ca.key"
    assert missing.returncode != 0
    assert f"put tls.key of Secret demo-ca into {key} first" in missing.stderr
    for name in ("ca.key", "etcd/ca.key"):
        path = machine.folder / "run/kubeup/pki" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"real {name}")
    done = machine.run(Task.INIT, cluster, node("controlPlane"), placeholders)
    assert done.returncode == 0, done.stderr
    assert (machine.folder / "seen/pki/etcd/ca.key").read_text() == "real etcd/ca.key"
    kinds = [part["kind"] for part in yaml.safe_load_all((machine.folder / "seen/kubeadm.yaml").read_text())]
    assert kinds == ["InitConfiguration", "ClusterConfiguration", "KubeletConfiguration", "KubeProxyConfiguration"]
    assert not key.exists()
