"""Seconds from nothing to Ready of real Kubernetes clusters on a Docker engine, and what of them are the bare commands.

Needs what tests/e2e/test_kubernetes.py needs: an engine that answers, the image of machines, and the artifacts in the cache
(`python tests/artifacts bundle`). The bare commands are the bootstrapper's steps as each machine's runner timed them, in whole seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

VERSION = "v1.20.2"
TASKS = {"prepare": ("machine", "bundle", "system", "kubernetes", "containerd", "kubelet", "images")}


def clusters() -> Iterator[tuple[str, str]]:
    """Kubernetes clusters on a Docker engine, from a bundle: seconds"""
    with tempfile.TemporaryDirectory(prefix="kubeup-bench-") as folder:
        kubernetes = _bundle(Path(folder))
        for control_planes, workers in ((1, 0), (3, 2)):
            yield from _one(Path(folder), kubernetes, control_planes, workers)


def _one(folder: Path, kubernetes: dict[str, Any], control_planes: int, workers: int) -> Iterator[tuple[str, str]]:
    env = {**os.environ, "KUBEUP_STATE": str(folder / f"state-{control_planes}"), "HOME": str(folder)}
    file = folder / "cluster.yaml"
    file.write_text(_documents(kubernetes, control_planes, workers))
    title = f"{control_planes}+{workers}"
    try:
        began = time.monotonic()
        _run(env, "up", "-f", str(file), "--timeout", "20m")
        wall = time.monotonic() - began
        spent = {
            m["metadata"]["name"]: _steps(m["status"]["id"]) for m in _machines(env) if m["spec"]["role"] != "loadBalancer"
        }
        prepared = max(_prepare(steps) for steps in spent.values())
        members = [sum(steps.values()) - _prepare(steps) for name, steps in sorted(spent.items()) if "control-plane" in name]
        bare = prepared + sum(members)
        yield f"{title}: from nothing to Ready", f"{wall:.0f} s"
        yield f"{title}: preparing, the slowest machine", f"{prepared} s"
        yield f"{title}: init, then each control plane's join", ", ".join(f"{seconds} s" for seconds in members)
        yield f"{title}: against the bare commands one after another", f"{wall / max(bare, 1):.2f} x ({bare} s)"
    finally:
        began = time.monotonic()
        _run(env, "down", "--yes")
        took = time.monotonic() - began
    yield f"{title}: to nothing again", f"{took:.0f} s"


def _bundle(folder: Path) -> dict[str, Any]:
    from artifacts.bundle_inputs import bundle_inputs
    from kubeup_kubeadm.bundle import create

    file = folder / "bundle.tar"
    digest = create(bundle_inputs(VERSION), VERSION, "amd64", file)
    config = {"imageRepository": "kubeup.local", "images": {"etcd": "3.4.23-0"}, "dns": False, "minimumDisk": "512Mi"}
    return {"version": VERSION, "bundle": {"path": str(file), "sha256": digest}, "config": config}


def _documents(kubernetes: dict[str, Any], control_planes: int, workers: int) -> str:
    plane = {"replicas": control_planes, "machine": {"cpu": 2, "memory": "2Gi"}}
    spec = {"provider": "docker", "kubernetes": kubernetes, "controlPlane": plane}
    documents: list[dict[str, Any]] = [{"kind": "Cluster", "metadata": {"name": "bench"}, "spec": spec}]
    if workers:
        pool = {"cluster": "bench", "replicas": workers, "machine": {"cpu": 1, "memory": "1Gi"}}
        documents.append({"kind": "NodePool", "metadata": {"name": "bench-workers"}, "spec": pool})
    return str(yaml.safe_dump_all({"apiVersion": "kubeup.dev/v1alpha1", **d} for d in documents))


def _machines(env: dict[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_run(env, "get", "machines", "-o", "json"))["items"]
    return found


def _steps(container: str) -> dict[str, int]:
    """Step -> seconds, as the runner on the machine wrote them down."""
    command = ["docker", "exec", container, "sh", "-c", "cat /var/lib/kubeup/jobs/*/results.*"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    spent: dict[str, int] = {}
    for line in lines:
        if "step" in line and line.get("state") == "done":
            spent[line["step"]] = spent.get(line["step"], 0) + int(line.get("seconds", 0))
    return spent


def _prepare(steps: dict[str, int]) -> int:
    return sum(seconds for name, seconds in steps.items() if name.startswith(TASKS["prepare"]))


def _run(env: dict[str, str], *args: str) -> str:
    command = [str(Path(sys.executable).parent / "kubeup"), *args]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"kubeup {' '.join(args)} gave {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout
