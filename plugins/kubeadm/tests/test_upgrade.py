"""The scripts of an upgrade, run under sh with stand-ins for containerd, kubectl and kubeadm that write down how they were called."""

import subprocess
from pathlib import Path

import pytest
from kubeup_core.bootstrapper import Task
from kubeup_kubeadm import build

BOOTSTRAPPER = build()

CONFIG_MAP = """apiVersion: v1
data:
  ClusterConfiguration: |
    apiServer: {}
    dns:
      type: CoreDNS
    etcd:
      local:
        dataDir: /var/lib/etcd
    imageRepository: registry.k8s.io
    kind: ClusterConfiguration
kind: ConfigMap
"""


class Machine:
    """A folder of programs, and what was called of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        (folder / "state").mkdir()

    def has(self, program: str, script: str) -> None:
        path = self.folder / "bin" / program
        path.write_text(f'#!/bin/sh\necho "{program} $*" >>{self.folder}/calls\n{script}\n')
        path.chmod(0o755)

    def run(self, text: str) -> subprocess.CompletedProcess[str]:
        text = text.replace("PATH=/usr/local/sbin:", f"PATH={self.folder}/bin:/usr/local/sbin:", 1)
        text = text.replace("STATE=/var/lib/kubeup", f"STATE={self.folder}/state", 1)
        return subprocess.run(["sh", "-eu"], input=text, capture_output=True, text=True, timeout=60)

    def calls(self, program: str) -> list[str]:
        calls = self.folder / "calls"
        return [line for line in calls.read_text().splitlines() if line.startswith(program)] if calls.exists() else []


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def upgrade(plan, node):
    """Steps of the first control plane's upgrade, by the beginning of their names."""

    def make(version: str, name: str, **config):
        steps = BOOTSTRAPPER.steps(Task.UPGRADE, plan(version, config=config), node("controlPlane", first=True))
        return next(step for step in steps if step.name.startswith(name))

    return make


def test_a_containerd_that_is_too_old_for_the_new_version_is_refused_before_anything_is_changed(machine, plan, node):
    machine.has("containerd", "echo containerd github.com/containerd/containerd 1.6.20 abc")
    first, *others = BOOTSTRAPPER.steps(Task.UPGRADE, plan("v1.37.1"), node("controlPlane", first=True))
    refused = machine.run(first.script)
    assert refused.returncode == 1
    assert "is too old: Kubernetes v1.37.1 needs containerd 2" in refused.stderr
    assert first.remedy.startswith("put containerd 2 on the machine")
    assert {p.name for p in machine.folder.rglob("*") if p.is_file()} == {"containerd", "calls"}, "nothing was changed"
    assert not [step for step in others if step.name.startswith("runtime")]
    older = BOOTSTRAPPER.steps(Task.UPGRADE, plan("v1.36.4"), node("controlPlane", first=True))[0]
    assert machine.run(older.script).returncode == 0


@pytest.mark.parametrize("role", ["controlPlane", "worker"])
def test_containerd_is_told_the_new_pause_image_before_the_machine_is_upgraded(role, plan, node):
    names = [step.name for step in BOOTSTRAPPER.steps(Task.UPGRADE, plan("v1.34.1"), node(role))]
    order = ["runtime-1-34-1", "kubeadm-1-34-1", "containerd-1-34-1", "images-1-34-1", "upgrade-1-34-1", "kubelet-1-34-1"]
    assert [name for name in names if name in order] == order


def kubectl(machine: Machine, config_map: str) -> None:
    (machine.folder / "configmap").write_text(config_map)
    machine.has(
        "kubectl",
        f'case "$*" in *"get configmap kubeadm-config"*) cat {machine.folder}/configmap ;; '
        f"*replace*) cat >{machine.folder}/replaced ;; esac",
    )
    machine.has("kubeadm", "")


def test_a_cluster_from_before_1_21_learns_where_coredns_is_before_it_is_upgraded(machine, upgrade):
    kubectl(machine, CONFIG_MAP)
    done = machine.run(upgrade("v1.21.14", "upgrade").script)
    assert done.returncode == 0, done.stderr
    wanted = CONFIG_MAP.replace("    dns:\n", "    dns:\n      imageRepository: registry.k8s.io/coredns\n")
    assert (machine.folder / "replaced").read_text() == wanted
    calls = (machine.folder / "calls").read_text()
    assert calls.index("replace") < calls.index("kubeadm upgrade apply v1.21.14 --yes")


def test_what_the_cluster_says_of_coredns_already_stays(machine, upgrade):
    kubectl(machine, CONFIG_MAP.replace("    dns:\n", "    dns:\n      imageRepository: mirror.example/dns\n"))
    assert machine.run(upgrade("v1.22.17", "upgrade").script).returncode == 0
    assert not (machine.folder / "replaced").exists()
    assert machine.calls("kubeadm")[0].startswith("kubeadm upgrade apply v1.22.17 --yes")


@pytest.mark.parametrize(
    ("version", "config"), [("v1.20.3", {}), ("v1.25.16", {}), ("v1.21.14", {"imageRepository": "mirror.example"})]
)
def test_kubeadms_that_find_coredns_are_told_nothing_of_it(version, config, machine, upgrade):
    kubectl(machine, CONFIG_MAP)
    assert machine.run(upgrade(version, "upgrade", **config).script).returncode == 0
    assert machine.calls("kubectl") == []


def test_a_cluster_that_does_not_answer_is_not_upgraded(machine, upgrade):
    machine.has("kubectl", "exit 1")
    machine.has("kubeadm", "")
    done = machine.run(upgrade("v1.21.14", "upgrade").script)
    assert "the API does not answer, so nothing was changed" in done.stderr
    assert machine.calls("kubeadm") == []
