"""Target groups: one for each listener of a balancer. What they are called, what is set, who is in. Called by `load_balancers.py`.

Members are registered by address, so that machines of other places can be members as well. The balancer is the client of its members,
which do not see who calls: so a control plane that calls the API through it reaches itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, ip_address
from typing import Any

from kubeup_core import LBMember, Listener, Mark, NotFound

from . import marks
from .client import Aws

HEALTH = {
    "initial": "initial",
    "healthy": "healthy",
    "unhealthy": "unhealthy",
    "draining": "draining",
    "unavailable": "unhealthy",
}


def name(mark: Mark, port: int) -> str:
    """32 characters at most."""
    return f"{prefix(mark.installation)}{marks.digest(mark)}-{port}"


def prefix(installation: str) -> str:
    """How everything begins that an installation makes at a service whose listings have no filters."""
    digest = marks.digest(Mark(installation=installation, cluster="", cluster_name="", kind="", maker=""))
    return f"kubeup-{digest[:5]}-"


def port_of(group: Mapping[str, Any]) -> int:
    """The listener's port that a group was made for."""
    return int(str(group["TargetGroupName"]).rpartition("-")[2])


def settings(listener: Listener) -> dict[str, Any]:
    """Health checks, as TargetGroup says them."""
    health = listener.health
    protocol = health.get("protocol", "TCP").upper()
    interval = _within(health.get("interval"), 10, 5, 300)
    found: dict[str, Any] = {
        "HealthCheckProtocol": protocol,
        "HealthCheckPort": health.get("port") or "traffic-port",
        "HealthCheckIntervalSeconds": interval,
        "HealthCheckTimeoutSeconds": min(_within(health.get("timeout"), 6, 2, 120), interval),
        "HealthyThresholdCount": _within(health.get("healthy"), 2, 2, 10),
        "UnhealthyThresholdCount": _within(health.get("unhealthy"), 2, 2, 10),
    }
    if protocol in ("HTTP", "HTTPS"):
        found["HealthCheckPath"] = health.get("path") or "/"
    return found


def attributes(listener: Listener) -> list[dict[str, str]]:
    """What can only be set once a group is there."""
    return [
        {"Key": "deregistration_delay.timeout_seconds", "Value": str(int(min(max(listener.drain, 0), 3600)))},
        {"Key": "deregistration_delay.connection_termination.enabled", "Value": "true"},
        {"Key": "preserve_client_ip.enabled", "Value": "false"},
        {"Key": "load_balancing.cross_zone.enabled", "Value": "true"},
    ]


class Targets:
    """Who is in a group. AWS knows addresses; whose they are is remembered from the last wish."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._keys: dict[str, dict[tuple[str, int], str]] = {}

    def states(self, arn: str) -> dict[tuple[str, int], str]:
        """(address, port) -> health."""
        found = self._aws.read("elbv2", "describe_target_health", TargetGroupArn=arn)["TargetHealthDescriptions"]
        return {
            (t["Target"]["Id"], int(t["Target"].get("Port", 0))): HEALTH.get(t["TargetHealth"]["State"], "unused")
            for t in found
        }

    def bring(self, arn: str, port: int, members: Iterable[LBMember], vpc: str) -> dict[str, str]:
        """Registers who is wanted and deregisters who is not. vpc: the group's. -> key -> health."""
        members = list(members)
        self._keys[arn] = {(m.address, port): m.key for m in members if m.address}
        wanted = {(m.address, port): m for m in members if not m.drain and m.address}
        there = self.states(arn)
        serving = {target for target, health in there.items() if health != "draining"}
        lacking, spare = sorted(set(wanted) - serving), sorted(serving - set(wanted))
        blocks = self._blocks(vpc) if lacking or spare else []
        if lacking:
            self._aws.call("elbv2", "register_targets", TargetGroupArn=arn, Targets=_listed(lacking, blocks))
        if spare:
            self._aws.call("elbv2", "deregister_targets", TargetGroupArn=arn, Targets=_listed(spare, blocks))
        found = {}
        for member in members:
            target = (member.address, port)
            if target in wanted:
                found[member.key] = there[target] if target in serving else "initial"
            elif target in there:
                found[member.key] = "draining"
        return found

    def seen(self, arn: str) -> dict[str, str]:
        """key -> health, of those that the last wish of this process named."""
        known = self._keys.get(arn)
        return {known[target]: health for target, health in self.states(arn).items() if target in known} if known else {}

    def _blocks(self, vpc: str) -> list[IPv4Network]:
        """The addresses of the VPC."""
        (found,) = self._aws.read("ec2", "describe_vpcs", VpcIds=[vpc])["Vpcs"]
        blocks = {found["CidrBlock"], *(entry["CidrBlock"] for entry in found.get("CidrBlockAssociationSet", ()))}
        return [IPv4Network(block) for block in blocks]

    def delete(self, arn: str) -> None:
        self._keys.pop(arn, None)
        try:
            self._aws.call("elbv2", "delete_target_group", TargetGroupArn=arn)
        except NotFound:
            return


def _listed(targets: Iterable[tuple[str, int]], blocks: Iterable[IPv4Network]) -> list[dict[str, Any]]:
    """An address outside the VPC has no zone that AWS could find by itself."""
    return [
        {"Id": address, "Port": port}
        | ({} if any(ip_address(address) in block for block in blocks) else {"AvailabilityZone": "all"})
        for address, port in targets
    ]


def _within(given: str | None, default: int, low: int, high: int) -> int:
    return min(max(int(float(given)), low), high) if given else default
