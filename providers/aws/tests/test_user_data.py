"""What arrives at RunInstances as user-data: byte for byte what was rendered for the machine, as `golden/` has it.

With the real kubeadm's steps, for a control plane and for a worker. Golden files hold everything but the bootstrapper's scripts, which
are compared with what the bootstrapper says now, so that its own work does not change files here.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from kubeup_aws.suppliers import WHOAMI
from kubeup_core.bootstrapper import NO_SECRETS, Task
from kubeup_core.controllers.bootstraps import bootstrapper_of
from kubeup_core.controllers.machine_files import own_files
from kubeup_core.controllers.plans import cluster_plan, node_plan
from kubeup_core.controllers.ssh_keys import public_key
from kubeup_core.kinds import Cluster, Launch, Machine
from kubeup_core.testing.harness import Harness
from kubeup_core.user_data import BootJobs, render

pytest.importorskip("kubeup_kubeadm", reason="the bootstrapper is the distribution kubeup-kubeadm: pip install kubeup-kubeadm")

GOLDEN = Path(__file__).parent / "golden"
ROLES = ("controlPlane", "worker")
PERSON = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8mYkJ3Tt0VQYw3Yh1nZ2m0Zk5Yk3l1n0c9d8e7f6a5 person@example"


SEED = "/var/lib/kubeup/boot/seed"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory):
    """role -> (what arrived at the server, what its bootstrapper renders for that machine)."""
    from kubeup_artifacts.strict_aws import StrictAws

    account = StrictAws()
    environment = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_CONFIG_FILE": "/dev/null"}
    with pytest.MonkeyPatch.context() as patch, Harness(tmp_path_factory.mktemp("told"), cloud=None) as whole:
        for name, value in environment.items():
            patch.setenv(name, value)
        spec = {"type": "aws", "zones": ["us-east-1a"], "config": {"region": "us-east-1", "endpointUrl": account.url}}
        spec |= {"images": {"debian-12": account.ec2.image}}
        whole.apply({"kind": "Provider", "metadata": {"name": "aws"}, "spec": spec})
        kubernetes = {"version": "v1.34.1", "source": "packages"}
        machine = {"cpu": 2, "memory": "4Gi", "sshKeys": [PERSON], "files": [{"path": "/etc/motd", "content": "hello\n"}]}
        cluster = {"provider": "aws", "kubernetes": kubernetes, "network": {"cni": "flannel"}, "machine": machine}
        whole.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": cluster})
        whole.apply({"kind": "NodePool", "metadata": {"name": "w"}, "spec": {"cluster": "demo", "replicas": 1}})
        end, found = whole.clock.awake() + 300, {}
        while len(found) < len(ROLES):
            assert whole.clock.awake() < end, whole.diagnosis()
            whole.advance(1.0)
            account.advance()
            runs = [seen.params for seen in account.seen if seen.action == "RunInstances"]
            arrived = {params["ClientToken"]: base64.b64decode(params["UserData"]) for params in runs}
            found = {launch.spec.role: (launch, arrived[launch.uid]) for launch in whole.launches() if launch.uid in arrived}
        yield {role: (plain(data), plain(rendered(whole, launch))) for role, (launch, data) in found.items()}
    account.close()


def rendered(whole: Harness, launch: Launch) -> bytes:
    """Out of the bootstrapper's steps."""
    env = whole.manager.env
    cluster, machine = whole.get(Cluster, "demo"), whole.get(Machine, launch.spec.members[0].name)
    node = replace(node_plan(env, cluster, machine), arch=launch.spec.offer.arch)
    steps = bootstrapper_of(env, cluster).steps(Task.PREPARE, cluster_plan(env, cluster, machine), node, NO_SECRETS)
    jobs = BootJobs(members=[(machine.name, [(*own_files(env, cluster, machine), *steps)])], whoami=WHOAMI)
    return render([PERSON, public_key(env, cluster)], jobs=jobs, limit=1 << 20)


def plain(data: bytes) -> bytes:
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def parts(data: bytes) -> Iterator[tuple[str, str]]:
    """(name, text) of the whole and of all that is packed in it."""
    whole = json.loads(data.partition(b"\n")[2])
    yield "user-data", data.decode()
    for file in whole["write_files"]:
        content = base64.b64decode(file["content"])
        if file["path"] != SEED:
            yield file["path"], content.decode()
            continue
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
            for member in tar.getmembers():
                packed = tar.extractfile(member)
                assert packed is not None
                yield f"{SEED}:{member.name}", packed.read().decode()


def canonical(data: bytes) -> str:
    """For people, and without what differs from run to run: the cluster's own key, and digests. Of scripts: that they are there."""
    lines = []
    for name, text in parts(data):
        if name == "user-data":
            text = re.sub(r'"content": "[^"]*"', '"content": "(below)"', text)
        if name.endswith(("/script", ":start", ":runner")):
            text = f"({'a script' if text.strip() else 'empty'})\n"
        lines += [f"==== {name}", text.rstrip("\n")]
    known = "\n".join(line for line in lines if line) + "\n"
    known = re.sub(r"ssh-ed25519 \S+ kubeup/default/demo", "(the cluster's public key)", known)
    known = re.sub(r"\b[0-9a-f]{32} \d+", "(digest) (seconds)", known)
    return re.sub(r"\b[0-9a-f]{20}\b", "(digest)", known)


@pytest.mark.parametrize("role", ROLES)
def test_what_arrives_is_what_the_bootstrapper_renders(told, role: str) -> None:
    arrived, wanted = told[role]
    assert arrived == wanted


@pytest.mark.parametrize("role", ROLES)
def test_what_arrives_is_as_it_was_written_down(told, role: str) -> None:
    """KUBEUP_GOLDEN=write writes it down anew."""
    file, now = GOLDEN / f"user-data-{role}.txt", canonical(told[role][0])
    if os.environ.get("KUBEUP_GOLDEN") == "write":
        file.write_text(now)
    assert now == file.read_text()


@pytest.mark.parametrize("role", ROLES)
def test_cloud_init_finds_it_valid(told, role: str, tmp_path: Path) -> None:
    command = shutil.which("cloud-init")
    if command is None:
        pytest.skip("cloud-init is not installed (apt-get install cloud-init)")
    file = tmp_path / "user-data"
    file.write_bytes(told[role][0])
    done = subprocess.run([command, "schema", "--config-file", str(file)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Valid" in done.stdout + done.stderr


@pytest.mark.parametrize("role", ROLES)
def test_nothing_private_is_in_it(told, role: str) -> None:
    for name, text in parts(told[role][0]):
        assert "PRIVATE KEY" not in text, name
        assert not re.search(r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b", text), f"{name} has a bootstrap token"
        assert "secret" not in text or name.endswith(("/script", ":runner", ":start")), name
