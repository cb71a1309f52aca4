"""The Kubernetes of the tests: images that containerd takes, a registry it pulls from, a repository that apt believes.

What needs the built Kubernetes itself is marked slow: a first run builds for minutes, later runs find it in the cache.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import os
import shutil
import subprocess
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubeup_artifacts import build, bundle_inputs, images, kubernetes, oci, progress, repository, system
from kubeup_artifacts.fixtures import unavailable
from kubeup_artifacts.registry import registry
from kubeup_artifacts.web import Served

IMAGE = "kubeup.local/hello:1"


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    """The tar of a small image with two layers."""
    return write_hello(tmp_path / "hello.tar")


def write_hello(path: Path) -> Path:
    layers = [oci.layer({"bin/hello": b"#!/bin/sh\necho hello\n"}), oci.layer({"bin/hi": oci.Link("hello")})]
    oci.write_image(path, IMAGE, layers, "amd64", entrypoint=["/bin/hello"])
    return path


def blobs(tar: Path) -> dict[str, bytes]:
    """File name -> content."""
    with tarfile.open(tar) as opened:
        return {m.name: f.read() for m in opened.getmembers() if (f := opened.extractfile(m)) is not None}


def blob(files: dict[str, bytes], description: dict[str, Any]) -> bytes:
    content = files[f"blobs/{description['digest'].replace(':', '/')}"]
    assert description["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert description["size"] == len(content)
    return content


def test_the_same_image_is_the_same_bytes(tmp_path: Path) -> None:
    assert write_hello(tmp_path / "one.tar").read_bytes() == write_hello(tmp_path / "two.tar").read_bytes()


def test_every_digest_and_size_of_an_image_is_true(hello: Path) -> None:
    files = blobs(hello)
    [entry] = json.loads(files["index.json"])["manifests"]
    manifest = json.loads(blob(files, entry))
    config = json.loads(blob(files, manifest["config"]))
    layers = [gzip.decompress(blob(files, layer)) for layer in manifest["layers"]]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    assert config["config"]["Entrypoint"] == ["/bin/hello"]
    assert entry["annotations"]["io.containerd.image.name"] == IMAGE


def test_part_of_a_root_is_what_is_wanted_without_times_and_owners_names(tmp_path: Path) -> None:
    for name in ("etc/apt/sources.list", "usr/bin/tool"):
        (tmp_path / "root" / name).parent.mkdir(parents=True)
        (tmp_path / "root" / name).write_text(name)
    with tarfile.open(tmp_path / "root.tar", "w") as tar:
        tar.add(tmp_path / "root", ".")
    layer = tmp_path / "layer.tar"
    layer.write_bytes(oci.part(tmp_path / "root.tar", images.is_base))
    with tarfile.open(layer) as tar:
        assert [m.name for m in tar.getmembers()] == ["etc", "usr", "usr/bin", "usr/bin/tool"]
        assert {(m.mtime, m.uname) for m in tar.getmembers()} == {(0, "")}


@pytest.fixture
def served(hello: Path) -> Iterator[Served]:
    with registry({IMAGE: hello}, "127.0.0.1") as served:
        yield served


def ask(served: Served, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_a_registry_answers_each_step_of_a_pull(served: Served, hello: Path) -> None:
    assert ask(served, "GET", "/v2/")[0] == 200
    status, headers, nothing = ask(served, "HEAD", "/v2/hello/manifests/1?ns=kubeup.local")
    assert (status, nothing) == (200, b"")
    digest = headers["Docker-Content-Digest"]
    status, headers, content = ask(served, "GET", f"/v2/hello/manifests/{digest}")
    assert headers["Content-Type"] == oci.MANIFEST
    assert digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
    manifest = json.loads(content)
    for part in (manifest["config"], *manifest["layers"]):
        assert ask(served, "GET", f"/v2/hello/blobs/{part['digest']}")[2] == blob(blobs(hello), part)
    assert json.loads(ask(served, "GET", "/v2/hello/tags/list")[2]) == {"name": "hello", "tags": ["1"]}


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v2/other/manifests/1", "NAME_UNKNOWN"),
        ("/v2/hello/manifests/2", "MANIFEST_UNKNOWN"),
        (f"/v2/hello/blobs/sha256:{'0' * 64}", "BLOB_UNKNOWN"),
        ("/etc/passwd", "NAME_UNKNOWN"),
    ],
)
def test_a_registry_says_what_it_does_not_have(served: Served, path: str, code: str) -> None:
    status, _, content = ask(served, "GET", path)
    assert status == 404
    assert json.loads(content)["errors"][0]["code"] == code


def test_a_registry_takes_nothing(served: Served) -> None:
    assert ask(served, "POST", "/v2/hello/blobs/uploads/")[0] == 501


@pytest.fixture(scope="module")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A private containerd; the environment in which `ctr` reaches it."""
    if os.geteuid() != 0 or system.find("containerd") is None:
        unavailable("containerd takes root and Debian's containerd, which docker.io brings")
    folder = tmp_path_factory.mktemp("containerd")
    socket = folder / "s"
    (folder / "config.toml").write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
    command = ["containerd", "--config", str(folder / "config.toml"), "--root", str(folder / "root")]
    command += ["--state", str(folder / "state"), "--address", str(socket), "--log-level", "error"]
    environment = os.environ | {"CONTAINERD_ADDRESS": str(socket), "CONTAINERD_NAMESPACE": "k8s.io", "PATH": system.PATH}
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        until = time.monotonic() + 30
        while subprocess.run(["ctr", "version"], env=environment, capture_output=True).returncode != 0:
            assert daemon.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until, (folder / "log").read_text()
        yield environment
    finally:
        daemon.terminate()
        daemon.wait(30)


