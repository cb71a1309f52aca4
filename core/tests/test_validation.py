"""Bad bodies: each fault is one cause, with its path, in Kubernetes' words, and nothing is changed."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from kubeup_core.statuses import BadRequest, Cause, Invalid, TooLarge
from kubeup_core.verbs import Options


def faults(api: Any, body: dict[str, Any]) -> list[tuple[str, str, str]]:
    error = api.refused(Invalid, api.create, body)
    return [(cause.field, cause.reason, cause.message) for cause in error.causes]


def fault(api: Any, kind: str, spec: dict[str, Any], **metadata: Any) -> Cause:
    """The only cause of a refused create."""
    error = api.refused(Invalid, api.create, api.obj(kind, spec=spec, **metadata))
    assert len(error.causes) == 1, error.causes
    return error.causes[0]


# -- unknown fields ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"replica": 3}, 'unknown field "spec.replica"; did you mean "replicas"?'),
        ({"machine": {"mem": "4Gi"}}, 'unknown field "spec.machine.mem"; did you mean "memory"?'),
        ({"machine": {"zzz": "4Gi"}}, 'unknown field "spec.machine.zzz"'),
        ({"machine": {"Memory": "4Gi"}}, 'unknown field "spec.machine.Memory"; did you mean "memory"?'),
        ({"offers": [{"provider": "a"}, {"provider": "b", "zone": "z"}]},
         'unknown field "spec.offers[1].zone"; did you mean "zones"?'),
        ({"max_surge": 1}, 'unknown field "spec.max_surge"'),
        ({"update": {"max_surge": 1}}, 'unknown field "spec.update.max_surge"; did you mean "maxSurge"?'),
    ],
)  # fmt: skip
def test_an_unknown_field_is_an_error_when_strict_and_a_warning_otherwise(api: Any, spec: Any, text: str) -> None:
    body = api.obj("NodePool", spec=spec)
    error = api.refused(BadRequest, api.create, body, field_validation="Strict")
    assert error.message == f"strict decoding error: {text}"
    kind = api.kind("NodePool")
    quiet = api.verbs.create(kind, "default", body, api.actor, Options(field_validation="Ignore", dry_run=True))
    assert quiet.warnings == ()
    warned = api.verbs.create(kind, "default", body, api.actor, Options())
    assert warned.warnings == (text,)
    pruned = orjson.loads(warned.data)
    again = api.verbs.update(kind, "default", "demo", pruned, api.actor, Options(field_validation="Strict"))
    assert again.warnings == ()


def test_all_unknown_fields_are_named_at_every_level(api: Any) -> None:
    body = {**api.obj("NodePool", spec={"bogus": 1}), "extra": {}}
    body["metadata"]["lables"] = {}
    error = api.refused(BadRequest, api.create, body, field_validation="Strict")
    assert error.message == (
        'strict decoding error: unknown field "metadata.lables"; did you mean "labels"?, unknown field "spec.bogus", '
        'unknown field "extra"'
    )


def test_an_unknown_field_in_a_patch_is_invalid(api: Any) -> None:
    api.make("NodePool")
    error = api.refused(Invalid, api.patch, "NodePool", "demo", {"spec": {"replica": 3}}, field_validation="Strict")
    assert 'strict decoding error: unknown field "spec.replica"; did you mean "replicas"?' in error.message


def test_complaints_of_the_decoder_count_like_unknown_fields(api: Any) -> None:
    duplicate = ('duplicate field "spec.cluster"',)
    api.refused(BadRequest, api.create, api.obj("NodePool"), field_validation="Strict", unknown=duplicate)
    answer = api.verbs.create(api.kind("NodePool"), "default", api.obj("NodePool"), api.actor, Options(unknown=duplicate))
    assert answer.warnings == duplicate


def test_free_form_fields_keep_what_they_have(api: Any) -> None:
    config = {"a": [1, {"b": None}], "c": {"d": 1.5}}
    assert api.make("Provider", spec={"config": config})["spec"]["config"] == config


# -- types, ranges, choices --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "field", "reason", "message"),
    [
        ({"replicas": -1}, "spec.replicas", "FieldValueInvalid",
         "Invalid value: -1: spec.replicas in body should be greater than or equal to 0"),
        ({"replicas": 100_001}, "spec.replicas", "FieldValueInvalid",
         "Invalid value: 100001: spec.replicas in body should be less than or equal to 100000"),
        ({"replicas": "3"}, "spec.replicas", "FieldValueTypeInvalid",
         'Invalid value: "string": spec.replicas in body must be of type integer: "string"'),
        ({"replicas": 1.5}, "spec.replicas", "FieldValueTypeInvalid",
         'Invalid value: "number": spec.replicas in body must be of type integer: "number"'),
        ({"replicas": True}, "spec.replicas", "FieldValueTypeInvalid",
         'Invalid value: "boolean": spec.replicas in body must be of type integer: "boolean"'),
        ({"cluster": None}, "spec.cluster", "FieldValueRequired", "Required value"),
        ({"machine": []}, "spec.machine", "FieldValueTypeInvalid",
         'Invalid value: "array": spec.machine in body must be of type object: "array"'),
        ({"offers": {}}, "spec.offers", "FieldValueTypeInvalid",
         'Invalid value: "object": spec.offers in body must be of type array: "object"'),
        ({"offers": [{"provider": "a"}, {}]}, "spec.offers[1].provider", "FieldValueRequired", "Required value"),
        ({"spread": "rack"}, "spec.spread", "FieldValueNotSupported",
         'Unsupported value: "rack": supported values: "zone", "none"'),
        ({"labels": {"a": 5}}, "spec.labels.a", "FieldValueTypeInvalid",
         'Invalid value: "integer": spec.labels.a in body must be of type string: "integer"'),
        ({"overrides": {"aws": "x"}}, "spec.overrides.aws", "FieldValueTypeInvalid",
         'Invalid value: "string": spec.overrides.aws in body must be of type object: "string"'),
        ({"update": {"maxSurge": -1}}, "spec.update.maxSurge", "FieldValueInvalid",
         "Invalid value: -1: spec.update.maxSurge in body should be greater than or equal to 0"),
        ({"update": {"maxSurge": True}}, "spec.update.maxSurge", "FieldValueTypeInvalid",
         'Invalid value: "boolean": spec.update.maxSurge in body must be of type integer,string: "boolean"'),
        ({"machine": {"publicAddress": True}}, "spec.machine.publicAddress", "FieldValueTypeInvalid",
         'Invalid value: "boolean": spec.machine.publicAddress in body must be of type string: "boolean": '
         'write "true" in quotes'),
    ],
)  # fmt: skip
def test_a_fault_of_a_pool_is_one_cause_in_kubernetes_words(
    api: Any, spec: dict[str, Any], field: str, reason: str, message: str
) -> None:
    body = api.obj("NodePool", spec=spec)
    error = api.refused(Invalid, api.create, body)
    assert [(c.field, c.reason, c.message) for c in error.causes] == [(field, reason, message)]
    assert error.message == f'NodePool.kubeup.dev "demo" is invalid: {field}: {message}'
    assert (error.name, error.group, error.kind) == ("demo", "kubeup.dev", "NodePool")


def test_all_faults_are_told_at_once(api: Any) -> None:
    body = api.obj("NodePool", spec={"replicas": -1, "cluster": 5, "machine": {"memory": "4GB"}})
    error = api.refused(Invalid, api.create, body)
    assert [c.field for c in error.causes] == ["spec.cluster", "spec.replicas", "spec.machine.memory"]
    assert error.message.startswith('NodePool.kubeup.dev "demo" is invalid: [spec.cluster: ')


def test_a_misspelt_field_is_told_with_the_faults(api: Any) -> None:
    body = api.obj("NodePool", spec={"cluster": None, "clustr": "demo"})
    error = api.refused(Invalid, api.create, body, field_validation="Strict")
    assert error.message.endswith(
        '[spec.cluster: Required value, Forbidden: unknown field "spec.clustr"; did you mean "cluster"?]'
    )


def test_the_choice_of_a_number_says_the_numbers(api: Any) -> None:
    two = fault(api, "Cluster", {"controlPlane": {"replicas": 2}})
    assert (two.field, two.message) == ("spec.controlPlane.replicas", "Unsupported value: 2: supported values: 1, 3, 5")
    text = fault(api, "Cluster", {"controlPlane": {"replicas": "3"}})
    assert text.message.endswith('must be of type integer: "string": write 3 without quotes')


def test_a_spec_that_is_missing_or_no_object_is_named(api: Any) -> None:
    body = api.obj("Cluster")
    del body["spec"]
    assert faults(api, body) == [("spec", "FieldValueRequired", "Required value")]
    body["spec"] = "x"
    assert faults(api, body)[0][:2] == ("spec", "FieldValueTypeInvalid")


@pytest.mark.parametrize("memory", ["4GB", 4, 4.5, "4", "4 Gi", "", "-4Gi", "4gi", True, "1Mi", "1e3Gi"])
def test_a_size_without_a_proper_unit_is_refused_and_the_error_says_how_to_write_it(api: Any, memory: Any) -> None:
    cause = fault(api, "NodePool", {"machine": {"memory": memory}})
    assert cause.field == "spec.machine.memory"
    assert memory is True or "Gi" in cause.message


def test_the_nearest_size_is_offered(api: Any) -> None:
    assert 'did you mean "4Gi"?' in fault(api, "NodePool", {"machine": {"memory": "4GB"}}).message
    assert 'write "4Gi" or "4Mi"' in fault(api, "NodePool", {"machine": {"memory": 4}}).message


@pytest.mark.parametrize("version", [1.3, 1.34, 1, "1.34", "v1.34", "latest"])
def test_a_version_that_is_not_whole_is_refused(api: Any, version: Any) -> None:
    cause = fault(api, "Cluster", {"kubernetes": {"version": version}})
    assert cause.field == "spec.kubernetes.version"
    assert isinstance(version, str) or "YAML turns 1.30 into 1.3" in cause.message


def test_numbers_that_no_model_knows_are_refused(api: Any) -> None:
    api.refused(BadRequest, api.create, api.obj("NodePool", spec={"replicas": 10**30}))


# -- names and metadata ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Demo", "my_pool", "a.b", "-a", "a-", "ä", "a b", "a/b", "x" * 64])
def test_names_of_our_kinds_are_dns_labels(api: Any, name: str) -> None:
    error = api.refused(Invalid, api.create, api.obj("Cluster", name))
    assert [(c.field, c.reason) for c in error.causes] == [("metadata.name", "FieldValueInvalid")]


def test_names_of_secrets_may_have_dots(api: Any) -> None:
    api.create(api.obj("Secret", "a.b.c" + "x" * 100))


def test_a_name_is_required(api: Any) -> None:
    for metadata in ({}, {"name": ""}):
        error = api.refused(Invalid, api.create, {**api.obj("Cluster"), "metadata": metadata})
        assert [(c.field, c.reason) for c in error.causes] == [("metadata.name", "FieldValueRequired")]


@pytest.mark.parametrize(("kind", "longest"), [("NodePool", 45), ("Machine", 57), ("Cluster", 63)])
def test_names_leave_room_for_what_is_made_from_them(api: Any, kind: str, longest: int) -> None:
    api.make(kind, "x" * longest)
    error = api.refused(Invalid, api.make, kind, "x" * (longest + 1))
    assert error.causes[0].field == "metadata.name"


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ({"labels": {"a b": "c"}}, "metadata.labels"), ({"labels": {"a": "-"}}, "metadata.labels"),
        ({"labels": {"a": "x" * 64}}, "metadata.labels"), ({"labels": {"A/b/c": "d"}}, "metadata.labels"),
        ({"annotations": {"a b": "c"}}, "metadata.annotations"), ({"annotations": {"a": "x" * 262_145}}, "metadata.annotations"),
        ({"finalizers": ["a b"]}, "metadata.finalizers[0]"),
        ({"ownerReferences": [{"apiVersion": "v1", "kind": "Secret", "name": "x", "uid": ""}]},
         "metadata.ownerReferences[0].uid"),
        ({"ownerReferences": [{"apiVersion": "v1", "kind": "Secret", "name": n, "uid": n, "controller": True} for n in "ab"]},
         "metadata.ownerReferences"),
    ],
)  # fmt: skip
def test_bad_metadata_is_named(api: Any, metadata: dict[str, Any], field: str) -> None:
    error = api.refused(Invalid, api.make, "Cluster", **metadata)
    assert [c.field for c in error.causes] == [field]


def test_metadata_of_a_wrong_type_is_a_bad_request_as_in_kubernetes(api: Any) -> None:
    error = api.refused(BadRequest, api.make, "Cluster", labels={"a": 5})
    assert "metadata.labels.a must be of type string" in error.message
    api.refused(BadRequest, api.make, "Cluster", ownerReferences=[{"kind": "x"}])
    api.refused(BadRequest, api.make, "Cluster", finalizers="x")


def test_a_status_of_a_wrong_type_is_named_below_status(api: Any) -> None:
    made = api.make("Machine")
    made["status"] = {"state": "Sleeping", "conditions": [{"type": "Ready", "status": "yes"}]}
    error = api.refused(Invalid, api.update, made, subresource="status")
    assert [c.field for c in error.causes] == ["status.conditions[0].status", "status.state"]
    made["status"] = []
    api.update({**made, "status": None}, subresource="status")
    error = api.refused(Invalid, api.update, {**made, "status": "x"}, subresource="status")
    assert error.causes[0].field == "status"


def test_a_condition_stands_once_in_a_status(api: Any) -> None:
    made = api.make("Machine")
    twice = [{"type": "Ready", "status": "True"}, {"type": "Ready", "status": "False"}]
    made["status"]["conditions"] = twice
    error = api.refused(Invalid, api.update, made, subresource="status")
    assert [(c.field, c.reason) for c in error.causes] == [("status.conditions[1]", "FieldValueDuplicate")]
    body = {"apiVersion": made["apiVersion"], "kind": "Machine", "metadata": {"name": "demo"}}
    body["status"] = {"conditions": twice}
    error = api.refused(Invalid, api.apply, body, "m1", subresource="status")
    assert [c.field for c in error.causes] == ["status.conditions[1]"]
    for conditions in ([5], "x", [{"status": "True"}]):
        body["status"] = {"conditions": conditions}
        api.refused(Invalid, api.apply, body, "m1", subresource="status")


def test_an_object_that_is_too_large_is_refused_however_it_grew(api: Any) -> None:
    api.make("Provider", spec={"config": {"a": "x" * 2_000_000}})
    api.refused(TooLarge, api.patch, "Provider", "demo", {"spec": {"config": {"b": "x" * 2_000_000}}})
    api.refused(TooLarge, api.make, "Provider", "other", {"config": {"a": "x" * 4_000_000}})


# -- what may not change -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "spec", "change", "field"),
    [
        ("Provider", {}, {"type": "docker"}, "spec.type"),
        ("NodePool", {}, {"cluster": "other"}, "spec.cluster"),
        ("Machine", {"machine": {"cpu": 2}}, {"machine": {"cpu": 4}}, "spec.machine"),
        ("Machine", {"pool": "a"}, {"pool": None}, "spec.pool"),
        ("Cluster", {}, {"network": {"podCIDR": "10.245.0.0/16"}}, "spec.network.podCIDR"),
        ("Volume", {}, {"class": "fast"}, "spec.class"),
    ],
)  # fmt: skip
def test_an_immutable_field_is_refused_and_the_error_says_what_to_do_instead(
    api: Any, kind: str, spec: dict[str, Any], change: dict[str, Any], field: str
) -> None:
    api.make(kind, spec=spec)
    error = api.refused(Invalid, api.patch, kind, "demo", {"spec": change})
    assert [(c.field, c.reason) for c in error.causes] == [(field, "FieldValueInvalid")]
    assert "field is immutable; " in error.message


def test_an_immutable_field_may_be_set_once(api: Any) -> None:
    api.make("Machine")
    api.patch("Machine", "demo", {"spec": {"provider": "sim"}})
    api.refused(Invalid, api.patch, "Machine", "demo", {"spec": {"provider": "docker"}})


def test_an_object_of_an_older_version_without_a_newer_default_may_be_edited(api: Any) -> None:
    from kubeup_core.store import Put
    from kubeup_core.writes import encode

    api.make("Cluster")
    record = api.store.get("clusters.kubeup.dev", "default", "demo")
    old = orjson.loads(record.data)
    del old["spec"]["network"]["podCIDR"], old["spec"]["endpoint"]
    api.store.commit([Put("clusters.kubeup.dev", "default", "demo", record.uid, encode(old), record.rv)]).result()
    after = api.patch("Cluster", "demo", {"spec": {"paused": True}})
    assert after["spec"]["network"]["podCIDR"] == "10.244.0.0/16"


# -- secrets in plain text -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "spec", "field"),
    [
        ("Provider", {"config": {"secretKey": "hunter2"}}, "spec.config.secretKey"),
        ("Provider", {"config": {"auth": [{"password": "hunter2"}]}}, "spec.config.auth[0].password"),
        ("NodePool", {"overrides": {"aws": {"api_token": "hunter2"}}}, "spec.overrides.aws.api_token"),
        ("Cluster", {"kubernetes": {"version": "v1.34.1", "config": {"token": "hunter2"}}}, "spec.kubernetes.config.token"),
        ("Cluster", {"controlPlane": {"overrides": {"gce": {"privateKey": "hunter2"}}}},
         "spec.controlPlane.overrides.gce.privateKey"),
    ],
)  # fmt: skip
def test_a_secret_in_plain_text_is_refused_without_repeating_it(api: Any, kind: str, spec: dict[str, Any], field: str) -> None:
    error = api.refused(Invalid, api.make, kind, spec=spec)
    assert [c.field for c in error.causes] == [field]
    assert "hunter2" not in str(error.to_status())


def test_a_reference_to_a_secret_is_no_secret(api: Any) -> None:
    api.make("Provider", spec={"config": {"password": {"namespace": "default", "name": "x", "key": "y"}, "tokenTTL": "1h"}})
