"""A real workload API without machines: etcd, kube-apiserver and kube-controller-manager as plain processes on loopback.

For tests of what kubeup asks such an API: Nodes and pods are objects there, nothing runs. The binaries are `kubernetes.py`'s, etcd
is Debian's out of the root for images. Everything lies in one temporary folder and ends with the context.
"""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from kubeup_core import pki

from .build import CannotBuild, artifact
from .images import debian_root
from .kubernetes import binaries

START_SECONDS = 90.0
CONTROLLERS = "endpoint,disruption,tokencleaner,namespace,garbagecollector"


@dataclass(frozen=True)
class WorkloadApi:
    """kubeconfig: of an administrator. stranger: of somebody whom the API does not know. log: what its processes say."""

    url: str
    kubeconfig: str
    stranger: str
    log: Path


@contextmanager
def workload_api(version: str) -> Iterator[WorkloadApi]:
    """Raises CannotBuild when it does not answer in time."""
    servers, etcd = binaries(version), etcd_binary()
    with tempfile.TemporaryDirectory(prefix="kubeup-api-") as work, ExitStack() as stack:
        folder = Path(work)
        store, peers, port = free_ports(3)
        authority = pki.make_authority("kubernetes", time.time())
        accounts = pki.make_key_pair()
        for name, text in (("ca.crt", authority.certificate), ("sa.key", accounts.key), ("sa.pub", accounts.certificate)):
            (folder / name).write_text(text)
        start(
            stack, folder, [
                str(etcd), f"--data-dir={folder / 'etcd'}", f"--listen-client-urls=http://127.0.0.1:{store}",
                f"--advertise-client-urls=http://127.0.0.1:{store}", f"--listen-peer-urls=http://127.0.0.1:{peers}",
                "--unsafe-no-fsync",
            ],
        )  # fmt: skip
        start(
            stack, folder, [
                str(servers / "kube-apiserver"), f"--etcd-servers=http://127.0.0.1:{store}", f"--cert-dir={folder / 'serving'}",
                "--bind-address=127.0.0.1", f"--secure-port={port}", f"--client-ca-file={folder / 'ca.crt'}",
                "--authorization-mode=Node,RBAC", "--enable-bootstrap-token-auth", "--service-cluster-ip-range=10.96.0.0/16",
                "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={folder / 'sa.pub'}",
                f"--service-account-signing-key-file={folder / 'sa.key'}", "--disable-admission-plugins=ServiceAccount",
            ],
        )  # fmt: skip
        url = f"https://127.0.0.1:{port}"
        wait(url, folder / "log")
        trusted = (folder / "serving" / "apiserver.crt").read_text()

        def login(signer: pki.Pair) -> str:
            person = pki.sign_client(signer, "kubeup", ("system:masters",), time.time(), 86400)
            return pki.kubeconfig("demo", url, trusted, person)

        kubeconfig = login(authority)
        (folder / "kubeconfig").write_text(kubeconfig)
        start(
            stack, folder, [
                str(servers / "kube-controller-manager"), f"--kubeconfig={folder / 'kubeconfig'}", "--leader-elect=false",
                f"--controllers={CONTROLLERS}", "--port=0", f"--secure-port={free_ports(1)[0]}", "--bind-address=127.0.0.1",
                f"--cert-dir={folder / 'managing'}",
            ],
        )  # fmt: skip
        yield WorkloadApi(url, kubeconfig, login(pki.make_authority("somebody", time.time())), folder / "log")


def etcd_binary() -> Path:
    """Debian's etcd, as the images have it."""
    root = debian_root()

    def make(path: Path) -> None:
        with tarfile.open(root) as tar:
            content = next(tar.extractfile(m) for m in tar if m.name.removeprefix("./") == "usr/bin/etcd")
            assert content is not None
            path.write_bytes(content.read())
            path.chmod(0o755)

    return artifact("etcd", {"root": root.name}, make, suffix="")


def start(stack: ExitStack, folder: Path, command: list[str]) -> None:
    """Stopped, and killed when it does not stop, at the end of the stack."""
    log = stack.enter_context((folder / "log").open("ab"))
    process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True)

    def stop() -> None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    stack.callback(stop)


def wait(url: str, log: Path) -> None:
    """Until the API server is ready. It makes its own certificate, so this look trusts anybody."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5, context=trusting):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise CannotBuild(f"kube-apiserver was not ready within {START_SECONDS:.0f} s: {log.read_text(errors='replace')[-2000:]}")


def free_ports(count: int) -> list[int]:
    """All held at once, so that they differ."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
