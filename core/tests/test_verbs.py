"""Create, read, update and delete, with the metadata, the generations and the versions of Kubernetes."""

from __future__ import annotations

import re
import threading
from typing import Any

import orjson
import pytest
from kubeup_core.kinds import Machine, NodePool
from kubeup_core.statuses import AlreadyExists, BadRequest, Conflict, Forbidden, Invalid, NotFound
from kubeup_core.store import RV_SLOT
from kubeup_core.verbs import Actor, Options


def test_create_sets_what_the_server_owns_and_ignores_what_the_client_sent(api: Any) -> None:
    body = api.obj("Cluster", uid="mine", generation=7, creationTimestamp="2001-01-01T00:00:00Z", selfLink="/x")
    body["status"] = {"version": "v9"}
    made = api.create(body)
    meta = made["metadata"]
    assert re.fullmatch(r"[0-9a-f-]{36}", meta["uid"])
    assert (meta["generation"], meta["creationTimestamp"], meta["namespace"]) == (1, "2027-01-15T08:00:00Z", "default")
    assert "selfLink" not in meta
    assert "version" not in made["status"]
    assert meta["resourceVersion"] == str(api.store.rv())


def test_a_new_object_has_the_default_status_of_its_kind(api: Any) -> None:
    assert api.make("Machine")["status"]["state"] == "Pending"


def test_defaults_are_stored(api: Any) -> None:
    made = api.make("NodePool")
    assert made["spec"]["replicas"] == 1
    assert api.get("NodePool", "demo")["spec"]["update"] == {
        "strategy": "Replace", "upgrade": "InPlace", "maxSurge": "auto", "maxUnavailable": "auto",
    }  # fmt: skip


def test_null_means_the_default_or_nothing(api: Any) -> None:
    made = api.make("NodePool", spec={"replicas": None, "provider": None})
    assert made["spec"]["replicas"] == 1
    assert "provider" not in made["spec"]


def test_generate_name_makes_a_name_with_five_more_characters(api: Any) -> None:
    body = api.obj("Cluster")
    body["metadata"] = {"generateName": "demo-"}
    assert re.fullmatch(r"demo-[bcdfghjklmnpqrstvwxz2456789]{5}", api.create(body)["metadata"]["name"])


def test_creating_an_existing_name_is_a_conflict_also_as_a_dry_run(api: Any) -> None:
    api.make("Cluster")
    error = api.refused(AlreadyExists, api.make, "Cluster")
    assert error.message == 'clusters.kubeup.dev "demo" already exists'
    assert (error.name, error.group, error.kind) == ("demo", "kubeup.dev", "clusters")
    api.refused(AlreadyExists, api.create, api.obj("Cluster"), dry_run=True)


def test_a_missing_object_is_named_with_its_resource(api: Any) -> None:
    error = api.refused(NotFound, api.get, "Machine", "x")
    assert error.message == 'machines.kubeup.dev "x" not found'
    assert api.refused(NotFound, api.get, "Secret", "x").message == 'secrets "x" not found'


def test_generation_counts_changes_of_the_spec_only(api: Any) -> None:
    api.make("NodePool")
    assert api.patch("NodePool", "demo", {"metadata": {"labels": {"a": "b"}}})["metadata"]["generation"] == 1
    assert api.patch("NodePool", "demo", {"spec": {"replicas": 3}})["metadata"]["generation"] == 2
    assert api.patch("NodePool", "demo", {"status": {"ready": 1}}, subresource="status")["metadata"]["generation"] == 2


def test_secrets_have_no_generation(api: Any) -> None:
    assert "generation" not in api.create(api.obj("Secret"))["metadata"]


def test_a_main_write_leaves_the_status_alone(api: Any) -> None:
    made = api.make("Machine")
    made["status"]["state"] = "Ready"
    made["spec"]["paused"] = True
    after = api.update(made)
    assert after["status"]["state"] == "Pending"
    assert after["spec"]["paused"] is True


def test_a_status_write_changes_the_status_only(api: Any) -> None:
    made = api.make("Machine")
    made["status"]["state"] = "Running"
    made["spec"]["paused"] = True
    made["metadata"]["labels"] = {"a": "b"}
    after = api.update(made, subresource="status")
    assert after["status"]["state"] == "Running"
    assert after["spec"]["paused"] is False
    assert "labels" not in after["metadata"]


