"""What arrives at Google as a machine's user-data and keys, as `golden/` has it: of a plain machine as text, and of one for
Kubernetes with the bootstrapper's steps packed. Of the core's and the bootstrapper's scripts: that they are there.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubeup_core.testing.harness import Harness
from kubeup_emulators.gce import Emulator

GOLDEN = Path(__file__).parent / "golden"
KINDS = ("plain", "kubernetes")
PERSON = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8mYkJ3Tt0VQYw3Yh1nZ2m0Zk5Yk3l1n0c9d8e7f6a5 person@example"
SEED = "/var/lib/kubeup/boot/seed"


def metadata(emulator: Emulator, folder: Path, kind: str) -> dict[str, str]:
    """Of the worker of a cluster with a key and a file, as the place has it."""
    world = emulator.world()
    with Harness(folder, cloud=None) as whole:
        config = {"project": world.project, "region": "us-central1", "endpoint": emulator.url}
        whole.apply({"kind": "Provider", "metadata": {"name": "gce"}, "spec": {"type": "gce", "config": config}})
        machine = {"cpu": 2, "memory": "4Gi", "sshKeys": [PERSON], "files": [{"path": "/etc/motd", "content": "hello\n"}]}
        cluster: dict[str, Any] = {"provider": "gce", "machine": machine}
        if kind == "kubernetes":
            cluster |= {"kubernetes": {"version": "v1.34.1", "source": "packages"}, "network": {"cni": "flannel"}}
        whole.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": cluster})
        whole.apply({"kind": "NodePool", "metadata": {"name": "w"}, "spec": {"cluster": "demo", "replicas": 1}})
        end = whole.clock.awake() + 300
        while True:
            assert whole.clock.awake() < end, whole.diagnosis()
            whole.advance(1.0)
            world.advance(1.0)
            with world.lock:
                instances = [item.body for item in world.items.values() if item.collection == "instances"]
            made = [body for body in instances if body["name"].startswith("w-")]
            if made:
                return {item["key"]: item["value"] for item in made[0]["metadata"]["items"]}


def parts(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, text) of the whole and of all that is packed in it."""
    data = found["user-data"].encode()
    data = base64.b64decode(data) if found.get("user-data-encoding") == "base64" else data
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    whole = json.loads(data.partition(b"\n")[2])
    yield "user-data", re.sub(r'"content": "[^"]*"', '"content": "(below)"', data.decode())
    for file in whole.get("write_files", ()):
        content = base64.b64decode(file["content"])
        if file["path"] != SEED:
            yield file["path"], content.decode()
            continue
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
            for member in tar.getmembers():
                packed = tar.extractfile(member)
                assert packed is not None
                yield f"{SEED}:{member.name}", packed.read().decode()


def canonical(found: dict[str, str]) -> str:
    """For people, and without what differs from run to run: the cluster's own key, and digests."""
    lines = []
    for name, text in parts(found):
        text = f"({'a script' if text.strip() else 'empty'})" if name.endswith(("/script", ":start", ":runner")) else text
        lines += [f"==== {name}", *(line for line in text.splitlines() if line)]
    keys = sorted(found["ssh-keys"].splitlines(), key=lambda key: key.endswith("kubeup/default/demo"))
    known = "\n".join([*lines, "==== ssh-keys", *keys]) + "\n"
    known = re.sub(r"ssh-ed25519 \S+ kubeup/default/demo", "(the cluster's public key)", known)
    known = re.sub(r"\b[0-9a-f]{32} \d+", "(digest) (seconds)", known)
    return re.sub(r"\b[0-9a-f]{20}\b", "(digest)", known)


@pytest.mark.parametrize("kind", KINDS)
def test_what_arrives_is_as_it_was_written_down(emulator: Emulator, tmp_path: Path, kind: str) -> None:
    """KUBEUP_GOLDEN=write writes it down anew."""
    if kind == "kubernetes":
        pytest.importorskip("kubeup_kubeadm", reason="the bootstrapper is kubeup-kubeadm: pip install kubeup-kubeadm")
    file, now = GOLDEN / f"user-data-{kind}.txt", canonical(metadata(emulator, tmp_path, kind))
    if os.environ.get("KUBEUP_GOLDEN") == "write":
        file.write_text(now)
    assert now == file.read_text()
