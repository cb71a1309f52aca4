"""docs/examples/aws.yaml with real processes against moto's server behind the strict layer: as far as machines go that nobody can boot.

What is asked of AWS is real; the machines are not: SSH to them goes to a closed port of this computer.
"""

from __future__ import annotations

import base64
import gzip
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

pytest.importorskip("kubeup_aws")

EXAMPLE = "docs/examples/aws.yaml"
PROVIDER = """
apiVersion: kubeup.dev/v1alpha1
kind: Provider
metadata: {name: aws}
spec:
  type: aws
  zones: [us-east-1a, us-east-1b, us-east-1c]
  config: {settle: 2} # nothing is hidden here
  access: {via: "root@127.0.0.1:1", viaHostKey: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEtG3mLFrM8r2Bq7mMZ0h1bZ2Y3i4o5p6q7r8s9t0u1v"}
"""


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An account in which time passes: a step each quarter of a second."""
    from kubeup_artifacts.strict_aws import StrictAws

    aws = StrictAws()
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(0.25):
            aws.advance()

    clock = threading.Thread(target=run, daemon=True)
    clock.start()
    yield aws
    ended.set()
    clock.join(10)
    aws.close()


def test_the_example_is_made_at_aws_and_taken_down_to_nothing(kubeup, until, account) -> None:
    before = account.everything()
    kubeup.env.update(
        AWS_ENDPOINT_URL=account.url, AWS_REGION=account.region, AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY="secret",
        AWS_CONFIG_FILE="/dev/null", AWS_EC2_METADATA_DISABLED="true",
    )  # fmt: skip
    kubeup("apply", "-f", kubeup.write(PROVIDER))
    kubeup("apply", "-f", EXAMPLE)

    def running() -> bool:
        machines = kubeup.machines()
        return len(machines) == 9 and all((m.get("status") or {}).get("id") for m in machines)

    until(running, "nine machines are there", 180)
    machines = kubeup.machines()
    zones = {
        name: [m["status"]["resolved"]["zone"] for m in machines if name in m["metadata"]["name"]] for name in ("web", "db")
    }
    assert all(len(set(of_pool)) == 3 for of_pool in zones.values()), zones
    assert account.count("RunInstances") <= 9

    told = [seen.params for seen in account.seen if seen.action == "RunInstances" and seen.params.get("UserData")]
    assert told
    for params in told:
        valid(params["UserData"])

    def volumes() -> bool:
        return all((v.get("status") or {}).get("id") for v in kubeup.get("volumes.kubeup.dev")["items"])

    until(volumes, "both volumes are there", 120)

    def balancer() -> bool:
        (found,) = kubeup.get("loadbalancers.kubeup.dev")["items"]
        return ".elb." in ((found.get("status") or {}).get("hostname") or "")

    until(balancer, "the API has its balancer", 120)

    kubeup("down", "-f", EXAMPLE, "--yes", "--volumes", seconds=400)
    left = account.everything() - before
    assert not left, left


def valid(user_data: str) -> None:
    """What EC2 was told is cloud-config, compressed or not."""
    text = base64.b64decode(user_data)
    if text[:2] == b"\x1f\x8b":
        text = gzip.decompress(text)
    assert text.startswith(b"#cloud-config\n")
    config = yaml.safe_load(text)
    assert config["disable_root"] is False
    assert config["ssh_authorized_keys"]
