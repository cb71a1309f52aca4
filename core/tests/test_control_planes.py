"""Kubernetes clusters from nothing to Ready and to their end, on the simulator: endpoint, keys, who begins, whose turn it is."""

from __future__ import annotations

import base64
import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID
from kubeup_core.controllers.control_plane import resolve
from kubeup_core.controllers.plans import cluster_plan
from kubeup_core.controllers.troubles import Trouble
from kubeup_core.errors import InvalidSpec
from kubeup_core.kinds import Cluster, LoadBalancer, Machine, Secret
from kubeup_core.kinds.cluster import ClusterStatus
from kubeup_core.pki import make_authority
from kubeup_core.statuses import Invalid
from kubeup_core.supplier import Problem
from kubeup_core.testing.harness import Crash, Harness
from kubeup_core.testing.rehearsal import NAME, Rehearsal

pytest.importorskip("kubeup_sim", reason="the simulated cloud is the distribution kubeup-sim: pip install kubeup-sim")

PLANE = "demo-control-plane"
DAY = 86400.0


@pytest.fixture
def h(rehearsed: Harness) -> Harness:
    rehearsed.provider()
    return rehearsed


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
    assert balancer.spec.health is not None
    assert (balancer.spec.health.protocol, balancer.spec.health.path) == ("HTTPS", "/readyz")
    assert status.endpoint is not None
    assert status.endpoint.host == (balancer.status.address or balancer.status.hostname)
    assert balancer.spec.listeners[0].target_port == 6443
    assert len(rehearsal.joined) == 5
    assert rehearsal.joined[0] == demo(h).status.control_plane.first  # type: ignore[union-attr]
    assert sorted(rehearsal.joined) == sorted(m.name for m in h.machines())


def test_an_endpoint_that_somebody_deleted_and_that_came_back_elsewhere_is_said(h: Harness) -> None:
    cluster(h, planes=3)
    up(h)
    known = demo(h).status.endpoint
    assert known is not None
    h.delete(LoadBalancer, "demo-api")
    h.until(lambda: h.condition(Cluster, "demo", "EndpointReady")[1] == "EndpointMoved")
    assert f"know {known.host}" in h.condition(Cluster, "demo", "EndpointReady")[2]
    assert demo(h).status.endpoint == known


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
    cluster(h)
    up(h)
    assert cluster_plan(h.manager.env, demo(h)).schedulable is True
    h.apply({"kind": "NodePool", "metadata": {"name": "web"}, "spec": {"cluster": "demo"}})
    h.advance(1)
    assert cluster_plan(h.manager.env, demo(h)).schedulable is False


def test_the_plan_names_what_the_api_may_be_called(h: Harness) -> None:
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
    assert "create it anew" in message


def test_a_control_plane_that_is_lost_is_replaced_and_joins(h: Harness, rehearsal: Rehearsal) -> None:
    cluster(h, planes=3)
    up(h)
    lost = planes(h)[0]
    h.delete(Machine, lost.name)
    h.until(lambda: lost.uid not in {m.uid for m in planes(h)} and len(planes(h)) == 3 and ready(h))
    assert len(rehearsal.joined) == 4
    assert [step for _, step in joins(h)].count("init") == 1


def test_two_of_three_control_planes_that_a_person_deletes_at_once_are_replaced(h: Harness) -> None:
    cluster(h, planes=3)
    up(h)
    gone = planes(h)[:2]
    for machine in gone:
        h.delete(Machine, machine.name)
    h.until(lambda: {m.uid for m in gone}.isdisjoint(m.uid for m in planes(h)) and len(planes(h)) == 3 and ready(h), 7200)
    assert [step for _, step in joins(h)].count("init") == 1


def test_an_api_that_does_not_answer_is_said_and_the_endpoint_stays_what_it_was(h: Harness) -> None:
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


def test_a_changed_template_replaces_control_planes_one_after_another_and_the_workload_never_notices(h: Harness) -> None:
    cluster(h, planes=3)
    up(h)
    before = {m.uid for m in planes(h)}
    h.edit(Cluster, "demo", spec={"controlPlane": {"machine": {"memory": "8Gi"}}})
    fewest = 3

    def look() -> bool:
        nonlocal fewest
        fewest = min(fewest, sum(1 for m in planes(h) if m.status.is_true("Ready")))
        return before.isdisjoint(m.uid for m in planes(h)) and len(planes(h)) == 3 and ready(h)

    h.until(look, 7200)
    assert fewest >= 2
    assert [step for _, step in joins(h)].count("init") == 1


