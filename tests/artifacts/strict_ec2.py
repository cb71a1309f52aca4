"""What the strict layer knows better than moto about EC2: tokens, states that take time, and refusals. Part of `strict_aws.py`.

Sources: EC2's API reference, its user guide on idempotency and eventual consistency, and reports of other projects.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import ipaddress
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from .strict_aws import Params, Refused, StrictAws, numbered, quick_tags
from .strict_xml import copy_of, describe, entries, envelope, in_item, items, tight

FORGOTTEN = 30
"""Steps after which a terminated instance is no longer listed."""

USER_DATA = 16384
LAGGING = {
    "DescribeVpcs": ("vpcSet", "vpcId"),
    "DescribeSubnets": ("subnetSet", "subnetId"),
    "DescribeInternetGateways": ("internetGatewaySet", "internetGatewayId"),
    "DescribeSecurityGroups": ("securityGroupInfo", "groupId"),
    "DescribeRouteTables": ("routeTableSet", "routeTableId"),
    "DescribeVolumes": ("volumeSet", "volumeId"),
}
"""Listings that `stale` is about -> the element of the answer, and that of the id."""

_ANSWERS: dict[str, str] = {}


class Ec2:
    def __init__(self, aws: StrictAws) -> None:
        self._aws = aws
        self.image = ""
        self.room: int | None = None
        self.refuse_late = False
        self.page = 1000
        self.hidden: set[str] | None = None  # set: what `stale` still shows, of instances and of the rest
        self.hidden_parts: set[str] | None = None
        self.device_limit = 40
        self._tokens: dict[str, tuple[str, list[str]]] = {}
        self._by_id: dict[str, Any] = {}
        self.copies: dict[str, int] = {}  # instance -> how many more like it are listed, which moto knows nothing of
        self._rendered: dict[str, tuple[object, str]] = {}
        self._listings: dict[str, list[str]] = {}  # for who reads on: what was listed when the first page was asked for
        self._volume_tokens: dict[str, str] = {}
        self._young: dict[str, bool] = {}  # pending instances: whether EC2 will take them back
        self._leaving: dict[str, int] = {}
        self._attaching: set[str] = set()
        self._detaching: dict[str, tuple[str, str]] = {}
        self._growing: dict[str, int] = {}
        self._grown: dict[str, int] = {}
        self.attach_hangs = self.detach_hangs = False
        self.protected: set[str] = set()  # instances with termination protection

    def furnish(self) -> None:
        """An image, as every region has some."""
        quick_tags(self._backend)
        self.image = self._backend.register_image(name="debian-12").id
        self._aws.parameters["/aws/service/debian/release/12/latest/amd64"] = self.image

    def advance(self) -> None:
        for id, refused in list(self._young.items()):
            instance = self._instance(id)
            del self._young[id]
            if instance._state.name != "pending":
                continue
            if refused:
                self.end(id, "Server.InsufficientInstanceCapacity")
            else:
                _put(instance, "running", 16)
        for id, since in list(self._leaving.items()):
            if self._instance(id)._state.name == "shutting-down":
                _put(self._instance(id), "terminated", 48)
            elif self._aws.step - since > FORGOTTEN:
                del self._leaving[id]
                self._forget(id)
        if not self.attach_hangs:
            self._attaching.clear()
        if not self.detach_hangs:
            for volume, (instance, device) in self._detaching.items():
                if self._backend.volumes[volume].attachment:
                    self._backend.detach_volume(volume, instance, device)
            self._detaching.clear()
        for id, size in self._growing.items():
            self._backend.volumes[id].size = size
        self._growing.clear()

    def end(self, id: str, reason: str, message: str = "") -> None:
        """The instance dies by itself."""
        from moto.ec2.models.instances import StateReason

        instance = self._instance(id)
        instance.terminate()
        instance.state_reason = StateReason(message or reason, reason)
        self._leaving[id] = self._aws.step
        _put(instance, "terminated", 48)

    def starting(self) -> bool:
        """Whether an instance is to run with the next step."""
        return bool(self._young)

    def everything(self) -> set[str]:
        backend = self._backend
        found = {i.id for r in backend.reservations.values() for i in r.instances if i._state.name != "terminated"}
        found |= set(backend.volumes) | set(backend.enis) | set(backend.internet_gateways)
        vpcs = {id for id, vpc in backend.vpcs.items() if str(vpc.is_default).lower() != "true"}
        groups = {g.id: g for groups in backend.groups.values() for g in groups.values()}
        found |= vpcs | {id for id, g in groups.items() if g.name != "default"}
        return found | {s.id for zone in backend.subnets.values() for s in zone.values() if s.vpc_id in vpcs}

    @contextmanager
    def stale(self, *, parts: bool = False) -> Iterator[None]:
        """Inside, listings hide what is made inside: instances; parts: route tables too, and what else is looked for by its tags."""
        known = {i.id for r in self._backend.reservations.values() for i in r.instances}
        self.hidden = known
        self.hidden_parts = self.everything() | set(self._backend.route_tables) if parts else None
        try:
            yield
        finally:
            self.hidden = self.hidden_parts = None

    def _lagging(self, params: Params) -> bytes:
        """A listing of these types; what `stale` hides is left out."""
        text, (sort, id_key) = self._aws.xml(params), LAGGING[params["Action"]]
        tagged = any(key.endswith(".Name") and value.startswith("tag:") for key, value in params.items())
        if self.hidden_parts is None or not (tagged or sort == "routeTableSet"):
            return text.encode()
        inner = re.search(rf"<{sort}>(.*)</{sort}>", tight(text), re.DOTALL)
        found = [(re.search(rf"<{id_key}>(.*?)</{id_key}>", item), item) for item in items(inner[1])] if inner else []
        shown = "".join(f"<item>{item}</item>" for id, item in found if id and id[1] in self.hidden_parts)
        return envelope(f"{params['Action']}Response", f"<{sort}>{shown}</{sort}>")

    DescribeVpcs = DescribeSubnets = DescribeInternetGateways = DescribeSecurityGroups = DescribeRouteTables = _lagging

    # -- instances -------------------------------------------------------------------------------------------------------

    def RunInstances(self, params: Params) -> Any:  # noqa: N802
        token = params.pop("ClientToken", "")
        digest = hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()
        if token in self._tokens:
            known, ids = self._tokens[token]
            if known != digest:
                raise Refused("IdempotentParameterMismatch", "The client token was used with other parameters")
            if any(self._find(id) is None or self._find(id)._state.name == "terminated" for id in ids):
                raise Refused("IdempotentInstanceTerminated", "An instance of this client token is terminated")
            listed = self._aws.xml(describe(ids))
            reservation = re.search(r"<reservationSet><item>(.*)</item></reservationSet>", tight(listed), re.DOTALL)
            assert reservation
            return envelope("RunInstancesResponse", reservation[1])
        self._check_launch(params)
        most, least = int(params["MaxCount"]), int(params["MinCount"])
        if self.room is not None:
            if self.room < least:
                raise Refused("InsufficientInstanceCapacity", "We currently do not have sufficient capacity", 500)
            params["MaxCount"] = str(min(most, self.room))
            self.room -= int(params["MaxCount"])
        params["MinCount"] = params["MaxCount"]  # moto makes as many as the least
        params = {
            key: value for key, value in params.items() if not key.startswith("IamInstanceProfile.")
        }  # nobody made one here
        answer = self._aws.xml(params)
        ids = re.findall(r"<instanceId>(i-\w+)</instanceId>", answer)
        if token:
            self._tokens[token] = digest, ids
        for id in ids:
            _put(self._instance(id), "pending", 0)
            self._young[id] = self.refuse_late
        return answer.encode()

    def _check_launch(self, params: Params) -> None:
        backend = self._backend
        if params["ImageId"] not in backend.amis:
            raise Refused("InvalidAMIID.NotFound", f"The image id '[{params['ImageId']}]' does not exist")
        if params["InstanceType"] not in {t["InstanceType"] for t in backend.instance_types}:
            raise Refused("InvalidParameterValue", f"Invalid value '{params['InstanceType']}' for InstanceType.")
        if len(base64.b64decode(params.get("UserData", ""))) > USER_DATA:
            raise Refused("InvalidParameterValue", "User data is limited to 16384 bytes")
        subnet = self._subnet(params.get("NetworkInterface.1.SubnetId") or params["SubnetId"])
        if subnet.availability_zone != params.get("Placement.AvailabilityZone", subnet.availability_zone):
            raise Refused("InvalidParameterValue", "The subnet is not in the zone that was asked for")
        for group in numbered(params, "NetworkInterface.1.SecurityGroupId"):
            found = backend.get_security_group_from_id(group)
            if found is None or found.vpc_id != subnet.vpc_id:
                raise Refused("InvalidGroup.NotFound", f"The security group '{group}' does not exist in VPC '{subnet.vpc_id}'")
        used = sum(1 for eni in backend.enis.values() if eni.subnet.id == subnet.id)
        if ipaddress.ip_network(subnet.cidr_block).num_addresses - 5 - used < int(params["MaxCount"]):
            raise Refused("InsufficientFreeAddressesInSubnet", f"There are not enough free addresses in subnet '{subnet.id}'")
        for key, value in params.items():
            if (re.fullmatch(r"TagSpecification.\d+.Tag.\d+.Value", key) and len(value) > 256) or ".Tag.51." in key:
                raise Refused("InvalidParameterValue", "Tag value exceeds the maximum length of 256 characters")

    def TerminateInstances(self, params: Params) -> Any:  # noqa: N802
        ids = numbered(params, "InstanceId")
        self._all_known(ids)
        if self.protected & set(ids):
            raise Refused("OperationNotPermitted", "The instance may not be terminated. Modify its 'disableApiTermination'")
        over = {id for id in ids if self._instance(id)._state.name == "terminated"}
        fresh = [id for id in ids if id not in over and id not in self._leaving]
        numbered_ids = {f"InstanceId.{i + 1}": id for i, id in enumerate(fresh)}
        answer = self._aws.xml({"Action": "TerminateInstances", **numbered_ids}) if fresh else ""
        for id in fresh:
            _put(self._instance(id), "shutting-down", 32)
            self._leaving[id] = self._aws.step
        return answer.encode() if fresh else envelope("TerminateInstancesResponse", "<instancesSet/>")

    def DescribeInstances(self, params: Params) -> Any:  # noqa: N802
        if ids := numbered(params, "InstanceId"):
            self._all_known(ids)
            return self._aws.xml(params).encode()
        most, token = min(int(params.pop("MaxResults", 1000)), self.page), params.pop("NextToken", "")
        if token and token not in self._listings:
            raise Refused("InvalidNextToken", "The token is not one of this account, or was used before")
        entries = self._listings.pop(token) if token else self._listed(params)
        more = ""
        if len(entries) > most:
            token = f"page-{len(self._listings)}-{self._aws.count()}"
            self._listings[token] = entries[most:]
            more = f"<nextToken>{token}</nextToken>"
        return envelope("DescribeInstancesResponse", f"<reservationSet>{''.join(entries[:most])}</reservationSet>{more}")

    def _listed(self, params: Params) -> list[str]:
        """An <item> for each instance with these tags. What has not changed since it was last listed is not asked of moto again."""
        wanted = {}
        for i in count(1):
            if not (name := params.get(f"Filter.{i}.Name")):
                break
            if not name.startswith("tag:"):
                return [entry for _, entry in entries(self._aws.xml({**params, "MaxResults": "100000"}))]
            wanted[name.removeprefix("tag:")] = set(numbered(params, f"Filter.{i}.Value"))
        found = [i for r in self._backend.reservations.values() for i in r.instances if self._shown(i.id, wanted)]
        prints = {i.id: _fingerprint(i, self._backend.tags.get(i.id, {})) for i in found}
        news = [id for id, print_ in prints.items() if self._rendered.get(id, ("",))[0] != print_]
        for id, entry in entries(self._aws.xml(describe(news))) if news else ():
            self._rendered[id] = prints[id], entry
        listed = []
        for id in prints:
            entry = self._rendered[id][1]
            listed += [entry, *(copy_of(entry, id, n) for n in range(1, self.copies.get(id, 0) + 1))]
        return listed

    def _shown(self, id: str, wanted: dict[str, set[str]]) -> bool:
        tags = self._backend.tags.get(id, {})
        return (self.hidden is None or id in self.hidden) and all(tags.get(key) in values for key, values in wanted.items())

    def GetConsoleOutput(self, params: Params) -> Any:  # noqa: N802
        self._all_known([params["InstanceId"]])
        text = base64.b64encode(b"cloud-init: the end of the boot\n").decode()
        return envelope("GetConsoleOutputResponse", f"<instanceId>{params['InstanceId']}</instanceId><output>{text}</output>")

    # -- types -----------------------------------------------------------------------------------------------------------

    def DescribeInstanceTypes(self, params: Params) -> Any:  # noqa: N802
        return self._of_types(params, "instanceTypeSet")

    def DescribeInstanceTypeOfferings(self, params: Params) -> Any:  # noqa: N802
        return self._of_types(params, "instanceTypeOfferingSet")

    def _of_types(self, params: Params, tag: str) -> bytes:
        """With globs, which moto does not know here, and pages of what was asked for."""
        start, most = int(params.pop("NextToken", 0) or 0), int(params.pop("MaxResults", 100))
        key = json.dumps([self._aws.region, params], sort_keys=True)
        if key not in _ANSWERS:
            _ANSWERS[key] = tight(self._aws.xml(self._expanded(params)))
        inner = re.search(rf"<{tag}>(.*)</{tag}>", _ANSWERS[key], re.DOTALL)
        entries = [f"<item>{item}</item>" for item in items(inner[1])] if inner else []
        more = f"<nextToken>{start + most}</nextToken>" if start + most < len(entries) else ""
        return envelope(f"{params['Action']}Response", f"<{tag}>{''.join(entries[start : start + most])}</{tag}>{more}")

    def _expanded(self, params: Params) -> Params:
        globs = [v for k, v in params.items() if re.fullmatch(r"Filter.1.Value.\d+", k)]
        names = [
            t["InstanceType"]
            for t in self._backend.instance_types
            if any(fnmatch.fnmatchcase(t["InstanceType"], g) for g in globs)
        ]
        rest = {k: v for k, v in params.items() if not k.startswith("Filter.1.Value.")}
        return rest | {f"Filter.1.Value.{i + 1}": name for i, name in enumerate(names or ["none"])}

    # -- volumes ---------------------------------------------------------------------------------------------------------

    def CreateVolume(self, params: Params) -> Any:  # noqa: N802
        token = params.pop("ClientToken", "")
        if known := self._volume_tokens.get(token):
            listed = tight(self._aws.xml({"Action": "DescribeVolumes", "VolumeId.1": known}))
            inner = re.search(r"<volumeSet><item>(.*)</item></volumeSet>", listed, re.DOTALL)
            assert inner
            return envelope("CreateVolumeResponse", inner[1])
        answer = self._aws.xml(params)
        id = re.search(r"<volumeId>(vol-\w+)</volumeId>", answer)
        assert id
        self._volume_tokens[token] = id[1]
        return answer.encode()

    def AttachVolume(self, params: Params) -> Any:  # noqa: N802
        volume, instance = self._backend.volumes.get(params["VolumeId"]), self._find(params["InstanceId"])
        if volume is None:
            raise Refused("InvalidVolume.NotFound", f"The volume '{params['VolumeId']}' does not exist.")
        self._all_known([params["InstanceId"]])
        assert instance is not None
        if volume.attachment:
            raise Refused("VolumeInUse", f"{volume.id} is already attached to an instance")
        if instance._state.name not in ("running", "stopped"):
            raise Refused("IncorrectState", f"Instance '{instance.id}' is not 'running'.")
        if volume.availability_zone != self._subnet(instance.subnet_id).availability_zone:
            raise Refused("InvalidVolume.ZoneMismatch", "The volume is not in the same availability zone as the instance")
        if params["Device"] in instance.block_device_mapping:
            raise Refused("InvalidParameterValue", f"Attachment point {params['Device']} is already in use")
        if len(instance.block_device_mapping) >= self.device_limit:
            raise Refused("AttachmentLimitExceeded", "The instance has as many volumes as it may have")
        answer = self._aws.xml(params)
        self._attaching.add(volume.id)
        return answer.encode()

    def DetachVolume(self, params: Params) -> Any:  # noqa: N802
        """200, and then it takes its time, or for ever while it is mounted."""
        volume = self._backend.volumes.get(params["VolumeId"])
        if volume is None:
            raise Refused("InvalidVolume.NotFound", f"The volume '{params['VolumeId']}' does not exist.")
        if not volume.attachment:
            raise Refused("IncorrectState", f"Volume '{volume.id}' is in the 'available' state.")
        self._detaching[volume.id] = volume.attachment.instance.id, volume.attachment.device
        return envelope("DetachVolumeResponse", f"<volumeId>{volume.id}</volumeId><status>detaching</status>")

    def DescribeVolumes(self, params: Params) -> Any:  # noqa: N802
        text = self._lagging(params).decode()
        for ids, word in ((self._attaching, "attaching"), (set(self._detaching), "detaching")):
            for id in ids:
                part = re.compile(r"(<attachmentSet><item>(?:(?!</item>).)*?<status>)attached(</status>)", re.DOTALL)
                text = in_item(text, id, lambda item, part=part, word=word: part.sub(rf"\g<1>{word}\g<2>", item))
        return text.encode()

    def ModifyVolume(self, params: Params) -> Any:  # noqa: N802
        volume = self._backend.volumes.get(params["VolumeId"])
        if volume is None:
            raise Refused("InvalidVolume.NotFound", f"The volume '{params['VolumeId']}' does not exist.")
        if volume.id in self._growing:
            raise Refused("IncorrectModificationState", "The volume is being modified")
        if volume.id in self._grown:
            raise Refused("VolumeModificationRateExceeded", "Wait at least 6 hours between modifications")
        if int(params["Size"]) < volume.size:
            raise Refused("InvalidParameterValue", "New size cannot be smaller than existing size")
        self._growing[volume.id] = self._grown[volume.id] = int(params["Size"])
        inner = f"<volumeId>{volume.id}</volumeId><modificationState>modifying</modificationState>"
        return envelope("ModifyVolumeResponse", f"<volumeModification>{inner}</volumeModification>")

    # -- networks --------------------------------------------------------------------------------------------------------

    def AttachInternetGateway(self, params: Params) -> Any:  # noqa: N802
        for gateway in self._backend.internet_gateways.values():
            if gateway.vpc and gateway.vpc.id == params["VpcId"] and gateway.id != params["InternetGatewayId"]:
                raise Refused("InvalidParameterValue", f"Network {params['VpcId']} already has an internet gateway attached")
        return self._aws.forward(params)

    def DeleteSecurityGroup(self, params: Params) -> Any:  # noqa: N802
        id = params["GroupId"]
        groups = [g for groups in self._backend.groups.values() for g in groups.values()]
        if id not in {g.id for g in groups}:
            raise Refused("InvalidGroup.NotFound", f"The security group '{id}' does not exist")
        named = any(id in str(vars(rule)) for g in groups if g.id != id for rule in g.ingress_rules)
        worn = (
            any(id in {g.id for g in eni.group_set} for eni in self._backend.enis.values())
            or id in self._aws.elb.groups_in_use()
        )
        if named or worn:
            raise Refused("DependencyViolation", f"resource {id} has a dependent object")
        return self._aws.forward(params)

    def DeleteSubnet(self, params: Params) -> Any:  # noqa: N802
        id = params["SubnetId"]
        if any(eni.subnet.id == id for eni in self._backend.enis.values()) or id in self._aws.elb.subnets_in_use():
            raise Refused("DependencyViolation", f"The subnet '{id}' has dependencies and cannot be deleted.")
        return self._aws.forward(params)

    # -- below -----------------------------------------------------------------------------------------------------------

    @property
    def _backend(self) -> Any:
        return self._aws.backend("ec2")

    def _find(self, id: str) -> Any:
        if id not in self._by_id:  # made a moment ago, or never
            self._by_id = {i.id: i for r in list(self._backend.reservations.values()) for i in r.instances}
        return self._by_id.get(id)

    def _instance(self, id: str) -> Any:
        found = self._find(id)
        assert found is not None, id
        return found

    def _subnet(self, id: str) -> Any:
        found = next((zone[id] for zone in self._backend.subnets.values() if id in zone), None)
        if found is None:
            raise Refused("InvalidSubnetID.NotFound", f"The subnet ID '{id}' does not exist")
        return found

    def _all_known(self, ids: list[str]) -> None:
        for id in ids:
            if not re.fullmatch(r"i-[0-9a-f]{17}", id):
                raise Refused("InvalidInstanceID.Malformed", f'Invalid id: "{id}"')
        if lacking := [id for id in ids if self._find(id) is None]:
            word = "IDs" if len(lacking) > 1 else "ID"
            raise Refused("InvalidInstanceID.NotFound", f"The instance {word} '{', '.join(lacking)}' do not exist")

    def _forget(self, id: str) -> None:
        self._by_id.pop(id, None)
        for reservation_id, reservation in list(self._backend.reservations.items()):
            reservation.instances = [i for i in reservation.instances if i.id != id]
            if not reservation.instances:
                del self._backend.reservations[reservation_id]


def _put(instance: Any, name: str, code: int) -> None:
    instance._state.name, instance._state.code = name, code


def _fingerprint(instance: Any, tags: dict[str, str]) -> object:
    """Of what a listing tells of an instance."""
    disks = tuple((device, disk.volume_id, disk.status) for device, disk in instance.block_device_mapping.items())
    reason = getattr(instance.state_reason, "code", "")
    return instance._state.name, disks, tuple(tags.items()), reason, instance.public_ip, instance.private_ip
