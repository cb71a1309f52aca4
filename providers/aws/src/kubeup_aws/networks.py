"""A VPC per cluster, or a place in one that a person gave: the supplier of networks. Its parts and their listing are in `parts.py`.

Our own: a VPC with a subnet per zone, an internet gateway and the default route to it. In a given VPC only security groups are
made. Either way there is a group for all machines of the cluster, one for each role that a rule names, and one for its balancers.
Creating has no idempotency tokens here: parts are found by their tags first, and a twin that slipped through is taken away.
"""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from kubeup_core import (
    Blocked,
    InvalidSpec,
    NetworkSpec,
    NetworkState,
    NotFound,
    NotReady,
    Phase,
    Ref,
    Scope,
    Snapshot,
    SupplierError,
    Taken,
)

from . import marks
from .catalog import Catalog
from .client import Aws
from .config import PATH, AwsOverrides, overrides
from .departures import Departures
from .firewall import as_request, present, roles, wanted
from .layout import BALANCER, BASE, Layout, text
from .parts import SUBNETS, Parts, group_named, listed, specification

BLOCKS = 96
"""VPCs are given one of 10.128.0.0/16 to 10.223.0.0/16 where nobody chose: clear of the defaults for pods and services."""

SUBNET_BITS = 4
"""A VPC is cut into sixteen subnets."""

CIDR = "spec.network.machineCIDR"
CIDR_REMEDY = "write one from /16 to /24: EC2 has VPCs up to /16, and subnets, sixteen of them, down to /28"


