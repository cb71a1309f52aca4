"""Garbage, truncated and oversized requests: the server answers or hangs up, goes on, and tells nothing about itself."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kubeup_core.server.auth import Redact
from kubeup_core.testing.served import TOKEN, ServedApi

SECRETS = "/api/v1/namespaces/default/secrets"
VOLUMES = "/apis/kubeup.dev/v1alpha1/namespaces/default/volumes"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApi]:
    with ServedApi(tmp_path_factory.mktemp("served")) as served:
        yield served
        assert served.http.get("/healthz").text == "ok", "the server did not survive"


def exchange(api: ServedApi, data: bytes) -> bytes:
    """What comes back for raw bytes, until the server hangs up."""
    plain = socket.create_connection(("127.0.0.1", api.server.port), timeout=20)
    with api.tls.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
        received = b""
        try:
            connection.sendall(data)
            while part := connection.recv(65536):
                received += part
        except (ConnectionError, ssl.SSLError):
            pass
        return received


def hang_up_after(api: ServedApi, data: bytes) -> None:
    plain = socket.create_connection(("127.0.0.1", api.server.port), timeout=20)
    with api.tls.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
        connection.sendall(data)


def head(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join(
        [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {TOKEN}", "Connection: close", *lines, "", ""]
    ).encode()


def test_a_body_that_is_too_large_is_refused_and_not_stored(api: ServedApi) -> None:
    before = api.store.rv()
    for size in (3 * 2**20 + 1, 20 * 2**20):
        answer = api.http.post(SECRETS, content=b'{"a":"' + b"x" * size + b'"}')
        assert (answer.status_code, answer.json()["reason"]) == (413, "RequestEntityTooLarge")
    assert api.store.rv() == before


def test_a_body_without_length_is_refused_as_soon_as_it_is_too_large(api: ServedApi) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 100_000

    try:
        answer = api.http.post(SECRETS, content=parts())
    except httpx.TransportError:
        return  # It hung up while the client was still sending.
    assert answer.status_code == 413


def test_a_body_at_the_limit_is_read(api: ServedApi) -> None:
    text = b'{"a":"' + b"x" * (3 * 2**20 - 8) + b'"}'
    assert len(text) == 3 * 2**20
    assert api.http.post(SECRETS, content=text).json()["reason"] == "BadRequest"


@pytest.mark.parametrize("body", [b'{"a":' * 100_000, b"[" * 1_000_000, b'{"a":' * 900 + b"1" + b"}" * 900])
@pytest.mark.parametrize("content_type", ["application/json", "application/yaml"])
def test_deep_nesting_is_a_bad_request(api: ServedApi, body: bytes, content_type: str) -> None:
    answer = api.http.post(SECRETS, content=body, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["reason"]) == (400, "BadRequest")


def test_a_deep_patch_is_a_bad_request(api: ServedApi) -> None:
    made = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "deep"}}
    api.http.post(SECRETS, json=made)
    body = b'{"data":' + b'{"a":' * 900 + b"1" + b"}" * 901
    for media in ("merge-patch+json", "strategic-merge-patch+json", "apply-patch+yaml"):
        headers = {"Content-Type": f"application/{media}"}
        answer = api.http.patch(f"{SECRETS}/deep?fieldManager=me", content=body, headers=headers)
        assert (answer.status_code, answer.json()["reason"]) == (400, "BadRequest"), media


def test_a_truncated_body_stores_nothing(api: ServedApi) -> None:
    before = api.store.rv()
    body = b'{"apiVersion":"v1","kind":"Secret","metadata":{"name":"cut"}}'
    data = head("POST", SECRETS, "Content-Type: application/json", f"Content-Length: {len(body) + 10}") + body
    hang_up_after(api, data)
    assert api.http.get(SECRETS).status_code == 200
    assert api.store.rv() == before


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 100, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00",
        b"GET /%zz%ff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"b" * 1_000_000,
    ],
)  # fmt: skip
def test_garbage_gets_an_error_or_a_closed_connection(api: ServedApi, data: bytes) -> None:
    answer = exchange(api, data)
    assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), answer[:100]
    assert b"Traceback" not in answer


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"GET / HT",
        b"PRI * HTTP/2.0\r\n\r\n",
        head("POST", SECRETS, "Transfer-Encoding: chunked") + b"5\r\nab",
        b"G" * 1000,
    ],
)
def test_a_client_that_hangs_up_in_the_middle_harms_nobody(api: ServedApi, data: bytes) -> None:
    hang_up_after(api, data)
    assert api.http.get(SECRETS).status_code == 200


def test_headers_have_a_limit_and_what_is_below_it_works(api: ServedApi) -> None:
    assert exchange(api, head("GET", "/api", "X: " + "y" * 100_000)).startswith(b"HTTP/1.1 431 ")
    assert exchange(api, head("GET", "/api", "X: " + "y" * 30_000)).startswith(b"HTTP/1.1 200 ")


def test_a_large_body_does_not_count_as_headers(api: ServedApi) -> None:
    body = b'{"a":"' + b"x" * 500_000 + b'"}'
    data = head("POST", SECRETS, "Content-Type: application/json", f"Content-Length: {len(body)}") + body
    assert exchange(api, data).startswith(b"HTTP/1.1 400 ")


def test_paths_that_are_no_text_are_not_found(api: ServedApi) -> None:
    for path in ("%ff%fe", "a%00b", "%2e%2e/%2e%2e/etc/passwd", "x" * 5000):
        answer = api.http.get(f"{VOLUMES}/{path}")
        assert answer.status_code == 404, path
        assert "Traceback" not in answer.text


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.binary(max_size=300) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    media=st.sampled_from(
        ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/merge-patch+json",
         "application/json-patch+json", "application/apply-patch+yaml", "application/strategic-merge-patch+json"]
    ),
    method=st.sampled_from(["POST", "PUT", "PATCH", "DELETE"]),
)  # fmt: skip
def test_no_bytes_make_an_internal_error(api: ServedApi, body: bytes, media: str, method: str) -> None:
    path = SECRETS if method == "POST" else f"{SECRETS}/fuzz"
    prefix = b"k8s\x00" if media.endswith("protobuf") else b""
    answer = api.http.request(method, path, content=prefix + body, headers={"Content-Type": media})
    assert answer.status_code < 500, (answer.text, body)
    assert "Traceback" not in answer.text


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(field=st.sampled_from(["metadata", "spec", "status", "data", "stringData", "labels", "finalizers", "name"]), value=_JSON)
def test_no_value_makes_an_internal_error(api: ServedApi, field: str, value: Any) -> None:
    for kind, path, version in (("Secret", SECRETS, "v1"), ("NodePool", VOLUMES.replace("volumes", "nodepools"), None)):
        body: dict[str, Any] = {"apiVersion": version or "kubeup.dev/v1alpha1", "kind": kind, "metadata": {"name": "a"}}
        if field in ("labels", "finalizers", "name"):
            body["metadata"][field] = value
        else:
            body[field] = value
        for method, where in (("POST", path), ("PUT", f"{path}/a")):
            answer = api.http.request(method, f"{where}?dryRun=All", json=body)
            assert answer.status_code < 500, (answer.text, body)


def test_a_fault_inside_is_a_status_with_an_id_that_is_in_the_log(
    api: ServedApi, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> bytes:
        raise RuntimeError(f"the secret is hunter{1 + 1}")

    monkeypatch.setattr(api.verbs, "get", fail)
    with caplog.at_level(logging.ERROR):
        answer = api.http.get(f"{SECRETS}/a")
    status = answer.json()
    assert (answer.status_code, status["reason"]) == (500, "InternalError")
    number = status["message"].split()[-1]
    assert number in caplog.text
    assert "RuntimeError" in caplog.text
    for hidden in ("hunter2", TOKEN):
        assert hidden not in caplog.text
        assert hidden not in answer.text


def test_tokens_are_taken_out_of_log_lines(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("kubeup_core.tests.redact")
    logger.addFilter(Redact("abc123"))
    with caplog.at_level(logging.INFO):
        logger.info("Authorization: %s and %s", "Bearer other", "abc123")
        logger.info("nothing to hide: %d", 1)
    assert caplog.messages == ["Authorization: Bearer *** and ***", "nothing to hide: 1"]


def test_requests_leave_no_line_in_the_log(api: ServedApi, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        api.http.get(VOLUMES)
    assert not [record for record in caplog.records if record.name.startswith(("uvicorn", "kubeup"))]