def test_a_control_plane_whose_address_is_the_endpoint_is_not_replaced_for_a_changed_template(h: Harness) -> None:
    cluster(h)
    up(h)
    before = planes(h)[0].uid
    h.edit(Cluster, "demo", spec={"controlPlane": {"machine": {"memory": "8Gi"}}})
    h.advance(600)
    assert [m.uid for m in planes(h)] == [before]


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
    pair = make_authority("mine", h.clock.wall() - 3620 * DAY)
    put(h, "demo-ca", tls_crt=pair.certificate, tls_key=pair.key)
    cluster(h)
    up(h)
    status, reason, message = h.condition(Cluster, "demo", "CertificatesExpiring")
    assert (status, reason) == ("True", "EndsSoon")
    assert "demo-ca" in message


# -- what cannot be ------------------------------------------------------------------------------------------------------


def refused(h: Harness, name: str = "demo", **spec: Any) -> str:
    with pytest.raises(Invalid) as caught:
        h.edit(Cluster, name, spec=spec)
    return str(caught.value)


def test_kubernetes_cannot_be_added_or_taken_away(h: Harness) -> None:
    cluster(h)
    assert "spec.kubernetes" in refused(h, kubernetes=None)
    h.apply({"kind": "Cluster", "metadata": {"name": "plain"}, "spec": {"provider": "sim"}})
    assert "spec.kubernetes" in refused(h, "plain", kubernetes={"version": "v1.34.1"})


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"endpoint": {"host": "api.example.org"}}, "spec.endpoint.host"),
        ({"endpoint": {"port": 443}}, "spec.endpoint.port"),
        ({"endpoint": {"loadBalancer": "sim"}}, "spec.endpoint.loadBalancer"),
        ({"network": {"cni": "flannel"}}, "spec.network.cni"),
        ({"kubernetes": {"bootstrapper": "other"}}, "spec.kubernetes.bootstrapper"),
        ({"controlPlane": {"replicas": 3}}, "spec.controlPlane.replicas"),
    ],
)
def test_what_the_machines_were_made_with_stays(h: Harness, spec: dict[str, Any], field: str) -> None:
    cluster(h)
    up(h)
    assert field in refused(h, **spec)


@pytest.mark.parametrize("host", ["https://api.example.org", "api.example.org:6443", "10.0.0.300", "api_1", ""])
def test_an_endpoint_that_is_no_host_is_refused(h: Harness, host: str) -> None:
    with pytest.raises(Invalid, match=r"spec\.endpoint\.host"):
        cluster(h, endpoint={"host": host})


def test_three_control_planes_need_something_in_front_of_them(h: Harness) -> None:
    with pytest.raises(Invalid, match=r"spec\.endpoint\.loadBalancer"):
        cluster(h, planes=3, endpoint={"loadBalancer": "none"})


def test_a_pool_of_control_planes_is_not_a_persons_to_make(h: Harness) -> None:
    cluster(h)
    with pytest.raises(Invalid, match=r"spec\.controlPlane\.replicas of the Cluster"):
        h.apply({"kind": "NodePool", "metadata": {"name": "mine"}, "spec": {"cluster": "demo", "role": "controlPlane"}})


