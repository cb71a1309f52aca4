"""Rules of single kinds, and what all kinds have in common."""

from __future__ import annotations

from typing import Any

import pytest
from kubeup_core.kinds import KINDS, kind_of
from kubeup_core.statuses import Invalid

LONG = {"a": "AAAA" * 400_000}


def refused(api: Any, kind: str, spec: dict[str, Any]) -> list[str]:
    return [cause.field for cause in api.refused(Invalid, api.make, kind, spec=spec).causes]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_every_kind_can_be_told_by_its_model_and_its_names(kind: Any) -> None:
    assert kind_of(kind.model) is kind
    assert kind.model.model_fields["kind"].default == kind.kind
    assert kind.model.model_fields["api_version"].default == kind.api_version
    assert kind.description


@pytest.mark.parametrize(
    "kind", [k for k in KINDS if k.namespaced and not k.builtin and k.kind != "Launch"], ids=lambda k: k.kind
)
def test_every_namespaced_kind_can_be_paused_and_protected(api: Any, kind: Any) -> None:
    spec = api.make(kind.kind)["spec"]
    assert (spec["paused"], spec["protect"]) == (False, False)


@pytest.mark.parametrize(
    ("network", "field"),
    [
        ({"podCIDR": "10.96.0.0/16"}, "spec.network.serviceCIDR"),
        ({"podCIDR": "10.0.0.0/8"}, "spec.network.serviceCIDR"),
        ({"machineCIDR": "10.244.1.0/24"}, "spec.network.machineCIDR"),
        ({"podCIDR": "fd00::/48", "serviceCIDR": "fd00::/112"}, "spec.network.serviceCIDR"),
    ],
)
def test_networks_that_overlap_are_refused(api: Any, network: dict[str, str], field: str) -> None:
    assert refused(api, "Cluster", {"network": network}) == [field]


def test_all_overlaps_are_named(api: Any) -> None:
    error = api.refused(Invalid, api.make, "Cluster", spec={"network": {"machineCIDR": "10.0.0.0/8"}})
    assert len(error.causes) == 2


@pytest.mark.parametrize("cidr", ["10.0.0.0", "10.244.0.1/16", "10.0.0.0/33", "x", "", 5])
def test_a_network_must_be_a_whole_one(api: Any, cidr: Any) -> None:
    fields = refused(api, "Cluster", {"network": {"podCIDR": cidr}})
    assert fields == ["spec.network.podCIDR"]


def test_networks_beside_each_other_and_of_two_families_are_fine(api: Any) -> None:
    api.make("Cluster", spec={"network": {"podCIDR": "fd00::/48", "machineCIDR": "10.112.0.0/12"}})


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({"update": {"maxSurge": 0, "maxUnavailable": "0%"}}, ["spec.update.maxUnavailable"]),
        ({"update": {"maxSurge": "101%"}}, ["spec.update.maxSurge"]),
        ({"repair": {"bootTimeout": "soon"}}, ["spec.repair.bootTimeout"]),
        ({"repair": {"bootTimeout": ""}}, ["spec.repair.bootTimeout"]),
        ({"repair": {"maxUnhealthy": "40 %"}}, ["spec.repair.maxUnhealthy"]),
        ({"taints": [{"key": "a", "effect": "Never"}]}, ["spec.taints[0].effect"]),
    ],
)
def test_a_pool_that_could_not_work_is_refused(api: Any, spec: dict[str, Any], fields: list[str]) -> None:
    assert refused(api, "NodePool", spec) == fields


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({"listeners": []}, ["spec.listeners"]),
        ({"listeners": [{"port": 0}]}, ["spec.listeners[0].port"]),
        ({"listeners": [{"port": 80}, {"port": 80}]}, ["spec.listeners[1]"]),
        ({"members": {"selector": {"a": "b"}, "machines": ["x"]}}, ["spec.members.machines"]),
        ({"allowFrom": ["everywhere"]}, ["spec.allowFrom[0]"]),
    ],
)
def test_a_load_balancer_that_could_not_work_is_refused(api: Any, spec: dict[str, Any], fields: list[str]) -> None:
    assert refused(api, "LoadBalancer", spec) == fields


