"""kubeup steps: a runbook of real steps, one script per machine, and nothing secret in either."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import time
from typing import Any

import pytest

CLUSTER = """
apiVersion: kubeup.dev/v1alpha1
kind: Cluster
metadata: {name: hard-way}
spec: {provider: yard, kubernetes: {version: v1.34.1}, controlPlane: {replicas: 1}}
---
apiVersion: kubeup.dev/v1alpha1
kind: NodePool
metadata: {name: workers}
spec: {cluster: hard-way, replicas: 1}
"""

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("kubeup_kubeadm") is None, reason="not installed: kubeup_kubeadm (pip install -e plugins/kubeadm)"
)


@pytest.fixture(scope="module")
def machines(home: Any) -> list[str]:
    home("apply", "-f", home.write(CLUSTER, name="hard-way.yaml"))
    until = time.monotonic() + 60
    while True:
        found = sorted(
            line.split()[0] for line in home("get", "machines").out.splitlines()[1:] if "hard-way" in line or "workers" in line
        )
        if len(found) == 2:
            return found
        assert time.monotonic() < until, found
        time.sleep(0.2)


def test_the_runbook_goes_from_bare_machines_to_a_cluster(home: Any, machines: list[str]) -> None:
    out = home("steps", "hard-way").out
    headings = [line for line in out.splitlines() if line.startswith("# ")]
    assert headings[0] == "# What every script has"
    assert out.count("install_packages()") == 1, "what all of them begin with is said once"
    assert headings[1].startswith("# Prepare: ")
    assert "# Begin the cluster: hard-way-control-plane-0" in headings
    assert headings[-1] == "# Join the cluster: workers-0"
    assert "kubeadm init" in out
    assert "PRIVATE KEY" not in out
    assert "tls.key of Secret hard-way-ca" in out


def test_a_script_is_for_one_machine_and_shellcheck_finds_nothing_in_it(home: Any, machines: list[str]) -> None:
    assert "--machine with one of" in home("steps", "hard-way", "--as-script", code=3).err
    text = home("steps", "hard-way", "--machine", "hard-way-control-plane-0", "--as-script").out
    assert text.startswith("#!/bin/sh\n")
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed (apt-get install shellcheck)")
    done = subprocess.run(["shellcheck", "--shell=sh", "-"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[:3000]


def test_one_task_of_one_machine(home: Any, machines: list[str]) -> None:
    out = home("steps", "hard-way", "--machine", "workers-0", "--task", "leave").out
    assert out.startswith("# Clean the machine: workers-0\n")
    assert "has no steps on workers-0" in home("steps", "hard-way", "--machine", "workers-0", "--task", "snapshot", code=3).err


def test_what_cannot_be_is_one_clear_error(home: Any, texts: dict[str, str], machines: list[str]) -> None:
    assert "there is no Cluster default/nobody" in home("steps", "nobody", code=6).err
    wrong = home("steps", "hard-way", "--machine", "x", code=3).err
    assert "has no machine x" in wrong
    assert "workers-0" in wrong
    plain = texts["cluster"].replace("provider: yard", "provider: yard, paused: true")
    home("apply", "-f", home.write(plain.replace("name: demo", "name: plain-steps"), name="plain.yaml"))
    assert "plain set of machines" in home("steps", "plain-steps", code=3).err
    waiting = (
        CLUSTER.split("---")[0].replace("hard-way", "no-machines").replace("provider: yard", "provider: yard, paused: true")
    )
    home("apply", "-f", home.write(waiting, name="waiting.yaml"))
    assert "has no machines yet" in home("steps", "no-machines", code=6).err