def call(command: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def test_containerd_imports_an_image_and_pulls_it(containerd: dict[str, str], served: Served, hello: Path) -> None:
    call(["ctr", "images", "import", str(hello)], containerd)
    assert call(["ctr", "images", "ls", "-q"], containerd).splitlines() == [IMAGE]
    call(["ctr", "images", "pull", "--plain-http", f"{served.at()}/hello:1"], containerd)
    assert f"{served.at()}/hello:1" in call(["ctr", "images", "ls", "-q"], containerd)


def test_the_stand_in_for_crictl_finds_what_containerd_has(containerd: dict[str, str], hello: Path) -> None:
    call(["ctr", "images", "import", str(hello)], containerd)
    crictl = [str(bundle_inputs.CRICTL), "-r", f"unix://{containerd['CONTAINERD_ADDRESS']}"]
    call([*crictl, "info"], containerd)
    call([*crictl, "inspecti", IMAGE], containerd)
    missing = subprocess.run([*crictl, "inspecti", "kubeup.local/other:1"], env=containerd, capture_output=True, text=True)
    assert (missing.returncode, missing.stderr) == (1, "crictl (stand-in on ctr): no such image kubeup.local/other:1\n")
    unknown = subprocess.run([*crictl, "port-forward"], env=containerd, capture_output=True, text=True)
    assert (unknown.returncode, unknown.stderr) == (1, "crictl (stand-in on ctr): does not know 'port-forward'\n")


@pytest.fixture
def pod(containerd: dict[str, str], tmp_path: Path) -> Iterator[list[str]]:
    """The ids of a pod as the kubelet would have it: a sandbox and a container `web`, both of which run a shell."""
    try:
        root = build.machine_image().read_bytes()
    except build.CannotBuild as reason:
        unavailable(str(reason))
    oci.write_image(tmp_path / "busybox.tar", "kubeup.local/shell:1", [root], images.architecture())
    call(["ctr", "images", "import", str(tmp_path / "busybox.tar")], containerd)
    ids = []
    for kind, name in (("sandbox", ""), ("container", "web")):
        ids.append(f"{kind}-{uuid.uuid4().hex}")
        of = {"kubernetes.pod.uid": "uid-1", "kubernetes.pod.name": "web-0", "kubernetes.pod.namespace": "default"}
        labels = [f"io.cri-containerd.kind={kind}", *(f"io.{key}={value}" for key, value in of.items())]
        labels += [f"io.kubernetes.container.name={name}"] if name else []
        flags = [word for label in labels for word in ("--label", label)]
        shell = ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
        call(["ctr", "run", "--detach", *flags, "kubeup.local/shell:1", ids[-1], *shell], containerd)
    yield ids
    for each in ids:
        subprocess.run(["ctr", "tasks", "delete", "--force", each], env=containerd, capture_output=True)
        subprocess.run(["ctr", "containers", "delete", each], env=containerd, capture_output=True)


def test_the_stand_in_for_crictl_lists_enters_and_ends_pods(containerd: dict[str, str], pod: list[str]) -> None:
    crictl = [str(bundle_inputs.CRICTL), "--runtime-endpoint", containerd["CONTAINERD_ADDRESS"]]
    sandbox, container = pod
    assert call([*crictl, "pods", "-q"], containerd).split() == [sandbox]
    assert call([*crictl, "ps", "-q", "--name", "web"], containerd).split() == [container]
    assert call([*crictl, "ps", "-q", "--name", "other"], containerd).split() == []
    assert call([*crictl, "ps"], containerd).split()[-4:] == [container[:13], "web", "Running", "default/web-0"]
    assert call([*crictl, "exec", container[:20], "echo", "two words"], containerd) == "two words\n"
    call([*crictl, "stopp", sandbox], containerd)
    call([*crictl, "rmp", sandbox], containerd)
    assert call(["ctr", "containers", "ls", "-q"], containerd) == ""


def test_the_stand_in_for_crictl_ends_one_container(containerd: dict[str, str], pod: list[str]) -> None:
    call([str(bundle_inputs.CRICTL), "-r", containerd["CONTAINERD_ADDRESS"], "stop", pod[1]], containerd)
    states = {line.split()[0]: line.split()[2] for line in call(["ctr", "tasks", "ls"], containerd).splitlines()[1:]}
    assert states == {pod[0]: "RUNNING", pod[1]: "STOPPED"}


@pytest.fixture
def small_repository(tmp_path: Path, hello: Path) -> Path:
    """A repository whose programs are scripts."""
    (tmp_path / "cni").mkdir()
    (tmp_path / "cni" / "bridge").write_text("")
    built = {}
    for version in kubernetes.VERSIONS:
        built[version] = tmp_path / "bin" / version
        built[version].mkdir(parents=True)
        for name in bundle_inputs.NODE_COMMANDS:
            (built[version] / name).write_text(f"#!/bin/sh\necho {version}\n")
            (built[version] / name).chmod(0o755)
    root = tmp_path / "repository"
    if lacking := [package for package in system.missing() if package in repository.TOOLS]:
        unavailable(system.advice(lacking))
    repository.make_repository(root, built, tmp_path / "cni")
    return root


def apt(folder: Path, url: str, key: Path) -> list[str]:
    """An apt-get that knows the repository at `url` and nothing of this machine."""
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "sources.list").write_text(repository.source_line(kubernetes.VERSIONS[0], url, key))
    (folder / "status").write_text("")
    settings = {
        "Dir::Etc::sourcelist": folder / "sources.list", "Dir::Etc::sourceparts": "/dev/null", "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status", "Dir::Cache": folder, "Dir::Etc::preferencesparts": "/dev/null",
        "APT::Sandbox::User": "", "Acquire::http::Proxy": "DIRECT",
    }  # fmt: skip
    return ["apt-get", "-q", *(f"-o{name}={value}" for name, value in settings.items())]