def test_one_port_may_have_two_protocols(api: Any) -> None:
    api.make("LoadBalancer", spec={"listeners": [{"port": 53}, {"port": 53, "protocol": "UDP"}]})


@pytest.mark.parametrize(
    ("attach", "fields"),
    [
        ({"machine": "a", "pool": "b"}, ["spec.attach"]),
        ({}, ["spec.attach"]),
        ({"pool": "b"}, ["spec.attach.slot"]),
        ({"pool": "b", "slot": -1}, ["spec.attach.slot"]),
    ],
)
def test_a_volume_is_attached_to_one_thing(api: Any, attach: dict[str, Any], fields: list[str]) -> None:
    assert refused(api, "Volume", {"attach": attach}) == fields


def test_a_volume_only_grows(api: Any) -> None:
    api.make("Volume", spec={"size": "10Gi"})
    error = api.refused(Invalid, api.patch, "Volume", "demo", {"spec": {"size": "9Gi"}})
    assert "only grows; it has 10Gi" in error.message
    api.patch("Volume", "demo", {"spec": {"size": "10240Mi"}})
    api.patch("Volume", "demo", {"spec": {"size": "11Gi"}})


def test_credentials_from_a_secret_or_a_profile_name_it(api: Any) -> None:
    assert refused(api, "Provider", {"credentials": {"source": "secret"}}) == ["spec.credentials.secretRef"]
    assert refused(api, "Provider", {"credentials": {"source": "profile"}}) == ["spec.credentials.profile"]


def test_a_launch_never_changes(api: Any) -> None:
    launch = api.obj("Launch")
    launch["spec"] = {
        "cluster": "demo", "clusterUID": "u", "provider": "sim", "identity": "i", "role": "worker", "members": [],
        "offer": {"place": "a", "machineType": "s", "arch": "amd64", "spot": False, "cpu": 2, "memory": 4, "image": "x"},
        "template": {"cpu": 2, "memory": 4, "disk": 20, "arch": "amd64", "image": "x"},
    }  # fmt: skip
    made = api.create(launch)
    assert made["status"]["phase"] == "Open"
    api.patch("Launch", "demo", {"metadata": {"finalizers": ["kubeup.dev/launch"]}})
    error = api.refused(Invalid, api.patch, "Launch", "demo", {"spec": {"provider": "docker"}})
    assert error.causes[0].field == "spec"
    api.patch("Launch", "demo", {"status": {"phase": "Settled"}}, subresource="status")


@pytest.mark.parametrize(("data", "field"), [({"a": "not base64!"}, "data[a]"), ({"a b": ""}, "data[a b]"), (LONG, "data")])
def test_data_of_a_secret_is_base64_under_proper_keys_and_not_too_long(api: Any, data: dict[str, str], field: str) -> None:
    error = api.refused(Invalid, api.create, {**api.obj("Secret"), "data": data})
    assert [c.field for c in error.causes] == [field]


def test_events_and_leases_are_kept_as_they_come(api: Any) -> None:
    event = {**api.obj("Event"), "involvedObject": {"kind": "Machine", "name": "m"}, "reason": "Made", "count": 1}
    assert api.create(event)["involvedObject"] == {"kind": "Machine", "name": "m"}
    lease = {**api.obj("Lease"), "spec": {"holderIdentity": "me", "leaseDurationSeconds": 15,
                                         "renewTime": "2027-01-15T08:00:00.123456Z"}}  # fmt: skip
    made = api.create(lease)
    assert made["spec"]["renewTime"] == "2027-01-15T08:00:00.123456Z"
    made["spec"]["leaseDurationSeconds"] = 0
    api.refused(Invalid, api.update, made)
