"""What a person sees when a step fails: each one is run for real, on a machine out of the tests' node image (without systemd, and
without privileges: nothing here gets as far as needing them), or, where it only looks, on this one."""

import hashlib
import io
import os
import ssl
import subprocess
import tarfile
import time
from collections.abc import Iterator
from email.utils import formatdate
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml
from kubeup_core.bootstrapper import Archive, Secrets, Step, Taint, Task
from kubeup_kubeadm import build, documents
from kubeup_kubeadm.config import KubeadmConfig
from kubeup_kubeadm.download import Places, listed

BOOTSTRAPPER = build()


class Box:
    """A container with a shell. gateway: this machine's address, as the container sees it."""

    gateway = ""

    def __init__(self, host: str, name: str) -> None:
        self.environment, self.name = {**os.environ, "DOCKER_HOST": host}, name

    def docker(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["docker", *arguments], input=stdin, capture_output=True, env=self.environment, timeout=120)

    def sh(self, text: str) -> tuple[int, str]:
        done = self.docker("exec", "-i", self.name, "sh", "-eu", "-s", stdin=text.encode())
        return done.returncode, (done.stdout + done.stderr).decode()

    def put(self, path: str, content: bytes, mode: int = 0o644) -> None:
        self.docker(
            "exec",
            "-i",
            self.name,
            "sh",
            "-c",
            f"mkdir -p {os.path.dirname(path)}; cat >{path}; chmod {mode:o} {path}",
            stdin=content,
        )

    def run(self, step: Step) -> tuple[int, str]:
        for file in step.files:
            self.put(file.path, Path(file.source).read_bytes() if file.source else file.content, file.mode)
        return self.sh(step.script)


@pytest.fixture(scope="module")
def box(docker_engine, node_image) -> Iterator[Box]:
    box = Box(docker_engine.host, f"kubeup-failures-{os.getpid()}")
    assert box.docker("network", "create", box.name).returncode == 0
    gateway = box.docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", box.name)
    box.gateway = gateway.stdout.decode().strip()
    started = box.docker(
        "run", "-d", "--name", box.name, "--network", box.name, "--label", "kubeup.dev/test=1", "--tmpfs", "/small:size=1m",
        "--entrypoint", "sleep", node_image, "900",
    )  # fmt: skip
    try:
        assert started.returncode == 0, started.stderr
        yield box
    finally:
        box.docker("rm", "-fv", box.name)
        box.docker("network", "rm", box.name)


def step(task: Task, name: str, cluster, node, secrets=None) -> Step:
    return next(s for s in BOOTSTRAPPER.steps(task, cluster, node, secrets or Secrets()) if s.name == name)


def told(result: tuple[int, str]) -> str:
    """The last line of a step that failed, as the Machine's status ends with it."""
    code, text = result
    assert code != 0, text
    return text.strip().splitlines()[-1]


def test_a_machine_without_systemd_is_refused(box, plan, node):
    assert "systemd does not run here" in told(box.run(step(Task.PREPARE, "machine", plan(), node())))


def test_a_machine_of_another_architecture_is_refused(box, plan, node):
    box.sh("mkdir -p /run/systemd/system")
    other = "arm64" if os.uname().machine == "x86_64" else "amd64"
    result = box.run(step(Task.PREPARE, "machine", plan(), node(arch=other)))
    assert f"but {other} was asked for" in told(result)
    box.sh("rmdir /run/systemd/system")


def test_a_full_disk_is_told_before_anything_is_begun(box, plan, node):
    box.sh("mkdir -p /run/systemd/system")
    result = box.run(step(Task.PREPARE, "machine", plan(config={"minimumDisk": "900000Gi"}), node()))
    assert "/var/lib has only" in told(result)
    assert "MiB free" in told(result)
    box.sh("rmdir /run/systemd/system")


