"""The parts that a network of ours is made of, as EC2 lists them by their tags. Called by `networks.py`; it makes and deletes them.
One request per type of part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kubeup_core import Mark, NotReady, Taken

from . import marks
from .client import Aws
from .layout import BASE, Layout, pairs

SUBNETS = "kubeup.dev/subnets"
"""Tag of the base group in a VPC that a person gave: zone=subnet, of the subnets that are used."""

LISTINGS = (
    ("vpcs", "describe_vpcs", "Vpcs", "VpcId"),
    ("subnets", "describe_subnets", "Subnets", "SubnetId"),
    ("gateways", "describe_internet_gateways", "InternetGateways", "InternetGatewayId"),
    ("groups", "describe_security_groups", "SecurityGroups", "GroupId"),
)
"""kind -> (action, key of the answer, key of the id)."""


@dataclass(kw_only=True)
class Parts:
    """Of one network: as EC2 describes them, by id."""

    mark: Mark
    vpcs: dict[str, dict[str, Any]] = field(default_factory=dict)
    subnets: dict[str, dict[str, Any]] = field(default_factory=dict)
    gateways: dict[str, dict[str, Any]] = field(default_factory=dict)
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)

    def ids(self) -> list[str]:
        return [*self.groups, *self.subnets, *self.gateways, *self.vpcs]

    def vpc(self) -> str:
        """The id of the VPC that it is in, ours or a given one; "" when nobody can tell."""
        if self.vpcs:
            return min(self.vpcs)
        return next((group["VpcId"] for group in self.groups.values()), "")

    def by_part(self) -> dict[str, dict[str, Any]]:
        """Security groups by what they are for; of twins the one with the smallest id."""
        found: dict[str, dict[str, Any]] = {}
        for id in sorted(self.groups, reverse=True):
            found[marks.as_dict(self.groups[id].get("Tags")).get(marks.PART, "")] = self.groups[id]
        return found

    def layout(self) -> Layout:
        groups = self.by_part()
        if self.vpcs:
            subnets = {
                s["AvailabilityZone"]: id for id, s in sorted(self.subnets.items(), reverse=True) if s["VpcId"] == self.vpc()
            }
        else:
            base = groups.get(BASE, {})
            subnets = pairs(marks.joined(SUBNETS, marks.as_dict(base.get("Tags"))))
        ids = {part: group["GroupId"] for part, group in groups.items()}
        return Layout(vpc=self.vpc(), subnets=subnets, groups=ids, public=bool(self.vpcs))

    def complete(self) -> bool:
        """What launches need is there. (Routes are made before groups.)"""
        return bool(self.vpc()) and bool(self.layout().subnets) and BASE in self.by_part()


def listed(aws: Aws, filters: list[dict[str, Any]]) -> list[Parts]:
    """Everything with these tags, by network."""
    found: dict[tuple[str, str], Parts] = {}
    for kind, action, key, id_key in LISTINGS:
        for entry in aws.pages("ec2", action, key, Filters=filters, MaxResults=1000):
            mark = marks.mark_of(marks.as_dict(entry.get("Tags")))
            if mark is not None:
                parts = found.setdefault((mark.installation, mark.maker), Parts(mark=mark))
                getattr(parts, kind)[entry[id_key]] = entry
    return list(found.values())


def group_named(aws: Aws, name: str, vpc: str, mark: Mark, error: Taken) -> dict[str, Any]:
    """The security group with this name, which exists, as `error` says; its tags may not be listed yet. Raises `error` when it is
    somebody's, NotReady when it is not shown."""
    filters = [{"Name": "group-name", "Values": [name]}, {"Name": "vpc-id", "Values": [vpc]}]
    found = aws.pages("ec2", "describe_security_groups", "SecurityGroups", Filters=filters)
    if not found:
        raise NotReady(f"security group {name} was made a moment ago", retry_after=2, code=error.code) from error
    held = marks.mark_of(marks.as_dict(found[0].get("Tags")))
    if held is None or not held.same(mark):
        raise error
    return found[0]


def specification(kind: str, mark: Mark, name: str, part: str, more: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Tags for a creating call."""
    tags = {**marks.tags(mark, name), marks.PART: part, **(more or {})}
    return [{"ResourceType": kind, "Tags": marks.as_list(tags)}]
