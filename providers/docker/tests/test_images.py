"""Images: which one, getting it without waiting, and making one where there is no registry. On a real engine."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from kubeup_artifacts import build as artifacts
from kubeup_artifacts import system
from kubeup_artifacts.fixtures import unavailable
from kubeup_core import NotReady, Outcome
from kubeup_docker import __main__ as command
from kubeup_docker import client
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
def image_name(docker_engine) -> Iterator[str]:
    name = f"kubeup-test/made:{uuid.uuid4().hex[:8]}"
    yield name
    docker_engine.call("DELETE", f"/images/{name}", fine=(200, 404))


def test_the_image_command_puts_an_image_on_the_engine(place, image_name, capsys) -> None:
    root = artifacts.machine_image()
    arguments = ["image", "--host", place.engine.host, "--name", image_name]
    assert command.main(arguments, make=lambda path: shutil.copyfile(root, path)) == 0
    assert capsys.readouterr().out == f"{image_name} is on the engine\n"
    assert [r.outcome for r in place.machines.launch(place.launch(image=image_name))] == [Outcome.MADE]
    place.engine.remove(place.ps()[0]["Id"])


def test_the_image_command_without_an_engine_says_what_to_do_before_the_slow_part(capsys) -> None:
    def never(path: Path) -> None:
        raise AssertionError("it was made for nothing")

    assert command.main(["image", "--host", "unix:///nowhere.sock"], make=never) == 1
    assert "start Docker" in capsys.readouterr().err


@pytest.mark.slow
def test_the_debian_that_the_image_command_makes_works_as_a_machine(place, image_name) -> None:
    """Made once per recipe and kept in the cache of artifacts."""
    if system.find("mmdebstrap") is None:
        unavailable(system.advice(["mmdebstrap"]))
    inputs = {"suite": command.SUITE, "packages": command.PACKAGES, "excluded": command.LEFT_OUT, "recipe": 1}
    root = artifacts.artifact("debian-12", inputs, command.debian)
    assert (
        command.main(
            ["image", "--host", place.engine.host, "--name", image_name], make=lambda path: shutil.copyfile(root, path)
        )
        == 0
    )
    place.machines.launch(place.launch(image=image_name))
    ref = place.suppliers.machines.observe(_scope(place)).items[0].ref
    script = ". /etc/os-release; echo $ID-$VERSION_ID; hostname; ip -brief address show lo; test ! -e /etc/machine-id"
    *output, code = place.machines.execute(ref, script, b"", 20)
    assert code == 0
    assert b"".join(output).decode().split()[:3] == ["debian-12", "box-0", "lo"]
    place.engine.remove(ref.id)


def _scope(place):
    from kubeup_core import Scope

    return Scope(installation=place.installation)