class AwsNetworks:
    """The networks of one account in one region. Thread-safe."""

    def __init__(self, aws: Aws, catalog: Catalog) -> None:
        self._aws = aws
        self._catalog = catalog
        self._lock = threading.Lock()
        self._made: dict[str, dict[str, Any]] = {}
        self._departures = Departures()

    def ensure(self, want: NetworkSpec) -> NetworkState:
        over = overrides(want.overrides)
        with self._lock:
            parts = next(iter(listed(self._aws, marks.of_maker(want.mark))), Parts(mark=want.mark))
            parts.mark = want.mark
            layout = self._given(parts, want, over) if over.vpc else self._own(parts, want)
            self._departures.seen(want.mark, parts.ids())
        return _state(Ref(id=layout.vpc, mark=want.mark), layout, Phase.RUNNING)

    def observe(self, scope: Scope) -> Snapshot[NetworkState]:
        items, strays, there = [], [], set()
        for parts in listed(self._aws, marks.of_scope(scope, "Network")):
            if not scope.covers(parts.mark):
                continue
            there.add(parts.mark.maker)
            self._departures.seen(parts.mark, parts.ids())
            if vpc := parts.vpc():
                phase = Phase.RUNNING if parts.complete() else Phase.PARTIAL
                items.append(_state(Ref(id=vpc, mark=parts.mark), parts.layout(), phase))
            else:
                strays += [Ref(id=id, mark=parts.mark) for id in parts.ids()]
        for ref in scope.doubt:
            if ref.mark.maker not in there and self._departures.over(ref.mark) and not self._vpc_there(ref):
                items.append(NetworkState(ref=ref, phase=Phase.GONE, fabric=f"aws:{ref.id}"))
        return Snapshot(items=tuple(items), strays=tuple(strays))

    def delete(self, ref: Ref) -> None:
        found = listed(self._aws, marks.of_maker(ref.mark))
        if not found:
            return self._spare(ref)
        parts = found[0]
        self._departures.seen(ref.mark, parts.ids())
        if ref.id not in (parts.vpc(), *parts.ids()):
            raise NotFound(f"{ref.id} is not of this network, which is in {parts.vpc()}", code=marks.FOREIGN)
        if users := self._users(parts):
            raise Blocked(f"network {ref.id} is used by {', '.join(users)}", by=users)
        for group in parts.groups.values():
            if permissions := present(group):  # groups that name each other cannot go one by one
                self._gone("revoke_security_group_ingress", GroupId=group["GroupId"], IpPermissions=as_request(permissions))
        for id in parts.groups:
            self._gone("delete_security_group", GroupId=id)
        for id in parts.subnets:
            self._gone("delete_subnet", SubnetId=id)
        for id, gateway in parts.gateways.items():
            for attachment in gateway.get("Attachments", ()):
                self._gone("detach_internet_gateway", InternetGatewayId=id, VpcId=attachment["VpcId"])
            self._gone("delete_internet_gateway", InternetGatewayId=id)
        for id in parts.vpcs:
            self._gone("delete_vpc", VpcId=id)
        self._made.pop(ref.mark.maker, None)
        for id in parts.ids():
            self._departures.deleted(id)
        return None

    # -- a VPC of our own --------------------------------------------------------------------------------------------------

    def _own(self, parts: Parts, want: NetworkSpec) -> Layout:
        vpc = self._vpc(parts, want)
        self._subnets(parts, want, vpc)
        self._gateway(parts, want, vpc)
        self._groups(parts, want, vpc["VpcId"], {})
        return parts.layout()

    def _vpc(self, parts: Parts, want: NetworkSpec) -> dict[str, Any]:
        known = self._made.get(want.mark.maker)
        if not parts.vpcs and known is None:
            cidr = want.cidr or f"10.{128 + int(marks.digest(want.mark), 16) % BLOCKS}.0.0/16"
            _check_cidr(cidr)
            tags = specification("vpc", want.mark, want.name, "vpc")
            known = self._call("create_vpc", CidrBlock=cidr, TagSpecifications=tags)["Vpc"]
            self._made[want.mark.maker] = known  # EC2 may not list it for a while
        if not parts.vpcs and known is not None:
            parts.vpcs[known["VpcId"]] = known
        id = parts.vpc()
        for twin in sorted(set(parts.vpcs) - {id}):
            with suppress(Blocked):
                self._gone("delete_vpc", VpcId=twin)
                del parts.vpcs[twin]
        return parts.vpcs[id]

    def _subnets(self, parts: Parts, want: NetworkSpec, vpc: Mapping[str, Any]) -> None:
        used = {subnet["CidrBlock"] for subnet in parts.subnets.values()}
        for zone in self._catalog.zones():
            while zone not in {subnet["AvailabilityZone"] for subnet in parts.subnets.values()}:
                blocks = ipaddress.ip_network(vpc["CidrBlock"]).subnets(SUBNET_BITS)
                block = next((str(block) for block in blocks if str(block) not in used), None)
                if block is None:
                    raise InvalidSpec(f"{vpc['VpcId']} has no room for a subnet in {zone}", path=CIDR, remedy=CIDR_REMEDY)
                used.add(block)
                tags = specification("subnet", want.mark, f"{want.name}-{zone}", zone)
                try:
                    made = self._call(
                        "create_subnet", VpcId=vpc["VpcId"], AvailabilityZone=zone, CidrBlock=block, TagSpecifications=tags
                    )["Subnet"]
                    parts.subnets[made["SubnetId"]] = made
                except Taken as error:
                    self._unlisted_subnets(parts, want, vpc["VpcId"], block, error)

    def _unlisted_subnets(self, parts: Parts, want: NetworkSpec, vpc: str, block: str, error: Taken) -> None:
        """Takes in what an earlier call made and no listing by tags shows yet. What somebody made in our VPC keeps its addresses."""
        found = self._aws.pages("ec2", "describe_subnets", "Subnets", Filters=[{"Name": "vpc-id", "Values": [vpc]}])
        if not any(ipaddress.ip_network(s["CidrBlock"]).overlaps(ipaddress.ip_network(block)) for s in found):
            raise NotReady(f"a subnet with {block} was made a moment ago", retry_after=2, code=error.code) from error
        for subnet in found:
            mark = marks.mark_of(marks.as_dict(subnet.get("Tags")))
            if mark is not None and mark.same(want.mark):
                parts.subnets[subnet["SubnetId"]] = subnet

    def _gateway(self, parts: Parts, want: NetworkSpec, vpc: Mapping[str, Any]) -> None:
        if not parts.gateways:
            made = self._call(
                "create_internet_gateway", TagSpecifications=specification("internet-gateway", want.mark, want.name, "gateway")
            )["InternetGateway"]
            parts.gateways[made["InternetGatewayId"]] = made
        gateway = min(parts.gateways, key=lambda id: (not parts.gateways[id].get("Attachments"), id))
        for twin in sorted(set(parts.gateways) - {gateway}):
            if not parts.gateways[twin].get("Attachments"):
                self._gone("delete_internet_gateway", InternetGatewayId=twin)
        if not parts.gateways[gateway].get("Attachments"):
            try:
                self._call("attach_internet_gateway", InternetGatewayId=gateway, VpcId=vpc["VpcId"])
            except (Taken, InvalidSpec) as error:
                if isinstance(error, InvalidSpec) and "already has" not in error.message:
                    raise
                gateway = self._attached(vpc["VpcId"], gateway, error)
        filters = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}, {"Name": "association.main", "Values": ["true"]}]
        tables = self._aws.pages("ec2", "describe_route_tables", "RouteTables", Filters=filters)
        if not tables:
            raise NotReady(f"the route table of {vpc['VpcId']} is not listed yet", retry_after=2)
        table = tables[0]
        if not any(route.get("GatewayId") == gateway for route in table["Routes"]):
            with suppress(Taken):
                self._call(
                    "create_route", RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway
                )

    def _attached(self, vpc: str, gateway: str, error: SupplierError) -> str:
        """The gateway that the VPC has already: an earlier call's, that was not listed. Ours, made since, goes."""
        filters = [{"Name": "attachment.vpc-id", "Values": [vpc]}]
        found = self._aws.pages("ec2", "describe_internet_gateways", "InternetGateways", Filters=filters)
        ids = [entry["InternetGatewayId"] for entry in found]
        if not ids:
            raise NotReady(f"the gateway of {vpc} is not listed yet", retry_after=2, code=error.code) from error
        if gateway not in ids:
            self._gone("delete_internet_gateway", InternetGatewayId=gateway)
        return gateway if gateway in ids else str(ids[0])

    # -- a VPC of somebody -------------------------------------------------------------------------------------------------

    def _given(self, parts: Parts, want: NetworkSpec, over: AwsOverrides) -> Layout:
        assert over.vpc is not None
        subnets = self._usable(over)
        if over.security_groups:
            return Layout(vpc=over.vpc, subnets=subnets, given=tuple(over.security_groups))
        self._groups(parts, want, over.vpc, marks.chunked(SUBNETS, text(subnets)))
        return parts.layout()

    def _usable(self, over: AwsOverrides) -> dict[str, str]:
        """zone -> subnet. Of several in a zone that nobody chose from, the one with the smallest id."""
        vpc = {"Name": "vpc-id", "Values": [over.vpc]}
        named = [{"Name": "subnet-id", "Values": over.subnets}] if over.subnets else []
        found = self._aws.pages("ec2", "describe_subnets", "Subnets", Filters=[vpc, *named])
        if lacking := sorted(set(over.subnets) - {subnet["SubnetId"] for subnet in found}):
            raise InvalidSpec(f"{over.vpc} has no subnet {lacking[0]}", path=f"{PATH}.subnets", remedy="correct its id")
        if not found:
            raise InvalidSpec(
                f"there is no VPC {over.vpc} with a subnet", path=f"{PATH}.vpc", remedy="correct its id, or make subnets"
            )
        zones = set(self._catalog.zones())
        ordered = sorted(found, key=lambda subnet: subnet["SubnetId"], reverse=True)
        return {s["AvailabilityZone"]: s["SubnetId"] for s in ordered if over.subnets or s["AvailabilityZone"] in zones}

    # -- security groups ---------------------------------------------------------------------------------------------------

    def _groups(self, parts: Parts, want: NetworkSpec, vpc: str, base_tags: Mapping[str, str]) -> None:
        """Groups first, then what they let in, as they name each other. Only what differs is changed."""
        there = parts.by_part()
        for part in dict.fromkeys([BASE, BALANCER, *roles(want.rules)]):
            if part not in there:
                there[part] = self._group(want, vpc, part, base_tags if part == BASE else {})
                parts.groups[there[part]["GroupId"]] = there[part]
        ids = {part: group["GroupId"] for part, group in there.items()}
        for part, permissions in wanted(want.rules, ids).items():
            has = present(there[part])
            if lacking := permissions - has:
                with suppress(Taken):
                    self._call("authorize_security_group_ingress", GroupId=ids[part], IpPermissions=as_request(lacking))
            if spare := has - permissions:
                self._gone("revoke_security_group_ingress", GroupId=ids[part], IpPermissions=as_request(spare))

    def _group(self, want: NetworkSpec, vpc: str, part: str, more: Mapping[str, str]) -> dict[str, Any]:
        name = f"kubeup-{marks.digest(want.mark)}-{part}"
        tags = specification("security-group", want.mark, f"{want.name}-{part}", part, more)
        about = f"kubeup: cluster {want.mark.cluster_name}, {part}"[:255]
        try:
            id = self._call("create_security_group", GroupName=name, Description=about, VpcId=vpc, TagSpecifications=tags)[
                "GroupId"
            ]
        except Taken as error:  # made a moment ago, and not listed yet
            return group_named(self._aws, name, vpc, want.mark, error)
        return {"GroupId": id, "VpcId": vpc, "Tags": tags[0]["Tags"], "IpPermissions": []}

    # -- below -------------------------------------------------------------------------------------------------------------

    def _users(self, parts: Parts) -> tuple[str, ...]:
        """Instances, or interfaces of something else, that are in it."""
        if parts.vpcs:
            wanted = {"Name": "vpc-id", "Values": sorted(parts.vpcs)}
        elif parts.groups:
            wanted = {"Name": "group-id", "Values": sorted(parts.groups)}
        else:
            return ()
        found = self._aws.pages("ec2", "describe_network_interfaces", "NetworkInterfaces", Filters=[wanted])
        users = {i.get("Attachment", {}).get("InstanceId") or i["NetworkInterfaceId"] for i in found}
        return tuple(sorted(users))

    def _spare(self, ref: Ref) -> None:
        """Nothing carries the mark: it is gone, or it was a given one, or it is somebody's."""
        if not ref.id.startswith("vpc-"):
            return
        try:
            found = self._aws.read("ec2", "describe_vpcs", VpcIds=[ref.id])["Vpcs"]
        except NotFound:
            return
        mark = marks.mark_of(marks.as_dict(found[0].get("Tags"))) if found else None
        if mark is not None and not mark.same(ref.mark):
            raise NotFound(f"{ref.id} belongs to {marks.owner(mark)}", code=marks.FOREIGN)

    def _vpc_there(self, ref: Ref) -> bool:
        """By its id. A VPC that a person gave stays there, and was never a part of ours."""
        if not self._departures.known(ref.mark, ref.id):
            return False
        try:
            return bool(self._aws.read("ec2", "describe_vpcs", VpcIds=[ref.id])["Vpcs"])
        except NotFound:
            return False

    def _call(self, action: str, **params: Any) -> dict[str, Any]:
        return self._aws.call("ec2", action, **params)

    def _gone(self, action: str, **params: Any) -> None:
        """A request that takes something away; what is gone already is a success."""
        with suppress(NotFound):
            self._aws.call("ec2", action, **params)


def _check_cidr(cidr: str) -> None:
    block = ipaddress.ip_network(cidr, strict=False)
    if block.version != 4 or not 16 <= block.prefixlen <= 28 - SUBNET_BITS:
        raise InvalidSpec(f"{cidr} cannot be cut into subnets for the zones", path=CIDR, remedy=CIDR_REMEDY)


def _state(ref: Ref, layout: Layout, phase: Phase) -> NetworkState:
    return NetworkState(ref=ref, phase=phase, fabric=f"aws:{layout.vpc}", data=layout.data())
