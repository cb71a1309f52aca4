"""What one RunInstances call says, and how its answer is told. Pure; called by `machines.py`.

One call makes the whole launch: ClientToken makes its repeat harmless, instance, disk and interface carry their
tags from the start, and AmiLaunchIndex tells the members apart.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from typing import Any

from kubeup_core import InvalidSpec, Launch, NoCapacity, NotReady, Outcome, Place, Result, SupplierError, Unknown

from . import marks
from .config import AwsOverrides, overrides
from .images import Root
from .layout import Layout

USER_DATA_BYTES = 16384
GiB = 1024**3
OVER = ("shutting-down", "terminated")
"""States of an instance that nothing brings back."""

BY_SOMEBODY = {
    "Client.UserInitiatedShutdown", "Client.UserInitiatedHibernate", "Client.InstanceInitiatedShutdown", "Client.InstanceTerminated",
}  # fmt: skip
"""Reasons of an end that a person, kubeup or the machine itself asked for."""


def request(launch: Launch, root: Root) -> dict[str, Any]:
    """The parameters. Raises InvalidSpec for user-data that is too large, NotReady where the network has no subnet in the zone yet."""
    over = overrides(launch.template.overrides)
    names = [member.name for member in launch.members]
    stem = marks.shared_start(names) or launch.mark.cluster_name
    own = marks.tags(launch.mark, stem, indexed=False)
    tags = {"instance": own | marks.name_tags(names), "volume": own, "network-interface": own}
    params: dict[str, Any] = {
        "ClientToken": launch.token,
        "MinCount": 1,
        "MaxCount": len(launch.members),
        "ImageId": launch.offer.image,
        "InstanceType": launch.offer.machine_type,
        "Placement": {"AvailabilityZone": launch.offer.place},
        "NetworkInterfaces": [_interface(launch)],
        "BlockDeviceMappings": [{"DeviceName": root.device, "Ebs": _disk(launch, root, over)}],
        "MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "enabled", "HttpPutResponseHopLimit": 2},
        "TagSpecifications": [{"ResourceType": kind, "Tags": marks.as_list(set_)} for kind, set_ in tags.items()],
    }
    if launch.user_data:
        params["UserData"] = user_data(launch.user_data)
    if launch.offer.spot:
        options = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
        params["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": options}
    if over.iam_profile:
        params["IamInstanceProfile"] = {"Arn" if over.iam_profile.startswith("arn:") else "Name": over.iam_profile}
    return params


def user_data(plain: bytes) -> bytes:
    """As it is, or compressed where it is too long; cloud-init reads both. The same bytes for the same input."""
    if len(plain) <= USER_DATA_BYTES:
        return plain
    small = gzip.compress(plain, mtime=0)
    if len(small) > USER_DATA_BYTES:
        raise InvalidSpec(
            f"user-data has {len(plain)} bytes, {len(small)} compressed, and EC2 takes {USER_DATA_BYTES}",
            path="spec.machine.files",
            remedy="put large files into an image, or fetch them when the machine starts",
        )
    return small


def results(launch: Launch, instances: Sequence[Mapping[str, Any]]) -> list[Result]:
    """One per member. Who is not in the answer of a call with MinCount 1 was refused: EC2 had no more."""
    found: dict[int, Mapping[str, Any]] = {}
    for instance in instances:
        index = int(instance.get("AmiLaunchIndex", -1))
        if index in found or not 0 <= index < len(launch.members):
            raise Unknown(f"run_instances: instance {instance.get('InstanceId')} has the number {index}, which is no member's")
        found[index] = instance
    return [_result(launch, found.get(i)) for i in range(len(launch.members))]


def _result(launch: Launch, instance: Mapping[str, Any] | None) -> Result:
    if instance is None:
        offer = launch.offer
        scope = Place(place=offer.place, machine_type=offer.machine_type, spot=offer.spot)
        message = f"{offer.place} had fewer {offer.machine_type} than the {len(launch.members)} that were asked for"
        return Result(
            id="", outcome=Outcome.REFUSED, error=NoCapacity(message, scope=scope, code="InsufficientInstanceCapacity")
        )
    return result_of(instance)


def result_of(instance: Mapping[str, Any]) -> Result:
    """Of a member that is there."""
    over = instance.get("State", {}).get("Name", "") in OVER
    return Result(id=instance["InstanceId"], outcome=Outcome.DEAD if over else Outcome.MADE, error=late_refusal(instance))


def late_refusal(instance: Mapping[str, Any]) -> SupplierError | None:
    """Why EC2 ended an instance that it had accepted; None where it did not, or where somebody terminated it.

    NoCapacity: it never ran. The others may have: Unknown where the fault is EC2's, InvalidSpec where it is in what was asked for."""
    reason = instance.get("StateReason", {})
    code = str(reason.get("Code", ""))
    if instance.get("State", {}).get("Name") not in OVER or not code or code in BY_SOMEBODY:
        return None
    said = str(reason.get("Message") or code)
    said = said if code in said else f"{code}: {said}"
    scope = Place(
        place=instance.get("Placement", {}).get("AvailabilityZone"),
        machine_type=instance.get("InstanceType"),
        spot=instance.get("InstanceLifecycle") == "spot",
    )
    if "Insufficient" in code or "LimitExceeded" in code:
        return NoCapacity(f"EC2 took it back: {said}", scope=scope, person="LimitExceeded" in code, code=code)
    if code.startswith("Client."):
        remedy = "correct what the reason names: the key of its disks (kmsKey), the image, its snapshot"
        return InvalidSpec(f"EC2 ended it: {said}", code=code, remedy=remedy)
    return Unknown(f"EC2 ended it: {said}", code=code)


def _interface(launch: Launch) -> dict[str, Any]:
    layout = Layout.read(launch.network)
    subnet = layout.subnets.get(launch.offer.place)
    if subnet is None:
        raise NotReady(f"the cluster's network has no subnet in {launch.offer.place} yet", retry_after=5)
    interface: dict[str, Any] = {
        "DeviceIndex": 0,
        "SubnetId": subnet,
        "Groups": list(layout.worn_by(launch.role)),
        "DeleteOnTermination": True,
    }
    public = launch.template.public_address
    if public is not None or layout.public:
        interface["AssociatePublicIpAddress"] = public is not False
    return interface


def _disk(launch: Launch, root: Root, over: AwsOverrides) -> dict[str, Any]:
    disk: dict[str, Any] = {
        "VolumeSize": max(-(-launch.template.disk // GiB), root.size, 1),
        "VolumeType": over.volume_type or "gp3",
        "Encrypted": True,
        "DeleteOnTermination": True,
    }
    given = {"Iops": over.iops, "Throughput": over.throughput, "KmsKeyId": over.kms_key}
    return disk | {key: value for key, value in given.items() if value is not None}
