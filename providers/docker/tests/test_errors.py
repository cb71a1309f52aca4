"""Which decision each error of the SDK, of HTTP and of the system comes to: the mapping is walked, set by set."""

from __future__ import annotations

import docker.errors
import pytest
import requests
from kubeup_core import Context, Denied, InvalidSpec, NotFound, NotReady, SupplierError, Taken, Unknown
from kubeup_docker import DockerConfig, build, client, sentences

URL = "unix:///nowhere.sock"


def api_error(status: int, sentence: str = "") -> docker.errors.APIError:
    response = requests.Response()
    response.status_code = status
    return docker.errors.APIError("as the SDK says it", response=response, explanation=sentence)


WORDS = [(part, decision) for known, decision, _ in sentences.SENTENCES for part in sorted(known)]


@pytest.mark.parametrize(("part", "decision"), WORDS)
def test_each_known_sentence_is_its_decision_whatever_the_status(part: str, decision: type[SupplierError]) -> None:
    for status in (400, 404, 409, 500):
        found = client.decide(api_error(status, f"Error: {part.title()} (and more)"), URL)
        assert type(found) is decision
        assert found.code == str(status)
        assert part in found.message.lower()


def test_no_sentence_is_in_two_sets() -> None:
    parts = [part for part, _ in WORDS]
    assert len(parts) == len(set(parts))
    assert all(part == part.lower() for part in parts)


@pytest.mark.parametrize(("status", "decision"), [*sentences.STATUSES.items(), (500, Unknown), (502, Unknown), (504, Unknown)])
def test_an_unknown_sentence_is_decided_by_its_status(status: int, decision: type[SupplierError]) -> None:
    assert type(client.decide(api_error(status, "something new"), URL)) is decision


@pytest.mark.parametrize(
    ("sentence", "status", "decision"),
    [
        ('Conflict. The container name "/a" is already in use by container "b". You have to remove that.', 409, Taken),
        ("network with name a already exists", 409, Taken),
        ("removal of container a is already in progress", 409, NotReady),
        ("Container a is not running", 409, NotReady),
        ("No such container: a", 404, NotFound),
        ("OCI runtime create failed: unable to apply caps: operation not permitted: unknown", 500, InvalidSpec),
        ("invalid CapAdd: unknown capability: CAP_BPF", 400, InvalidSpec),
        ("pull access denied for a, repository does not exist or may require 'docker login'", 404, InvalidSpec),
        ("Get https://registry-1.docker.io/v2/: dial tcp: lookup registry-1.docker.io: no such host", 500, NotReady),
    ],
)
def test_what_engines_were_seen_to_say(sentence: str, status: int, decision: type[SupplierError]) -> None:
    assert type(sentences.decide(sentence, status)) is decision


@pytest.mark.parametrize(
    ("error", "decision"),
    [
        (FileNotFoundError(2, "no socket"), NotReady),
        (ConnectionRefusedError(111, "refused"), NotReady),
        (requests.exceptions.ConnectTimeout(), NotReady),
        (PermissionError(13, "no"), Denied),
        (requests.exceptions.ReadTimeout(), Unknown),
        (ConnectionResetError(104, "reset"), Unknown),
        (docker.errors.InvalidRepository("bad"), InvalidSpec),
        (docker.errors.DockerException("odd"), Unknown),
        (NotReady("the budget is spent"), NotReady),
    ],
)
def test_errors_without_a_reply(error: Exception, decision: type[SupplierError]) -> None:
    """Only what happened before anything was sent is known to have had no effect."""
    assert type(client.decide(error, URL)) is decision
    wrapped = docker.errors.DockerException("wrapped")
    wrapped.__cause__ = requests.exceptions.ConnectionError("aborted", error)
    assert type(client.decide(wrapped, URL)) is decision


def test_no_engine_is_told_with_what_to_do() -> None:
    with pytest.raises(NotReady, match=r"no Docker engine answers at unix:///nowhere\.sock") as caught:
        build(DockerConfig(host=URL), Context(installation="i"))
    assert "start Docker" in caught.value.remedy
    assert caught.value.__cause__ is not None


def test_a_host_that_the_sdk_cannot_reach_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "ssh://me@there")
    with pytest.raises(InvalidSpec, match="ssh://me@there") as caught:
        build(DockerConfig(), Context(installation="i"))
    assert caught.value.path == "spec.config.host"
