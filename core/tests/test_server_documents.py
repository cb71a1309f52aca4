"""What the server says of itself and how it prints: OpenAPI, Tables, protobuf bodies, certificates and the kubeconfig."""

from __future__ import annotations

import base64
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import yaml
from cryptography import x509
from kubeup_core.kinds import KINDS
from kubeup_core.server import ensure_certificates, ensure_token, protobuf, write_kubeconfig
from kubeup_core.server.tables import Table, compile_path, duration
from kubeup_core.statuses import BadRequest, UnsupportedMediaType
from kubeup_core.testing.served import ServedApi

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
V1 = "/api/v1/namespaces/default"
GROUP = "/apis/kubeup.dev/v1alpha1/namespaces/default"
NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApi]:
    with ServedApi(tmp_path_factory.mktemp("served")) as served:
        yield served


# -- OpenAPI -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def documents(api: ServedApi) -> dict[str, dict[str, Any]]:
    paths = api.http.get("/openapi/v3").json()["paths"]
    return {key: api.http.get(entry["serverRelativeURL"]).json() for key, entry in paths.items()}


def test_the_index_leads_to_a_document_for_each_group(documents: dict[str, dict[str, Any]]) -> None:
    assert set(documents) == {"api/v1", "apis/kubeup.dev/v1alpha1", "apis/coordination.k8s.io/v1", "apis/events.k8s.io/v1"}
    assert {document["openapi"] for document in documents.values()} == {"3.0.0"}


