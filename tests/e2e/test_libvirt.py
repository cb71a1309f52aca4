"""The neutral part of docs/examples with `provider: libvirt`, by real processes against a real libvirtd of the test's own.

The machines have an empty disk to boot from, so nothing runs in them: what is looked at is what libvirt has, domains, disks, seeds and
volumes, and that nothing of it stays. A Debian that boots, and is reached over SSH, is in providers/libvirt/tests/test_boot.py.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.kubectl, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
NEUTRAL = (ROOT / "docs/examples/containers.yaml").read_text()
LINE = "provider: docker"
assert NEUTRAL.count(LINE) == 1

DISK = """---
apiVersion: kubeup.dev/v1alpha1
kind: Volume
metadata: {name: data}
spec:
  cluster: CLUSTER
  size: 64Mi
  attach: {pool: POOL, slot: 0}
"""

KUBERNETES = (ROOT / "docs/examples/docker.yaml").read_text()
assert KUBERNETES.count(LINE) == 1


@pytest.fixture(scope="module")
def hypervisor() -> Iterator[Any]:
    from kubeup_artifacts.fixtures import unavailable
    from kubeup_artifacts.libvirt import NoLibvirt, libvirtd

    if importlib.util.find_spec("libvirt") is None:
        unavailable("libvirt-python is not installed: pip install -e 'providers/libvirt[libvirt]'")
    try:
        context = libvirtd()
        daemon = context.__enter__()
    except NoLibvirt as reason:
        unavailable(str(reason))
    try:
        daemon.virsh("vol-create-as", "default", "empty.qcow2", "1M", "--format", "qcow2")
        yield daemon
    finally:
        context.__exit__(None, None, None)


@pytest.fixture
def libvirt(hypervisor: Any, kubeup: Any) -> Any:
    """The Provider `libvirt`, which knows where libvirtd listens and which image is a Debian 12."""
    spec = {"type": "libvirt", "config": {"uri": hypervisor.uri}, "images": {"debian-12": "default/empty.qcow2"}}
    provider = {"apiVersion": "kubeup.dev/v1alpha1", "kind": "Provider", "metadata": {"name": "libvirt"}, "spec": spec}
    kubeup("apply", "-f", kubeup.write(yaml.safe_dump(provider), "provider.yaml"))
    return hypervisor


def there(daemon: Any) -> set[str]:
    """All that this libvirt has, but for the image."""
    domains = daemon.virsh("list", "--all", "--name").split()
    networks = daemon.virsh("net-list", "--all", "--name").split()
    return {*domains, *networks, *(file.name for file in daemon.pool.iterdir() if file.name != "empty.qcow2")}


def test_the_file_for_docker_makes_machines_at_libvirt_when_that_line_alone_is_changed(kubeup: Any, libvirt: Any) -> None:
    cluster, pool = yaml.safe_load_all(NEUTRAL)
    name, boxes = cluster["metadata"]["name"], pool["metadata"]["name"]
    text = NEUTRAL.replace(LINE, "provider: libvirt") + DISK.replace("CLUSTER", name).replace("POOL", boxes)
    file = kubeup.write(text)
    kubeup("up", "-f", file, "--timeout", "5m", seconds=320)

    machines = kubeup.machines(ready=True)
    replicas = pool["spec"]["replicas"]
    assert len(machines) == replicas
    assert {m["status"]["resolved"]["provider"] for m in machines} == {"libvirt"}
    running = libvirt.virsh("list", "--uuid").split()
    assert {m["status"]["id"] for m in machines} == set(running)
    assert len({tuple(a["address"] for a in m["status"]["addresses"]) for m in machines}) == replicas
    (disk,) = kubeup.get("volumes.kubeup.dev")["items"]
    assert (disk["status"]["state"], disk["status"]["attachedTo"]) == ("Attached", f"{boxes}-0")
    with_disk = next(m["status"]["id"] for m in machines if m["metadata"]["name"] == f"{boxes}-0")
    assert "64.000 MiB" in libvirt.virsh("domblkinfo", with_disk, "--all", "--human")
    assert len(libvirt.virsh("net-list", "--name").split()) == 1

    kubeup("down", "-f", file, "--yes", "--volumes", "--timeout", "5m", seconds=320)
    assert there(libvirt) == set()


def test_the_kubernetes_cluster_for_docker_has_its_machines_a_volume_and_their_user_data_when_that_line_alone_is_changed(
    kubeup: Any, libvirt: Any, until: Callable[..., None]
) -> None:
    """docs/examples/docker.yaml, which runs as a whole on the engine and on hosts: tests/e2e/test_kubernetes.py."""
    disk = DISK.replace("CLUSTER", "local").replace("POOL", "workers")
    file = kubeup.write(KUBERNETES.replace(LINE, "provider: libvirt") + disk)
    kubeup("apply", "-f", file)
    until(lambda: len(libvirt.virsh("list", "--uuid").split()) == 3, "three machines", 120)
    until(lambda: kubeup.get("volumes.kubeup.dev")["items"][0]["status"].get("state") == "Attached", "its volume", 60)
    assert "64.000 MiB" in libvirt.virsh("domblkinfo", domain(libvirt, "workers-0"), "--all", "--human")

    data = seeded(libvirt, "workers-0")
    said = yaml.safe_load(data)
    assert said["ssh_authorized_keys"]
    assert "PRIVATE KEY" not in data
    if (check := shutil.which("cloud-init")) is not None:
        (kubeup.home / "user-data").write_text(data)
        done = subprocess.run([check, "schema", "-c", str(kubeup.home / "user-data")], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    given = steps(said)
    runbook = kubeup("steps", "local", "--machine", "workers-0", "--task", "prepare", "--as-script")
    assert "containerd" in given
    assert len(given) == runbook.count("KUBEUP_TEXT\nsh -eu ")
    assert [name for name, script in given.items() if script.strip() not in runbook] == []

    kubeup("down", "-f", file, "--yes", "--volumes", "--timeout", "5m", seconds=320)
    assert there(libvirt) == set()


def domain(daemon: Any, machine: str) -> str:
    (name,) = [n for n in daemon.virsh("list", "--name").split() if n.startswith(f"{machine}-")]
    return str(name)


def seeded(daemon: Any, machine: str) -> str:
    """The user-data on the seed of a machine."""
    lines = daemon.virsh("domblklist", domain(daemon, machine)).splitlines()
    path = next(line.split()[1] for line in lines if "seed" in line)
    image = (daemon.pool / Path(path).name).read_bytes()
    start = image.index(b"#cloud-config\n")
    return image[start : image.index(b"\0", start)].decode()


def steps(said: dict[str, Any]) -> dict[str, str]:
    """name -> script of the steps in the archive that user-data writes."""
    (archive,) = [f for f in said["write_files"] if f["path"].endswith("/seed")]
    found = {}
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(archive["content"])), mode="r:*") as tar:
        content = {m.name: tar.extractfile(m).read().decode() for m in tar if m.isfile()}  # type: ignore[union-attr]
    for path, script in content.items():
        folder, _, file = path.rpartition("/")
        if file == "script":
            found[content[f"{folder}/about"].split()[0]] = script
    return found
