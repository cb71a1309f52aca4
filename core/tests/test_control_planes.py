"""Kubernetes clusters from nothing to Ready: endpoint, keys, who begins, whose turn it is; on the simulator, with a workload in memory."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID
from kubeup_core.kinds import Cluster, LoadBalancer, Machine, Secret
from kubeup_core.pki import make_authority
from kubeup_core.statuses import Invalid
from kubeup_core.testing.harness import Crash, Harness
from kubeup_core.testing.rehearsal import NAME, Rehearsal

pytest.importorskip("kubeup_sim", reason="the simulated cloud is the distribution kubeup-sim: pip install kubeup-sim")

PLANE = "demo-control-plane"
DAY = 86400.0


@pytest.fixture
def rehearsal() -> Rehearsal:
    return Rehearsal()


@pytest.fixture
def h(tmp_path: Path, rehearsal: Rehearsal) -> Iterator[Harness]:
    with Harness(tmp_path, plugins=rehearsal.plugins(), cloud={"boot_seconds": (1, 1)}) as harness:
        rehearsal.follow(harness)
        rehearsal.silent(harness)
        harness.provider()
        yield harness
        assert [(item, error) for item, error in [*harness.failed, *harness.manager.failed]] == []


def cluster(h: Harness, planes: int = 1, workers: int = 0, **spec: Any) -> None:
    kubernetes = {"version": "v1.34.1", "bootstrapper": NAME, **spec.pop("kubernetes", {})}
    control_plane = {"replicas": planes, **spec.pop("controlPlane", {})}
    spec = {"provider": "sim", "kubernetes": kubernetes, "controlPlane": control_plane, **spec}
    h.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": spec})
    if workers:
        h.apply({"kind": "NodePool", "metadata": {"name": "web"}, "spec": {"cluster": "demo", "replicas": workers}})


def demo(h: Harness) -> Cluster:
    return h.get(Cluster, "demo")


def ready(h: Harness) -> bool:
    return h.condition(Cluster, "demo", "Ready")[0] == "True"


def up(h: Harness) -> None:
    h.until(lambda: ready(h))


def planes(h: Harness) -> list[Machine]:
    return [m for m in h.machines() if m.spec.role == "controlPlane"]


def secret(h: Harness, what: str) -> dict[str, str]:
    return {k: base64.b64decode(v).decode() for k, v in (h.get(Secret, f"demo-{what}").data or {}).items()}


def put(h: Harness, name: str, **data: str) -> None:
    encoded = {k.replace("_", "."): base64.b64encode(v.encode()).decode() for k, v in data.items()}
    h.apply({"kind": "Secret", "metadata": {"name": name}, "data": encoded})


def joins(h: Harness) -> list[tuple[str, str]]:
    """(machine, step) of every INIT and JOIN of a control plane that was run to its end."""
    return [key for key, times in h.cloud.guest.jobs.runs.items() for _ in range(times) if key[1] in ("init", "join")]


# -- coming up -----------------------------------------------------------------------------------------------------------


def test_one_control_plane_alone_is_a_cluster_whose_endpoint_is_that_machine(h: Harness, rehearsal: Rehearsal) -> None:
    cluster(h)
    up(h)
    status = demo(h).status
    machine = planes(h)[0]
    assert status.endpoint is not None
    assert status.control_plane is not None
    assert status.resolved is not None
    assert status.endpoint.host in {a.address for a in machine.status.addresses}
    assert (status.resolved.load_balancer, status.version, status.control_plane.ready) == ("none", "v1.34.1", 1)
    assert (status.control_plane.first, status.control_plane.initialized) == (machine.name, True)
    assert status.kubeconfig_secret == "demo-kubeconfig"
    assert h.all(LoadBalancer) == []
    assert rehearsal.joined == [machine.name]
    for condition in ("NetworkReady", "EndpointReady", "ControlPlaneReady", "AddonsReady", "Ready"):
        assert h.condition(Cluster, "demo", condition)[0] == "True", condition


def test_three_control_planes_and_two_workers_come_up_behind_a_balancer(h: Harness, rehearsal: Rehearsal) -> None:
    cluster(h, planes=3, workers=2)
    up(h)
    status, balancer = demo(h).status, h.get(LoadBalancer, "demo-api")
    assert status.endpoint is not None
    assert status.endpoint.host == (balancer.status.address or balancer.status.hostname)
    assert balancer.spec.listeners[0].target_port == 6443
    assert len(rehearsal.joined) == 5
    assert rehearsal.joined[0] == demo(h).status.control_plane.first  # type: ignore[union-attr]
    assert sorted(rehearsal.joined) == sorted(m.name for m in h.machines())


def test_control_planes_join_one_at_a_time(h: Harness) -> None:
    h.cloud.guest.jobs.slow["join"] = 20
    cluster(h, planes=3)
    most = 0

    def look() -> bool:
        nonlocal most
        most = max(most, sum(1 for m in planes(h) if m.status.state == "Joining"))
        return ready(h)

    h.until(look)
    assert most == 1
    assert sorted(step for _, step in joins(h)) == ["init", "join", "join"]


def test_every_wait_is_said(h: Harness) -> None:
    said: list[str] = []
    for slow, seconds in {"kubelet": 20, "init": 20, "join": 20}.items():
        h.cloud.guest.jobs.slow[slow] = seconds
    cluster(h, planes=3)

    def look() -> bool:
        _, reason, _ = h.condition(Cluster, "demo", "Ready")
        if reason and (not said or said[-1] != reason):
            said.append(reason)
        return ready(h)

    h.until(look)
    for reason in ("WaitingForMachine", "Initializing", "Joining"):
        assert reason in said
    assert said[-1] == "Ready"


def test_control_planes_run_workloads_only_while_there_is_no_other_pool(h: Harness) -> None:
    from kubeup_core.controllers.plans import cluster_plan

    cluster(h)
    up(h)
    assert cluster_plan(h.manager.env, demo(h)).schedulable is True
    h.apply({"kind": "NodePool", "metadata": {"name": "web"}, "spec": {"cluster": "demo"}})
    h.advance(1)
    assert cluster_plan(h.manager.env, demo(h)).schedulable is False


def test_the_plan_names_what_the_api_may_be_called(h: Harness) -> None:
    from kubeup_core.controllers.plans import cluster_plan

    cluster(h, endpoint={"host": "api.example.org", "loadBalancer": "none"})
    up(h)
    plan = cluster_plan(h.manager.env, demo(h))
    assert plan.host == "api.example.org"
    assert {"api.example.org", "localhost", "127.0.0.1"} <= set(plan.names)
    assert plan.ca == secret(h, "ca")["tls.crt"]
    assert [p.name for p in plan.control_planes] == [planes(h)[0].name]


# -- crashes and losses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strike", range(2, 62, 6))
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_at_any_write_never_makes_two_begin_or_join_at_once(
    h: Harness, rehearsal: Rehearsal, strike: int, when: str
) -> None:
    numbers = itertools.count(1)

    def on_commit(moment: str) -> None:
        if moment == when and next(numbers) == strike:
            raise Crash

    h.cloud.guest.jobs.seconds = 2
    cluster(h, planes=3)
    h.on_commit = on_commit
    try:
        up(h)
    except Crash:
        h.crash()
    up(h)
    assert len(rehearsal.joined) == len(set(rehearsal.joined)) == 3
    assert sorted(step for _, step in joins(h)) == ["init", "join", "join"]


def test_another_one_begins_when_the_first_is_lost_before_it_has(h: Harness, rehearsal: Rehearsal) -> None:
    h.cloud.guest.jobs.slow["init"] = 60
    cluster(h)
    h.until(lambda: h.condition(Cluster, "demo", "Ready")[1] == "Initializing")
    first = planes(h)[0]
    h.delete(Machine, first.name)
    h.until(lambda: any(m.uid != first.uid and not m.deleting for m in planes(h)))
    up(h)
    plane = demo(h).status.control_plane
    assert plane is not None
    assert plane.first_uid != first.uid
    endpoint = demo(h).status.endpoint
    assert endpoint is not None
    assert endpoint.host in {a.address for a in planes(h)[0].status.addresses}


def test_when_the_only_control_plane_is_lost_nobody_begins_again_and_the_way_out_is_said(
    h: Harness, rehearsal: Rehearsal
) -> None:
    cluster(h)
    up(h)
    began = list(rehearsal.joined)
    h.delete(Machine, planes(h)[0].name)
    h.until(lambda: h.condition(Cluster, "demo", "Ready")[1] == "ControlPlaneLost")
    h.advance(600)
    assert rehearsal.joined == began
    message = h.condition(Cluster, "demo", "ControlPlaneReady")[2]
    assert "restore" in message


def test_a_control_plane_that_is_lost_is_replaced_and_joins(h: Harness, rehearsal: Rehearsal) -> None:
    cluster(h, planes=3)
    up(h)
    lost = planes(h)[0]
    h.delete(Machine, lost.name)
    h.until(lambda: lost.uid not in {m.uid for m in planes(h)} and len(planes(h)) == 3 and ready(h))
    assert len(rehearsal.joined) == 4
    assert [step for _, step in joins(h)].count("init") == 1


def test_a_lost_balancer_is_made_anew_and_the_endpoint_stays_what_it_was(h: Harness) -> None:
    cluster(h, planes=3)
    up(h)
    before = demo(h).status.endpoint
    h.workload().fault = "unreachable"
    h.until(lambda: h.condition(Cluster, "demo", "EndpointReady")[0] == "False")
    assert not ready(h)
    assert demo(h).status.endpoint == before
    h.workload().fault = ""
    up(h)


# -- more and fewer ------------------------------------------------------------------------------------------------------


def test_one_control_plane_behind_a_balancer_becomes_three(h: Harness) -> None:
    cluster(h, endpoint={"loadBalancer": "sim"})
    up(h)
    before = demo(h).status.endpoint
    h.edit(Cluster, "demo", spec={"controlPlane": {"replicas": 3}})
    h.until(lambda: len(planes(h)) == 3 and ready(h))
    assert demo(h).status.endpoint == before


def test_three_control_planes_become_one_through_two(h: Harness) -> None:
    cluster(h, planes=3, endpoint={"loadBalancer": "sim"})
    up(h)
    h.edit(Cluster, "demo", spec={"controlPlane": {"replicas": 1}})
    leaving = 0

    def look() -> bool:
        nonlocal leaving
        leaving = max(leaving, sum(1 for m in planes(h) if m.deleting))
        return len(planes(h)) == 1 and ready(h)

    h.until(look)
    assert leaving == 1


# -- keys ----------------------------------------------------------------------------------------------------------------


def test_the_kubeconfig_is_an_admins_signed_by_the_clusters_authority(h: Harness) -> None:
    cluster(h)
    up(h)
    config = yaml.safe_load(secret(h, "kubeconfig")["value"])
    entry, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    endpoint = demo(h).status.endpoint
    assert endpoint is not None
    assert entry["server"] == f"https://{endpoint.host}:{endpoint.port}"
    authority = x509.load_pem_x509_certificate(secret(h, "ca")["tls.crt"].encode())
    assert base64.b64decode(entry["certificate-authority-data"]).decode() == secret(h, "ca")["tls.crt"]
    found = x509.load_pem_x509_certificate(base64.b64decode(user["client-certificate-data"]))
    found.verify_directly_issued_by(authority)
    assert [a.value for a in found.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == ["system:masters"]
    for what in ("ca", "etcd-ca", "front-proxy-ca", "sa", "ssh", "kubeconfig"):
        owners = h.get(Secret, f"demo-{what}").metadata.owner_references or []
        assert [o.uid for o in owners] == [demo(h).uid], what


def test_the_kubeconfig_is_renewed_before_it_ends_and_the_keys_are_never_touched(h: Harness) -> None:
    cluster(h)
    up(h)
    kept = {what: secret(h, what) for what in ("ca", "etcd-ca", "front-proxy-ca", "sa")}
    before = secret(h, "kubeconfig")["value"]
    h.clock.advance(200 * DAY)
    h.advance(700)
    assert secret(h, "kubeconfig")["value"] == before
    h.clock.advance(50 * DAY)
    h.until(lambda: secret(h, "kubeconfig")["value"] != before, 4000)
    assert {what: secret(h, what) for what in kept} == kept
    assert [m for m in h.messages("demo") if m.startswith("KubeconfigRenewed")]


def test_a_deleted_kubeconfig_is_made_again(h: Harness) -> None:
    cluster(h)
    up(h)
    h.delete(Secret, "demo-kubeconfig")
    h.until(lambda: h.find(Secret, "demo-kubeconfig"))
    h.advance(60)
    assert ready(h)


def test_an_authority_of_ones_own_is_used_as_it_is(h: Harness) -> None:
    pair = make_authority("mine", h.clock.wall())
    put(h, "demo-ca", tls_crt=pair.certificate, tls_key=pair.key)
    cluster(h)
    up(h)
    assert secret(h, "ca") == {"tls.crt": pair.certificate, "tls.key": pair.key}
    assert h.get(Secret, "demo-ca").metadata.owner_references in (None, [])


@pytest.mark.parametrize(
    ("certificate", "key", "why"),
    [
        ("nonsense", "nonsense", "not a certificate in PEM"),
        ("good", "nonsense", "not a private key"),
        ("good", "other", "does not belong to"),
        ("old", "old", "ended on"),
    ],
)
def test_a_bad_authority_is_one_clear_condition_and_nothing_is_made(h: Harness, certificate: str, key: str, why: str) -> None:
    now = h.clock.wall()
    pairs = {"good": make_authority("a", now), "other": make_authority("b", now), "old": make_authority("c", now - 4000 * DAY)}
    crt = pairs[certificate].certificate if certificate in pairs else certificate
    put(h, "demo-ca", tls_crt=crt, tls_key=pairs[key].key if key in pairs else key)
    cluster(h, workers=1)
    h.advance(60)
    status, reason, message = h.condition(Cluster, "demo", "Stalled")
    assert (status, reason) == ("True", "CertificatesInvalid")
    assert why in message
    assert "demo-ca" in message
    assert h.machines() == []
    h.delete(Secret, "demo-ca")
    up(h)


def test_certificates_that_end_soon_are_a_condition(h: Harness) -> None:
    pair = make_authority("mine", h.clock.wall() - 3600 * DAY)
    put(h, "demo-ca", tls_crt=pair.certificate, tls_key=pair.key)
    cluster(h)
    up(h)
    status, reason, message = h.condition(Cluster, "demo", "CertificatesExpiring")
    assert (status, reason) == ("True", "EndsSoon")
    assert "demo-ca" in message


# -- what cannot be ------------------------------------------------------------------------------------------------------


def refused(h: Harness, **spec: Any) -> str:
    with pytest.raises(Invalid) as caught:
        h.edit(Cluster, "demo", spec=spec)
    return str(caught.value)


def test_kubernetes_cannot_be_added_or_taken_away(h: Harness) -> None:
    cluster(h)
    assert "spec.kubernetes" in refused(h, kubernetes=None)
    h.apply({"kind": "Cluster", "metadata": {"name": "plain"}, "spec": {"provider": "sim"}})
    with pytest.raises(Invalid):
        h.edit(Cluster, "plain", spec={"kubernetes": {"version": "v1.34.1"}})