def test_documents_carry_a_hash_and_are_not_sent_twice(api: ServedApi) -> None:
    for path in ("/openapi/v3", "/openapi/v3/api/v1"):
        etag = api.http.get(path).headers["etag"]
        assert api.http.get(path, headers={"If-None-Match": etag}).status_code == 304


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_each_kind_is_found_by_its_group_version_and_kind(documents: dict[str, dict[str, Any]], kind: Any) -> None:
    document = documents[f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"]
    gvk = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    (schema,) = [s for s in document["components"]["schemas"].values() if gvk in s.get("x-kubernetes-group-version-kind", ())]
    assert schema["description"]
    assert {"apiVersion", "kind", "metadata"} <= schema["properties"].keys()


def test_the_schemas_have_the_names_that_clients_know(documents: dict[str, dict[str, Any]]) -> None:
    assert "dev.kubeup.v1alpha1.NodePool" in documents["apis/kubeup.dev/v1alpha1"]["components"]["schemas"]
    assert "io.k8s.api.core.v1.Secret" in documents["api/v1"]["components"]["schemas"]
    for document in documents.values():
        assert "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta" in document["components"]["schemas"]


def test_a_patch_says_that_the_server_validates(documents: dict[str, dict[str, Any]]) -> None:
    for document in documents.values():
        for item in document["paths"].values():
            if patch := item.get("patch"):
                names = {parameter["name"] for parameter in patch["parameters"]}
                assert {"fieldValidation", "dryRun", "fieldManager", "force"} <= names
                assert "application/apply-patch+yaml" in patch["requestBody"]["content"]


def walk(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from walk(item)


def test_the_documents_are_openapi_3_0_and_complete(documents: dict[str, dict[str, Any]]) -> None:
    for document in documents.values():
        schemas = document["components"]["schemas"]
        for node in walk(schemas):
            if "$ref" in node and isinstance(node["$ref"], str):
                assert set(node) == {"$ref"}, "3.0 ignores what stands beside a reference"
                assert node["$ref"].removeprefix("#/components/schemas/") in schemas
            for limit in ("exclusiveMinimum", "exclusiveMaximum"):
                assert isinstance(node.get(limit, True), bool), "kubectl drops a document with a number here"
            assert "anyOf" not in node
            assert "const" not in node or isinstance(node["const"], dict)
        for node in walk(document["paths"]):
            if isinstance(node.get("$ref"), str):
                assert node["$ref"].removeprefix("#/components/schemas/") in schemas


def test_the_docs_page_shows_all_of_it_to_who_has_the_token(api: ServedApi) -> None:
    whole = api.http.get("/openapi.json").json()
    assert "/apis/kubeup.dev/v1alpha1/namespaces/{namespace}/nodepools/{name}" in whole["paths"]
    assert api.http.get("/docs").headers["content-type"].startswith("text/html")


# -- Tables ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "<invalid>"), (-1, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (200, "3m20s"), (600, "10m"), (10_799, "179m"),
     (10_800, "3h"), (11_160, "3h6m"), (28_800, "8h"), (172_799, "47h"), (172_800, "2d"), (180_000, "2d2h"), (691_200, "8d"),
     (63_072_000, "2y"), (64_000_000, "2y10d"), (400_000_000, "12y")],
)  # fmt: skip
def test_ages_are_printed_as_kubernetes_prints_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_paths_of_columns_lead_to_values_or_nowhere() -> None:
    conditions = [{"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]
    obj = {"status": {"conditions": conditions, "addresses": [{"address": "10.0.0.1"}], "a.b": 1}}
    assert compile_path('.status.conditions[?(@.type=="Ready")].status')(obj) == "True"
    assert compile_path(".status.addresses[0].address")(obj) == "10.0.0.1"
    assert compile_path(".status.a\\.b")(obj) == 1
    for nowhere in (
        ".spec.x",
        ".status.addresses[3].address",
        '.status.conditions[?(@.type=="No")].status',
        ".status.addresses.x",
    ):
        assert compile_path(nowhere)(obj) is None
        assert compile_path(nowhere)({}) is None
    with pytest.raises(ValueError, match="not a path"):
        compile_path("status[*].x")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_every_kind_prints_also_when_nearly_empty(kind: Any) -> None:
    data = orjson.dumps({"metadata": {"name": "a"}})
    table = orjson.loads(Table(kind).encode([data], {}, now=NOW))
    assert len(table["rows"][0]["cells"]) == len(table["columnDefinitions"])
    for column in table["columnDefinitions"]:
        assert column["description"]
        assert column["type"] in ("string", "integer", "number", "boolean")


def table(api: ServedApi, path: str, **params: str) -> dict[str, Any]:
    found: dict[str, Any] = api.http.get(path, params=params, headers={"Accept": TABLE}).json()
    assert (found["kind"], found["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    return found


def test_a_table_has_rows_with_cells_and_what_was_asked_of_the_objects(api: ServedApi) -> None:
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "1", "b": "2"}}
    api.http.post(f"{V1}/secrets", json=body).raise_for_status()
    found = table(api, f"{V1}/secrets")
    assert [column["name"] for column in found["columnDefinitions"]] == ["Name", "Type", "Data", "Age"]
    assert found["columnDefinitions"][0]["format"] == "name"
    (row,) = found["rows"]
    assert row["cells"] == ["s", "Opaque", 2, "0s"]
    assert (row["object"]["kind"], "data" in row["object"]) == ("PartialObjectMetadata", False)
    assert "data" in table(api, f"{V1}/secrets", includeObject="Object")["rows"][0]["object"]
    assert "object" not in table(api, f"{V1}/secrets", includeObject="None")["rows"][0]
    assert table(api, f"{V1}/secrets/s")["rows"][0]["cells"][0] == "s"
    assert table(api, f"{GROUP}/volumes")["rows"] == []
    assert table(api, f"{GROUP}/volumes")["columnDefinitions"]


def test_a_table_is_paged_as_a_list_is(api: ServedApi) -> None:
    for name in ("a", "b", "c"):
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"page-{name}", "labels": {"page": "1"}}}
        api.http.post(f"{V1}/secrets", json=body).raise_for_status()
    first = table(api, f"{V1}/secrets", limit="2", labelSelector="page=1")
    assert len(first["rows"]) == 2
    rest = table(api, f"{V1}/secrets", limit="2", labelSelector="page=1", **{"continue": first["metadata"]["continue"]})
    assert [row["cells"][0] for row in rest["rows"]] == ["page-c"]


# -- protobuf ----------------------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def frame(version: str, kind: str, raw: bytes) -> bytes:
    return protobuf.MAGIC + field(1, field(1, version) + field(2, kind)) + field(2, raw) + field(3, "") + field(4, "")


def time_(seconds: int, nanos: int = 0) -> bytes:
    return field(1, seconds) + field(2, nanos)


META = (
    field(1, "n") + field(2, "") + field(3, "default") + field(7, 0) + field(8, b"") + field(11, field(1, "l") + field(2, "v"))
)
AS_JSON = {"name": "n", "namespace": "default", "labels": {"l": "v"}}


