"""docs/examples/gce.yaml with real processes against the emulator: as far as machines go that nobody can boot.

What is asked of Google is real, and checked against Google's description of its API; the machines are not: SSH to them goes to a
closed port of this computer. No name outside of it can be reached: every proxy that is asked is a closed port, too.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubeup_emulators.gce import Emulator

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEtG3mLFrM8r2Bq7mMZ0h1bZ2Y3i4o5p6q7r8s9t0u1v"
TIMED_OUT = 4
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

    def asked() -> bool:
        """A busy computer needs longer to load Google's library than `up` gives a Provider to say who it is."""
        with contextlib.suppress(AssertionError):
            kubeup("up", "-f", file, "--timeout", "1s", code=TIMED_OUT)
            return True
        return False

    until(asked, "what is wanted is stored", 240)

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

    told = [m["value"] for i in instances(world) for m in i["metadata"]["items"] if m["key"] == "user-data"]
    assert told
    for user_data in told:
        valid(user_data, tmp_path)

    kubeup("down", "-f", file, "--yes", "--volumes", seconds=300)
    assert world.everything() == []


def attached(kubeup: Any) -> list[Any]:
    return [v for v in kubeup.get("volumes.kubeup.dev")["items"] if (v.get("status") or {}).get("state") == "Attached"]


def address(kubeup: Any, name: str) -> str:
    return str((kubeup.get("loadbalancers.kubeup.dev", name).get("status") or {}).get("address") or "")


def instances(world: Any) -> list[dict[str, Any]]:
    return [item.body for item in world.items.values() if item.collection == "instances"]


def valid(user_data: str, folder: Path) -> None:
    """What the machines were told is cloud-config, by cloud-init's own check where cloud-init is installed."""
    text = user_data.encode() if user_data.startswith("#") else base64.b64decode(user_data)
    text = gzip.decompress(text) if text[:2] == b"\x1f\x8b" else text
    assert text.startswith(b"#cloud-config\n")
    assert "PRIVATE KEY" not in text.decode()
    assert yaml.safe_load(text)["ssh_authorized_keys"]
    if (check := shutil.which("cloud-init")) is not None:
        file = folder / "user-data"
        file.write_bytes(text)
        done = subprocess.run([check, "schema", "--config-file", str(file)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
