"""etcd out of a snapshot: with all control planes, without a quorum, with none of them; through crashes; and what is refused."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from kubeup_core.controllers.etcd_restore import REQUEST
from kubeup_core.controllers.etcd_snapshots import REQUEST as SNAPSHOT_REQUEST
from kubeup_core.kinds import Cluster, Machine
from kubeup_core.testing.harness import Crash, Harness
from kubeup_core.testing.rehearsal import NAME, Rehearsal

pytest.importorskip("kubeup_sim", reason="the simulated cloud is the distribution kubeup-sim: pip install kubeup-sim")

PLANES = tuple(f"demo-control-plane-{n}" for n in range(3))
SNAPSHOT = "default.demo-20260102-030405.etcd-snapshot"


def written(content: bytes) -> bytes:
    """As etcd writes it: whole blocks, and their digest."""
    content = content.ljust(-(-len(content) // 512) * 512, b".")
    return content + hashlib.sha256(content).digest()


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    folder = tmp_path / "snapshots"
    folder.mkdir()
    (folder / SNAPSHOT).write_bytes(written(b"etcd" * 1024))
    return folder


@pytest.fixture
def harness(rehearsed: Harness, kept: Path) -> Harness:
    """Cluster demo with three control planes and a worker that are Ready."""
    rehearsed.cloud.guest.on("^true$", lambda machine, script, stdin: (0, b""))
    rehearsed.provider()
    kubernetes = {"version": "v1.34.1", "bootstrapper": NAME}
    snapshots = {"to": f"file://{kept}", "every": "99999h"}
    spec = {"provider": "sim", "kubernetes": kubernetes, "controlPlane": {"replicas": 3}, "etcd": {"snapshots": snapshots}}
    rehearsed.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": spec})
    rehearsed.apply({"kind": "NodePool", "metadata": {"name": "web"}, "spec": {"cluster": "demo", "replicas": 1}})
    rehearsed.until(lambda: ready(rehearsed), 1800)
    return rehearsed


def ready(h: Harness) -> bool:
    return h.get(Cluster, "demo").status.is_true("Ready")


def ask(h: Harness, name: str = SNAPSHOT, token: str = "t1") -> None:
    h.edit(Cluster, "demo", metadata={"annotations": {REQUEST: f"{name} {token}"}})


def restore(h: Harness) -> dict[str, str]:
    state = h.get(Cluster, "demo").status.control_plane
    return state.restore.to_dict() if state is not None and state.restore is not None else {}


def planes(h: Harness) -> list[Machine]:
    return [m for m in h.machines() if m.spec.role == "controlPlane"]


def whole(h: Harness, rehearsal: Rehearsal, former: set[str], survivors: int) -> None:
    """Three members, all others than before but so many, the worker still there."""
    h.until(lambda: restore(h).get("done") and ready(h) and len(rehearsal.etcd) == 3, 7200)
    assert sorted(rehearsal.etcd) == sorted(m.name for m in planes(h))
    assert len({m.uid for m in planes(h)} & former) == survivors
    assert restored(h) == 1
    assert any(message.startswith("EtcdRestored: ") for message in h.messages("demo"))


def restored(h: Harness) -> int:
    return sum(n for (_, step), n in h.cloud.guest.jobs.runs.items() if step == "restore")


def lose(h: Harness, *names: str) -> None:
    for name in names:
        h.cloud.console.kill(h.get(Machine, name).status.id)
    h.workload("demo").fault = "unreachable"


def test_the_machine_that_gets_it_is_alone_when_it_does_and_the_others_join_it_anew(
    harness: Harness, rehearsal: Rehearsal
) -> None:
    former = {m.uid for m in planes(harness)}
    worker = next(m for m in harness.machines() if m.spec.role == "worker").uid
    beside: list[int] = []

    def watch(machine: object, step: object) -> None:
        if step.name == "restore":  # type: ignore[attr-defined]
            beside.append(sum(m.uid in former for m in planes(harness)))

    harness.cloud.guest.jobs.watchers.append(watch)
    ask(harness)
    whole(harness, rehearsal, former, 1)
    assert beside == [1]
    assert worker in {m.uid for m in harness.machines()}


def test_without_a_quorum_the_one_that_is_left_gets_it(harness: Harness, rehearsal: Rehearsal) -> None:
    former = {m.uid for m in planes(harness)}
    lose(harness, *PLANES[:2])
    harness.advance(600)
    assert not ready(harness)
    ask(harness)
    whole(harness, rehearsal, former, 1)


def test_one_that_is_gone_and_not_missed_yet_is_not_chosen(harness: Harness, rehearsal: Rehearsal) -> None:
    """All others are deleted for the sake of the one that is chosen."""
    former = {m.uid for m in planes(harness)}
    lose(harness, *PLANES[:2])
    ask(harness)
    whole(harness, rehearsal, former, 1)


def test_when_all_are_lost_a_new_one_begins_with_the_same_keys_and_gets_it(harness: Harness, rehearsal: Rehearsal) -> None:
    former, endpoint = {m.uid for m in planes(harness)}, harness.get(Cluster, "demo").status.endpoint
    lose(harness, *PLANES)
    harness.until(lambda: "kubeup etcd restore demo" in harness.condition(Cluster, "demo", "ControlPlaneReady")[2], 3600)
    ask(harness)
    whole(harness, rehearsal, former, 0)
    assert harness.get(Cluster, "demo").status.endpoint == endpoint


def test_one_that_is_lost_while_it_gets_it_is_followed_by_another(harness: Harness, rehearsal: Rehearsal) -> None:
    ask(harness)
    harness.until(lambda: restore(harness).get("machine"), 60)
    chosen = next(m for m in planes(harness) if m.uid == restore(harness)["machine"])
    lose(harness, chosen.name)
    harness.until(lambda: restore(harness).get("done") and ready(harness), 7200)
    assert len(rehearsal.etcd) == 3


def test_a_crash_at_any_write_goes_on_where_it_was(harness: Harness, rehearsal: Rehearsal) -> None:
    former, writes = {m.uid for m in planes(harness)}, 0

    def crash(moment: str) -> None:
        nonlocal writes
        writes += moment == "before"
        if writes % 4 == 3:
            writes += 1
            raise Crash

    ask(harness)
    for _ in range(15):
        harness.on_commit = crash
        with contextlib.suppress(Crash):
            harness.advance(60)
        harness.on_commit = None
        harness.crash()
    whole(harness, rehearsal, former, 1)


def test_a_step_that_fails_is_shown_and_another_snapshot_may_be_tried(
    harness: Harness, rehearsal: Rehearsal, kept: Path
) -> None:
    older = SNAPSHOT.replace("0102", "0101")
    (kept / older).write_bytes(written(b"older"))
    harness.cloud.guest.jobs.fail("restore", times=3, code=1, output="hash mismatch\n")
    ask(harness)
    harness.until(lambda: "hash mismatch" in harness.condition(Cluster, "demo", "ControlPlaneReady")[2], 7200)
    harness.until(lambda: harness.condition(Cluster, "demo", "ControlPlaneReady")[1] == "RestoreFailed", 3600)
    ask(harness, older, "t2")
    harness.until(lambda: restore(harness).get("done") and ready(harness), 7200)
    assert restore(harness)["snapshot"] == older


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("default.demo-20990101-000000.etcd-snapshot", "there is no snapshot"),
        ("default.other-20260102-030405.etcd-snapshot", "no snapshot of this cluster"),
        ("../../etc/passwd", "no snapshot of this cluster"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(harness: Harness, name: str, why: str) -> None:
    before = {m.uid for m in harness.machines()}
    ask(harness, name)
    harness.until(lambda: why in restore(harness).get("refused", ""), 60)
    harness.advance(600)
    assert {m.uid for m in harness.machines()} == before
    assert ready(harness)
    assert restored(harness) == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:1024],
        lambda whole: whole[:-32],
        lambda whole: b"x" + whole[1:],
        lambda whole: whole[:32],
        lambda whole: b"",
    ],
    ids=["cut short", "without its digest", "changed", "as long as a digest", "empty"],
)
def test_a_damaged_snapshot_is_refused_before_any_machine_is_given_up(
    harness: Harness, kept: Path, damage: Callable[[bytes], bytes]
) -> None:
    before = {m.uid for m in harness.machines()}
    (kept / SNAPSHOT).write_bytes(damage((kept / SNAPSHOT).read_bytes()))
    ask(harness)
    harness.until(lambda: f"{SNAPSHOT} is damaged" in restore(harness).get("refused", ""), 60)
    harness.advance(600)
    assert {m.uid for m in harness.machines()} == before
    assert (ready(harness), restored(harness)) == (True, 0)


def test_without_a_place_for_snapshots_it_is_refused(harness: Harness) -> None:
    harness.edit(Cluster, "demo", spec={"etcd": {"snapshots": {"to": None}}})
    ask(harness)
    harness.until(lambda: "spec.etcd.snapshots.to" in restore(harness).get("refused", ""), 60)
    assert ready(harness)


def test_the_same_request_is_met_once(harness: Harness, rehearsal: Rehearsal) -> None:
    former = {m.uid for m in planes(harness)}
    ask(harness)
    whole(harness, rehearsal, former, 1)
    harness.crash()
    harness.advance(1200)
    assert restored(harness) == 1


def test_an_external_etcd_is_neither_restored_nor_snapshotted(harness: Harness, rehearsal: Rehearsal) -> None:
    rehearsal.external = True
    former = {m.uid for m in planes(harness)}
    ask(harness)
    harness.until(lambda: restore(harness).get("refused"), 600)
    assert "external" in restore(harness)["refused"]
    assert {m.uid for m in planes(harness) if not m.deleting} == former
    harness.edit(Cluster, "demo", metadata={"annotations": {SNAPSHOT_REQUEST: "t1"}})
    harness.until(lambda: harness.condition(Cluster, "demo", "EtcdSnapshots")[1] == "InvalidSpec", 600)
    assert not any(step == "snapshot" for _, step in harness.cloud.guest.jobs.runs)


@pytest.mark.parametrize("way", ["deleted", "killed"])
def test_no_fetched_snapshot_stays_on_kubeups_machine(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    harness.cloud.guest.jobs.fail("restore", times=99)
    ask(harness)
    harness.until(lambda: harness.condition(Cluster, "demo", "Ready")[1] == "RestoreFailed", 3600)
    folders = set((tmp_path / "tmp").glob("kubeup-restore-*"))
    assert len(folders) == 1
    if way == "deleted":
        harness.delete(Cluster, "demo")
        harness.advance(5)
    else:
        harness.crash()
        harness.step()
    assert not folders & set((tmp_path / "tmp").glob("kubeup-restore-*"))
