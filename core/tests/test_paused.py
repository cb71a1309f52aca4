"""What is paused is left alone by everything that runs steps on machines, whoever is paused; what runs already goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from kubeup_core.controllers.etcd_restore import REQUEST as RESTORE
from kubeup_core.controllers.etcd_snapshots import REQUEST as SNAPSHOT
from kubeup_core.controllers.renewing import REQUEST as RENEW
from kubeup_core.kinds import Cluster, Installation, Machine, NodePool, Provider
from kubeup_core.testing.harness import Harness
from kubeup_core.testing.rehearsal import NAME

from .test_etcd_restore import SNAPSHOT as KEPT
from .test_etcd_restore import written

pytest.importorskip("kubeup_sim", reason="the simulated cloud is the distribution kubeup-sim: pip install kubeup-sim")

OLD, NEW = "v1.34.1", "v1.34.2"
WHOLE = ((Installation, "kubeup"), (Provider, "sim"), (Cluster, "demo"))
PLANE = (Machine, "demo-control-plane-0")
WORKER = ((NodePool, "web"), (Machine, "web-0"))


@pytest.fixture
def harness(rehearsed: Harness, tmp_path: Path) -> Harness:
    """Cluster demo is on its way: a control plane and a worker."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / KEPT).write_bytes(written(b"etcd" * 1024))
    h = rehearsed
    h.cloud.guest.on("^true$", lambda machine, script, stdin: (0, b""))
    h.provider()
    snapshots = {"to": f"file://{tmp_path / 'kept'}", "every": "99999h"}
    spec = {"provider": "sim", "kubernetes": {"version": OLD, "bootstrapper": NAME}, "etcd": {"snapshots": snapshots}}
    h.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": spec})
    h.apply({"kind": "NodePool", "metadata": {"name": "web"}, "spec": {"cluster": "demo", "replicas": 1}})
    return h


def ready(h: Harness) -> bool:
    return h.get(Cluster, "demo").status.is_true("Ready")


def ran(h: Harness, step: str, host: str = "") -> int:
    return sum(n for (name, done), n in h.cloud.guest.jobs.runs.items() if done == step and host in name)


def annotate(key: str, value: str) -> Callable[[Harness], None]:
    return lambda h: h.edit(Cluster, "demo", metadata={"annotations": {key: value}})


def upgrade(h: Harness) -> None:
    h.edit(Cluster, "demo", spec={"kubernetes": {"version": NEW}})


def paused(h: Harness, whom: tuple[type, str], value: bool) -> None:
    h.edit(*whom, spec={"paused": value})


@pytest.mark.parametrize(
    ("whom", "step", "host"),
    [*((who, "init", "control") for who in (*WHOLE, PLANE)), *((who, "join", "web") for who in (*WHOLE, *WORKER))],
    ids=lambda v: v if isinstance(v, str) else v[0].__name__,
)
def test_a_machine_that_is_being_prepared_gets_no_further(
    harness: Harness, whom: tuple[type, str], step: str, host: str
) -> None:
    harness.cloud.guest.jobs.slow["runtime"] = 60.0
    if step == "join":
        harness.cloud.guest.jobs.slow["init"] = 60.0
    before = "runtime" if step == "init" else "init"
    harness.until(lambda: ran(harness, before))
    paused(harness, whom, True)
    harness.advance(1200)
    assert ran(harness, step, host) == 0
    paused(harness, whom, False)
    harness.until(lambda: ready(harness))
    assert ran(harness, step, host) == 1


TASKS: dict[str, Callable[[Harness], None]] = {
    "upgrade": upgrade,
    "renew": annotate(RENEW, "t1"),
    "restore": annotate(RESTORE, f"{KEPT} t1"),
    "snapshot": annotate(SNAPSHOT, "t1"),
}


@pytest.mark.parametrize(
    ("whom", "step", "host"),
    [
        *((who, step, "control") for step in TASKS for who in (*WHOLE, PLANE)),
        *((who, "upgrade", "web") for who in WORKER),
    ],
    ids=lambda v: v if isinstance(v, str) else v[0].__name__,
)
def test_nothing_is_begun_on_what_is_paused_until_it_is_not(
    harness: Harness, whom: tuple[type, str], step: str, host: str
) -> None:
    harness.until(lambda: ready(harness))
    harness.advance(60)
    paused(harness, whom, True)
    harness.advance(60)
    TASKS[step](harness)
    harness.advance(300)
    assert ran(harness, step, host) == 0
    assert not any(m.deleting for m in harness.machines())
    nodes = harness.workload().request("GET", "/api/v1/nodes")["items"]
    assert not any(n["spec"].get("unschedulable") for n in nodes if host in n["metadata"]["name"])
    if step != "snapshot":
        condition = harness.condition(Cluster, "demo", "Ready")
        assert (condition[1], "paused" in condition[2]) == ("Paused", True)
    paused(harness, whom, False)
    harness.until(lambda: ran(harness, step, host) and ready(harness), 3600)


def test_steps_that_run_when_it_is_paused_are_observed_to_their_end(harness: Harness) -> None:
    harness.until(lambda: ready(harness))
    harness.cloud.guest.jobs.slow["upgrade"] = 120.0
    upgrade(harness)
    harness.until(lambda: ran(harness, "upgrade", "control"))
    paused(harness, (Provider, "sim"), True)
    harness.until(lambda: harness.get(Cluster, "demo").status.control_plane.version == NEW)  # type: ignore[union-attr]
    assert ran(harness, "upgrade", "control") == 1
