"""Seconds from nothing to Ready of real Kubernetes clusters on a Docker engine, phase by phase, beside the same commands by hand.

Takes the engine that answers, or starts one of its own; makes the image of machines and the artifacts where the cache has none. The
commands by hand are `bare.py`'s, in the same run and on the same engine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from bare import bare

sys.path.insert(0, str(Path(__file__).parents[1]))

VERSION = "v1.20.2"
SHAPES = ((1, 0), (3, 2))
"""Control planes and workers."""

Stamps = dict[str, dict[str, float]]
"""Machine -> step -> when it was done, in seconds of the epoch."""


def clusters() -> Iterator[tuple[str, str]]:
    """Kubernetes clusters on a Docker engine, from a bundle: seconds since the command began"""
    from artifacts.node import node_engine

    with node_engine() as engine, tempfile.TemporaryDirectory(prefix="kubeup-bench-") as folder:
        kubernetes = _bundle(Path(folder))
        for control_planes, workers in SHAPES:
            by_hand = bare(engine.host, engine.image, kubernetes, control_planes, workers)
            yield from _one(Path(folder), engine, kubernetes, control_planes, workers, by_hand)


def _one(
    folder: Path, engine: Any, kubernetes: dict[str, Any], control_planes: int, workers: int, by_hand: float
) -> Iterator[tuple[str, str]]:
    env = {**os.environ, **engine.env, "KUBEUP_STATE": str(folder / f"state-{control_planes}"), "HOME": str(folder)}
    file = folder / "cluster.yaml"
    file.write_text(_documents(engine.image, kubernetes, control_planes, workers))
    title = f"{control_planes}+{workers}"
    try:
        began = time.time()
        _run(env, "up", "-f", str(file), "--timeout", "20m")
        wall = time.time() - began
        members = [m for m in _machines(env) if m["spec"]["role"] != "loadBalancer"]
        stamps = {m["metadata"]["name"]: _stamps(env, m["status"]["id"]) for m in members}
        for phase, at in _phases(stamps, _ready(env)):
            yield f"{title}: {phase}", f"{at - began:.0f} s"
        yield f"{title}: kubeup says Ready", f"{wall:.0f} s"
        yield f"{title}: the commands by hand, all Nodes Ready", f"{by_hand:.0f} s   (kubeup: {wall / by_hand:.2f} x)"
    finally:
        began = time.time()
        _run(env, "down", "--yes")
        took = time.time() - began
    yield f"{title}: to nothing again", f"{took:.0f} s"


def _phases(stamps: Stamps, ready: list[float]) -> Iterator[tuple[str, float]]:
    """What was over when."""
    planes = [steps for name, steps in stamps.items() if "control-plane" in name]
    yield "the first machine has its bundle", min(steps["bundle"] for steps in planes)
    yield "all machines are prepared", max(at for steps in stamps.values() for name, at in steps.items() if "images" in name)
    yield "kubeadm init is over", next(steps["init"] for steps in planes if "init" in steps)
    for number, at in enumerate(sorted(steps["join"] for steps in planes if "join" in steps), 2):
        yield f"control plane {number} has joined", at
    workers = [steps["join"] for name, steps in stamps.items() if "control-plane" not in name]
    if workers:
        yield "the workers have joined", max(workers)
    yield "all Nodes are Ready", max(ready)


def _bundle(folder: Path) -> dict[str, Any]:
    from artifacts.bundle_inputs import bundle_inputs
    from kubeup_kubeadm.bundle import create

    file = folder / "bundle.tar"
    digest = create(bundle_inputs(VERSION), VERSION, "amd64", file)
    config = {"imageRepository": "kubeup.local", "images": {"etcd": "3.4.23-0"}, "dns": False, "minimumDisk": "512Mi"}
    return {"version": VERSION, "bundle": {"path": str(file), "sha256": digest}, "config": config}


def _documents(image: str, kubernetes: dict[str, Any], control_planes: int, workers: int) -> str:
    plane = {"replicas": control_planes, "machine": {"cpu": 2, "memory": "2Gi"}}
    spec = {"provider": "engine", "kubernetes": kubernetes, "controlPlane": plane}
    documents: list[dict[str, Any]] = [
        {"kind": "Provider", "metadata": {"name": "engine"}, "spec": {"type": "docker", "images": {"debian-12": image}}},
        {"kind": "Cluster", "metadata": {"name": "bench"}, "spec": spec},
    ]
    if workers:
        pool = {"cluster": "bench", "replicas": workers, "machine": {"cpu": 1, "memory": "1Gi"}}
        documents.append({"kind": "NodePool", "metadata": {"name": "bench-workers"}, "spec": pool})
    return str(yaml.safe_dump_all({"apiVersion": "kubeup.dev/v1alpha1", **d} for d in documents))


def _machines(env: dict[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_run(env, "get", "machines", "-o", "json"))["items"]
    return found


def _stamps(env: dict[str, str], container: str) -> dict[str, float]:
    """The age of the markers that the runner leaves on the machine; a digest of 32 digits follows the step's name."""
    command = ["docker", "exec", container, "sh", "-c", "cd /var/lib/kubeup/done && stat -c '%n %.Y' *"]
    said = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    return {name[:-33]: float(at) for name, at in (line.split() for line in said.splitlines())}


def _ready(env: dict[str, str]) -> list[float]:
    """When each Node became Ready, by the cluster's own account."""
    kubeconfig = _run(env, "kubeconfig", "bench").strip().partition("KUBECONFIG=")[2]
    command = ["kubectl", "--kubeconfig", kubeconfig, "get", "nodes", "-o", "json"]
    said = subprocess.run(command, env={**env, "PATH": _path()}, capture_output=True, text=True, check=True).stdout
    conditions = [c for node in json.loads(said)["items"] for c in node["status"]["conditions"] if c["type"] == "Ready"]
    return [datetime.fromisoformat(c["lastTransitionTime"]).timestamp() for c in conditions]


def _path() -> str:
    return f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def _run(env: dict[str, str], *args: str) -> str:
    command = [str(Path(sys.executable).parent / "kubeup"), *args]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"kubeup {' '.join(args)} gave {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout
