"""Certificates of control planes: read on the machines, told, and renewed one machine at a time before they end."""

from __future__ import annotations

import contextlib

import pytest
from kubeup_core.controllers.control_plane import checked
from kubeup_core.controllers.renewing import REQUEST, read
from kubeup_core.errors import Unknown
from kubeup_core.kinds import Cluster, Machine
from kubeup_core.kinds.cluster import ControlPlaneStatus, MachineCertificates
from kubeup_core.objects import parse_timestamp
from kubeup_core.pki import make_authority
from kubeup_core.testing.harness import Crash, Harness
from kubeup_core.testing.rehearsal import NAME, Rehearsal

pytest.importorskip("kubeup_sim", reason="the simulated cloud is the distribution kubeup-sim: pip install kubeup-sim")

DAY = 86400.0


@pytest.fixture
def harness(rehearsed: Harness) -> Harness:
    rehearsed.provider()
    return rehearsed


@pytest.fixture
def order(harness: Harness) -> list[str]:
    """Hosts on which RENEW was done, in order."""
    done: list[str] = []

    def watch(machine: object, step: object) -> None:
        if step.name == "renew":  # type: ignore[attr-defined]
            done.append(machine.name)  # type: ignore[attr-defined]

    harness.cloud.guest.jobs.watchers.append(watch)
    return done


def up(h: Harness, planes: int = 3, version: str = "v1.34.1") -> None:
    kubernetes = {"version": version, "bootstrapper": NAME}
    spec = {"provider": "sim", "kubernetes": kubernetes, "controlPlane": {"replicas": planes}}
    h.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": spec})
    h.until(lambda: ready(h) and all(r.read for r in state(h).certificates) and len(state(h).certificates) == planes, 1800)


def ready(h: Harness) -> bool:
    cluster = h.get(Cluster, "demo")
    return cluster.status.is_true("Ready") and cluster.status.observed_generation == cluster.metadata.generation


def state(h: Harness) -> ControlPlaneStatus:
    found = h.get(Cluster, "demo").status.control_plane
    assert found is not None
    return found


def ends(h: Harness) -> list[float]:
    """Days that the API server's certificates have left."""
    now = h.clock.wall()
    found = [c.ends for r in state(h).certificates for c in r.certificates if c.name == "apiserver"]
    return [(parse_timestamp(end) - now) / DAY for end in found]


def ask(h: Harness, token: str) -> None:
    h.edit(Cluster, "demo", metadata={"annotations": {REQUEST: token}})


def idle(h: Harness) -> bool:
    renewal = state(h).renewal
    return renewal is not None and not renewal.machine and not renewal.at


def test_what_a_control_plane_made_is_read_there_and_the_first_end_is_told(harness: Harness) -> None:
    up(harness)
    assert [r.machine for r in state(harness).certificates] == [f"demo-control-plane-{n}" for n in range(3)]
    assert all(364 < left <= 365 for left in ends(harness))
    assert harness.condition(Cluster, "demo", "CertificatesExpiring") == ("", "", "")


def test_they_are_renewed_after_two_thirds_of_their_life_one_machine_at_a_time(harness: Harness, order: list[str]) -> None:
    up(harness)
    harness.clock.advance(240 * DAY)
    harness.advance(1500)
    assert order == []
    harness.clock.advance(4 * DAY)
    harness.until(lambda: len(order) == 3 and ready(harness) and min(ends(harness)) > 360, 6000)
    assert len(set(order)) == 3
    assert harness.condition(Cluster, "demo", "CertificatesExpiring") == ("", "", "")
    assert [m for m in harness.messages("demo") if m.startswith("CertificatesRenewed: 3 control planes")]


def test_an_annotation_asks_for_new_ones_once(harness: Harness, order: list[str]) -> None:
    up(harness)
    ask(harness, "one")
    harness.until(lambda: len(order) == 3 and idle(harness) and ready(harness), 3600)
    harness.advance(2 * DAY / 24)
    assert len(order) == 3
    ask(harness, "two")
    harness.until(lambda: len(order) == 6 and idle(harness), 3600)


def test_a_machine_whose_renewal_fails_stops_it_and_nobody_else_is_touched(harness: Harness, order: list[str]) -> None:
    up(harness)
    harness.cloud.guest.jobs.fail("renew", times=4, code=7, output="kubeadm certs renew failed")
    ask(harness, "one")
    harness.until(lambda: harness.condition(Cluster, "demo", "Ready")[1] == "RenewalFailed", 3600)
    message = harness.condition(Cluster, "demo", "Ready")[2]
    assert "exit code 7: kubeadm certs renew failed" in message
    assert order == []
    harness.until(lambda: len(order) == 3 and idle(harness) and ready(harness), 7200)


def test_nothing_is_renewed_while_a_control_plane_is_not_ready(harness: Harness, order: list[str]) -> None:
    up(harness)
    name = "demo-control-plane-1"
    harness.workload("demo").condition(name, "False", "KubeletNotReady")
    harness.until(lambda: not harness.get(Machine, name).status.is_true("Ready"), 600)
    ask(harness, "one")
    harness.advance(120)
    assert order == []
    harness.workload("demo").condition(name, "True", "KubeletReady")
    harness.until(lambda: len(order) == 3 and idle(harness), 3600)


def test_an_upgrade_goes_first_and_leaves_nothing_to_renew(harness: Harness, order: list[str], rehearsal: Rehearsal) -> None:
    up(harness)
    harness.clock.advance(244 * DAY)
    harness.edit(Cluster, "demo", spec={"kubernetes": {"version": "v1.35.0"}})
    harness.until(lambda: ready(harness) and state(harness).version == "v1.35.0" and min(ends(harness)) > 360, 7200)
    assert order == []
    assert {r.version for r in state(harness).certificates} == {"v1.35.0"}


def test_a_crash_at_any_write_goes_on_where_it_was(harness: Harness, order: list[str]) -> None:
    up(harness)
    ask(harness, "one")
    writes = 0

    def crash(moment: str) -> None:
        nonlocal writes
        writes += moment == "before"
        if writes % 3 == 2:
            writes += 1
            raise Crash

    for _ in range(12):
        harness.on_commit = crash
        with contextlib.suppress(Crash):
            harness.advance(60)
        harness.on_commit = None
        harness.crash()
    harness.until(lambda: idle(harness) and ready(harness), 3600)
    assert len(order) == len(set(order)) == 3, "each machine once"


def test_certificates_that_cannot_be_read_are_told_by_their_age(harness: Harness) -> None:
    harness.cloud.guest.on("^rehearsal certificates", lambda machine, script, stdin: (1, b"no such file"))
    kubernetes = {"version": "v1.34.1", "bootstrapper": NAME}
    spec = {"provider": "sim", "kubernetes": kubernetes, "controlPlane": {"replicas": 1}}
    harness.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": spec})
    harness.until(lambda: ready(harness), 1800)
    assert state(harness).certificates == []
    harness.clock.advance(310 * DAY)
    harness.until(lambda: harness.condition(Cluster, "demo", "CertificatesExpiring")[0] == "True", 4000)
    assert "have not been read there yet" in harness.condition(Cluster, "demo", "CertificatesExpiring")[2]


def test_output_that_names_no_certificate_is_not_believed() -> None:
    pem = make_authority("a", 1.8e9).certificate
    assert [(c.name, c.renewed) for c in read(f"certificate front proxy renewed\n{pem}".encode())] == [("front proxy", True)]
    for bad in (
        b"",
        b"certificate apiserver\n",
        b"certificate apiserver renewed\nnonsense",
        f"certificate x other\n{pem}".encode(),
    ):
        with pytest.raises(Unknown):
            read(bad)


def test_reading_certificates_asks_for_no_functional_check_and_renewing_them_does() -> None:
    versions, status = {"uid": "v1.34.1"}, ControlPlaneStatus()
    before = checked(versions, status)
    status.certificates = [MachineCertificates(machine="m", uid="uid", read="2026-01-01T00:00:00Z")]
    assert checked(versions, status) == before
    status.certificates[0].renewed = "2026-01-01T00:00:00Z"
    assert checked(versions, status) != before
