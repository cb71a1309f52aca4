"""managedFields, server-side apply, and the patches."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubeup_core import fields
from kubeup_core.patches import merge, strategic
from kubeup_core.statuses import BadRequest, Conflict, Invalid, NotFound, UnsupportedMediaType


def owners(obj: dict[str, Any]) -> dict[str, set[str]]:
    """Manager (and subresource) -> the paths that it owns."""
    result = {}
    for entry in obj["metadata"].get("managedFields", []):
        name = entry["manager"] + (f"/{entry['subresource']}" if "subresource" in entry else "")
        result[f"{name}:{entry['operation']}"] = set(fields.paths(entry["fieldsV1"]))
    return result


def config(api: Any, kind: str = "NodePool", name: str = "demo", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": api.kind(kind).api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}


# -- managedFields of other writes -------------------------------------------------------------------------------------------


def test_who_creates_owns_every_leaf_with_the_defaults_but_not_the_status(api: Any) -> None:
    made = api.create(api.obj("Volume", labels={"a": "b"}), field_manager="me")
    mine = owners(made)["me:Update"]
    assert {".spec.size", ".spec.filesystem", ".metadata.labels.a"} <= mine
    assert not any(path.startswith((".status", ".metadata.name", ".metadata.uid")) for path in mine)


def test_who_changes_a_field_takes_it_from_everybody_else(api: Any) -> None:
    api.create(api.obj("NodePool", labels={"a": "b"}), field_manager="one")
    after = api.patch("NodePool", "demo", {"spec": {"replicas": 4}, "metadata": {"labels": None}}, field_manager="two")
    assert owners(after)["two:Update"] == {".spec.replicas"}
    assert ".spec.replicas" not in owners(after)["one:Update"]
    assert ".metadata.labels.a" not in owners(after)["one:Update"]


def test_the_status_has_entries_of_its_own_and_conditions_go_by_type(api: Any) -> None:
    made = api.create(api.obj("Machine"), field_manager="me")
    condition = {"type": "Ready", "status": "True", "reason": "X", "message": ""}
    made["status"] |= {"state": "Ready", "conditions": [condition]}
    after = api.update(made, field_manager="me", subresource="status")
    assert owners(after)["me/status:Update"] == {
        ".status.state",
        '.status.conditions[type="Ready"].type', '.status.conditions[type="Ready"].status',
        '.status.conditions[type="Ready"].reason', '.status.conditions[type="Ready"].message',
    }  # fmt: skip
    after["status"]["conditions"][0]["status"] = "False"
    third = api.update(after, field_manager="other", subresource="status")
    assert owners(third)["other/status:Update"] == {'.status.conditions[type="Ready"].status'}
    assert '.status.conditions[type="Ready"].status' not in owners(third)["me/status:Update"]


def test_lists_are_one_field(api: Any) -> None:
    api.create(api.obj("LoadBalancer"), field_manager="one")
    after = api.patch("LoadBalancer", "demo", {"spec": {"allowFrom": ["10.0.0.0/8"]}}, field_manager="two")
    assert owners(after)["two:Update"] == {".spec.allowFrom"}


def test_the_entries_are_shaped_as_kubernetes_has_them(api: Any) -> None:
    made = api.create(api.obj("NodePool"), field_manager="me")
    entry = made["metadata"]["managedFields"][0]
    assert entry["fieldsV1"]["f:spec"]["f:update"]["f:strategy"] == {}
    del entry["fieldsV1"]
    assert entry == {
        "manager": "me", "operation": "Update", "apiVersion": "kubeup.dev/v1alpha1", "time": "2027-01-15T08:00:00Z",
        "fieldsType": "FieldsV1",
    }  # fmt: skip


def test_a_write_without_entries_keeps_them_and_an_empty_entry_resets_them(api: Any) -> None:
    made = api.create(api.obj("NodePool"), field_manager="me")
    del made["metadata"]["managedFields"]
    made["spec"]["replicas"] = 2
    assert set(owners(api.update(made, field_manager="you"))) == {"me:Update", "you:Update"}
    after = api.patch("NodePool", "demo", {"metadata": {"managedFields": [{}]}})
    assert "managedFields" not in after["metadata"]


@pytest.mark.parametrize("entries", [[5], [{"manager": "x"}], [{"operation": "Apply", "fieldsV1": {"x": {}}}],
                                     [{"operation": "Update", "fieldsV1": {"f:spec": 1}}],
                                     [{"operation": "Apply", "fieldsV1": {"k:x": {}}}]])  # fmt: skip
def test_entries_that_make_no_sense_are_refused(api: Any, entries: Any) -> None:
    api.make("NodePool")
    error = api.refused(Invalid, api.patch, "NodePool", "demo", {"metadata": {"managedFields": entries}})
    assert error.causes[0].field == "metadata.managedFields"


# -- apply -------------------------------------------------------------------------------------------------------------------


def test_apply_makes_a_missing_object_and_owns_what_it_said(api: Any) -> None:
    made = api.apply(config(api, cluster="demo", replicas=2), "m1")
    assert made["spec"]["update"]["strategy"] == "Replace"
    assert owners(made) == {"m1:Apply": {".spec.cluster", ".spec.replicas"}}
    assert made["metadata"]["generation"] == 1


def test_apply_says_whether_it_created(api: Any) -> None:
    from kubeup_core.verbs import Options

    body, options = config(api, cluster="demo"), Options(field_manager="m")
    kind = api.kind("NodePool")
    assert api.verbs.patch(kind, "default", "demo", body, "apply", api.actor, options).created
    assert not api.verbs.patch(kind, "default", "demo", body, "apply", api.actor, options).created
    assert [line.code for line in api.audit[-2:]] == [201, 200]


def test_an_unchanged_apply_of_a_list_whose_items_have_defaults_writes_nothing(api: Any) -> None:
    wanted = config(api, "LoadBalancer", cluster="demo", listeners=[{"port": 80}])
    made = api.apply(wanted, "m1")
    api.clock.advance(60)
    assert api.apply(wanted, "m1") == made


def test_an_unchanged_apply_writes_nothing(api: Any) -> None:
    body = config(api, cluster="demo", replicas=2, machine={"memory": "8Gi"})
    made = api.apply(body, "m1")
    api.clock.advance(60)
    assert api.apply(body, "m1") == made


def test_a_field_of_another_manager_is_a_conflict(api: Any) -> None:
    api.apply(config(api, cluster="demo", replicas=2, paused=True), "m1")
    error = api.refused(Conflict, api.apply, config(api, cluster="demo", replicas=3), "m2")
    assert error.message == 'Apply failed with 1 conflict: conflict with "m1": .spec.replicas'
    assert [(c.reason, c.message, c.field) for c in error.causes] == [
        ("FieldManagerConflict", 'conflict with "m1"', ".spec.replicas")
    ]
    both = api.refused(Conflict, api.apply, config(api, cluster="demo", replicas=3, paused=False), "m2")
    assert [c.field for c in both.causes] == [".spec.replicas", ".spec.paused"]


def test_force_takes_the_field_over(api: Any) -> None:
    api.apply(config(api, cluster="demo", replicas=2, paused=True), "m1")
    after = api.apply(config(api, cluster="demo", replicas=3), "m2", force=True)
    assert after["spec"]["replicas"] == 3
    assert owners(after) == {"m1:Apply": {".spec.cluster", ".spec.paused"}, "m2:Apply": {".spec.cluster", ".spec.replicas"}}


def test_the_same_value_is_shared_and_stays_until_the_last_owner_lets_go(api: Any) -> None:
    api.apply(config(api, cluster="demo", replicas=2), "m1")
    shared = api.apply(config(api, cluster="demo", replicas=2), "m2")
    assert ".spec.replicas" in owners(shared)["m1:Apply"] & owners(shared)["m2:Apply"]
    kept = api.apply(config(api, cluster="demo"), "m1")
    assert kept["spec"]["replicas"] == 2
    gone = api.apply(config(api, cluster="demo"), "m2")
    assert gone["spec"]["replicas"] == 1


def test_what_is_left_out_is_removed(api: Any) -> None:
    body = config(api, cluster="demo", machine={"cpu": 4, "memory": "8Gi"}, overrides={"aws": {"type": "m7i"}})
    body["metadata"]["labels"] = {"a": "b", "c": "d"}
    api.apply(body, "m1")
    less = config(api, cluster="demo", machine={"cpu": 4})
    less["metadata"]["labels"] = {"a": "b"}
    after = api.apply(less, "m1")
    assert after["spec"]["machine"] == {"cpu": 4}
    assert after["spec"]["overrides"] == {}
    assert after["metadata"]["labels"] == {"a": "b"}


def test_what_an_update_set_is_not_removed_and_conflicts(api: Any) -> None:
    api.apply(config(api, cluster="demo", replicas=2), "m1")
    api.patch("NodePool", "demo", {"spec": {"replicas": 5}}, field_manager="kubectl-scale")
    error = api.refused(Conflict, api.apply, config(api, cluster="demo", replicas=2), "m1")
    assert 'conflict with "kubectl-scale" using kubeup.dev/v1alpha1' in error.message
    assert api.apply(config(api, cluster="demo"), "m1")["spec"]["replicas"] == 5


def test_adding_to_a_map_that_another_manager_made_empty_is_no_conflict(api: Any) -> None:
    api.create(api.obj("NodePool"), field_manager="kubectl-create")
    after = api.apply(config(api, overrides={"aws": {"type": "m7i"}}, labels={"a": "b"}), "m1")
    assert after["spec"]["overrides"] == {"aws": {"type": "m7i"}}


def test_lists_are_replaced_whole_and_conflict_whole(api: Any) -> None:
    api.apply(config(api, "LoadBalancer", cluster="demo", listeners=[{"port": 80}]), "m1")
    error = api.refused(Conflict, api.apply, config(api, "LoadBalancer", cluster="demo", listeners=[{"port": 81}]), "m2")
    assert error.causes[0].field == ".spec.listeners"
    more = config(api, "LoadBalancer", cluster="demo", listeners=[{"port": 80}, {"port": 443}])
    assert [item["port"] for item in api.apply(more, "m1")["spec"]["listeners"]] == [80, 443]


def test_conditions_are_merged_by_type(api: Any) -> None:
    api.make("Machine")

    def status(type_: str, value: str) -> dict[str, Any]:
        body = config(api, "Machine")
        del body["spec"]
        body["status"] = {"conditions": [{"type": type_, "status": value}]}
        return body

    api.apply(status("A", "True"), "m1", subresource="status")
    after = api.apply(status("B", "True"), "m2", subresource="status")
    assert [c["type"] for c in after["status"]["conditions"]] == ["A", "B"]
    error = api.refused(Conflict, api.apply, status("A", "False"), "m2", subresource="status")
    assert error.causes[0].field == '.status.conditions[type="A"].status'
    body = status("A", "True")
    body["status"] = {}
    gone = api.apply(body, "m1", subresource="status")
    assert [c["type"] for c in gone["status"]["conditions"]] == ["B"]


def test_finalizers_are_a_set(api: Any) -> None:
    def body(finalizer: str) -> dict[str, Any]:
        wanted = config(api, cluster="demo")
        wanted["metadata"]["finalizers"] = [finalizer]
        return wanted

    api.apply(body("example.com/a"), "m1")
    both = api.apply(body("example.com/b"), "m2")
    assert both["metadata"]["finalizers"] == ["example.com/a", "example.com/b"]
    less = api.apply(config(api, cluster="demo"), "m1")
    assert less["metadata"]["finalizers"] == ["example.com/b"]


def test_apply_on_the_main_object_ignores_the_status_and_the_other_way_round(api: Any) -> None:
    body = config(api, "Machine", cluster="demo", paused=True) | {"status": {"state": "Failed"}}
    api.refused(NotFound, api.apply, body, "m1", subresource="status")
    assert api.apply(body, "m1")["status"]["state"] == "Pending"
    body["spec"]["paused"] = False
    after = api.apply(body, "m2", subresource="status")
    assert (after["status"]["state"], after["spec"]["paused"]) == ("Failed", True)


def test_a_dry_run_of_apply_answers_and_stores_nothing(api: Any) -> None:
    rv = api.store.rv()
    assert api.apply(config(api, cluster="demo"), "m1", dry_run=True)["metadata"]["uid"]
    assert api.store.rv() == rv
    api.apply(config(api, cluster="demo"), "m1")
    assert api.apply(config(api, cluster="demo", replicas=9), "m1", dry_run=True)["spec"]["replicas"] == 9
    assert api.get("NodePool", "demo")["spec"]["replicas"] == 1


def test_what_apply_does_not_take(api: Any) -> None:
    body = config(api, cluster="demo")
    error = api.refused(Invalid, api.apply, body, "")
    assert (error.causes[0].field, error.kind, error.group) == ("fieldManager", "PatchOptions", "meta.k8s.io")
    forced = api.refused(Invalid, api.patch, "NodePool", "demo", {}, force=True)
    assert forced.causes[0].field == "force"
    managed = config(api, cluster="demo")
    managed["metadata"]["managedFields"] = [{"manager": "x"}]
    api.refused(BadRequest, api.apply, managed, "m1")
    missing = config(api, cluster="demo")
    missing["metadata"]["uid"] = "x"
    api.refused(Conflict, api.apply, missing, "m1")
    api.apply(body, "m1")
    stale = config(api, cluster="demo", replicas=3)
    stale["metadata"]["resourceVersion"] = "1"
    api.refused(Conflict, api.apply, stale, "m1")
    api.refused(Invalid, api.apply, config(api, cluster="demo", replicas="x"), "m1")
    api.refused(Invalid, api.apply, config(api, cluster="other"), "m1")
    unknown = api.refused(Invalid, api.apply, config(api, cluster="demo", replica=3), "m1", field_validation="Strict")
    assert 'unknown field "spec.replica"' in unknown.message


def test_after_a_reset_what_was_there_belongs_to_a_manager_before_the_first_apply(api: Any) -> None:
    api.make("NodePool", spec={"replicas": 3})
    api.patch("NodePool", "demo", {"metadata": {"managedFields": [{}]}})
    error = api.refused(Conflict, api.apply, config(api, cluster="demo", replicas=4), "m1")
    assert '"before-first-apply"' in error.message


def test_moving_from_client_side_apply_works_as_kubectl_does_it(api: Any) -> None:
    """kubectl apply --server-side renames its own Update entry to an Apply one with a JSON patch, then applies."""
    made = api.create(api.obj("NodePool", spec={"replicas": 2}, labels={"a": "b"}), field_manager="kubectl-client-side-apply")
    entries = [{**made["metadata"]["managedFields"][0], "manager": "kubectl", "operation": "Apply"}]
    patch = [
        {"op": "replace", "path": "/metadata/managedFields", "value": entries},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": made["metadata"]["resourceVersion"]},
    ]
    moved = api.patch("NodePool", "demo", patch, "json", field_manager="kubectl-client-side-apply")
    assert set(owners(moved)) == {"kubectl:Apply"}
    after = api.apply(config(api, cluster="demo", replicas=3), "kubectl")
    assert after["spec"]["replicas"] == 3
    assert "labels" not in after["metadata"]
    stale = api.refused(Conflict, api.patch, "NodePool", "demo", patch, "json")
    assert "has been modified" in stale.message


def test_secrets_are_applied_with_string_data_too(api: Any) -> None:
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "demo"}, "stringData": {"a": "x"}}
    made = api.apply(body, "m1")
    assert made["data"] == {"a": "eA=="}
    assert owners(made) == {"m1:Apply": {".data.a"}}
    assert api.apply(body, "m1") == made


# -- sets of fields ----------------------------------------------------------------------------------------------------------

_NAMES = st.sampled_from(["f:a", "f:b", "f:c"])
_FIELDS = st.recursive(st.just({}), lambda below: st.dictionaries(_NAMES, below, min_size=1, max_size=3), max_leaves=8)


@given(_FIELDS, _FIELDS)
def test_a_union_has_all_and_taking_one_side_away_leaves_none_of_it(a: Any, b: Any) -> None:
    both = fields.union(a, b)
    assert set(fields.paths(fields.minus(both, both))) == set()
    assert fields.union(both, a) is both
    assert set(fields.paths(fields.minus(a, b))) <= set(fields.paths(a))


@given(_FIELDS)
def test_everything_is_common_with_itself(a: Any) -> None:
    assert fields.common(a, a) == a


# -- patches -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ],
)  # fmt: skip
def test_merge_patch_is_that_of_its_rfc(target: Any, patch: Any, result: Any) -> None:
    """The table of RFC 7386, appendix A."""
    assert merge(target, patch) == result


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"data": {"a": "1", "b": "2"}}, {"data": {"a": None, "c": "3"}}, {"data": {"b": "2", "c": "3"}}),
        ({"data": {"a": "1"}}, {"data": {"$patch": "replace", "c": "3"}}, {"data": {"c": "3"}}),
        ({"data": {"a": "1"}}, {"data": {"$patch": "delete"}}, {"data": {}}),
        ({"data": {"a": "1", "b": "2"}}, {"data": {"$retainKeys": ["b", "c"], "c": "3"}}, {"data": {"b": "2", "c": "3"}}),
        ({"finalizers": ["a"]}, {"finalizers": ["b", "a"]}, {"finalizers": ["a", "b"]}),
        ({"finalizers": ["a", "b"]}, {"$deleteFromPrimitiveList/finalizers": ["a"]}, {"finalizers": ["b"]}),
        ({"finalizers": ["a", "b"]}, {"finalizers": None}, {}),
        (
            {"ownerReferences": [{"uid": "1", "name": "x"}, {"uid": "2"}]},
            {"$setElementOrder/ownerReferences": [], "ownerReferences": [
                {"uid": "1", "name": "y"}, {"uid": "2", "$patch": "delete"}, {"uid": "3"}]},
            {"ownerReferences": [{"uid": "1", "name": "y"}, {"uid": "3"}]},
        ),
        ({"ownerReferences": [{"uid": "1"}]}, {"ownerReferences": [{"$patch": "replace"}, {"uid": "2"}]},
         {"ownerReferences": [{"uid": "2"}]}),
        ({"list": [1, 2]}, {"list": [3]}, {"list": [3]}),
    ],
)  # fmt: skip
def test_strategic_merge_knows_the_merge_keys_and_directives_of_the_built_ins(target: Any, patch: Any, result: Any) -> None:
    assert strategic(target, patch) == result


def test_strategic_merge_is_for_built_in_kinds_only(api: Any) -> None:
    api.make("NodePool")
    api.refused(UnsupportedMediaType, api.patch, "NodePool", "demo", {}, "strategic")
    api.create({**api.obj("Secret"), "stringData": {"a": "1", "b": "2"}})
    after = api.patch("Secret", "demo", {"data": {"a": None}}, "strategic")
    assert after["data"] == {"b": "Mg=="}


def test_a_json_patch_changes_and_tests(api: Any) -> None:
    made = api.make("NodePool")
    patch = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": made["metadata"]["resourceVersion"]},
        {"op": "replace", "path": "/spec/replicas", "value": 4},
        {"op": "add", "path": "/metadata/labels", "value": {"a": "b"}},
    ]
    after = api.patch("NodePool", "demo", patch, "json")
    assert (after["spec"]["replicas"], after["metadata"]["labels"]) == (4, {"a": "b"})
    error = api.refused(Invalid, api.patch, "NodePool", "demo", patch, "json")
    assert error.causes == ()


@pytest.mark.parametrize(
    "patch",
    [
        [{"op": "remove", "path": "/spec/nothing"}], [{"op": "bogus", "path": "/spec"}], [{"path": "/spec"}], [5], [None],
        [{"op": "replace", "path": "spec", "value": 1}], [{"op": "add", "path": "/spec/replicas/x", "value": 1}],
        [{"op": "copy", "from": "/none", "path": "/spec/x"}], [{"op": "move", "path": "/spec/x"}],
        [{"op": "add", "path": "/spec/taints/7", "value": 1}], [{"op": "replace", "path": 5, "value": 1}],
    ],
)  # fmt: skip
def test_a_json_patch_that_cannot_be_done_is_invalid(api: Any, patch: Any) -> None:
    api.make("NodePool")
    api.refused(Invalid, api.patch, "NodePool", "demo", patch, "json")


def test_a_patch_of_the_wrong_shape_is_a_bad_request(api: Any) -> None:
    api.make("NodePool")
    api.refused(BadRequest, api.patch, "NodePool", "demo", {"op": "add"}, "json")
    api.refused(BadRequest, api.patch, "NodePool", "demo", [], "merge")
    api.refused(BadRequest, api.patch, "NodePool", "demo", [{"op": "replace", "path": "", "value": 5}], "json")
    api.refused(BadRequest, api.patch, "NodePool", "demo", {"metadata": {"name": "other"}})
    api.refused(BadRequest, api.patch, "NodePool", "demo", {"kind": None})


def test_a_json_patch_that_doubles_itself_is_stopped(api: Any) -> None:
    api.make("Provider", spec={"config": {"a": ["x" * 1000]}})
    patch = [{"op": "copy", "from": "/spec/config/a", "path": "/spec/config/a/-"} for _ in range(60)]
    api.refused(BadRequest, api.patch, "Provider", "demo", patch, "json")