def bundle_of(tmp_path: Path, kubeadm: bytes = b"x", broken: bool = False) -> bytes:
    """An archive as a machine gets it."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        sums = f"{hashlib.sha256(b'other' if broken else kubeadm).hexdigest()}  bin/kubeadm\n".encode()
        for name, content in (("SHA256SUMS", sums), ("bin/kubeadm", kubeadm)):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            tar.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def unpacking(tmp_path: Path, plan, content: bytes, node) -> Step:
    path = tmp_path / "k.tar"
    path.write_bytes(content)
    return step(Task.PREPARE, "bundle", plan("v1.20.2", bundle=Archive(path=str(path), sha256="ab" * 32)), node())


def test_a_bundle_with_a_bad_hash_is_told(box, plan, node, tmp_path):
    result = box.run(unpacking(tmp_path, plan, bundle_of(tmp_path, broken=True), node))
    assert "a file in the bundle does not have the hash" in told(result)
    assert "bin/kubeadm" in result[1]


def test_a_truncated_bundle_is_told(box, plan, node, tmp_path):
    result = box.run(unpacking(tmp_path, plan, bundle_of(tmp_path, os.urandom(50_000))[:20_000], node))
    assert "cannot be unpacked: it is truncated" in told(result)


def test_a_disk_that_is_full_while_unpacking_is_told(box, plan, node, tmp_path):
    unpack = unpacking(tmp_path, plan, bundle_of(tmp_path, os.urandom(3_000_000)), node)
    for file in unpack.files:
        box.put(file.path, Path(file.source).read_bytes())
    box.sh("mkdir -p /small/kubeup")
    result = box.sh(unpack.script.replace("STATE=/var/lib/kubeup", "STATE=/small/kubeup"))
    assert "the disk is full (0 MiB are free in /small/kubeup)" in told(result)


def test_a_bundle_is_unpacked_once(box, plan, node, tmp_path):
    unpack = unpacking(tmp_path, plan, bundle_of(tmp_path), node)
    assert box.sh(unpack.check)[0] != 0
    assert box.run(unpack)[0] == 0
    assert box.sh(unpack.check)[0] == 0
    assert box.sh("ls /var/lib/kubeup/*.tar")[0] != 0


def test_a_bundle_is_fetched_from_its_url_and_proven(box, plan, node, tmp_path):
    content = bundle_of(tmp_path)
    (tmp_path / "k.tar").write_bytes(content)

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    def fetching(name: str, sha256: str) -> Step:
        archive = Archive(path=f"http://{box.gateway}:{server.server_port}/{name}", sha256=sha256)
        return step(Task.PREPARE, "bundle", plan("v1.20.2", bundle=archive), node())

    with ThreadingHTTPServer(("", 0), partial(Handler, directory=str(tmp_path))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        assert "does not have the hash in spec.kubernetes.bundle.sha256" in told(box.run(fetching("k.tar", "0" * 64)))
        assert "cannot be fetched from http://" in told(box.run(fetching("other.tar", "0" * 64)))
        fetch = fetching("k.tar", hashlib.sha256(content).hexdigest())
        assert fetch.files == ()
        assert box.sh(fetch.check)[0] != 0
        box.sh(f"head -c 100 >/var/lib/kubeup/bundle-{hashlib.sha256(content).hexdigest()[:12]}.tar.part </dev/zero")
        assert "cannot be fetched" in told(box.run(fetch)), "this server knows no ranges, so it begins anew"
        assert box.run(fetch)[0] == 0
        assert box.sh(fetch.check)[0] == 0
        server.shutdown()


def test_a_repository_that_does_not_answer_is_told(box, plan, node):
    cluster = plan("v1.20.2", source="packages", repository="http://127.0.0.1:9/v{minor}/{format}/")
    result = box.run(step(Task.PREPARE, "kubernetes", cluster, node()))
    assert told(result) == "kubeup: the repository's key cannot be fetched from http://127.0.0.1:9/v1.20/deb/Release.key"


def test_software_that_is_not_preinstalled_is_told(box, plan, node):
    result = box.run(step(Task.PREPARE, "kubernetes", plan(source="preinstalled"), node()))
    assert told(result) == "kubeup: kubeadm is not installed, but spec.kubernetes.source is preinstalled"


def test_a_cni_plugin_that_is_missing_is_told(box, plan, node):
    result = box.run(step(Task.JOIN, "network", plan(), node()))
    assert "the CNI plugin bridge is not in /opt/cni/bin" in told(result)


def test_an_etcd_that_does_not_run_is_told(box, plan, node):
    assert "etcd does not run on this machine" in told(box.run(step(Task.SNAPSHOT, "snapshot", plan(), node())))
    assert "there is no snapshot at" in told(box.run(step(Task.RESTORE, "restore", plan(), node())))
    assert "the etcd of this machine does not answer" in told(box.sh(BOOTSTRAPPER.etcd_list(plan())))


@pytest.mark.parametrize(("task", "role"), [(Task.INIT, "controlPlane"), (Task.JOIN, "worker")])
def test_a_machine_of_another_cluster_is_left_alone(task, role, box, plan, node, secrets):
    box.put("/etc/kubernetes/kubelet.conf", b"theirs")
    name = "init" if task is Task.INIT else "join"
    result = box.run(step(task, name, plan(), node(role), secrets))
    assert "this machine belongs to another Kubernetes cluster" in told(result)
    assert box.sh("cat /etc/kubernetes/kubelet.conf")[1] == "theirs"
    box.sh("rm /etc/kubernetes/kubelet.conf")


def test_leaving_succeeds_on_a_machine_that_never_joined(box, plan, node):
    code, text = box.run(step(Task.LEAVE, "leave", plan(), node()))
    assert code == 0, text


# -- with the real thing ------------------------------------------------------------------------------------------------


def test_a_repository_has_to_have_the_version(box, plan, node, kubernetes_repository):
    url = kubernetes_repository.url(box.gateway) + "/core:/stable:/v{minor}/{format}/"
    result = box.run(step(Task.PREPARE, "kubernetes", plan("v1.20.9", source="packages", repository=url), node()))
    assert "has no kubeadm 1.20.9" in told(result)


def test_a_repository_has_to_be_signed_with_the_key_that_is_expected(box, plan, node, kubernetes_repository):
    url = kubernetes_repository.url(box.gateway) + "/core:/stable:/v{minor}/{format}/"
    config = {"packages": {"keySha256": "0" * 64}}
    result = box.run(
        step(Task.PREPARE, "kubernetes", plan("v1.20.2", source="packages", repository=url, config=config), node())
    )
    assert "does not have the hash in spec.kubernetes.config.packages.keySha256" in told(result)


def test_a_repository_that_somebody_else_signed_is_refused(box, plan, node, kubernetes_repository, tmp_path):
    home = tmp_path / "gpg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", ""]
    subprocess.run([*gpg, "--quick-gen-key", "other@example", "rsa2048", "sign", "1d"], check=True, capture_output=True)
    key = subprocess.run([*gpg, "--armor", "--export", "other@example"], check=True, capture_output=True).stdout
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "gpg-agent"], check=True)
    box.put("/root/other.asc", key)
    url = kubernetes_repository.url(box.gateway) + "/core:/stable:/v{minor}/{format}/"
    config = {"packages": {"keyUrl": "file:///root/other.asc"}}
    result = box.run(
        step(Task.PREPARE, "kubernetes", plan("v1.20.2", source="packages", repository=url, config=config), node())
    )
    assert "or is not signed with the expected key" in told(result)
    assert box.sh("command -v kubeadm")[0] != 0


def test_another_version_than_the_one_that_was_asked_for_is_told(box, plan, node, kubernetes_binaries):
    folder = kubernetes_binaries("v1.20.2")
    for binary in ("kubeadm", "kubelet", "kubectl"):
        box.docker("cp", "-q", str(folder / binary), f"{box.name}:/usr/local/bin/{binary}")
    result = box.run(step(Task.PREPARE, "kubernetes", plan("v1.20.3", source="preinstalled"), node()))
    assert (
        told(result) == "kubeup: the installed version is v1.20.2 (kubeadm) and Kubernetes v1.20.2, but v1.20.3 was asked for"
    )
    assert box.run(step(Task.PREPARE, "kubernetes", plan("v1.20.2", source="auto"), node()))[0] == 0
    result = box.run(step(Task.PREPARE, "kubernetes", plan("v1.20.3", source="auto"), node()))
    assert told(result).endswith("and the community's repositories no longer have packages of v1.20.3")
    assert box.sh(step(Task.PREPARE, "kubernetes", plan("v1.20.2", repository="https://mirror/"), node()).check)[0] == 0


def _lost(ours: object, theirs: object, path: str = "") -> list[str]:
    """What kubeadm did not keep of a document: fields that it does not know."""
    if not isinstance(ours, dict) or not isinstance(theirs, dict):
        return []
    lost = [f"{path}.{key}" for key in ours if key not in theirs]
    return lost + [one for key in ours if key in theirs for one in _lost(ours[key], theirs[key], f"{path}.{key}")]


def test_the_real_kubeadm_takes_the_configuration(plan, node, kubernetes_binaries, tmp_path):
    settings = KubeadmConfig.model_validate({"imageRepository": "kubeup.local", "dns": False, "images": {"etcd": "3.4.23-0"}})
    kubeadm, config = kubernetes_binaries("v1.20.2") / "kubeadm", tmp_path / "kubeadm.yaml"
    rendered = [*documents.init(plan("v1.20.2"), node("controlPlane"), settings)]
    rendered[1]["certificatesDir"] = str(tmp_path / "pki")
    config.write_bytes(documents.render(rendered))
    for command in (
        ["config", "images", "list"], ["init", "phase", "certs", "all"], ["config", "migrate", "--old-config"],
        ["init", "phase", "kubeconfig", "admin", "--kubeconfig-dir", str(tmp_path)],
    ):  # fmt: skip
        flag = [] if command[-1].startswith("--old") else ["--config"]
        done = subprocess.run([kubeadm, *command, *flag, str(config)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert "unknown field" not in done.stderr
    everything = {
        **{"imageRepository": "mirror.example/k8s", "images": {"etcd": "3.4.23-0", "coredns": "1.7.0"}, "dns": False},
        **{"featureGates": {"CSIMigration": True}, "kubelet": {"maxPods": 30}, "kubeProxy": {"mode": "ipvs"}},
        **{"certSans": ["api.example"], "dnsDomain": "demo.local", "bindPort": 7443, "skipPhases": ["preflight"]},
        "extraArgs": {part: {"v": "2"} for part in ("apiServer", "controllerManager", "scheduler", "etcd", "kubelet")},
    }
    every = KubeadmConfig.model_validate(everything)
    external = KubeadmConfig.model_validate({"etcd": {"endpoints": ["https://10.1.0.1:2379"]}})
    worker = node(provider_id="x://1", labels={"a": "b"}, taints=(Taint(key="k", value="v"),))
    for documented in (
        documents.init(plan("v1.20.2"), node("controlPlane"), every),
        documents.init(plan("v1.20.2"), node("controlPlane"), external),
        documents.join(plan("v1.20.2"), node("controlPlane"), every, "abcdef.0123456789abcdef"),
        documents.join(plan("v1.20.2"), worker, every, "abcdef.0123456789abcdef"),
    ):
        config.write_bytes(documents.render(documented))
        done = subprocess.run(
            [kubeadm, "config", "migrate", "--old-config", str(config)], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert "unknown field" not in done.stderr
        for document, of in ((d, d["kind"]) for d in yaml.safe_load_all(done.stdout)):
            ours = next((d for d in documented if d["kind"] == of), None)
            assert ours is None or _lost(ours, document) == [], of
    assert (tmp_path / "pki" / "apiserver.crt").exists()
    assert "server: https://10.0.0.10:6443" in (tmp_path / "admin.conf").read_text()


def test_the_real_kubeadm_says_which_images_a_bundle_needs(kubernetes_binaries):
    names = listed(kubernetes_binaries("v1.20.2") / "kubeadm", "v1.20.2", "amd64", Places(images="http://mirror:5000/k8s"))
    assert "http://mirror:5000/k8s/kube-apiserver:v1.20.2" in names
    assert "http://mirror:5000/k8s/pause:3.2" in names


# -- clocks and reachability ----------------------------------------------------------------------------------------------


@pytest.fixture
def api(tmp_path):
    """An endpoint that speaks TLS; .ahead: by how many seconds its clock differs."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=a", "-keyout",
         str(tmp_path / "k"), "-out", str(tmp_path / "c")], check=True, capture_output=True,
    )  # fmt: skip

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(401)
            self.send_header("Date", formatdate(time.time() + server.ahead, usegmt=True))
            self.end_headers()

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.ahead = 0
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "c", tmp_path / "k")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def here(step: Step) -> tuple[int, str]:
    done = subprocess.run(["sh", "-eu"], input=step.script, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_an_endpoint_with_the_same_clock_is_fine(api, plan, node):
    assert here(step(Task.JOIN, "reach", plan(host="127.0.0.1", port=api.server_port), node())) == (0, "")


@pytest.mark.parametrize("ahead", [600, -600])
def test_clocks_ten_minutes_apart_are_told(ahead, api, plan, node):
    api.ahead = ahead
    result = told(here(step(Task.JOIN, "reach", plan(host="127.0.0.1", port=api.server_port), node())))
    assert "this machine's clock is" in result
    assert "seconds away from the control plane's" in result


@pytest.mark.parametrize(
    ("host", "port", "why"),
    [("127.0.0.1", 9, "refuses connections"), ("no-such-host.invalid", 6443, "is not known to this machine's DNS")],
)
def test_an_endpoint_that_cannot_be_reached_is_told(host, port, why, plan, node):
    result = told(here(step(Task.JOIN, "reach", plan(host=host, port=port), node())))
    assert result.startswith("kubeup: the API cannot be reached from this machine: ")
    assert why in result