def test_a_write_that_changes_nothing_writes_nothing(api: Any) -> None:
    made = api.make("Machine", labels={"a": "b", "c": "d"})
    rv = api.store.rv()
    assert api.update(made)["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    api.update(made, subresource="status")
    api.patch("Machine", "demo", {"spec": {"paused": False}, "metadata": {"labels": {"c": "d"}}})
    made["metadata"]["labels"] = {"c": "d", "a": "b"}
    api.update(made)
    assert api.store.rv() == rv


def test_one_and_true_are_two_values_in_a_free_form_field(api: Any) -> None:
    made = api.make("Provider", spec={"config": {"deep": {"a": 1}}})
    made["spec"]["config"]["deep"]["a"] = True
    after = api.update(made)
    assert after["spec"]["config"] == {"deep": {"a": True}}
    assert after["metadata"]["generation"] == 2


def test_a_stale_put_is_refused_even_when_nothing_would_change(api: Any) -> None:
    made = api.make("NodePool")
    api.patch("NodePool", "demo", {"spec": {"replicas": 2}})
    made["spec"]["replicas"] = 2
    error = api.refused(Conflict, api.update, made)
    assert error.message == (
        'Operation cannot be fulfilled on nodepools.kubeup.dev "demo": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )


def test_a_put_without_resource_version_is_refused_but_for_secrets_and_namespaces(api: Any) -> None:
    made = api.make("NodePool")
    del made["metadata"]["resourceVersion"]
    error = api.refused(Invalid, api.update, made)
    assert error.causes[0].field == "metadata.resourceVersion"
    secret = api.create(api.obj("Secret"))
    del secret["metadata"]["resourceVersion"]
    secret["data"] = {"a": "Yg=="}
    assert api.update(secret)["data"] == {"a": "Yg=="}


def test_a_patch_with_a_stale_resource_version_is_refused(api: Any) -> None:
    made = api.make("NodePool")
    api.patch("NodePool", "demo", {"spec": {"replicas": 2}})
    stale = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "spec": {"replicas": 3}}
    api.refused(Conflict, api.patch, "NodePool", "demo", stale)


def test_another_uid_is_a_conflict(api: Any) -> None:
    made = api.make("NodePool")
    made["metadata"]["uid"] = "other"
    api.refused(Conflict, api.update, made)


def test_patches_without_a_version_all_land_when_many_write_at_once(api: Any) -> None:
    api.make("NodePool")

    def write(i: int) -> None:
        api.patch("NodePool", "demo", {"metadata": {"labels": {f"l{i}": "x"}}})

    threads = [threading.Thread(target=write, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(api.get("NodePool", "demo")["metadata"]["labels"]) == 16


def test_a_dry_run_answers_and_stores_nothing(api: Any) -> None:
    rv = api.store.rv()
    made = api.create(api.obj("Cluster"), dry_run=True)
    assert made["metadata"]["uid"]
    assert "resourceVersion" not in made["metadata"]
    assert api.store.rv() == rv
    real = api.make("NodePool")
    real["spec"]["replicas"] = 9
    assert api.update(real, dry_run=True)["metadata"]["generation"] == 2
    api.delete("NodePool", "demo", dry_run=True)
    assert api.get("NodePool", "demo")["spec"]["replicas"] == 1


def test_the_resource_version_is_the_first_thing_after_the_kind(api: Any) -> None:
    api.make("Cluster", labels={"resourceVersion": "x"}, annotations={"a": '"resourceVersion":"1"'})
    data = api.verbs.get(api.kind("Cluster"), "default", "demo")
    assert re.match(rb'\{"apiVersion":"[^"]+","kind":"[^"]+","metadata":\{"resourceVersion":"\d+",', data)
    assert RV_SLOT not in data


@pytest.mark.parametrize("kind", ["Machine", "Cluster", "Provider", "Secret"])
def test_delete_without_finalizers_removes_and_says_what(api: Any, kind: str) -> None:
    made = api.make(kind)
    answer = api.delete(kind, "demo")
    assert (answer["kind"], answer["status"]) == ("Status", "Success")
    assert answer["details"]["uid"] == made["metadata"]["uid"]
    assert answer["details"]["kind"] == api.kind(kind).plural
    api.refused(NotFound, api.get, kind, "demo")


def test_delete_with_finalizers_marks_and_the_last_finalizer_removes(api: Any) -> None:
    api.make("Machine", finalizers=["kubeup.dev/machine", "kubeup.dev/in-use"])
    marked = api.delete("Machine", "demo")
    assert marked["metadata"]["deletionTimestamp"] == "2027-01-15T08:00:00Z"
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 0
    assert marked["metadata"]["generation"] == 2
    again = api.delete("Machine", "demo")
    assert again["metadata"]["resourceVersion"] == marked["metadata"]["resourceVersion"]
    one = api.patch("Machine", "demo", {"metadata": {"finalizers": ["kubeup.dev/in-use"]}})
    assert one["metadata"]["deletionTimestamp"]
    last = api.patch("Machine", "demo", {"metadata": {"finalizers": None}})
    assert "finalizers" not in last["metadata"]
    api.refused(NotFound, api.get, "Machine", "demo")


def test_no_finalizer_may_be_added_to_what_is_being_deleted(api: Any) -> None:
    api.make("Machine", finalizers=["kubeup.dev/machine"])
    api.delete("Machine", "demo")
    patch = {"metadata": {"finalizers": ["kubeup.dev/machine", "example.com/new"]}}
    error = api.refused(Invalid, api.patch, "Machine", "demo", patch)
    assert (error.causes[0].field, error.causes[0].reason) == ("metadata.finalizers", "FieldValueForbidden")


def test_what_is_being_deleted_may_still_be_edited(api: Any) -> None:
    api.make("NodePool", finalizers=["kubeup.dev/nodepool"])
    api.delete("NodePool", "demo")
    assert api.patch("NodePool", "demo", {"spec": {"replicas": 0}})["spec"]["replicas"] == 0


@pytest.mark.parametrize(("propagation", "finalizer"), [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")])
def test_foreground_and_orphan_leave_the_rest_to_the_collector(api: Any, propagation: str, finalizer: str) -> None:
    api.make("NodePool")
    marked = api.delete("NodePool", "demo", propagation=propagation)
    assert marked["metadata"]["finalizers"] == [finalizer]
    assert marked["metadata"]["deletionTimestamp"]


def test_delete_holds_to_its_preconditions(api: Any) -> None:
    made = api.make("NodePool")
    error = api.refused(Conflict, api.delete, "NodePool", "demo", uid="other")
    assert error.kind == "NodePool"
    api.refused(Conflict, api.delete, "NodePool", "demo", resource_version="1")
    api.delete("NodePool", "demo", uid=made["metadata"]["uid"], resource_version=made["metadata"]["resourceVersion"])


def test_deletion_timestamp_cannot_be_written(api: Any) -> None:
    made = api.make("NodePool")
    made["metadata"]["deletionTimestamp"] = "2027-01-15T08:00:00Z"
    error = api.refused(Invalid, api.update, made)
    assert error.causes[0].field == "metadata.deletionTimestamp"


def test_a_collection_is_deleted_by_selector_and_answered_as_a_list(api: Any) -> None:
    for name, tier in (("a", "x"), ("b", "x"), ("c", "y")):
        api.make("Volume", name, labels={"tier": tier})
    answer = api.verbs.delete_collection(api.kind("Volume"), "default", api.actor, labels="tier=x")
    listed = orjson.loads(answer.data)
    assert listed["kind"] == "VolumeList"
    assert [item["metadata"]["name"] for item in listed["items"]] == ["a", "b"]
    assert api.names("Volume") == ["c"]


# -- namespaces --------------------------------------------------------------------------------------------------------------


def test_create_needs_its_namespace(api: Any) -> None:
    error = api.refused(NotFound, api.make, "Cluster", namespace="nowhere")
    assert (error.kind, error.name) == ("namespaces", "nowhere")


def test_a_namespace_is_emptied_before_it_goes_and_takes_nothing_new(api: Any) -> None:
    made = api.create(api.obj("Namespace", "team"))
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "team"}
    assert (made["spec"], made["status"]) == ({"finalizers": ["kubernetes"]}, {"phase": "Active"})
    api.make("Cluster", namespace="team")
    gone = api.delete("Namespace", "team")
    assert gone["status"]["phase"] == "Terminating"
    error = api.refused(Forbidden, api.make, "Cluster", "other", namespace="team")
    assert error.causes[0].reason == "NamespaceTerminating"
    done = {"spec": {"finalizers": []}}
    assert "clusters" in api.refused(Conflict, api.patch, "Namespace", "team", done).message
    api.delete("Cluster", "demo", "team")
    api.patch("Namespace", "team", done)
    api.refused(NotFound, api.get, "Namespace", "team")


def test_the_finalizers_of_a_living_namespace_stay(api: Any) -> None:
    api.create(api.obj("Namespace", "team"))
    assert api.patch("Namespace", "team", {"spec": {"finalizers": []}})["spec"] == {"finalizers": ["kubernetes"]}


def test_the_default_namespace_and_the_installation_cannot_be_deleted(api: Any) -> None:
    api.refused(Forbidden, api.delete, "Namespace", "default")
    api.refused(Forbidden, api.delete, "Installation", "kubeup")
    body = api.obj("Installation", "second")
    assert api.refused(Invalid, api.create, body).causes[0].field == "metadata.name"


# -- protect and other objects -------------------------------------------------------------------------------------------


def test_a_protected_object_is_not_deleted_and_the_error_says_how(api: Any) -> None:
    api.make("Volume", spec={"protect": True})
    error = api.refused(Forbidden, api.delete, "Volume", "demo")
    assert """kubectl patch volume demo -n default --type merge -p '{"spec":{"protect":false}}'""" in error.message
    api.patch("Volume", "demo", {"spec": {"protect": False}})
    api.delete("Volume", "demo")


@pytest.mark.parametrize("inner", ["NodePool", "Machine", "Volume", "LoadBalancer"])
def test_a_cluster_that_holds_something_protected_is_not_deleted(api: Any, inner: str) -> None:
    api.make("Cluster")
    api.make("Cluster", "other")
    api.make(inner, "kept", {"protect": True})
    error = api.refused(Forbidden, api.delete, "Cluster", "demo")
    assert f'{inner} "kept"' in error.message
    api.delete("Cluster", "other")


def test_a_namespace_and_a_pool_that_hold_something_protected_are_not_deleted(api: Any) -> None:
    api.create(api.obj("Namespace", "team"))
    api.make("NodePool", namespace="team")
    api.make("Machine", "m", {"pool": "demo", "protect": True}, namespace="team")
    api.refused(Forbidden, api.delete, "Namespace", "team")
    api.refused(Forbidden, api.delete, "NodePool", "demo", "team")


def test_a_collection_with_something_protected_is_left_whole(api: Any) -> None:
    api.make("Volume", "a")
    api.make("Volume", "b", {"protect": True})
    api.refused(Forbidden, api.verbs.delete_collection, api.kind("Volume"), "default", api.actor)


def test_a_paused_object_may_be_deleted(api: Any) -> None:
    api.make("Volume", spec={"paused": True})
    assert api.delete("Volume", "demo")["status"] == "Success"


def test_the_provider_of_a_cluster_stays_while_it_has_control_planes(api: Any) -> None:
    api.make("Cluster")
    api.patch("Cluster", "demo", {"spec": {"provider": "docker"}})
    api.make("Machine", "cp-0", {"role": "controlPlane"})
    error = api.refused(Invalid, api.patch, "Cluster", "demo", {"spec": {"provider": "sim"}})
    assert error.causes[0].field == "spec.provider"
    assert "cp-0" in error.message
    api.delete("Machine", "cp-0")
    api.patch("Cluster", "demo", {"spec": {"provider": "sim"}})


# -- bodies and paths ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        [], "x", None, {}, {"kind": "Cluster"}, {"apiVersion": "kubeup.dev/v1alpha1"},
        {"apiVersion": "v2", "kind": "Cluster"},
        {"apiVersion": "kubeup.dev/v1alpha1", "kind": "Cluster", "metadata": []},
        {"apiVersion": "kubeup.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "x", "namespace": "other"}},
        {"apiVersion": "kubeup.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "x", "labels": {"a": 1}}},
        {"apiVersion": "kubeup.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": 5}},
    ],
)  # fmt: skip
def test_a_body_that_is_not_such_an_object_is_a_bad_request(api: Any, body: Any) -> None:
    api.refused(BadRequest, api.verbs.create, api.kind("Cluster"), "default", body, api.actor)


def test_another_kind_and_another_name_are_refused(api: Any) -> None:
    body = api.obj("NodePool")
    error = api.refused(Invalid, api.verbs.create, api.kind("Cluster"), "default", body, api.actor)
    assert error.causes[0].field == "kind"
    made = api.make("Cluster")
    kind, options = api.kind("Cluster"), Options()
    api.refused(BadRequest, api.verbs.update, kind, "default", "other", made, api.actor, options)


def test_a_body_that_is_nested_without_end_is_refused(api: Any) -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"a": deep}
    body = api.obj("Provider", spec={"config": deep})
    api.refused(BadRequest, api.create, body)
    while deep:
        deep = deep["a"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**70, object(), "\ud800"])
def test_what_json_cannot_hold_is_refused(api: Any, value: Any) -> None:
    api.refused(BadRequest, api.create, api.obj("Provider", spec={"config": {"a": value}}))


# -- scale ---------------------------------------------------------------------------------------------------------------


def test_scale_reads_and_writes_the_replicas_only(api: Any) -> None:
    api.make("NodePool", spec={"replicas": 2})
    api.patch("NodePool", "demo", {"status": {"replicas": 1, "selector": "kubeup.dev/pool=demo"}}, subresource="status")
    scale = orjson.loads(api.verbs.get(api.kind("NodePool"), "default", "demo", "scale"))
    assert (scale["apiVersion"], scale["kind"], scale["spec"]) == ("autoscaling/v1", "Scale", {"replicas": 2})
    assert scale["status"] == {"replicas": 1, "selector": "kubeup.dev/pool=demo"}
    scale["spec"] = {"replicas": 5}
    written = api.verbs.update(api.kind("NodePool"), "default", "demo", scale, api.actor, Options(subresource="scale"))
    assert orjson.loads(written.data)["spec"] == {"replicas": 5}
    patched = api.patch("NodePool", "demo", {"spec": {"replicas": 0}}, subresource="scale")
    assert patched["spec"] == {}
    pool = api.get("NodePool", "demo")
    assert (pool["spec"]["replicas"], pool["metadata"]["generation"]) == (0, 3)


def test_scale_refuses_less_than_nothing_and_stale_versions(api: Any) -> None:
    made = api.make("NodePool")
    error = api.refused(Invalid, api.patch, "NodePool", "demo", {"spec": {"replicas": -1}}, subresource="scale")
    assert error.causes[0].field == "spec.replicas"
    api.patch("NodePool", "demo", {"spec": {"replicas": 3}}, subresource="scale")
    stale = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "spec": {"replicas": 4}}
    api.refused(Conflict, api.patch, "NodePool", "demo", stale, subresource="scale")


