"""Servers to measure, and what is measured of them. Each function returns lines to print."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from kubeup.api import Api, way
from kubeup.state import State

from kubeup import daemon

LOAD = Path(__file__).with_name("load.py")
Line = tuple[str, str]


@contextmanager
def server() -> Iterator[tuple[State, Api]]:
    """A real server of its own, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="kubeup-bench-") as folder:
        os.environ["KUBEUP_SIM_FILE"] = f"{folder}/sim.db"
        state = State(Path(folder) / "state")
        daemon.ensure(state)
        api = Api(way(state))
        try:
            yield state, api
        finally:
            api.close()
            daemon.stop(state)


def load(state: State, *args: object) -> dict[str, float]:
    to = way(state)
    ca = state.path / "ca.crt"
    command = [sys.executable, str(LOAD), str(args[0]), to.url, to.token, str(ca), *map(str, args[1:])]
    result: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return result


def rss(state: State) -> int:
    """Bytes of memory that the server has resident."""
    pid = daemon.running(state)
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def store() -> Iterator[Line]:
    """Durable creates of a 1 KB object, a list of 5,000, the way to a watcher, memory."""
    with server() as (state, api):
        one = load(state, "create", 1, 400, "one")
        many = load(state, "create", 64, 4_600, "many")
        yield "durable creates, 1 client", f"{one['per_second']:8.0f} /s"
        yield (
            "durable creates, 64 clients",
            f"{many['per_second']:8.0f} /s   ({many['per_second'] / one['per_second']:.1f} times one client)",
        )
        times = [_timed(lambda: api.list("Secret", "default"))[0] for _ in range(5)]
        yield "list of 5,000 (with the client's parsing)", f"{statistics.median(times) * 1000:8.0f} ms"
        first = _timed(lambda: api.request("GET", "/api/v1/namespaces/default/secrets", params={"limit": "1"}))[0]
        yield "list of one page of one", f"{first * 1000:8.1f} ms"
        seen = load(state, "watch", 300)
        yield "create to watch event, p50", f"{seen['p50'] * 1000:8.1f} ms"
        yield "create to watch event, p99", f"{seen['p99'] * 1000:8.1f} ms"
    with server() as (state, api):
        load(state, "create", 8, 200, "warm")
        before = rss(state)
        load(state, "create", 64, 10_000, "memory")
        yield (
            "memory per stored object of 1 KB",
            f"{(rss(state) - before) / 10_000:8.0f} bytes   (server: {before / 2**20:.0f} MiB)",
        )


POOL = """
apiVersion: kubeup.dev/v1alpha1
kind: Provider
metadata: {name: fast}
spec: {type: sim, config: {account: bench, bootSeconds: [0, 0], deleteSeconds: 0, settle: 0}, limits: {machines: 100000}}
---
apiVersion: kubeup.dev/v1alpha1
kind: Cluster
metadata: {name: bench, namespace: default}
spec: {provider: fast}
---
apiVersion: kubeup.dev/v1alpha1
kind: NodePool
metadata: {name: pool, namespace: default}
spec: {cluster: bench, replicas: %d}
"""


def machines(count: int = 1_000) -> Iterator[Line]:
    """Machines to Ready on the simulator with no latency of its own, writes per machine, writes of a re-check."""
    with server() as (state, api):
        for document in yaml.safe_load_all(POOL % 0):
            api.apply(document)
        _until(lambda: _ready(api) == 0 and _condition(api, "Cluster", "bench"))
        at = _version(api)
        began = time.perf_counter()
        *_, pool = yaml.safe_load_all(POOL % count)
        api.apply(pool)
        _until(lambda: _ready(api) >= count)
        seconds = time.perf_counter() - began
        yield f"{count} machines to Ready", f"{seconds:8.1f} s    ({count / seconds:.0f} /s)"
        _quiet(api)
        events = len(api.list("Event"))
        yield "store writes per machine, all but events", f"{(_version(api) - at - events) / count:8.2f}"
        at, before = _version(api), rss(state)
        time.sleep(20)
        yield "writes in 20 s of re-checks that find nothing", f"{_version(api) - at:8d}"
        yield f"memory of the server with {count} machines", f"{before / 2**20:8.0f} MiB"
        began = time.perf_counter()
        api.delete("Cluster", "bench", "default")
        _until(lambda: not api.list("Cluster", "default"))
        yield f"{count} machines to nothing, with proof", f"{time.perf_counter() - began:8.1f} s"


def start() -> Iterator[Line]:
    """What a person waits for before anything is drawn."""
    for args in (["--help"], ["version"], ["providers"]):
        command = [sys.executable, "-m", "kubeup", *args]
        times = [_timed(lambda c=command: subprocess.run(c, capture_output=True, check=True))[0] for _ in range(7)]  # type: ignore[misc]
        yield f"kubeup {' '.join(args)}", f"{statistics.median(times) * 1000:8.0f} ms"
    bare = [_timed(lambda: subprocess.run([sys.executable, "-c", ""], check=True))[0] for _ in range(7)]
    yield "python -c '' beside it", f"{statistics.median(bare) * 1000:8.0f} ms"


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    value = work()
    return time.perf_counter() - began, value


def _until(holds: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "not within two minutes"
        time.sleep(0.05)


def _ready(api: Api) -> int:
    pool = api.get("NodePool", "pool", "default")
    return int((pool.get("status") or {}).get("ready") or 0)


def _condition(api: Api, kind: str, name: str) -> bool:
    conditions = (api.get(kind, name, "default").get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _version(api: Api) -> int:
    answer = api.request("GET", "/api/v1/namespaces", params={"limit": "1"})
    return int(answer["metadata"]["resourceVersion"])


def _quiet(api: Api) -> None:
    """Until nothing was written for two seconds."""
    version, since = _version(api), time.monotonic()
    while time.monotonic() - since < 2:
        time.sleep(0.2)
        now = _version(api)
        if now != version:
            version, since = now, time.monotonic()
