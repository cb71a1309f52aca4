"""Machines with tags at AWS: kubeup's provider, a bare boto3 script, and Ansible's amazon.aws.ec2_instance, against one moto server.

Each is a process of its own that makes the machines in one call and looks at them once; wall and CPU seconds are of that process, from
its start on. All ask for the same: eight tags on each part, an encrypted disk, metadata with session tokens. The server is another
process. ansible-playbook with the collection amazon.aws is taken from the PATH (pip install ansible, in an environment of its own),
and left out where it is missing. Also run as `aws.py CLIENT`: one of the clients.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COUNTS = (30, 300)
ROUNDS = 3
ZONE, TYPE = "us-east-1a", "m5.large"
TAGS = {
    "Name": "web",
    **{f"bench/{what}": f"the {what} of these" for what in ("team", "kind", "cluster", "cost", "owner", "use", "of")},
}
DISK = {"VolumeSize": 8, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}
Figures = tuple[float, float]


def aws() -> Iterator[tuple[str, str]]:
    """30 and 300 machines with tags at AWS, against one moto server: seconds, wall and of the client's CPU (median of 3)"""
    with tempfile.TemporaryDirectory(prefix="kubeup-aws-") as name:
        folder = Path(name)
        server = subprocess.Popen([sys.executable, __file__, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            account = json.loads(server.stdout.readline())
            clients: dict[str, Callable[[int], list[str]]] = {
                "boto3": lambda count: [sys.executable, __file__, "boto3", json.dumps(account), str(count)],
                "kubeup": lambda count: [sys.executable, __file__, "kubeup", json.dumps(account), str(count)],
            }
            program = shutil.which("ansible-playbook")
            if program is not None:
                clients["Ansible"] = lambda count: [program, "-i", "localhost,", _playbook(folder, account, count)]
            else:
                yield "Ansible", "not on the PATH"
            for count in COUNTS:
                yield from _measured(folder, account, clients, count)
        finally:
            server.communicate("\n")


def _measured(
    folder: Path, account: dict[str, str], clients: dict[str, Callable[[int], list[str]]], count: int
) -> Iterator[tuple[str, str]]:
    taken: dict[str, list[Figures]] = {name: [] for name in clients}
    for _ in range(ROUNDS):
        for name, command in clients.items():
            taken[name].append(_timed(command(count), folder, account))
    middle = {name: tuple(statistics.median(run[i] for run in runs) for i in (0, 1)) for name, runs in taken.items()}
    for name, (wall, cpu) in middle.items():
        yield f"{count} machines, {name}", f"{wall:.2f} s, {cpu:.2f} s of CPU"
    for name in [other for other in middle if other != "kubeup"]:
        wall, cpu = (middle["kubeup"][i] / middle[name][i] for i in (0, 1))
        yield f"{count} machines, kubeup against {name}", f"{wall:.2f} x, {cpu:.2f} x of CPU"


def _timed(command: list[str], folder: Path, account: dict[str, str]) -> Figures:
    environment = {
        **os.environ, "HOME": str(folder), "AWS_ENDPOINT_URL": account["url"], "AWS_DEFAULT_REGION": account["region"],
        "AWS_REGION": account["region"],
        "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_CONFIG_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true", "ANSIBLE_PYTHON_INTERPRETER": "auto_silent", "ANSIBLE_LOCALHOST_WARNING": "False",
    }  # fmt: skip
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stdout + done.stderr
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _playbook(folder: Path, account: dict[str, str], count: int) -> str:
    python = Path(shutil.which("ansible-playbook") or "").resolve().parent / "python3"
    task = {
        "amazon.aws.ec2_instance": {
            "state": "present", "wait": False, "count": count, "image_id": account["image"], "instance_type": TYPE,
            "vpc_subnet_id": account["subnet"], "security_groups": [account["group"]],
            "tags": {**TAGS, "run": str(uuid.uuid4())}, "region": account["region"], "endpoint_url": account["url"],
            "metadata_options": {"http_tokens": "required", "http_put_response_hop_limit": 2},
            "volumes": [{"device_name": account["device"], "ebs": _snake(DISK)}],
            "access_key": "key", "secret_key": "secret",
        }
    }  # fmt: skip
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [task]}
    play["vars"] = {"ansible_python_interpreter": str(python)}
    file = folder / "play.json"
    file.write_text(json.dumps([play]))
    return str(file)


def _snake(names: dict[str, Any]) -> dict[str, Any]:
    return {re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower(): value for name, value in names.items()}


# -- each of these is a process ----------------------------------------------------------------------------------------------


def _serve() -> None:
    sys.path.insert(0, str(ROOT / "tests"))
    from artifacts.strict_aws import StrictAws

    server = StrictAws()
    backend = server.backend("ec2")
    vpc = backend.create_vpc("10.77.0.0/16")
    subnet = backend.create_subnet(vpc.id, "10.77.0.0/18", ZONE)
    group = backend.create_security_group("bench", "for the benchmark", vpc_id=vpc.id)
    device = backend.amis[server.ec2.image].root_device_name
    account = {
        "device": device,
        "url": server.url,
        "region": server.region,
        "image": server.ec2.image,
        "vpc": vpc.id,
        "subnet": subnet.id,
    }
    print(json.dumps(account | {"group": group.id}), flush=True)
    sys.stdin.readline()
    server.close()


def _boto3(account: dict[str, str], count: int) -> int:
    import boto3

    client: Any = boto3.client("ec2")
    run = str(uuid.uuid4())
    tags = [{"Key": key, "Value": value} for key, value in {**TAGS, "run": run}.items()]
    client.run_instances(
        ClientToken=run, MinCount=count, MaxCount=count, ImageId=account["image"], InstanceType=TYPE,
        Placement={"AvailabilityZone": ZONE}, MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
        BlockDeviceMappings=[{"DeviceName": account["device"], "Ebs": DISK}],
        NetworkInterfaces=[{"DeviceIndex": 0, "SubnetId": account["subnet"], "Groups": [account["group"]]}],
        TagSpecifications=[{"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume", "network-interface")],
    )  # fmt: skip
    pages = client.get_paginator("describe_instances").paginate(Filters=[{"Name": "tag:run", "Values": [run]}])
    return sum(len(reservation["Instances"]) for page in pages for reservation in page["Reservations"])


def _kubeup(account: dict[str, str], count: int) -> int:
    from kubeup_aws import AwsConfig, build
    from kubeup_core import Context, Launch, Mark, Member, Scope, Template

    run = str(uuid.uuid4())
    suppliers = build(AwsConfig(), Context(installation=run, images={"debian-12": account["image"]}, zones=(ZONE,)))
    want = Template(
        cpu=1, memory=2**30, disk=8 * 2**30, arch="amd64", image="debian-12", overrides={"machineType": TYPE}, role="worker"
    )
    network = {"vpc": account["vpc"], "subnets": f"{ZONE}={account['subnet']}", "given": account["group"]}
    launch = Launch(
        mark=Mark(installation=run, cluster=run, cluster_name="demo", kind="Machine", maker=run), token=run, template=want,
        offer=suppliers.machines.offers(want)[0], role="worker", network=network,
        members=tuple(Member(name=f"web-{number}") for number in range(count)),
    )  # fmt: skip
    suppliers.machines.launch(launch)
    return len(suppliers.machines.observe(Scope(installation=run)).items)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _serve()
    else:
        made = {"boto3": _boto3, "kubeup": _kubeup}[sys.argv[1]](json.loads(sys.argv[2]), int(sys.argv[3]))
        assert made == int(sys.argv[3]), made