# -- secrets -------------------------------------------------------------------------------------------------------------


def test_string_data_is_merged_into_data_and_not_kept(api: Any) -> None:
    body = {**api.obj("Secret"), "data": {"a": "YQ==", "b": "YQ=="}, "stringData": {"b": "two", "c": "three"}}
    made = api.create(body)
    assert made["data"] == {"a": "YQ==", "b": "dHdv", "c": "dGhyZWU="}
    assert "stringData" not in made
    assert made["type"] == "Opaque"
    patched = api.patch("Secret", "demo", {"stringData": {"a": "new"}}, "strategic")
    assert patched["data"]["a"] == "bmV3"
    assert patched["data"]["c"] == "dGhyZWU="


def test_a_secret_keeps_its_type_and_an_immutable_one_its_data(api: Any) -> None:
    api.create({**api.obj("Secret"), "stringData": {"a": "x"}, "immutable": True})
    api.refused(Invalid, api.patch, "Secret", "demo", {"type": "other"})
    api.refused(Invalid, api.patch, "Secret", "demo", {"stringData": {"a": "y"}})
    api.refused(Invalid, api.patch, "Secret", "demo", {"immutable": None})
    api.patch("Secret", "demo", {"metadata": {"labels": {"a": "b"}}})


def test_values_of_secrets_never_get_into_an_error(api: Any) -> None:
    secret = "hunter2hunter2"
    api.create({**api.obj("Secret", "kept"), "stringData": {"key": secret}})
    bodies = [{"data": {"a": secret + "!"}}, {"data": secret}, {"data": {"a": [secret]}}, {"stringData": {"a": 5, "b": secret}}]
    for i, part in enumerate(bodies):
        error = api.refused(Invalid, api.create, {**api.obj("Secret", f"s{i}"), **part})
        assert secret not in str(error.to_status())
    for patch, how in (
        ([{"op": "test", "path": "/data/key", "value": "x"}], "json"),
        ({"data": {"a": {"b": secret}}}, "merge"),
        ({"data": {"a": secret + "!"}, "spec": {}}, "strategic"),
    ):
        error = api.refused(Invalid, api.patch, "Secret", "kept", patch, how, field_validation="Strict")
        assert secret not in str(error.to_status())
        assert "aHVudGVyM" not in str(error.to_status())


