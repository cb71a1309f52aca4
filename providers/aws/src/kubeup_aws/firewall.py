"""Rules of the core as permissions of security groups, and what has to change. Pure; called by `networks.py`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from kubeup_core import Rule

from .layout import BALANCER, BASE

ANYONE = "*"


class Permission(NamedTuple):
    """Traffic that a group lets in. protocol "-1": all, and ports -1. source: a group's id, or a CIDR."""

    protocol: str
    low: int
    high: int
    source: str


def roles(rules: Iterable[Rule]) -> list[str]:
    """What groups are needed for, besides those that every network has."""
    return sorted({role for rule in rules for role in (rule.from_role, rule.to_role)} - {ANYONE})


def wanted(rules: Sequence[Rule], groups: Mapping[str, str]) -> dict[str, set[Permission]]:
    """part -> what its group has to let in. groups: part -> id.

    Nothing is added to the rules but that the cluster's load balancers reach its machines.
    """
    found: dict[str, set[Permission]] = {part: set() for part in groups}
    for rule in rules:
        target = BASE if rule.to_role == ANYONE else rule.to_role
        ports = ("-1", -1, -1) if rule.protocol == "all" else (rule.protocol, rule.low, rule.high)
        sources = rule.sources if rule.from_role == ANYONE else (groups[rule.from_role],)
        found[target].update(Permission(*ports, source) for source in sources)
    found[BASE].add(Permission("-1", -1, -1, groups[BALANCER]))
    return found


def present(group: Mapping[str, Any]) -> set[Permission]:
    """What a group lets in, as EC2 describes it."""
    found = set()
    for entry in group.get("IpPermissions", ()):
        low, high = (entry.get("FromPort", -1), entry.get("ToPort", -1)) if entry["IpProtocol"] != "-1" else (-1, -1)
        sources = [pair["GroupId"] for pair in entry.get("UserIdGroupPairs", ())]
        sources += [block["CidrIp"] for block in entry.get("IpRanges", ())] + [
            b["CidrIpv6"] for b in entry.get("Ipv6Ranges", ())
        ]
        found |= {Permission(entry["IpProtocol"], low, high, source) for source in sources}
    return found


def as_request(permissions: Iterable[Permission]) -> list[dict[str, Any]]:
    return [_entry(permission) for permission in sorted(permissions)]


def _entry(permission: Permission) -> dict[str, Any]:
    ports = {} if permission.protocol == "-1" else {"FromPort": permission.low, "ToPort": permission.high}
    if permission.source.startswith("sg-"):
        source: dict[str, Any] = {"UserIdGroupPairs": [{"GroupId": permission.source}]}
    elif ":" in permission.source:
        source = {"Ipv6Ranges": [{"CidrIpv6": permission.source}]}
    else:
        source = {"IpRanges": [{"CidrIp": permission.source}]}
    return {"IpProtocol": permission.protocol, **ports, **source}
