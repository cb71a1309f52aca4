"""The wire protocol: paths, methods, content types, errors and metadata as Kubernetes' clients expect them."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from itertools import count
from typing import Any

import httpx
import orjson
import pytest
import yaml
from kubeup_core.testing.served import ServedApi

VOLUMES = "/apis/kubeup.dev/v1alpha1/namespaces/default/volumes"
POOLS = "/apis/kubeup.dev/v1alpha1/namespaces/default/nodepools"
SECRETS = "/api/v1/namespaces/default/secrets"
NEW_EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
numbers = count()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApi]:
    with ServedApi(tmp_path_factory.mktemp("served")) as served:
        yield served


@pytest.fixture
def http(api: ServedApi) -> httpx.Client:
    return api.http


@pytest.fixture
def name() -> str:
    return f"v{next(numbers)}"


def volume(name: str, **spec: Any) -> dict[str, Any]:
    spec = {"cluster": "demo", "size": "10Gi", **spec}
    return {"apiVersion": "kubeup.dev/v1alpha1", "kind": "Volume", "metadata": {"name": name}, "spec": spec}


def pool(name: str, **spec: Any) -> dict[str, Any]:
    spec = {"cluster": "demo", **spec}
    return {"apiVersion": "kubeup.dev/v1alpha1", "kind": "NodePool", "metadata": {"name": name}, "spec": spec}


def secret(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"a": "b"}}


def status_of(answer: httpx.Response, code: int, reason: str) -> dict[str, Any]:
    assert answer.status_code == code, answer.text
    status: dict[str, Any] = answer.json()
    assert (status["kind"], status["apiVersion"], status["status"]) == ("Status", "v1", "Failure")
    assert (status["reason"], status["code"]) == (reason, code), answer.text
    assert status["message"]
    return status


# -- who may ask -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/version"])
def test_health_and_version_are_told_to_everybody(api: ServedApi, path: str) -> None:
    with api.session({}) as anonymous:
        assert anonymous.get(path).status_code == 200


@pytest.mark.parametrize(
    "path", ["/", "/api", "/apis", "/api/v1/namespaces", "/openapi/v3", "/docs", "/openapi.json", "/nothing", VOLUMES]
)
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic YTpi"}])
def test_everything_else_needs_the_token(api: ServedApi, path: str, headers: dict[str, str]) -> None:
    with api.session(headers) as anonymous:
        status_of(anonymous.get(path), 401, "Unauthorized")


def test_a_write_without_the_token_changes_nothing(api: ServedApi, name: str) -> None:
    before = api.store.rv()
    with api.session({}) as anonymous:
        status_of(anonymous.post(VOLUMES, json=volume(name)), 401, "Unauthorized")
    assert api.store.rv() == before


# -- paths and methods -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/apis/kubeup.dev/v1alpha1/nothings"),
        ("GET", "/apis/nobody.dev/v1/volumes"),
        ("GET", "/apis/kubeup.dev/v9/volumes"),
        ("GET", "/apis/kubeup.dev/v1alpha1/volumes/name-without-namespace"),
        ("GET", f"{VOLUMES}/a/status/more"),
        ("GET", "/api/v1/namespaces//secrets"),
        ("GET", "/api/v9/"),
        ("GET", "/openapi/v2"),
        ("GET", "/openapi/v3/apis/nobody.dev/v1"),
        ("GET", "/anything"),
        ("POST", "/apis/kubeup.dev/v1alpha1/volumes"),
        ("DELETE", "/apis/kubeup.dev/v1alpha1/volumes"),
    ],
)
def test_what_there_is_not_is_404_in_plain_text(http: httpx.Client, method: str, path: str) -> None:
    answer = http.request(method, path)
    assert (answer.status_code, answer.text) == (404, "404 page not found\n")
    assert answer.headers["content-type"].startswith("text/plain")


def test_an_unknown_subresource_is_a_status(http: httpx.Client, name: str) -> None:
    http.post(VOLUMES, json=volume(name))
    status = status_of(http.get(f"{VOLUMES}/{name}/bogus"), 404, "NotFound")
    assert status["details"] == {"name": name, "group": "kubeup.dev", "kind": "volumes"}
    status_of(http.get(f"{VOLUMES}/{name}/scale"), 404, "NotFound")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", VOLUMES), ("PATCH", VOLUMES), ("OPTIONS", VOLUMES), ("POST", f"{VOLUMES}/x"),
        ("POST", f"{VOLUMES}/x/status"), ("DELETE", f"{VOLUMES}/x/status"), ("DELETE", "/api/v1/namespaces"),
    ],
)  # fmt: skip
def test_a_wrong_method_is_405(http: httpx.Client, method: str, path: str) -> None:
    status = status_of(http.request(method, path), 405, "MethodNotAllowed")
    assert status["details"]["kind"] in ("volumes", "namespaces")


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/api"), ("POST", "/healthz"), ("POST", "/apis/kubeup.dev/v1alpha1"), ("DELETE", "/version")]
)
def test_discovery_and_health_are_only_read(http: httpx.Client, method: str, path: str) -> None:
    assert http.request(method, path).status_code == 405


@pytest.mark.parametrize("query", ["pretty=true", "timeout=2s", "hash=1", "whatever=%ff&&=x;", "limit="])
def test_unknown_parameters_are_ignored(http: httpx.Client, query: str) -> None:
    assert http.get(f"{VOLUMES}?{query}").status_code == 200


# -- content types -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/json", "application/json"), ("*/*", "application/json"), ("", "application/json"),
        ("application/yaml", "application/yaml"), ("application/vnd.kubernetes.protobuf,application/json", "application/json"),
        ("text/html, application/yaml;q=0.5, application/json", "application/yaml"),
        ("application/json;as=Nonsense;v=v1;g=meta.k8s.io,application/json", "application/json"),
    ],
)  # fmt: skip
def test_the_first_accepted_form_is_answered(http: httpx.Client, accept: str, content_type: str) -> None:
    answer = http.get("/api/v1/namespaces/default", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == content_type
    body = yaml.safe_load(answer.text) if content_type.endswith("yaml") else answer.json()
    assert (body["kind"], body["metadata"]["name"]) == ("Namespace", "default")


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("/api/v1/namespaces", "text/html"),
        ("/api/v1/namespaces", "application/vnd.kubernetes.protobuf"),
        ("/api/v1/namespaces", "application/json;as=Nonsense;v=v1;g=meta.k8s.io"),
        ("/api/v1/namespaces", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"),
        ("/api/v1/namespaces/default", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"),
        ("/api/v1/namespaces", "application/json;as=Table;v=v7;g=meta.k8s.io"),
    ],
)
def test_what_cannot_be_answered_is_406(http: httpx.Client, path: str, accept: str) -> None:
    status_of(http.get(path, headers={"Accept": accept}), 406, "NotAcceptable")


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", ""])
def test_a_body_is_json_also_when_it_does_not_say_so(http: httpx.Client, name: str, content_type: str) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = http.post(VOLUMES, content=orjson.dumps(volume(name)), headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.json()["metadata"]["generation"] == 1


def test_a_body_may_be_yaml_and_dates_in_it_stay_text(http: httpx.Client, name: str) -> None:
    body = volume(name) | {"metadata": {"name": name, "annotations": {"day": "DAY"}}}
    text = yaml.safe_dump(body).replace("DAY", "2026-01-02")
    answer = http.post(VOLUMES, content=text, headers={"Content-Type": "application/yaml"})
    assert answer.status_code == 201, answer.text
    assert answer.json()["metadata"]["annotations"]["day"] == "2026-01-02"


@pytest.mark.parametrize(
    ("method", "path", "content_type"),
    [
        ("POST", VOLUMES, "text/plain"),
        ("POST", VOLUMES, "application/vnd.kubernetes.protobuf"),
        ("PUT", f"{VOLUMES}/x", "application/xml"),
        ("PATCH", f"{VOLUMES}/x", "application/json"),
        ("PATCH", f"{VOLUMES}/x", ""),
        ("PATCH", f"{VOLUMES}/x", "application/strategic-merge-patch+json"),
    ],
)
def test_another_content_type_is_415(http: httpx.Client, method: str, path: str, content_type: str) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    status = status_of(http.request(method, path, content=b"{}", headers=headers), 415, "UnsupportedMediaType")
    assert "application/" in status["message"]


def test_built_in_kinds_take_strategic_merge_patches(http: httpx.Client, name: str) -> None:
    http.post(SECRETS, json=secret(name))
    headers = {"Content-Type": "application/strategic-merge-patch+json"}
    answer = http.patch(f"{SECRETS}/{name}", content=b'{"stringData":{"c":"d"}}', headers=headers)
    assert answer.json()["data"] == {"a": "Yg==", "c": "ZA=="}


def test_a_merge_patch_must_be_json_and_an_apply_may_be_yaml(http: httpx.Client, name: str) -> None:
    http.post(VOLUMES, json=volume(name))
    merge = {"Content-Type": "application/merge-patch+json"}
    status_of(http.patch(f"{VOLUMES}/{name}", content=b"spec:\n  size: 20Gi\n", headers=merge), 400, "BadRequest")
    apply = {"Content-Type": "application/apply-patch+yaml"}
    text = yaml.safe_dump(volume(f"{name}-b"))
    answer = http.patch(f"{VOLUMES}/{name}-b?fieldManager=me", content=text, headers=apply)
    assert answer.status_code == 201, answer.text
    entry = answer.json()["metadata"]["managedFields"][0]
    assert (entry["manager"], entry["operation"]) == ("me", "Apply")


def test_large_answers_are_compressed_when_the_client_takes_it(http: httpx.Client, name: str) -> None:
    for i in range(3):
        body = secret(f"{name}-{i}") | {"stringData": {"a": "x" * 60_000}}
        assert http.post(SECRETS, json=body).status_code == 201
    with http.stream("GET", SECRETS, headers={"Accept-Encoding": "gzip"}) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    assert len(orjson.loads(gzip.decompress(raw))["items"]) >= 3
    answer = http.get(SECRETS, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in answer.headers


# -- errors ------------------------------------------------------------------------------------------------------------


def test_errors_say_what_kubectl_shows(http: httpx.Client, name: str) -> None:
    missing = status_of(http.get(f"{VOLUMES}/{name}"), 404, "NotFound")
    assert missing["message"] == f'volumes.kubeup.dev "{name}" not found'
    assert missing["details"] == {"name": name, "group": "kubeup.dev", "kind": "volumes"}
    assert http.post(VOLUMES, json=volume(name)).status_code == 201
    twice = status_of(http.post(VOLUMES, json=volume(name)), 409, "AlreadyExists")
    assert twice["message"] == f'volumes.kubeup.dev "{name}" already exists'
    bad = status_of(http.post(VOLUMES, json=volume(f"{name}-b", size=4)), 422, "Invalid")
    assert bad["details"]["kind"] == "Volume"
    assert bad["details"]["causes"][0]["field"] == "spec.size"
    obj = http.get(f"{VOLUMES}/{name}").json()
    obj["spec"]["size"] = "20Gi"
    assert http.put(f"{VOLUMES}/{name}", json=obj).status_code == 200
    stale = status_of(http.put(f"{VOLUMES}/{name}", json=obj), 409, "Conflict")
    assert stale["message"].startswith(f'Operation cannot be fulfilled on volumes.kubeup.dev "{name}": the object has been')
    assert "group" not in status_of(http.get(f"{SECRETS}/{name}"), 404, "NotFound")["details"]


BAD_BODIES = [
    b"",
    b" ",
    b"{",
    b"null",
    b"[]",
    b'"text"',
    b"\xff\xfe",
    b'{"a": NaN}',
    b'{"kind": "\xc3\x28"}',
    b"{}",
    b"[" * 3000,
]


@pytest.mark.parametrize("body", BAD_BODIES)
def test_a_body_that_is_no_object_is_a_bad_request(api: ServedApi, http: httpx.Client, body: bytes) -> None:
    before = api.store.rv()
    headers = {"Content-Type": "application/json"}
    status_of(http.post(VOLUMES, content=body, headers=headers), 400, "BadRequest")
    status_of(http.put(f"{VOLUMES}/x", content=body, headers=headers), 400, "BadRequest")
    assert api.store.rv() == before


@pytest.mark.parametrize(
    "text",
    ["a: [", "a: *b", "a: &x [1]\nb: *x", "!!python/object:os.system {}", "[" * 500, "? {a: b}\n: c", "- a\n- b", "1:2:3"],
)
def test_yaml_that_is_no_object_is_a_bad_request(http: httpx.Client, text: str) -> None:
    headers = {"Content-Type": "application/yaml"}
    status_of(http.post(VOLUMES, content=text.encode(), headers=headers), 400, "BadRequest")


def test_fields_that_stand_twice_are_refused_or_warned_of(http: httpx.Client, name: str) -> None:
    text = orjson.dumps(volume(name)).replace(b'"size":"10Gi"', b'"size":"10Gi","size":"11Gi"')
    headers = {"Content-Type": "application/json"}
    status = status_of(http.post(f"{VOLUMES}?fieldValidation=Strict", content=text, headers=headers), 400, "BadRequest")
    assert 'duplicate field "spec.size"' in status["message"]
    answer = http.post(VOLUMES, content=text, headers=headers)
    assert answer.status_code == 201
    assert 'duplicate field \\"spec.size\\"' in answer.headers["warning"]


def test_unknown_fields_are_refused_warned_of_or_dropped(http: httpx.Client, name: str) -> None:
    body = volume(name, bogus=1)
    status = status_of(http.post(f"{VOLUMES}?fieldValidation=Strict", json=body), 400, "BadRequest")
    assert 'unknown field "spec.bogus"' in status["message"]
    answer = http.post(f"{VOLUMES}?dryRun=All", json=body)
    assert answer.headers["warning"].startswith('299 - "unknown field \\"spec.bogus\\"')
    answer = http.post(f"{VOLUMES}?fieldValidation=Ignore", json=body)
    assert "warning" not in answer.headers
    assert "bogus" not in answer.json()["spec"]


def test_a_warning_cannot_carry_a_header(http: httpx.Client, name: str) -> None:
    answer = http.post(VOLUMES, json=volume(name, **{'x"\r\nset-cookie: a=b': 1, "größe": 2}))
    assert answer.status_code == 201
    assert "set-cookie" not in answer.headers
    assert len(answer.headers.get_list("warning")) == 2


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", f"{VOLUMES}?dryRun=Some", "CreateOptions"),
        ("POST", f"{VOLUMES}?fieldValidation=Sometimes", "CreateOptions"),
        ("POST", f"{VOLUMES}?fieldManager={'m' * 129}", "CreateOptions"),
        ("POST", f"{VOLUMES}?fieldManager=a%07b", "CreateOptions"),
        ("PATCH", f"{VOLUMES}/x?force=true", "PatchOptions"),
        ("DELETE", f"{VOLUMES}/x?propagationPolicy=Sideways", "DeleteOptions"),
        ("DELETE", f"{VOLUMES}/x?dryRun=Some", "DeleteOptions"),
        ("DELETE", f"{VOLUMES}/x?propagationPolicy=Orphan&orphanDependents=true", "DeleteOptions"),
    ],
)
def test_bad_options_are_422(http: httpx.Client, method: str, path: str, kind: str) -> None:
    headers = {"Content-Type": "application/merge-patch+json"} if method == "PATCH" else {}
    body = b"{}" if method == "PATCH" else orjson.dumps(volume("x")) if method == "POST" else b""
    status = status_of(http.request(method, path, content=body, headers=headers), 422, "Invalid")
    assert (status["details"]["group"], status["details"]["kind"]) == ("meta.k8s.io", kind)


def test_apply_needs_a_field_manager(http: httpx.Client, name: str) -> None:
    headers = {"Content-Type": "application/apply-patch+yaml"}
    status = status_of(http.patch(f"{VOLUMES}/{name}", json=volume(name), headers=headers), 422, "Invalid")
    assert status["details"]["causes"][0]["field"] == "fieldManager"


@pytest.mark.parametrize(
    "query",
    ["limit=x", "limit=99999999999999999999", "continue=garbage", "labelSelector=a%20b", "fieldSelector=spec.size=1",
     "resourceVersion=x", "watch=true&resourceVersion=x", "watch=true&timeoutSeconds=x", "watch=true&labelSelector=!!"],
)  # fmt: skip
def test_bad_list_options_are_400(http: httpx.Client, query: str) -> None:
    status_of(http.get(f"{VOLUMES}?{query}"), 400, "BadRequest")


def test_a_state_that_does_not_exist_yet_is_504(http: httpx.Client) -> None:
    answer = http.get(f"{VOLUMES}?resourceVersion=999999999")
    status = status_of(answer, 504, "Timeout")
    assert status["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    assert answer.headers["retry-after"] == "1"


# -- objects -----------------------------------------------------------------------------------------------------------


def test_a_list_is_paged_and_all_pages_show_one_state(http: httpx.Client) -> None:
    http.post("/api/v1/namespaces", json={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "pages"}})
    path = "/apis/kubeup.dev/v1alpha1/namespaces/pages/volumes"
    for i in range(5):
        http.post(path, json=volume(f"p{i}"))
    first = http.get(f"{path}?limit=2").json()
    assert (first["kind"], first["metadata"]["remainingItemCount"]) == ("VolumeList", 3)
    http.post(path, json=volume("p9"))
    names = [item["metadata"]["name"] for item in first["items"]]
    token = first["metadata"]["continue"]
    while token:
        page = http.get(path, params={"limit": 2, "continue": token}).json()
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        names += [item["metadata"]["name"] for item in page["items"]]
        token = page["metadata"].get("continue")
    assert names == ["p0", "p1", "p2", "p3", "p4"]


def test_an_empty_list_has_items(http: httpx.Client) -> None:
    answer = http.get("/apis/kubeup.dev/v1alpha1/namespaces/nowhere/volumes").json()
    assert answer["items"] == []
    assert answer["metadata"]["resourceVersion"].isdigit()


def test_dry_run_answers_and_stores_nothing(api: ServedApi, http: httpx.Client, name: str) -> None:
    before = api.store.rv()
    answer = http.post(f"{VOLUMES}?dryRun=All", json=volume(name))
    assert answer.status_code == 201
    assert answer.json()["metadata"]["uid"]
    assert api.store.rv() == before
    http.post(VOLUMES, json=volume(name))
    before = api.store.rv()
    assert http.request("DELETE", f"{VOLUMES}/{name}", json={"dryRun": ["All"]}).status_code == 200
    assert api.store.rv() == before


def test_a_delete_answers_with_a_status_or_with_the_object_that_is_held(http: httpx.Client, name: str) -> None:
    free = http.post(VOLUMES, json=volume(name)).json()
    answer = http.delete(f"{VOLUMES}/{name}").json()
    assert (answer["kind"], answer["status"]) == ("Status", "Success")
    assert answer["details"] == {"name": name, "group": "kubeup.dev", "kind": "volumes", "uid": free["metadata"]["uid"]}
    held = volume(name) | {"metadata": {"name": name, "finalizers": ["kubeup.dev/volume"]}}
    http.post(VOLUMES, json=held)
    answer = http.delete(f"{VOLUMES}/{name}").json()
    assert (answer["kind"], answer["metadata"]["deletionGracePeriodSeconds"]) == ("Volume", 0)
    headers = {"Content-Type": "application/merge-patch+json"}
    answer = http.patch(f"{VOLUMES}/{name}", content=b'{"metadata":{"finalizers":null}}', headers=headers)
    assert answer.status_code == 200
    assert http.get(f"{VOLUMES}/{name}").status_code == 404


def test_delete_options_come_in_the_body_or_in_the_query(http: httpx.Client, name: str) -> None:
    http.post(VOLUMES, json=volume(name))
    wrong = {"preconditions": {"uid": "another"}}
    status_of(http.request("DELETE", f"{VOLUMES}/{name}", json=wrong), 409, "Conflict")
    answer = http.delete(f"{VOLUMES}/{name}?propagationPolicy=Foreground").json()
    assert answer["metadata"]["finalizers"] == ["foregroundDeletion"]
    for bad in ([], {"kind": "Pod"}, {"preconditions": 1}, {"preconditions": {"uid": 1}}, {"dryRun": "All"}):
        status_of(http.request("DELETE", f"{VOLUMES}/{name}", json=bad), 400, "BadRequest")


def test_a_collection_is_deleted_by_selector(http: httpx.Client, name: str) -> None:
    for i in range(3):
        body = volume(f"{name}-{i}")
        body["metadata"]["labels"] = {"batch": name, "odd": str(i % 2)}
        http.post(VOLUMES, json=body)
    answer = http.delete(VOLUMES, params={"labelSelector": f"batch={name},odd=0"}).json()
    assert (answer["kind"], len(answer["items"])) == ("VolumeList", 2)
    left = http.get(VOLUMES, params={"labelSelector": f"batch={name}"}).json()["items"]
    assert [item["metadata"]["name"] for item in left] == [f"{name}-1"]


def test_a_scale_is_read_and_written(http: httpx.Client, name: str) -> None:
    http.post(POOLS, json=pool(name, replicas=2))
    scale = http.get(f"{POOLS}/{name}/scale").json()
    assert (scale["kind"], scale["apiVersion"], scale["spec"]) == ("Scale", "autoscaling/v1", {"replicas": 2})
    scale["spec"]["replicas"] = 5
    # kubectl sends this PUT without a content type.
    assert http.put(f"{POOLS}/{name}/scale", content=orjson.dumps(scale)).json()["spec"] == {"replicas": 5}
    headers = {"Content-Type": "application/merge-patch+json"}
    assert http.patch(f"{POOLS}/{name}/scale", content=b'{"spec":{"replicas":0}}', headers=headers).json()["spec"] == {}
    assert http.get(f"{POOLS}/{name}").json()["spec"]["replicas"] == 0


def test_the_field_manager_is_the_parameter_or_the_program(http: httpx.Client, name: str) -> None:
    obj = http.post(VOLUMES, json=volume(name), headers={"User-Agent": "prog/1.2 (linux)"}).json()
    assert [entry["manager"] for entry in obj["metadata"]["managedFields"]] == ["prog"]
    obj = http.post(f"{VOLUMES}?fieldManager=mine", json=volume(f"{name}-b")).json()
    assert [entry["manager"] for entry in obj["metadata"]["managedFields"]] == ["mine"]


def test_a_namespace_may_be_finalized_as_its_controllers_do_it(http: httpx.Client, name: str) -> None:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    http.post("/api/v1/namespaces", json=body)
    obj = http.delete(f"/api/v1/namespaces/{name}").json()
    assert obj["status"]["phase"] == "Terminating"
    refused = status_of(http.post(f"/api/v1/namespaces/{name}/secrets", json=secret("x")), 403, "Forbidden")
    assert refused["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    obj["spec"]["finalizers"] = []
    assert http.put(f"/api/v1/namespaces/{name}/finalize", json=obj).status_code == 200
    assert http.get(f"/api/v1/namespaces/{name}").status_code == 404
    status_of(http.get("/api/v1/namespaces/default/finalize"), 405, "MethodNotAllowed")


# -- events and leases -------------------------------------------------------------------------------------------------


def test_events_have_one_store_and_two_shapes(http: httpx.Client, name: str) -> None:
    body = {
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": name}, "note": "hello", "reason": "Said",
        "regarding": {"kind": "Volume", "name": "v", "namespace": "default"}, "eventTime": "2026-01-01T00:00:00.000001Z",
        "reportingController": "me", "reportingInstance": "me-1", "action": "Say", "type": "Normal",
    }  # fmt: skip
    assert http.post(NEW_EVENTS, json=body).status_code == 201
    core = http.get(f"/api/v1/namespaces/default/events/{name}").json()
    assert (core["message"], core["involvedObject"]["name"], core["reportingComponent"]) == ("hello", "v", "me")
    headers = {"Content-Type": "application/strategic-merge-patch+json"}
    patch = {"series": {"count": 2, "lastObservedTime": "2026-01-01T00:01:00.000000Z"}, "note": "again"}
    answer = http.patch(f"{NEW_EVENTS}/{name}", json=patch, headers=headers)
    assert (answer.json()["note"], answer.json()["series"]["count"]) == ("again", 2)
    ops = [{"op": "replace", "path": "/note", "value": "third"}]
    answer = http.patch(f"{NEW_EVENTS}/{name}", json=ops, headers={"Content-Type": "application/json-patch+json"})
    assert answer.json()["apiVersion"] == "events.k8s.io/v1"
    selector = {"fieldSelector": "involvedObject.name=v,involvedObject.kind=Volume,reason=Said"}
    listed = http.get("/api/v1/namespaces/default/events", params=selector).json()["items"]
    assert [event["message"] for event in listed] == ["third"]
    listed = http.get(NEW_EVENTS, params={"fieldSelector": "regarding.name=v"}).json()
    assert (listed["kind"], listed["apiVersion"]) == ("EventList", "events.k8s.io/v1")
    assert [event["note"] for event in listed["items"]] == ["third"]


def test_a_new_event_must_say_who_reports(http: httpx.Client, name: str) -> None:
    body = {"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": name}, "regarding": {}}
    status = status_of(http.post(NEW_EVENTS, json=body), 422, "Invalid")
    assert {cause["field"] for cause in status["details"]["causes"]} >= {"eventTime", "reportingController", "action"}


def test_leases_are_served_for_leader_election(http: httpx.Client, name: str) -> None:
    path = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    spec = {"holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.123456Z"}
    body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": spec}
    made = http.post(path, json=body).json()
    assert made["spec"]["renewTime"] == "2026-01-01T00:00:00.123456Z"
    made["spec"]["holderIdentity"] = "b"
    assert http.put(f"{path}/{name}", json=made).json()["spec"]["holderIdentity"] == "b"
    status_of(http.put(f"{path}/{name}", json=made), 409, "Conflict")


# -- discovery ---------------------------------------------------------------------------------------------------------

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


def test_discovery_lists_the_kinds_plainly(http: httpx.Client) -> None:
    assert http.get("/api").json()["versions"] == ["v1"]
    groups = http.get("/apis").json()["groups"]
    assert http.get("/apis/kubeup.dev").json() == {"kind": "APIGroup", "apiVersion": "v1", **groups[0]}
    resources = {r["name"]: r for r in http.get("/apis/kubeup.dev/v1alpha1").json()["resources"]}
    assert resources["nodepools"]["shortNames"] == ["np"]
    assert resources["nodepools/scale"]["kind"] == "Scale"
    assert resources["volumes/status"]["verbs"] == ["get", "patch", "update"]
    core = {r["name"]: r for r in http.get("/api/v1").json()["resources"]}
    assert "deletecollection" not in core["namespaces"]["verbs"]
    assert "deletecollection" in core["secrets"]["verbs"]


def test_discovery_is_aggregated_when_asked_and_not_sent_twice(http: httpx.Client) -> None:
    answer = http.get("/apis", headers={"Accept": AGGREGATED})
    assert answer.headers["content-type"] == AGGREGATED.partition(",")[0]
    assert (answer.headers["vary"], answer.headers["cache-control"]) == ("Accept", "public")
    items = {item["metadata"]["name"]: item for item in answer.json()["items"]}
    pools = next(r for r in items["kubeup.dev"]["versions"][0]["resources"] if r["resource"] == "nodepools")
    assert (pools["scope"], pools["singularResource"]) == ("Namespaced", "nodepool")
    assert {sub["subresource"] for sub in pools["subresources"]} == {"status", "scale"}
    again = http.get("/apis", headers={"Accept": AGGREGATED, "If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert http.get("/api", headers={"Accept": AGGREGATED}).json()["kind"] == "APIGroupDiscoveryList"


def test_every_object_that_discovery_names_can_be_listed(http: httpx.Client) -> None:
    groups = ["/api/v1", *(f"/apis/{g['preferredVersion']['groupVersion']}" for g in http.get("/apis").json()["groups"])]
    for root in groups:
        for resource in http.get(root).json()["resources"]:
            if "list" in resource["verbs"]:
                answer = http.get(f"{root}/{resource['name']}").json()
                assert answer["kind"] == f"{resource['kind']}List"


def test_the_version_is_one_that_kubectl_knows(http: httpx.Client) -> None:
    version = http.get("/version").json()
    assert (version["major"], version["minor"]) == ("1", "36")
    assert version["gitVersion"].startswith("v1.36.")
    wanted = {"gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"}
    assert wanted <= version.keys()


# -- metadata only -----------------------------------------------------------------------------------------------------


def test_metadata_alone_can_be_had(http: httpx.Client, name: str) -> None:
    http.post(VOLUMES, json=volume(name))
    headers = {"Accept": "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"}
    one = http.get(f"{VOLUMES}/{name}", headers=headers).json()
    assert set(one) == {"kind", "apiVersion", "metadata"}
    assert (one["kind"], one["apiVersion"], one["metadata"]["name"]) == ("PartialObjectMetadata", "meta.k8s.io/v1", name)
    headers = {"Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}
    many = http.get(VOLUMES, headers=headers).json()
    assert many["kind"] == "PartialObjectMetadataList"
    assert all("spec" not in item for item in many["items"])
