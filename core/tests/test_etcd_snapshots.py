"""Snapshots of etcd: on a schedule and on demand, kept where the Cluster says, and a store that fails holds up nothing."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from kubeup_core.bootstrapper import SNAPSHOT_PATH
from kubeup_core.controllers.etcd_snapshots import REQUEST, fetch
from kubeup_core.errors import Unknown
from kubeup_core.kinds import Cluster
from kubeup_core.testing.harness import Harness
from kubeup_core.testing.rehearsal import NAME

pytest.importorskip("kubeup_sim", reason="the simulated cloud is the distribution kubeup-sim: pip install kubeup-sim")

CONTENT = bytes(range(256)) * 100


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "snapshots"


@pytest.fixture
def harness(rehearsed: Harness) -> Harness:
    about = f"{len(CONTENT)}\n{hashlib.sha256(CONTENT).hexdigest()}  {SNAPSHOT_PATH}\n".encode()
    rehearsed.cloud.guest.on("^wc -c <", lambda machine, script, stdin: (0, about))
    rehearsed.cloud.guest.on("^dd if=", lambda machine, script, stdin: (0, CONTENT))
    rehearsed.cloud.guest.on("^rm -f /var/lib/kubeup/etcd-snapshot", lambda machine, script, stdin: (0, b""))
    rehearsed.provider()
    return rehearsed


def cluster(h: Harness, **snapshots: object) -> None:
    kubernetes = {"version": "v1.34.1", "bootstrapper": NAME}
    spec = {"provider": "sim", "kubernetes": kubernetes, "etcd": {"snapshots": snapshots}}
    h.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": spec})
    h.ready(1, 1200)


def files(kept: Path) -> list[Path]:
    return sorted(kept.iterdir()) if kept.exists() else []


def test_a_snapshot_is_taken_on_a_schedule_and_the_oldest_go(harness: Harness, kept: Path) -> None:
    kept.mkdir()
    (kept / "default.other-20200101-000000.etcd-snapshot").write_bytes(b"another cluster's")
    cluster(harness, to=f"file://{kept}", every="1h", keep=2)
    harness.until(lambda: len(files(kept)) == 2, 600)
    first = files(kept)[0]
    assert first.name.startswith("default.demo-")
    assert first.read_bytes() == CONTENT
    assert first.stat().st_mode & 0o777 == 0o600
    harness.advance(4 * 3600)
    assert not first.exists()
    assert len(files(kept)) == 3
    assert files(kept)[-1].name == "default.other-20200101-000000.etcd-snapshot"
    status = harness.get(Cluster, "demo").status.etcd
    assert status is not None
    assert [s.size for s in status.snapshots] == [len(CONTENT)] * 2
    assert harness.condition(Cluster, "demo", "EtcdSnapshots")[:2] == ("True", "Taken")


def test_one_more_is_taken_for_each_new_token(harness: Harness, kept: Path) -> None:
    cluster(harness, to=f"file://{kept}", every="100h")
    harness.until(lambda: len(files(kept)) == 1, 600)
    for number, token in enumerate(("a", "b"), 2):
        harness.edit(Cluster, "demo", metadata={"annotations": {REQUEST: token}})
        harness.advance(300)
        assert len(files(kept)) == number
        status = harness.get(Cluster, "demo").status.etcd
        assert status is not None
        assert status.request == token


def test_after_a_crash_no_further_one_is_taken_before_it_is_due(harness: Harness, kept: Path) -> None:
    cluster(harness, to=f"file://{kept}", every="100h")
    harness.until(lambda: len(files(kept)) == 1, 600)
    harness.advance(10)
    harness.crash()
    harness.advance(600)
    assert len(files(kept)) == 1


def test_a_store_that_fails_is_told_and_tried_again_and_the_cluster_stays_ready(harness: Harness, kept: Path) -> None:
    kept.write_text("a file, where a directory should be")
    cluster(harness, to=f"file://{kept}")
    harness.until(lambda: harness.condition(Cluster, "demo", "EtcdSnapshots")[:2] == ("False", "NotTaken"), 600)
    assert harness.condition(Cluster, "demo", "Ready")[0] == "True"
    kept.unlink()
    harness.until(lambda: len(files(kept)) == 1, 900)
    harness.until(lambda: harness.condition(Cluster, "demo", "EtcdSnapshots")[0] == "True", 60)


def test_a_place_that_nobody_knows_or_a_secret_that_is_missing_is_a_condition(harness: Harness, kept: Path) -> None:
    cluster(harness, to="ftp://somewhere")
    harness.until(lambda: harness.condition(Cluster, "demo", "EtcdSnapshots")[:2] == ("False", "InvalidSpec"), 600)
    missing = {"snapshots": {"to": f"file://{kept}", "secretRef": {"name": "gone"}}}
    harness.edit(Cluster, "demo", spec={"etcd": missing})
    harness.until(lambda: "default/gone" in harness.condition(Cluster, "demo", "EtcdSnapshots")[2], 600)


def test_asked_for_without_a_place_says_what_to_set(harness: Harness) -> None:
    cluster(harness)
    harness.edit(Cluster, "demo", metadata={"annotations": {REQUEST: "a"}})
    harness.until(lambda: harness.condition(Cluster, "demo", "EtcdSnapshots")[:2] == ("False", "NoStore"), 60)


def test_a_snapshot_that_arrives_broken_is_refused() -> None:
    with pytest.raises(Unknown, match="did not arrive as it was"):
        fetch(lambda script: b"4 0000  x" if script.startswith("wc") else b"abcd", lambda piece: None)
