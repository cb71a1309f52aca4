"""docs/examples/gce.yaml with real processes against the emulator: as far as machines go that nobody can boot.

What is asked of Google is real, and checked against Google's description of its API; the machines are not: SSH to them goes to a
closed port of this computer. No name outside of it can be reached: every proxy that is asked is a closed port, too.
"""

from __future__ import annotations

import base64
import gzip
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubeup_core import Context, Launch, MachineState, Mark, Member, NetworkSpec, Phase, Scope, Template
from kubeup_emulators.gce import Emulator
from kubeup_gce import GceConfig, build

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEtG3mLFrM8r2Bq7mMZ0h1bZ2Y3i4o5p6q7r8s9t0u1v"
TIMED_OUT = 4
TOLD = "kubeup.dev/user-data"
EXAMPLE = "docs/examples/gce.yaml"
PROVIDER = """
apiVersion: kubeup.dev/v1alpha1
kind: Provider
metadata: {{name: gce}}
spec:
  type: gce
  config: {{project: {project}, region: us-central1, endpoint: "{url}"}}
  access: {{via: "root@127.0.0.1:1", viaHostKey: {key}}}
"""


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    made = Emulator()
    yield made
    made.stop()


def test_the_example_is_made_at_gce_and_taken_down_to_nothing(
    kubeup: Any, until: Callable[..., None], emulator: Emulator, tmp_path: Path
) -> None:
    world = emulator.world("my-project")
    world.real_time()
    world.duration = 0.3
    nowhere = {f"{scheme}_PROXY": "http://127.0.0.1:9" for scheme in ("HTTP", "HTTPS")}
    kubeup.env.update(nowhere, NO_PROXY="127.0.0.1,localhost", NO_GCE_CHECK="true")
    provider = PROVIDER.format(key=KEY, project=world.project, url=emulator.url)
    file = kubeup.write(provider + "---\n" + (Path(__file__).parents[2] / EXAMPLE).read_text())

    kubeup("up", "-f", file, "--timeout", "1s", code=TIMED_OUT)

    def machines() -> list[dict[str, Any]]:
        return [m for m in kubeup.machines() if (m.get("status") or {}).get("state") not in (None, "Pending", "Launching")]

    until(lambda: len(machines()) == 9, "nine machines run", 180)
    for pool in ("cloud-control-plane", "general", "batch"):
        zones = {m["status"]["resolved"]["zone"] for m in machines() if m["spec"].get("pool") == pool}
        assert len(zones) == 3, f"{pool} is in {zones}"
    assert world.count("instances.bulkInsert") <= 9

    until(lambda: len(attached(kubeup)) == 2, "each volume is at the machine of its slot", 120)
    balancers = {b["metadata"]["name"]: b["status"] for b in kubeup.get("loadbalancers.kubeup.dev")["items"]}
    until(lambda: all(address(kubeup, name) for name in balancers), "each balancer has its address", 120)
    assert set(balancers) == {"cloud-api", "web"}

    told = {user_data(i) for i in instances(world)}
    stored = [base64.b64decode(s["data"]["user-data"]) for s in kubeup.get("secrets")["items"] if s["type"] == TOLD]
    assert told == set(stored), "what arrived is what was rendered and stored with each launch"
    for text in told:
        valid(text, tmp_path)

    kubeup("down", "-f", file, "--yes", "--volumes", seconds=300)
    assert world.everything() == []


LEAKY = """
---
apiVersion: kubeup.dev/v1alpha1
kind: Cluster
metadata: {name: leaky}
spec: {provider: gce, machine: {cpu: 1, memory: 1Gi}}
---
apiVersion: kubeup.dev/v1alpha1
kind: NodePool
metadata: {name: web}
spec: {cluster: leaky, replicas: 1}
"""