def test_apt_believes_the_repository_by_its_key_alone(small_repository: Path, tmp_path: Path) -> None:
    place = small_repository / repository.folder("v1.20.2")
    key = tmp_path / "key.asc"
    with repository.repository(small_repository, "127.0.0.1") as served:
        command = apt(tmp_path / "apt", served.url(), shutil.copy(place / "Release.key", key))
        call([*command, "update", "--error-on=any"])
        (tmp_path / "got").mkdir()
        subprocess.run(
            [*command, "download", "kubelet=1.20.2-1.1", "kubeadm"], cwd=tmp_path / "got", check=True, capture_output=True
        )
        repository.sign(place)  # by another key, so that the first is no longer its
        refused = subprocess.run([*command, "update", "--error-on=any"], capture_output=True, text=True)
    assert refused.returncode != 0
    assert "NO_PUBKEY" in refused.stdout + refused.stderr
    packages = sorted((tmp_path / "got").iterdir())
    assert [p.name.rpartition("_")[0] for p in packages] == ["kubeadm_1.20.3-1.1", "kubelet_1.20.2-1.1"]
    for package in packages:
        call(["dpkg-deb", "-x", str(package), str(tmp_path / "machine")])
    assert call([str(tmp_path / "machine/usr/bin/kubelet")]) == "v1.20.2\n"
    units = tmp_path / "machine/usr/lib/systemd/system"
    assert "/usr/bin/kubelet\n" in (units / "kubelet.service").read_text()
    assert "kubeadm-flags.env" in (units / "kubelet.service.d/10-kubeadm.conf").read_text()


def test_gpgv_verifies_the_release_in_both_of_its_forms(small_repository: Path, tmp_path: Path) -> None:
    place = small_repository / repository.folder("v1.20.2")
    ring = tmp_path / "ring.gpg"
    call(["gpg", "--homedir", str(tmp_path), "--batch", "--dearmor", "--output", str(ring), str(place / "Release.key")])
    call(["gpgv", "--keyring", str(ring), str(place / "InRelease")])
    call(["gpgv", "--keyring", str(ring), str(place / "Release.gpg"), str(place / "Release")])
    assert "PRIVATE KEY" not in (place / "Release.key").read_text()


def test_the_repository_serves_nothing_above_its_root(small_repository: Path) -> None:
    with repository.repository(small_repository, "127.0.0.1") as served:
        assert ask(served, "GET", "/core:/stable:/v1.20/deb/Release.key")[0] == 200
        assert ask(served, "GET", "/core%3A/stable%3A/v1.20/deb/Release.key")[0] == 200
        assert ask(served, "GET", "/../hello.tar")[0] == 404
        assert ask(served, "GET", "/%2e%2e/hello.tar")[0] == 404