def test_what_the_bootstrapper_cannot_do_is_a_condition_and_nothing_is_made(
    h: Harness, rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = Problem(path="spec.kubernetes.version", message="v1.34.1 is not known", remedy="use v1.20.2")
    monkeypatch.setattr(rehearsal, "check", lambda plan: [problem])
    cluster(h, workers=2)
    h.advance(60)
    assert h.condition(Cluster, "demo", "Stalled") == (
        "True",
        "InvalidSpec",
        "spec.kubernetes.version: v1.34.1 is not known (use v1.20.2)",
    )
    assert h.machines() == []


def test_without_anybody_to_supply_its_balancer_nothing_is_made(h: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Trouble(reason="NotOffered", message="Provider sim has no load balancers; install one", stalled=True)
    monkeypatch.setattr("kubeup_core.controllers.endpoint.default_balancer_provider", lambda env, cluster: missing)
    cluster(h, planes=3, workers=1)
    h.advance(60)
    status, reason, message = h.condition(Cluster, "demo", "Stalled")
    assert (status, reason) == ("True", "NotOffered")
    assert "spec.endpoint.loadBalancer" in message
    assert h.machines() == []
    monkeypatch.undo()
    up(h)


def test_a_downgrade_is_a_condition(h: Harness, rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster(h)
    up(h)

    def hops(have: str, want: str) -> list[str]:
        raise InvalidSpec(f"{have} cannot become {want}", path="spec.kubernetes.version", remedy="set it back")

    monkeypatch.setattr(rehearsal, "hops", hops)
    h.edit(Cluster, "demo", spec={"kubernetes": {"version": "v1.33.0"}})
    h.advance(5)
    assert h.condition(Cluster, "demo", "Stalled")[2] == "spec.kubernetes: v1.34.1 cannot become v1.33.0; set it back"


def test_an_object_that_has_a_name_that_the_cluster_needs_is_said(h: Harness) -> None:
    spec = {"cluster": "other", "provider": "sim", "listeners": [{"port": 80}]}
    h.apply({"kind": "LoadBalancer", "metadata": {"name": "demo-api"}, "spec": spec})
    cluster(h, planes=3)
    h.advance(30)
    status, reason, message = h.condition(Cluster, "demo", "EndpointReady")
    assert (status, reason) == ("False", "EndpointTaken")
    assert "rename one of the two" in message


# -- balancers through which a machine does not reach itself -------------------------------------------------------------


def test_a_control_plane_joins_through_another_one_where_it_does_not_reach_itself(h: Harness) -> None:
    h.cloud.configure({"self_reach": False})
    cluster(h, planes=3)
    up(h)
    env, _first, other = h.manager.env, *planes(h)[:2]
    plan = cluster_plan(env, demo(h), other)
    assert plan.host == demo(h).status.endpoint.host  # type: ignore[union-attr]
    unjoined = other.model_copy(deep=True)
    unjoined.status.conditions, unjoined.metadata.uid = [], "another"
    plan = cluster_plan(env, demo(h), unjoined)
    assert (plan.host, plan.port) == (plan.control_planes[0].address, 6443)
    assert demo(h).status.endpoint.host in plan.names  # type: ignore[union-attr]
    unjoined.spec.role = "worker"
    assert cluster_plan(env, demo(h), unjoined).host == demo(h).status.endpoint.host  # type: ignore[union-attr]


# -- the end -------------------------------------------------------------------------------------------------------------


def test_a_cluster_that_goes_leaves_nothing(h: Harness) -> None:
    cluster(h, planes=3, workers=2)
    up(h)
    h.delete(Cluster, "demo")
    h.until(lambda: h.find(Cluster, "demo") is None)
    assert [line for line in h.cloud.console.everything() if line.kind != "Image"] == []
    assert [s.name for s in h.all(Secret) if s.name.startswith("demo-")] == []
    assert [m for m in h.messages(planes_name(0)) if m.startswith("Drain")] == []


def test_what_the_workload_made_at_the_provider_goes_first(h: Harness) -> None:
    cluster(h)
    up(h)
    made_by_the_workload(h)
    h.delete(Cluster, "demo")
    h.until(lambda: h.condition(Cluster, "demo", "Ready")[1] == "DeletingWorkloadResources")
    message = h.condition(Cluster, "demo", "Ready")[2]
    assert "PersistentVolume disk" in message
    assert planes(h)[0].deleting is False
    h.until(lambda: "DELETE /api/v1/namespaces/default/persistentvolumeclaims/data" in h.workload().requests)
    assert "DELETE /api/v1/namespaces/default/services/web" in h.workload().requests
    assert "DELETE /api/v1/namespaces/default/services/inner" not in h.workload().requests
    h.workload().request("DELETE", "/api/v1/persistentvolumes/disk")  # its provisioner has
    h.until(lambda: h.find(Cluster, "demo") is None)


def test_what_the_workload_made_stays_where_that_is_wanted_or_nobody_answers(h: Harness) -> None:
    keep = {"workloadLoadBalancers": "Retain", "workloadVolumes": "Retain"}
    cluster(h, onDelete=keep)
    up(h)
    made_by_the_workload(h)
    h.delete(Cluster, "demo")
    h.until(lambda: h.find(Cluster, "demo") is None)
    assert [r for r in h.workload().requests if "services/web" in r or "claims/data" in r] == []


def test_a_workload_that_does_not_answer_holds_up_no_deletion(h: Harness) -> None:
    cluster(h)
    up(h)
    made_by_the_workload(h)
    h.workload().fault = "unreachable"
    h.until(lambda: h.condition(Cluster, "demo", "EndpointReady")[0] == "False")
    h.delete(Cluster, "demo")
    h.until(lambda: h.find(Cluster, "demo") is None)
    assert [m for m in h.messages("demo") if m.startswith("WorkloadResourcesLeft")]


def planes_name(number: int) -> str:
    return f"{PLANE}-{number}"


def made_by_the_workload(h: Harness) -> None:
    post = h.workload().request
    services = "/api/v1/namespaces/default/services"
    post("POST", services, body={"metadata": {"name": "web"}, "spec": {"type": "LoadBalancer"}})
    post("POST", services, body={"metadata": {"name": "inner"}, "spec": {"type": "ClusterIP"}})
    claim = {"metadata": {"name": "data"}, "spec": {}}
    post("POST", "/api/v1/namespaces/default/persistentvolumeclaims", body=claim)
    spec = {"claimRef": {"namespace": "default", "name": "data"}, "persistentVolumeReclaimPolicy": "Delete"}
    metadata = {"name": "disk", "annotations": {"pv.kubernetes.io/provisioned-by": "disks.example.org"}}
    post("POST", "/api/v1/persistentvolumes", body={"metadata": metadata, "spec": spec})
    h.workload().requests.clear()


# -- the pod network -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "networks", "decided"),
    [
        ("auto", [("a", True)], "bridge"),
        ("auto", [("a", False)], "flannel"),
        ("auto", [("a", True), ("b", True)], "flannel"),
        ("auto", [], "bridge"),
        ("auto", [("", False)], None),
        ("bridge", [("a", True)], "bridge"),
        ("bridge", [("", False)], None),
        ("flannel", [("a", True)], "flannel"),
        ("none", [("", False)], "none"),
    ],
)
def test_routes_are_chosen_on_one_flat_network_and_an_overlay_elsewhere(
    wish: str, networks: list[tuple[str, bool]], decided: str | None
) -> None:
    declared, status = pod_network(wish, networks)
    assert resolve(declared, status) is None
    assert status.resolved is not None
    assert status.resolved.cni == decided


@pytest.mark.parametrize("networks", [[("a", False)], [("a", True), ("b", True)]])
def test_routes_that_were_asked_for_are_refused_where_machines_are_not_on_one_flat_network(
    networks: list[tuple[str, bool]],
) -> None:
    declared, status = pod_network("bridge", networks)
    found = resolve(declared, status)
    assert found is not None
    assert (found.reason, found.stalled) == ("NetworkNotFlat", True)
    assert status.resolved is not None
    assert status.resolved.cni is None
    status.resolved.cni = "bridge"
    assert resolve(declared, status) is None, "what a cluster was made with stays"


def test_routes_over_two_flat_networks_are_taken_on_the_word_that_they_are_neighbours() -> None:
    declared, status = pod_network("bridge", [("a", True), ("b", True)], routed=True)
    assert resolve(declared, status) is None
    assert status.resolved is not None
    assert status.resolved.cni == "bridge"
    declared, status = pod_network("bridge", [("a", True), ("b", False)], routed=True)
    assert resolve(declared, status) is not None


def test_a_cluster_that_asks_for_routes_where_there_are_none_says_so_and_makes_no_machine(
    tmp_path: Path, rehearsal: Rehearsal
) -> None:
    with Harness(tmp_path, plugins=rehearsal.plugins(), cloud={"boot_seconds": (1, 1), "flat": False}) as h:
        h.provider()
        cluster(h, network={"cni": "bridge"})
        h.until(lambda: h.condition(Cluster, "demo", "KubernetesValid")[:2] == ("False", "NetworkNotFlat"), 600)
        assert h.machines() == []
        h.edit(Cluster, "demo", spec={"network": {"cni": "auto"}})
        h.until(lambda: h.condition(Cluster, "demo", "KubernetesValid")[0] == "True", 600)
        resolved = demo(h).status.resolved
        assert resolved is not None
        assert resolved.cni == "flannel"


def pod_network(wish: str, networks: list[tuple[str, bool]], routed: bool = False) -> tuple[Cluster, ClusterStatus]:
    kubernetes = {"version": "v1.34.1", "bootstrapper": NAME}
    spec = {"provider": "sim", "kubernetes": kubernetes, "network": {"cni": wish, "routed": routed}}
    declared = Cluster.model_validate({"metadata": {"name": "demo"}, "spec": spec})
    records = [
        {"provider": f"p{i}", "id": "n", "state": "Running", "fabric": fabric, "flat": flat}
        for i, (fabric, flat) in enumerate(networks)
    ]
    return declared, ClusterStatus.model_validate({"networks": records})