# -- audit, and the in-process client --------------------------------------------------------------------------------------


def test_every_mutating_request_leaves_one_line_without_a_body(api: Any) -> None:
    api.audit.clear()
    api.create({**api.obj("Secret"), "stringData": {"a": "topsecret"}})
    api.refused(AlreadyExists, api.create, {**api.obj("Secret"), "stringData": {"a": "topsecret"}})
    api.get("Secret", "demo")
    api.delete("Secret", "demo", dry_run=True)
    lines = [(a.user, a.verb, a.resource, a.namespace, a.name, a.code, a.dry_run) for a in api.audit]
    assert lines == [
        ("tester", "create", "secrets", "default", "demo", 201, False),
        ("tester", "create", "secrets", "default", "demo", 409, False),
        ("tester", "delete", "secrets", "default", "demo", 200, True),
    ]
    assert "topsecret" not in str(api.audit)


def test_the_core_itself_is_not_audited(api: Any) -> None:
    api.audit.clear()
    api.client.create(NodePool.model_validate(api.obj("NodePool", namespace="default")))
    assert api.audit == []


def test_the_in_process_client_speaks_in_models(api: Any) -> None:
    client = api.client
    seen: list[tuple[str, str]] = []
    _, rv = client.list(Machine)
    stop = client.watch(Machine, rv, lambda event: seen.append((event.type, event.object.status.state)))
    made = client.create(Machine.model_validate(api.obj("Machine", namespace="default", finalizers=["kubeup.dev/machine"])))
    assert made.metadata.managed_fields is None
    made.status.state = "Running"
    made = client.update_status(made)
    made.spec.paused = True
    client.update(made)
    assert client.find(Machine, "nobody", "default") is None
    client.delete(Machine, "demo", "default", uid=made.uid)
    held = client.get(Machine, "demo", "default")
    held.metadata.finalizers = []
    client.update(held)
    stop()
    assert seen == [("ADDED", "Pending"), *[("MODIFIED", "Running")] * 3, ("DELETED", "Running")]
    managers = {entry["manager"] for entry in api.make("Machine", "x")["metadata"]["managedFields"]}
    assert managers == {"unknown"}


def test_a_watch_of_the_in_process_client_delivers_from_its_own_thread(api: Any) -> None:
    from kubeup_core.inprocess import InProcess

    client = InProcess(api.verbs, Actor("core", audited=False))
    arrived = threading.Event()
    threads: list[str] = []

    def deliver(event: Any) -> None:
        threads.append(threading.current_thread().name)
        arrived.set()

    stop = client.watch(NodePool, "0", deliver)
    api.make("NodePool")
    assert arrived.wait(10)
    stop()
    assert threads == ["watch-nodepools"]