@pytest.mark.parametrize(
    ("version", "kind", "raw", "expected"),
    [
        ("v1", "Namespace", field(1, META) + field(2, field(1, "kubernetes")) + field(3, field(1, "")),
         {"metadata": AS_JSON, "spec": {"finalizers": ["kubernetes"]}, "status": {}}),
        ("v1", "Secret", field(1, META) + field(2, field(1, "k") + field(2, b"\xff")) + field(3, "Opaque") + field(5, 0),
         {"metadata": AS_JSON, "data": {"k": "/w=="}, "type": "Opaque", "immutable": False}),
        ("v1", "Event",
         field(1, META) + field(2, field(1, "Volume") + field(3, "v")) + field(6, time_(60)) + field(8, 3) + field(10, b""),
         {"metadata": AS_JSON, "involvedObject": {"kind": "Volume", "name": "v"}, "count": 3,
          "firstTimestamp": "1970-01-01T00:01:00Z"}),
        ("events.k8s.io/v1", "Event", field(1, META) + field(2, time_(1, 2_000)) + field(10, "hello"),
         {"metadata": AS_JSON, "eventTime": "1970-01-01T00:00:01.000002Z", "note": "hello"}),
        ("coordination.k8s.io/v1", "Lease", field(1, META) + field(2, field(1, "me") + field(2, 15) + field(5, 0)),
         {"metadata": AS_JSON, "spec": {"holderIdentity": "me", "leaseDurationSeconds": 15, "leaseTransitions": 0}}),
        ("authorization.k8s.io/v1", "SelfSubjectAccessReview", field(2, field(1, field(2, "get") + field(5, "volumes"))),
         {"spec": {"resourceAttributes": {"verb": "get", "resource": "volumes"}}}),
        ("authorization.k8s.io/v1", "SelfSubjectRulesReview", field(2, field(1, "default")), {"spec": {"namespace": "default"}}),
        ("authentication.k8s.io/v1", "SelfSubjectReview", field(1, b""), {"metadata": {}}),
        ("autoscaling/v1", "Scale", field(1, META) + field(2, field(1, 0)), {"metadata": AS_JSON, "spec": {"replicas": 0}}),
        ("meta.k8s.io/v1", "DeleteOptions", field(1, 0) + field(2, field(1, "u")) + field(4, "Orphan") + field(5, "All"),
         {"gracePeriodSeconds": 0, "preconditions": {"uid": "u"}, "propagationPolicy": "Orphan", "dryRun": ["All"]}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_protobuf_bodies_become_json(version: str, kind: str, raw: bytes, expected: dict[str, Any]) -> None:
    unknown = field(99, "later") + varint(98 << 3 | 5) + b"abcd" + varint(97 << 3 | 1) + b"abcdefgh" + field(96, 7)
    assert protobuf.decode(frame(version, kind, raw + unknown)) == {"apiVersion": version, "kind": kind, **expected}


def test_all_of_metadata_is_decoded() -> None:
    owner = field(1, "Cluster") + field(3, "c") + field(4, "u") + field(5, "kubeup.dev/v1alpha1") + field(6, 1)
    managed = field(1, "m") + field(2, "Apply") + field(4, time_(0, 0)) + field(7, field(1, '{"f:a":{}}'))
    meta = (
        META
        + field(5, "uid")
        + field(6, "7")
        + field(10, 0)
        + field(13, owner)
        + field(14, "f1")
        + field(14, "f2")
        + field(17, managed)
    )
    found = protobuf.decode(frame("v1", "Secret", field(1, meta)))["metadata"]
    assert found["ownerReferences"] == [
        {"kind": "Cluster", "name": "c", "uid": "u", "apiVersion": "kubeup.dev/v1alpha1", "controller": True}
    ]
    assert (found["finalizers"], found["deletionGracePeriodSeconds"]) == (["f1", "f2"], 0)
    assert found["managedFields"][0]["fieldsV1"] == {"f:a": {}}


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", protobuf.MAGIC + b"\x0a", protobuf.MAGIC + b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
     frame("v1", "Secret", b"\x0a\x05ab"), frame("v1", "Secret", field(1, 5)), frame("v1", "Secret", field(3, b"\xff")),
     frame("v1", "Secret", b"\x0b"), frame("v1", "Event", field(6, time_(2**62)))],
    ids=repr,
)  # fmt: skip
def test_broken_protobuf_is_a_bad_request(data: bytes) -> None:
    with pytest.raises(BadRequest):
        protobuf.decode(data)


def test_kinds_of_ours_are_never_protobuf() -> None:
    with pytest.raises(UnsupportedMediaType, match="send JSON"):
        protobuf.decode(frame("kubeup.dev/v1alpha1", "Cluster", b""))


def test_a_protobuf_body_is_answered_in_json(api: ServedApi) -> None:
    headers = {"Content-Type": protobuf_type, "Accept": f"{protobuf_type},application/json"}
    answer = api.http.post("/api/v1/namespaces", content=frame("v1", "Namespace", field(1, field(1, "proto"))), headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (201, "application/json")
    assert answer.json()["metadata"]["name"] == "proto"
    review = frame("authorization.k8s.io/v1", "SelfSubjectAccessReview", field(2, field(1, field(2, "get"))))
    answer = api.http.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", content=review, headers=headers)
    assert (answer.status_code, answer.json()["status"]["allowed"]) == (201, True)
    options = frame("v1", "DeleteOptions", field(5, "All"))
    answer = api.http.request("DELETE", "/api/v1/namespaces/proto", content=options, headers=headers)
    assert answer.status_code == 200
    assert api.http.get("/api/v1/namespaces/proto").json()["status"]["phase"] == "Active"


protobuf_type = "application/vnd.kubernetes.protobuf"


@pytest.mark.parametrize("body", [{}, {"kind": "SelfSubjectRulesReview", "spec": {"namespace": "default"}}])
def test_reviews_take_json_too(api: ServedApi, body: dict[str, Any]) -> None:
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    assert api.http.post(path, json=body).json()["status"]["incomplete"] is False
    assert api.http.get(path).status_code == 405
    assert api.http.post(path, json={"kind": "Pod"}).status_code == 400


# -- certificates, token, kubeconfig -----------------------------------------------------------------------------------


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_keys_are_private_and_made_once(tmp_path: Path) -> None:
    made = ensure_certificates(tmp_path / "tls", now=NOW)
    before = made.certificate.read_bytes()
    assert ensure_certificates(tmp_path / "tls", now=NOW + 86400).certificate.read_bytes() == before
    assert {mode(file) for file in (tmp_path / "tls").iterdir()} == {0o600}
    assert {file.name for file in (tmp_path / "tls").iterdir()} == {"ca.crt", "ca.key", "server.crt", "server.key"}


def test_certificates_are_renewed_before_they_end_and_when_hosts_change(tmp_path: Path) -> None:
    made = ensure_certificates(tmp_path, now=NOW)
    first, authority = made.certificate.read_bytes(), made.ca.read_bytes()
    ensure_certificates(tmp_path, now=NOW, hosts=("127.0.0.1", "kubeup.example"))
    second = made.certificate.read_bytes()
    names = x509.load_pem_x509_certificate(second).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "kubeup.example" in names.get_values_for_type(x509.DNSName)
    assert (second != first, made.ca.read_bytes() == authority) == (True, True)
    ensure_certificates(tmp_path, now=NOW + 3640 * 86400)
    assert made.ca.read_bytes() != authority


@pytest.mark.parametrize("damaged", ["ca.crt", "ca.key", "server.crt", "server.key"])
def test_a_damaged_file_is_replaced_and_the_chain_holds(tmp_path: Path, damaged: str) -> None:
    made = ensure_certificates(tmp_path, now=NOW)
    (tmp_path / damaged).write_text("garbage")
    ensure_certificates(tmp_path, now=NOW)
    server = x509.load_pem_x509_certificate(made.certificate.read_bytes())
    server.verify_directly_issued_by(x509.load_pem_x509_certificate(made.ca.read_bytes()))
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(made.certificate, made.key)


def test_another_authority_is_not_trusted(api: ServedApi, tmp_path: Path) -> None:
    other = ensure_certificates(tmp_path, now=NOW)
    trusting = ssl.create_default_context(cafile=str(other.ca))
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{api.url}/healthz", verify=trusting, trust_env=False)


def test_the_token_is_made_once_and_private(tmp_path: Path) -> None:
    token = ensure_token(tmp_path / "token")
    assert len(token) >= 32
    assert ensure_token(tmp_path / "token") == token
    assert mode(tmp_path / "token") == 0o600


def test_the_kubeconfig_is_private_and_says_where_and_whom_to_trust(tmp_path: Path) -> None:
    made = ensure_certificates(tmp_path / "tls", now=NOW)
    file = tmp_path / "kubeconfig"
    write_kubeconfig(file, "https://127.0.0.1:1", made.ca, "secret")
    config = yaml.safe_load(file.read_text())
    assert mode(file) == 0o600
    assert config["current-context"] == "kubeup"
    assert config["contexts"][0]["context"] == {"cluster": "kubeup", "user": "kubeup", "namespace": "default"}
    assert base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]) == made.ca.read_bytes()
    assert config["users"][0]["user"] == {"token": "secret"}
