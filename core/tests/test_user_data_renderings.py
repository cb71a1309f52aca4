"""All that user-data is rendered for, with the real kubeadm's steps: cloud-init takes each, and no key is in any."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubeup_core.kinds import Launch, NodePool, Secret
from kubeup_core.testing.harness import Harness

pytest.importorskip("kubeup_sim", reason="the simulated cloud is the distribution kubeup-sim: pip install kubeup-sim")
pytest.importorskip("kubeup_kubeadm", reason="the bootstrapper is the distribution kubeup-kubeadm: pip install kubeup-kubeadm")

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8mYkJ3Tt0VQYw3Yh1nZ2m0Zk5Yk3l1n0c9d8e7f6a5 person@example"
TEMPLATE = {"sshKeys": [KEY], "files": [{"path": "/etc/motd", "content": "hello\n", "mode": "0600"}]}
TOKEN = re.compile(r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b")


def user_data(harness: Harness) -> dict[str, bytes]:
    """By role; "alone" for workers that nobody reaches."""
    found = {}
    for launch in harness.all(Launch):
        secret = harness.find(Secret, f"userdata-{launch.name}", launch.namespace)
        if secret is not None:
            role = "alone" if launch.spec.provider == "far" else launch.spec.role
            found[role] = base64.b64decode((secret.data or {})["user-data"])
    return found


def text(data: bytes) -> str:
    return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()


def contents(data: bytes) -> Iterator[tuple[str, str]]:
    """(name, text) of the whole and of every part that is packed or encoded in it."""
    yield "user-data", text(data)
    for file in json.loads(text(data).partition("\n")[2]).get("write_files", ()):
        content = base64.b64decode(file["content"])
        if content[:2] != b"\x1f\x8b":
            yield file["path"], content.decode()
            continue
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
            for member in tar.getmembers():
                packed = tar.extractfile(member)
                assert packed is not None
                yield f"{file['path']}:{member.name}", packed.read().decode()


def cluster(harness: Harness, access: str) -> None:
    harness.provider(access=access)
    far = {"type": "sim", "config": {"file": harness.account}, "access": {"kind": "none"}}
    harness.apply({"kind": "Provider", "metadata": {"name": "far"}, "spec": far})
    spec = {
        "provider": "sim",
        "kubernetes": {"version": "v1.34.1", "source": "packages"},
        "network": {"routed": True, "cni": "bridge"},
        "machine": TEMPLATE,
    }
    harness.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": spec})


@pytest.fixture(scope="module")
def renderings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Where machines are reached by SSH, and where workers are not reached at all."""
    with Harness(tmp_path_factory.mktemp("ssh"), cloud={"boot_seconds": (1, 1), "user_data_limit": 65536}) as harness:
        cluster(harness, "ssh")
        harness.apply({"kind": "NodePool", "metadata": {"name": "w"}, "spec": {"cluster": "demo", "replicas": 2}})
        for role in ("plain", "loadBalancer"):
            machine = {"cluster": "demo", "provider": "sim", "role": role, "machine": TEMPLATE}
            harness.apply({"kind": "Machine", "metadata": {"name": role.lower()}, "spec": machine})
        harness.until(lambda: len(user_data(harness)) == 4, 300)
        ssh = user_data(harness)
    with Harness(tmp_path_factory.mktemp("none"), cloud={"boot_seconds": (1, 1), "user_data_limit": 65536}) as harness:
        cluster(harness, "execute")
        pool = {"cluster": "demo", "replicas": 2, "provider": "far", "spread": "none"}
        harness.apply({"kind": "NodePool", "metadata": {"name": "w"}, "spec": pool})
        harness.until(lambda: "alone" in user_data(harness), 900)
        assert harness.get(NodePool, "w")
        return ssh | user_data(harness)


ALL = ("controlPlane", "worker", "loadBalancer", "plain", "alone")


@pytest.mark.parametrize("role", ALL)
def test_cloud_init_finds_each_valid(renderings, role, tmp_path: Path):
    command = shutil.which("cloud-init")
    if command is None:
        pytest.skip("cloud-init is not installed (apt-get install cloud-init)")
    file = tmp_path / "user-data"
    file.write_text(text(renderings[role]))
    done = subprocess.run([command, "schema", "--config-file", str(file)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Valid" in done.stdout + done.stderr


@pytest.mark.parametrize("role", ALL)
def test_no_private_key_is_in_any(renderings, role):
    names = []
    for name, content in contents(renderings[role]):
        names.append(name)
        assert "PRIVATE KEY" not in content, name
        for word in re.findall(r"[A-Za-z0-9+/]{40,}={0,2}", content):
            decoded = base64.b64decode(word + "=" * (-len(word) % 4), validate=False) if len(word) % 4 != 1 else b""
            assert b"PRIVATE KEY" not in decoded, name
    assert names


@pytest.mark.parametrize("role", ALL)
def test_a_token_is_only_where_nobody_could_bring_it(renderings, role):
    found = {token for _, content in contents(renderings[role]) for token in TOKEN.findall(content)}
    assert len(found) == (1 if role == "alone" else 0)


@pytest.mark.parametrize("role", ["controlPlane", "worker"])
def test_where_machines_are_reached_later_they_prepare_themselves_meanwhile(renderings, role):
    names = [name for name, _ in contents(renderings[role])]
    assert any(name.endswith("steps/001/script") for name in names)
    assert len(gzip.compress(renderings[role], mtime=0)) < 16384, "the smallest place that there is takes it"
    assert KEY in text(renderings[role])
    scripts = "".join(content for name, content in contents(renderings[role]) if name.endswith("/script"))
    assert "containerd" in scripts
    assert "kubeadm join" not in scripts


def test_a_worker_that_nobody_reaches_is_told_the_authority_it_may_trust(renderings):
    told = "".join(content for name, content in contents(renderings["alone"]))
    assert "caCertHashes" in told
    assert "sha256:" in told
    assert "unsafeSkipCAVerification" not in told
