"""The README's second quick start, as it is typed: a Kubernetes cluster on this machine's engine, and away again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kubeup_artifacts.build import cache

pytestmark = [pytest.mark.docker, pytest.mark.kubectl, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]


def test_make_local_ends_with_the_nodes_of_a_new_cluster(kubeup: Any, docker_node: Any, kubernetes_bundle_inputs: Any) -> None:
    kubernetes_bundle_inputs("v1.20.2")  # built once, before the clock of this test's commands runs
    kubeup.env.update({**docker_node.env, "KUBEUP_TEST_CACHE": str(cache()), "PATH": os.environ["PATH"]})

    def local(verb: str, seconds: float) -> str:
        command = [sys.executable, "tests/artifacts", verb]
        done = subprocess.run(command, cwd=ROOT, env=kubeup.env, capture_output=True, text=True, timeout=seconds, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    try:
        out = local("local", 1500)
        nodes = [line.split() for line in out.splitlines() if line.startswith(("local-control-plane-", "workers-"))]
        assert [(name, state) for name, state, *_ in nodes] == [
            ("local-control-plane-0", "Ready"), ("workers-0", "Ready"), ("workers-1", "Ready"),
        ]  # fmt: skip
        assert f"export KUBECONFIG={kubeup.state}/kubeconfig-local" in out
    finally:
        local("local-down", 300)
    assert docker_node.ps(cluster_name="local") == []
