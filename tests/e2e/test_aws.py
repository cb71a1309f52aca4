"""docs/examples/aws.yaml with real processes against moto's server behind the strict layer: as far as machines go that nobody can boot.

What is asked of AWS is real; the machines are not: SSH to them goes to a closed port of this computer.
"""

from __future__ import annotations

import base64
import gzip
import threading
import uuid
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
  config: {settle: 2} # nothing is hidden here, and the cluster is not old enough for what 300 asks
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
    kubeup.env.update(environment(account))
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


def test_leaks_are_listed_with_a_price_and_deleted_in_order_and_those_of_others_stay(kubeup, until, account) -> None:
    kubeup.env.update(environment(account))
    kubeup("apply", "-f", kubeup.write(PROVIDER))
    kubeup("apply", "-f", kubeup.write(NOTHING, "nothing.yaml"))
    ours = kubeup.get("installations.kubeup.dev")["items"][0]["status"]["id"]
    before = account.everything()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(account).items():
            patch.setenv(name, value)
        lost = leftovers(account, ours)
        after = account.everything()
        theirs = leftovers(account, "somebody-else")
    foreign = account.everything() - after

    until(lambda: all(id in kubeup("leaks", "aws") for id in lost.values()), "what was lost is listed", 120)
    listed = kubeup("leaks", "aws")
    mine, _, others = listed.partition("Of other installations")
    assert "$" in mine
    assert "somebody-else" in others
    assert not any(id in mine for id in theirs.values())
    assert account.everything() - foreign - before == after - before, "looking changes nothing"

    kubeup("leaks", "aws", "--delete", "--yes", "--timeout", "150s", seconds=240)
    left = account.everything() - before
    assert left == foreign | {lost["volume"]}, "a volume is a person's to look into"
    gone = ("TerminateInstances", "DeleteLoadBalancer", "DeleteTargetGroup", "DeleteVpc")
    order = [seen.action for seen in account.seen if seen.action in gone]
    assert order[-1] == "DeleteVpc"


NOTHING = """
apiVersion: kubeup.dev/v1alpha1
kind: Cluster
metadata: {name: nothing}
spec: {provider: aws}
"""


def environment(account: Any) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": account.url, "AWS_REGION": account.region, "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret", "AWS_CONFIG_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip


def leftovers(account: Any, installation: str) -> dict[str, str]:
    """One of each kind with this installation's mark, that no object asked for. -> kind -> id"""
    from kubeup_aws import AwsConfig, build
    from kubeup_core import Context, Launch, Listener, LoadBalancerSpec, Mark, Member, NetworkSpec, Template, VolumeSpec

    def mark(kind: str) -> Mark:
        maker = str(uuid.uuid4())
        return Mark(installation=installation, cluster="lost", cluster_name="lost", kind=kind, maker=maker)

    zone = f"{account.region}a"
    made = build(AwsConfig(), Context(installation=installation, images={"debian-12": account.ec2.image}, zones=(zone,)))
    assert made.networks
    assert made.load_balancers
    assert made.volumes
    network = made.networks.ensure(NetworkSpec(mark=mark("Network"), name="lost"))
    want = Template(cpu=1, memory=2**30, disk=2**33, arch="", image="debian-12")
    own = mark("Machine")
    (machine,) = made.machines.launch(
        Launch(
            mark=own, token=own.maker, template=want, offer=made.machines.offers(want)[0], role="worker",
            members=(Member(name="lost-0"),), network=network.data,
        )
    )  # fmt: skip
    listener = Listener(port=80, target=80)
    balancer = made.load_balancers.ensure(
        LoadBalancerSpec(mark=mark("LoadBalancer"), name="lost", internal=False, listeners=(listener,), network=network.data)
    )
    own = mark("Volume")
    volume = made.volumes.ensure(VolumeSpec(mark=own, token=own.maker, name="lost", size=2**30, place=zone))
    made.close()
    return {"network": network.ref.id, "machine": machine.id, "balancer": balancer.ref.id, "volume": volume.ref.id}