def test_what_is_left_comes_from_the_share_that_is_done_once_that_says_something(monkeypatch: pytest.MonkeyPatch) -> None:
    step = progress.Step("Build", about=100)
    monkeypatch.setattr(progress.Step, "elapsed", 30.0)
    assert step.line() == "Build: 30 s, about 1:10 min left"
    step.share, step.note = 0.2, "2 of 10 packages"
    assert step.line() == "Build: 30 s, about 2:00 min left (2 of 10 packages)"
    step.share = 1.0
    assert step.line() == "Build: 30 s, nearly done (2 of 10 packages)"


def test_an_unknown_version_is_refused_with_those_there_are() -> None:
    with pytest.raises(kubernetes.CannotBuild, match=r"v1\.19\.0 is not built for tests; there are v1\.20\.2, v1\.20\.3"):
        kubernetes.binaries("v1.19.0")


@pytest.mark.slow
@pytest.mark.parametrize("version", kubernetes.VERSIONS)
def test_kubeadm_finds_every_image_but_that_of_dns(
    kubernetes_binaries: Callable[[str], Path], kubernetes_bundle_inputs: Callable[[str], Path], tmp_path: Path, version: str
) -> None:
    config = tmp_path / "kubeadm.yaml"
    etcd = images.ETCD.rpartition(":")[2]
    config.write_text(
        "apiVersion: kubeadm.k8s.io/v1beta2\nkind: ClusterConfiguration\n"
        f"kubernetesVersion: {version}\nimageRepository: {images.REPOSITORY}\netcd: {{local: {{imageTag: {etcd}}}}}\n"
    )
    kubeadm = str(kubernetes_binaries(version) / "kubeadm")
    wanted = {
        name for name in call([kubeadm, "config", "images", "list", "--config", str(config)]).split() if "coredns" not in name
    }
    assert wanted | {images.BUSYBOX} == set(images.images(version))
    folder = kubernetes_bundle_inputs(version)
    assert {tar.name for tar in (folder / "images").iterdir()} == {images.tar_name(name) for name in images.images(version)}
    assert {"bridge", "host-local", "loopback", "portmap"} == {plugin.name for plugin in (folder / "cni").iterdir()}
    for command in bundle_inputs.NODE_COMMANDS:
        arguments = {"kubectl": ["version", "--client"], "kubeadm": ["version"], "kubelet": ["--version"]}[command]
        assert version in call([str(folder / "bin" / command), *arguments])


@pytest.mark.slow
def test_containerd_pulls_and_runs_the_images(containerd: dict[str, str], kubernetes_registry: Served, tmp_path: Path) -> None:
    def output(image: str, *command: str) -> str:
        name = f"{kubernetes_registry.at()}/{image.partition('/')[2]}"
        call(["ctr", "images", "pull", "--plain-http", name], containerd)
        root = tmp_path / hashlib.sha256(image.encode()).hexdigest()[:8]
        root.mkdir()
        call(["ctr", "images", "mount", name, str(root)], containerd)
        try:
            return call(["chroot", str(root), *command])
        finally:
            call(["ctr", "images", "unmount", str(root)], containerd)

    version = kubernetes.VERSIONS[1]
    assert (
        output(images.server_image("kube-apiserver", version), "/usr/local/bin/kube-apiserver", "--version").split()[1]
        == version
    )
    assert output(images.server_image("kube-proxy", version), "/usr/local/bin/kube-proxy", "--version").split()[1] == version
    assert "nf_tables" in output(images.server_image("kube-proxy", kubernetes.VERSIONS[0]), "/usr/sbin/iptables", "--version")
    assert images.ETCD.rpartition(":")[2].partition("-")[0] in output(images.ETCD, "/usr/bin/etcd", "--version")
    assert output(images.PAUSE, "/pause", "-v") == "pause.c v3.2\n"
    assert (
        output(images.BUSYBOX, "/usr/local/bin/sh", "-c", "httpd --help 2>&1 | head -n 1; nc --help 2>&1 | head -n 1").count(
            "BusyBox"
        )
        == 2
    )


@pytest.mark.slow
def test_the_repository_has_all_versions_of_the_node_s_packages(kubernetes_repository: Served, tmp_path: Path) -> None:
    status, _, key = ask(kubernetes_repository, "GET", f"/{repository.folder('v1.20.2')}/Release.key")
    assert status == 200
    (tmp_path / "key.asc").write_bytes(key)
    command = apt(tmp_path, kubernetes_repository.url(), tmp_path / "key.asc")
    call([*command, "update", "--error-on=any"])
    found = call(["apt-cache", *command[2:], "madison", "kubelet", "kubeadm", "kubectl"])
    packages = {tuple(word.strip() for word in line.split("|")[:2]) for line in found.splitlines()}
    versions = [repository.package_version(version) for version in kubernetes.VERSIONS]
    assert packages == {(name, version) for name in bundle_inputs.NODE_COMMANDS for version in versions}
