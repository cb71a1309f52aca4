"""Bundles: made, inspected, and each way in which one can be wrong. Downloads are from servers of the tests' own."""

import hashlib
import io
import json
import tarfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
from click.testing import CliRunner
from kubeup_artifacts.registry import registry
from kubeup_core import InvalidSpec, NotReady
from kubeup_core.bootstrapper import Archive, Task
from kubeup_kubeadm import build, bundle
from kubeup_kubeadm.bundle_command import command
from kubeup_kubeadm.download import CNI_PLUGINS, Places, download
from kubeup_kubeadm.registry import Image, pull


def image_tar(path: Path, name: str, arch: str = "amd64") -> Path:
    """A real OCI archive of one small image."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        info = tarfile.TarInfo("hello")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"world"))
    blobs: dict[str, bytes] = {}

    def blob(content: bytes, kind: str) -> dict:
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    prefix = "application/vnd.oci.image"
    rootfs = {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()]}
    config = json.dumps({"architecture": arch, "os": "linux", "rootfs": rootfs}).encode()
    manifest = {
        "schemaVersion": 2, "mediaType": f"{prefix}.manifest.v1+json", "config": blob(config, f"{prefix}.config.v1+json"),
        "layers": [blob(layer.getvalue(), f"{prefix}.layer.v1.tar")],
    }  # fmt: skip
    entry = blob(json.dumps(manifest).encode(), f"{prefix}.manifest.v1+json")
    entry |= {"platform": {"architecture": arch, "os": "linux"}, "annotations": {"io.containerd.image.name": name}}
    with tarfile.open(path, "w") as tar:
        for member, content in {
            "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
            "index.json": json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode(),
            **{f"blobs/sha256/{digest}": content for digest, content in blobs.items()},
        }.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def parts(tmp_path):
    """A folder as --from takes it."""
    folder = tmp_path / "parts"
    for name in ("kubeadm", "kubelet", "kubectl", "crictl"):
        (folder / "bin").mkdir(parents=True, exist_ok=True)
        (folder / "bin" / name).write_text(f"#!/bin/sh\necho {name}\n" * 100)
    (folder / "images").mkdir()
    image_tar(folder / "images" / "pause.tar", "kubeup.local/pause:3.2")
    return folder


@pytest.fixture
def made(parts, tmp_path):
    """A finished bundle of v1.20.2: .path, .sha256"""
    path = tmp_path / "k.tar"
    return Archive(path=str(path), sha256=bundle.create(parts, "v1.20.2", "amd64", path))


def test_a_bundle_names_all_that_is_in_it(made):
    manifest = bundle.inspect(Path(made.path))
    assert (manifest.kubernetes, manifest.arch) == ("v1.20.2", "amd64")
    assert [part.path for part in manifest.files] == [
        "bin/crictl",
        "bin/kubeadm",
        "bin/kubectl",
        "bin/kubelet",
        "images/pause.tar",
    ]
    assert manifest.images == ("kubeup.local/pause:3.2",)
    assert bundle.file_hash(Path(made.path)) == made.sha256
    assert bundle.faults(made, "v1.20.2") == ()


def test_a_bundle_of_another_architecture_is_refused_before_it_is_sent(made, plan, node):
    cluster = plan("v1.20.2", bundle=made)
    assert [step.name for step in build().steps(Task.PREPARE, cluster, node())][1] == "bundle"
    for task in (Task.PREPARE, Task.UPGRADE):
        with pytest.raises(InvalidSpec, match="is for amd64, and the machine is arm64") as refused:
            build().steps(task, cluster, node(arch="arm64"))
        assert refused.value.path == "spec.kubernetes.bundle.path"


def test_the_same_parts_give_the_same_bundle(made, parts, tmp_path):
    assert bundle.create(parts, "v1.20.2", "amd64", tmp_path / "again.tar") == made.sha256


def test_the_machine_can_prove_the_parts_by_itself(made):
    with tarfile.open(made.path) as tar:
        sums = tar.extractfile("SHA256SUMS").read().decode()
        for line in sums.splitlines():
            digest, path = line.split("  ")
            assert hashlib.sha256(tar.extractfile(path).read()).hexdigest() == digest


@pytest.mark.parametrize("missing", ["kubelet", "crictl"])
def test_a_bundle_without_what_kubeadm_needs_is_not_made(missing, parts, tmp_path):
    (parts / "bin" / missing).unlink()
    with pytest.raises(InvalidSpec, match=f"has no bin/{missing}"):
        bundle.create(parts, "v1.20.2", "amd64", tmp_path / "k.tar")
    assert not list(tmp_path.glob("k.tar*"))


def test_manifests_of_a_bundle_are_addons_of_its_clusters_in_the_order_of_their_names(parts, tmp_path, plan):
    (parts / "manifests").mkdir()
    for name in ("20-dashboard.yaml", "10-storage.yaml"):
        (parts / "manifests" / name).write_text(f"kind: {name}\n")
    path = tmp_path / "with.tar"
    archive = Archive(path=str(path), sha256=bundle.create(parts, "v1.20.2", "amd64", path))
    addons = build().addons(plan(version="v1.20.2", bundle=archive))
    assert [(a.name, a.manifest) for a in addons] == [
        ("bundle/10-storage.yaml", "kind: 10-storage.yaml\n"),
        ("bundle/20-dashboard.yaml", "kind: 20-dashboard.yaml\n"),
    ]
    flannel = build().addons(plan(version="v1.20.2", bundle=archive, cni="flannel"))
    assert flannel[0].name == "flannel", "the network comes first"
    at_a_url = replace(archive, path="https://mirror.example/k.tar")
    assert build().addons(plan(version="v1.20.2", bundle=at_a_url)) == ()


def test_a_damaged_manifest_of_a_bundle_is_never_applied(parts, tmp_path, plan):
    (parts / "manifests").mkdir()
    (parts / "manifests" / "a.yaml").write_text("kind: Original\n")
    path = tmp_path / "with.tar"
    archive = Archive(path=str(path), sha256=bundle.create(parts, "v1.20.2", "amd64", path))
    path.write_bytes(path.read_bytes().replace(b"kind: Original", b"kind: Tampered"))
    with pytest.raises(InvalidSpec, match=r"damaged: manifests/a\.yaml"):
        build().addons(plan(version="v1.20.2", bundle=archive))


def test_crictl_is_not_needed_from_1_31_on(parts, tmp_path):
    (parts / "bin" / "crictl").unlink()
    assert bundle.create(parts, "v1.31.0", "amd64", tmp_path / "k.tar")


def test_what_is_no_image_is_not_packed(parts, tmp_path):
    (parts / "images" / "x.tar").write_bytes(b"not a tar")
    with pytest.raises(InvalidSpec, match=r"x\.tar is not an image archive"):
        bundle.create(parts, "v1.20.2", "amd64", tmp_path / "k.tar")


def test_another_hash_is_one_clear_fault(made):
    (fault,) = bundle.faults(Archive(path=made.path, sha256="0" * 64), "v1.20.2")
    assert fault.path == "spec.kubernetes.bundle.sha256"
    assert f"has the hash {made.sha256}, not {'0' * 64}" in fault.message


def test_another_version_is_one_clear_fault(made):
    (fault,) = bundle.faults(made, "v1.20.3")
    assert "is of v1.20.2, but v1.20.3 was asked for" in fault.message
    assert fault.remedy == "make one with `kubeup bundle create --version v1.20.3`"


def test_a_truncated_archive_is_one_clear_fault(made):
    path = Path(made.path)
    path.write_bytes(path.read_bytes()[:6000])
    with pytest.raises(InvalidSpec, match="is truncated"):
        bundle.inspect(path)


def test_a_damaged_part_is_named(made):
    path = Path(made.path)
    path.write_bytes(path.read_bytes().replace(b"echo kubelet", b"echo KUBELET", 1))
    with pytest.raises(InvalidSpec, match="bin/kubelet does not have the hash"):
        bundle.inspect(path)


def test_an_archive_that_kubeup_did_not_make_is_told_apart(tmp_path):
    image_tar(tmp_path / "k.tar", "x/y:z")
    (fault,) = bundle.faults(Archive(path=str(tmp_path / "k.tar"), sha256="0" * 64), "v1.20.2")
    assert "was not made by `kubeup bundle create`" in fault.message
    (tmp_path / "n.tar").write_bytes(b"nothing" * 200)
    (fault,) = bundle.faults(Archive(path=str(tmp_path / "n.tar"), sha256="0" * 64), "v1.20.2")
    assert "is not a tar archive" in fault.message


def test_the_command_prints_what_goes_into_the_cluster(parts, tmp_path):
    out = tmp_path / "k.tar"
    result = CliRunner().invoke(command, ["create", "--from", str(parts), "--version", "v1.20.2", "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert f"bundle: {{path: {out}, sha256: {bundle.file_hash(out)}}}" in result.output
    shown = CliRunner().invoke(command, ["inspect", str(out)])
    assert "Kubernetes v1.20.2 for amd64" in shown.output
    assert "kubeup.local/pause:3.2" in shown.output


def test_the_command_ends_with_one_line_and_a_remedy(tmp_path):
    result = CliRunner().invoke(command, ["create", "--from", str(tmp_path), "--version", "v1.20.2"])
    assert result.exit_code == 1
    assert "has no bin/kubeadm, bin/kubelet, bin/kubectl, bin/crictl" in result.output
    assert "→" in result.output
    assert "is not there" in CliRunner().invoke(command, ["inspect", str(tmp_path / "none.tar")]).output


# -- the official places ------------------------------------------------------------------------------------------------


@pytest.fixture
def web():
    """path -> content, served over HTTP: .files, .url"""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = server.files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files = {}
    server.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def publish(web, path: str, content: bytes) -> None:
    web.files[path] = content
    web.files[f"{path}.sha256"] = hashlib.sha256(content).hexdigest().encode()


def packed(*names: str) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
    return raw.getvalue()


@pytest.fixture
def official(web, tmp_path):
    """Everything for v1.20.2 at its places: .places, and .images to name."""
    for binary in ("kubeadm", "kubelet", "kubectl"):
        publish(web, f"/release/v1.20.2/bin/linux/amd64/{binary}", binary.encode())
    publish(
        web, f"/cni/{CNI_PLUGINS}/cni-plugins-linux-amd64-{CNI_PLUGINS}.tgz", packed("./bridge", "./LICENSE", "./README.md")
    )
    publish(web, "/crictl/v1.20.0/crictl-v1.20.0-linux-amd64.tar.gz", packed("crictl"))
    tar = image_tar(tmp_path / "source.tar", "kubeup.local/pause:3.2")
    with registry({"kubeup.local/pause:3.2": tar}, address="127.0.0.1") as served:
        web.places = Places(
            release=f"{web.url}/release", cni=f"{web.url}/cni", crictl=f"{web.url}/crictl", images=f"http://{served.at()}"
        )
        web.images = [f"http://{served.at()}/pause:3.2"]
        yield web


@pytest.fixture
def client():
    with httpx.Client(timeout=10) as client:
        yield client


def test_all_parts_come_from_the_official_places(official, client, tmp_path):
    folder, said = tmp_path / "parts", []
    download(folder, "v1.20.2", "amd64", official.places, client, official.images, said.append)
    assert sorted(path.name for path in (folder / "bin").iterdir()) == ["crictl", "kubeadm", "kubectl", "kubelet"]
    assert [path.name for path in (folder / "cni").iterdir()] == ["bridge"]
    bundle.create(folder, "v1.20.2", "amd64", tmp_path / "k.tar")
    (image,) = bundle.inspect(tmp_path / "k.tar").images
    assert image.endswith("/pause:3.2")
    assert said[0] == "kubeadm"


def test_a_binary_with_another_hash_is_refused(official, client, tmp_path):
    official.files["/release/v1.20.2/bin/linux/amd64/kubelet"] = b"altered"
    with pytest.raises(InvalidSpec, match="kubelet does not have the hash that is published beside it"):
        download(tmp_path / "parts", "v1.20.2", "amd64", official.places, client, official.images)
    assert not (tmp_path / "parts" / "bin" / "kubelet").exists()


def test_a_version_that_was_never_released_is_told(official, client, tmp_path):
    with pytest.raises(InvalidSpec, match=r"/v1\.20\.77/.* is not there \(404\)"):
        download(tmp_path / "parts", "v1.20.77", "amd64", official.places, client, official.images)


def test_a_place_that_does_not_answer_is_told(client, tmp_path):
    with pytest.raises(NotReady, match="cannot be reached"):
        download(tmp_path / "parts", "v1.20.2", "amd64", Places(release="http://127.0.0.1:9"), client)


def test_an_image_may_be_given_another_name(official, client, tmp_path):
    pull(client, Image.parse(official.images[0]), "amd64", tmp_path / "p.tar", "registry.k8s.io/pause:3.2")
    with tarfile.open(tmp_path / "p.tar") as tar:
        index = json.load(tar.extractfile("index.json"))
    assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == "registry.k8s.io/pause:3.2"


def test_an_image_that_is_not_there_is_told(official, client, tmp_path):
    with pytest.raises(InvalidSpec, match=r"does not give .*/pause:9 to anybody \(404\)"):
        pull(client, Image.parse(official.images[0][:-3] + "9"), "amd64", tmp_path / "p.tar")
    assert not list(tmp_path.glob("p.tar*"))


@pytest.mark.parametrize("name", ["pause", "registry/pause", "registry/Pause:1", "registry/pause:"])
def test_an_image_is_named_in_full(name):
    with pytest.raises(InvalidSpec, match="is not the name of an image"):
        Image.parse(name)
