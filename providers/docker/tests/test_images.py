"""Images: which one, getting it without waiting, and making one where there is no registry. On a real engine."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from kubeup_artifacts import build as artifacts
from kubeup_core import NotReady, Outcome
from kubeup_docker import __main__ as command
from kubeup_docker import client, node_image
from kubeup_docker.images import FAMILIES, Images

pytestmark = pytest.mark.docker


class Registry(BaseHTTPRequestHandler):
    """As much of the registry's API (OCI distribution) as one `docker pull` asks for. Engines trust one on 127.0.0.0/8."""

    content: dict[str, tuple[str, bytes]]
    gate: threading.Event

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        if "/blobs/" in self.path:
            self.gate.wait(30)
        kind, body = self.content.get(name, ("text/plain", b""))
        self.send_response(200 if body or self.path == "/v2/" else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if body:
            self.send_header("Docker-Content-Digest", f"sha256:{hashlib.sha256(body).hexdigest()}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[tuple[str, threading.Event]]:
    """A registry with the machine image: its address, and the event that lets the image's bytes come."""
    root = artifacts.machine_image().read_bytes()
    layer = gzip.compress(root, 1)
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [digest(root)]}}
    ).encode()
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": kind,
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "size": len(config),
                "digest": digest(config),
            },
            "layers": [
                {
                    "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                    "size": len(layer),
                    "digest": digest(layer),
                }
            ],
        }
    ).encode()
    content = {body: ("application/octet-stream", data) for data in (config, layer) for body in [digest(data)]}
    content |= {"1": (kind, manifest), digest(manifest): (kind, manifest)}
    gate = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Registry,), {"content": content, "gate": gate}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}", gate
    gate.set()
    server.shutdown()
    thread.join()
    server.server_close()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_a_missing_image_is_pulled_while_nobody_waits(place, registry, settled) -> None:
    address, gate = registry
    image = f"{address}/machine:1"
    launch = place.launch(image=image)
    for _ in range(2):
        with pytest.raises(NotReady, match=f"pulling image {image}") as caught:
            place.machines.launch(launch)
        assert caught.value.retry_after is not None
    assert place.ps() == []
    gate.set()
    settled(lambda: place.engine.call("GET", f"/images/{image}/json", fine=(200, 404)).get("Id"))
    try:
        settled(lambda: place.machines._images._pulls[image].done)
        assert [r.outcome for r in place.machines.launch(launch)] == [Outcome.MADE]
    finally:
        place.engine.remove(place.ps()[0]["Id"])
        place.engine.call("DELETE", f"/images/{image}", fine=(200,))


def test_an_image_that_cannot_be_pulled_is_told_once_per_try_with_what_to_do(place, settled) -> None:
    image = "127.0.0.1:1/none:1"
    launch = place.launch(image=image)
    for _ in range(2):
        with pytest.raises(NotReady, match="pulling image"):
            place.machines.launch(launch)
        settled(lambda: place.machines._images._pulls[image].done)
        with pytest.raises(NotReady, match=r"could not be pulled: .*connection refused") as caught:
            place.machines.launch(launch)
        assert "docker load" in caught.value.remedy
        assert "spec.images" in caught.value.remedy
    assert place.ps() == []


def test_members_that_are_there_are_told_although_the_image_is_gone(place) -> None:
    """A raise would say that nothing was made."""
    launch = place.launch(2)
    first, second = place.machines.launch(launch)
    place.engine.remove(second.id)
    place.rebuild()
    from dataclasses import replace

    changed = replace(launch, offer=replace(launch.offer, image="127.0.0.1:1/none:1"))
    results = place.machines.launch(changed)
    assert (results[0].outcome, results[0].id) == (Outcome.MADE, first.id)
    assert results[1].outcome is Outcome.REFUSED
    assert isinstance(results[1].error, NotReady)


def test_which_image_a_family_comes_to(docker_engine) -> None:
    engine = client.Engine(docker_engine.host, lambda bucket, cost: None)
    made_here, pulled = FAMILIES["debian-12"]
    expected = made_here if engine.image(made_here) else pulled
    try:
        assert Images(engine, None, {}).resolve("debian-12") == expected
        assert Images(engine, "mine:1", {}).resolve("debian-12") == "mine:1"
        assert Images(engine, "mine:1", {"debian-12": "theirs:2"}).resolve("debian-12") == "theirs:2"
        assert not Images(engine, None, {}).known("plan-9")
        assert Images(engine, None, {"plan-9": "x"}).known("plan-9")
    finally:
        engine.close()


@pytest.fixture
def names(docker_engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """What the command will call the image: by its recipe, and by the name that was asked for. Both nobody else's."""
    number = uuid.uuid4().hex[:8]
    monkeypatch.setattr(node_image, "name", lambda: f"kubeup-test/exact:{number}")
    both = f"kubeup-test/exact:{number}", f"kubeup-test/made:{number}"
    yield both
    for name in both:
        docker_engine.call("DELETE", f"/images/{name}", fine=(200, 404))


def small(path: Path, tell: Callable[[str], None]) -> None:
    tell("copying a small one")
    shutil.copyfile(artifacts.machine_image(), path)


def never(path: Path, tell: Callable[[str], None]) -> None:
    raise AssertionError("it was made for nothing")


def test_the_image_command_puts_an_image_on_the_engine_under_two_names(place, names, capsys) -> None:
    exact, name = names
    arguments = ["image", "--host", place.engine.host, "--name", name]
    assert command.main(arguments, make=small) == 0
    said = capsys.readouterr()
    assert said.out == f"{name} is on the engine\n"
    assert "s  copying a small one\n" in said.err
    found = [place.engine.call("GET", f"/images/{n}/json") for n in (exact, name)]
    assert found[0]["Id"] == found[1]["Id"]
    assert found[0]["Config"]["Labels"]["dev.kubeup.init"] == "systemd"
    assert found[0]["Config"]["Entrypoint"] == ["/usr/local/lib/kubeup/machine-init"]


def test_the_image_of_a_recipe_is_made_once_unless_it_is_to_be_made_anew(place, names, capsys) -> None:
    exact, name = names
    arguments = ["image", "--host", place.engine.host, "--name", name]
    assert command.main(arguments, make=small) == 0
    assert command.main(arguments, make=never) == 0
    assert f"{exact} is there already" in capsys.readouterr().err
    assert command.main([*arguments, "--rebuild"], make=small) == 0
    assert "copying a small one" in capsys.readouterr().err


def test_the_image_command_without_an_engine_says_what_to_do_before_the_slow_part(capsys) -> None:
    assert command.main(["image", "--host", "unix:///nowhere.sock"], make=never) == 1
    assert "start Docker" in capsys.readouterr().err


def test_what_mmdebstrap_said_last_is_shown_when_it_fails(place, names, capsys, monkeypatch, tmp_path: Path) -> None:
    stub = tmp_path / "mmdebstrap"
    stub.write_text("#!/bin/sh\necho 'I: downloading packages with apt...' >&2; echo 'E: no mirror' >&2; exit 25\n")
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert command.main(["image", "--host", place.engine.host, "--name", names[1]]) == 1
    said = capsys.readouterr().err
    assert "s  downloading packages\n" in said
    assert "E: no mirror\nmmdebstrap failed with exit code 25" in said


def test_without_mmdebstrap_it_says_how_to_get_it(place, names, capsys, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command.main(["image", "--host", place.engine.host, "--name", names[1]]) == 1
    said = capsys.readouterr().err
    assert "apt-get install mmdebstrap" in said
    assert "`docker save kubeup-debian:12` there and `docker load` here" in said