def test_what_a_lost_store_left_at_gce_is_listed_with_its_price_and_deleted_in_order_and_that_of_others_stays(
    kubeup: Any, until: Callable[..., None], emulator: Emulator
) -> None:
    world = emulator.world("my-project")
    world.real_time()
    world.duration = 0.3
    kubeup.env.update(NO_PROXY="127.0.0.1,localhost", NO_GCE_CHECK="true")
    provider = PROVIDER.format(key=KEY, project=world.project, url=emulator.url).replace("config: {", "config: {settle: 2, ")
    kubeup("up", "-f", kubeup.write(provider + LEAKY))
    ours = set(world.everything())
    installation = kubeup.installation()
    with left_behind(emulator, installation, until) as machine, left_behind(emulator, "9f9f9f9f9f9f", until) as theirs:
        zone, name = machine.ref.id.split("/")
        world.items[f"zones/{zone}/instances/{name}"].body["disks"][0]["autoDelete"] = False
        foreign = {path for path in world.everything() if path in created_by(world, "9f9f9f9f9f9f")}
        assert len(foreign) >= 5
        remains = ours | foreign

        shown = ""

        def listed() -> bool:
            nonlocal shown
            shown = kubeup("leaks", "gce")
            mine = shown.partition("Of other installations")[0]
            return machine.ref.id in mine and "Network" in mine

        until(listed, "machine and network are listed", 120)
        row = next(line for line in shown.splitlines() if machine.ref.id in line)
        assert "$0.0" in row, row
        before, _, apart = shown.partition("Of other installations")
        assert "9f9f9f9f9f9f" in apart
        assert theirs.ref.id not in before

        kubeup("leaks", "--delete", "--yes", "--timeout", "120s")
        until(lambda: gone(kubeup, world, remains), "nothing but what is wanted, and what is others', is left", 120)
    assert set(world.everything()) == remains


def gone(kubeup: Any, world: Any, remains: set[str]) -> bool:
    """The disk that was told to outlive its machine is seen only when that is gone, and is then asked about again."""
    if set(world.everything()) == remains:
        return True
    if "nothing: everything" not in kubeup("leaks", "gce"):
        kubeup("leaks", "--delete", "--yes", "--timeout", "120s")
    return False


@contextmanager
def left_behind(emulator: Emulator, installation: str, until: Callable[..., None]) -> Iterator[MachineState]:
    """A network with a machine in it that carry an installation's mark, and that no store has ever heard of."""
    config = GceConfig(project="my-project", region="us-central1", endpoint=emulator.url)
    suppliers = build(config, Context(installation=installation))
    assert suppliers.networks is not None

    def mark(kind: str) -> Mark:
        return Mark(installation=installation, cluster="c-9", cluster_name="lost", kind=kind, maker=str(uuid.uuid4()))

    want = NetworkSpec(mark=mark("Network"), name="lost")
    until(lambda: suppliers.networks.ensure(want).phase == Phase.RUNNING, "a network is made")
    template = Template(cpu=2, memory=4 * 1024**3, disk=20 * 1024**3, arch="amd64", image="debian-12")
    of = mark("Machine")
    launch = Launch(
        mark=of, token=of.maker, template=template, offer=suppliers.machines.offers(template)[0], role="plain",
        members=(Member(name="lost-0"),), network=suppliers.networks.ensure(want).data,
    )  # fmt: skip
    suppliers.machines.launch(launch)

    def made() -> list[MachineState]:
        seen = suppliers.machines.observe(Scope(installation=installation)).items
        return [state for state in seen if state.ref.mark.maker == of.maker and state.phase == Phase.RUNNING]

    until(made, "a machine is made")
    yield made()[0]
    suppliers.close()


def created_by(world: Any, installation: str) -> set[str]:
    """Paths of what carries the mark: in labels, or in a description."""
    items = ((item.path, item.body) for item in world.items.values())
    return {path for path, body in items if installation in str(body.get("labels", "")) + str(body.get("description", ""))}


def attached(kubeup: Any) -> list[Any]:
    return [v for v in kubeup.get("volumes.kubeup.dev")["items"] if (v.get("status") or {}).get("state") == "Attached"]


def address(kubeup: Any, name: str) -> str:
    return str((kubeup.get("loadbalancers.kubeup.dev", name).get("status") or {}).get("address") or "")


def instances(world: Any) -> list[dict[str, Any]]:
    return [item.body for item in world.items.values() if item.collection == "instances"]


def user_data(instance: dict[str, Any]) -> bytes:
    """As cloud-init reads it from the metadata server."""
    metadata = {item["key"]: item["value"] for item in instance["metadata"]["items"]}
    text = metadata["user-data"]
    return base64.b64decode(text) if metadata.get("user-data-encoding") == "base64" else text.encode()


def valid(text: bytes, folder: Path) -> None:
    """What the machines were told is cloud-config, by cloud-init's own check where cloud-init is installed."""
    text = gzip.decompress(text) if text[:2] == b"\x1f\x8b" else text
    assert text.startswith(b"#cloud-config\n")
    assert "PRIVATE KEY" not in text.decode()
    assert yaml.safe_load(text)["ssh_authorized_keys"]
    if (check := shutil.which("cloud-init")) is not None:
        file = folder / "user-data"
        file.write_bytes(text)
        done = subprocess.run([check, "schema", "--config-file", str(file)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
