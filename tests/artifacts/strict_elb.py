"""What the strict layer knows better than moto about load balancers: names, states that take time, targets. Part of `strict_aws.py`."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from typing import Any

from .strict_aws import Params, Refused, StrictAws

LINGER = 1
"""Steps for which the interfaces of a deleted balancer hold its security groups and subnets."""

DRAIN = 2
"""Steps for which a deregistered target drains."""


class Elb:
    def __init__(self, aws: StrictAws) -> None:
        self._aws = aws
        self.targets: dict[str, dict[tuple[str, int], tuple[str, int]]] = {}  # group -> (id, port) -> (state, since)
        self._made: dict[str, int] = {}
        self._lingering: dict[str, tuple[int, set[str], set[str]]] = {}

    def advance(self) -> None:
        for targets in self.targets.values():
            for key, (state, since) in list(targets.items()):
                if state == "initial":
                    targets[key] = "healthy", since
                elif state == "draining" and self._aws.step - since >= DRAIN:
                    del targets[key]
        self._lingering = {arn: entry for arn, entry in self._lingering.items() if self._aws.step - entry[0] < LINGER}

    def everything(self) -> set[str]:
        return set(self._backend.load_balancers) | set(self._backend.target_groups)

    def groups_in_use(self) -> set[str]:
        there = {g for lb in self._backend.load_balancers.values() for g in lb.security_groups or ()}
        return there | {g for _, groups, _ in self._lingering.values() for g in groups}

    def subnets_in_use(self) -> set[str]:
        there = {s.id for lb in self._backend.load_balancers.values() for s in lb.subnets}
        return there | {s for _, _, subnets in self._lingering.values() for s in subnets}

    def traffic(self, arn: str) -> set[str]:
        """Addresses that get new connections through this balancer."""
        listeners = list(self._backend.load_balancers[arn].listeners.values())
        groups = {a.data.get("TargetGroupArn", "") for listener in listeners for a in listener.default_actions}
        return {id for group in groups for (id, _), (state, _) in self.targets.get(group, {}).items() if state == "healthy"}

    def CreateLoadBalancer(self, params: Params) -> Any:  # noqa: N802
        for balancer in self._backend.load_balancers.values():
            if balancer.name == params["Name"]:
                raise Refused("DuplicateLoadBalancerName", f"A load balancer with the same name '{params['Name']}' exists")
        if len(params["Name"]) > 32 or not re.fullmatch(r"(?!internal-)[A-Za-z0-9](-?[A-Za-z0-9])*", params["Name"]):
            raise Refused("ValidationError", f"The load balancer name '{params['Name']}' is not valid")
        answer = self._aws.xml(params)
        arn = re.search(r"<LoadBalancerArn>(.*?)</LoadBalancerArn>", answer)
        assert arn
        self._made[arn[1]] = self._aws.step
        return answer.encode()

    def DescribeLoadBalancers(self, params: Params) -> Any:  # noqa: N802
        name = params.get("Names.member.1")
        if name and name not in {b.name for b in self._backend.load_balancers.values()}:
            raise Refused("LoadBalancerNotFound", f"Load balancers '[{name}]' not found")
        text = self._aws.xml(params)
        for arn, since in self._made.items():
            if since == self._aws.step and arn in text:
                head, _, tail = text.partition(arn)
                before, _, member = head.rpartition("<member>")
                own, close, rest = tail.partition("</State>")
                member, own = member.replace("active", "provisioning"), own.replace("active", "provisioning")
                text = f"{before}<member>{member}{arn}{own}{close}{rest}"
        return text.encode()

    def DeleteLoadBalancer(self, params: Params) -> Any:  # noqa: N802
        balancer = self._backend.load_balancers.get(params["LoadBalancerArn"])
        if balancer is not None:
            self._lingering[balancer.arn] = (
                self._aws.step,
                set(balancer.security_groups or ()),
                {s.id for s in balancer.subnets},
            )
        return self._aws.forward(params)

    def CreateTargetGroup(self, params: Params) -> Any:  # noqa: N802
        if len(params["Name"]) > 32:
            raise Refused("ValidationError", "Target group name cannot be longer than '32' characters")
        for group in self._backend.target_groups.values():
            if group.name == params["Name"]:
                asked = {"Action": "DescribeTargetGroups", "Version": params["Version"], "Names.member.1": group.name}
                return self._aws.xml(asked).replace("DescribeTargetGroups", "CreateTargetGroup").encode()
        return self._aws.forward(params)

    def RegisterTargets(self, params: Params) -> Any:  # noqa: N802
        targets = self._known(params)
        self._check_zones(params)
        for key in _targets(params):
            if targets.get(key, ("", 0))[0] not in ("initial", "healthy"):
                targets[key] = "initial", self._aws.step
        return _envelope("RegisterTargets")

    def DeregisterTargets(self, params: Params) -> Any:  # noqa: N802
        targets = self._known(params)
        for key in _targets(params):
            if targets.get(key, ("draining", 0))[0] != "draining":
                targets[key] = "draining", self._aws.step
        return _envelope("DeregisterTargets")

    def DescribeTargetHealth(self, params: Params) -> Any:  # noqa: N802
        members = "".join(
            f"<member><Target><Id>{id}</Id><Port>{port}</Port></Target><TargetHealth><State>{state}</State></TargetHealth></member>"
            for (id, port), (state, _) in self._known(params).items()
        )
        return _envelope("DescribeTargetHealth", f"<TargetHealthDescriptions>{members}</TargetHealthDescriptions>")

    def _check_zones(self, params: Params) -> None:
        """An address outside the VPC must come with a zone, or "all"."""
        vpc = self._aws.backend("ec2").vpcs[self._backend.target_groups[params["TargetGroupArn"]].vpc_id]
        for n in _numbers(params):
            address = params[f"Targets.member.{n}.Id"]
            if ip_address(address) not in ip_network(vpc.cidr_block) and not params.get(f"Targets.member.{n}.AvailabilityZone"):
                raise Refused("ValidationError", f"You must specify an Availability Zone for target '{address}'")

    def _known(self, params: Params) -> dict[tuple[str, int], tuple[str, int]]:
        arn = params["TargetGroupArn"]
        if arn not in self._backend.target_groups:
            raise Refused("TargetGroupNotFound", f"Target groups '{arn}' not found")
        return self.targets.setdefault(arn, {})

    @property
    def _backend(self) -> Any:
        return self._aws.backend("elbv2")


def _targets(params: Params) -> list[tuple[str, int]]:
    return [(params[f"Targets.member.{n}.Id"], int(params.get(f"Targets.member.{n}.Port", 0))) for n in _numbers(params)]


def _numbers(params: Params) -> list[int]:
    return sorted({int(m[1]) for key in params if (m := re.match(r"Targets\.member\.(\d+)\.", key))})


def _envelope(action: str, inner: str = "") -> bytes:
    space = "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"
    return f'<{action}Response xmlns="{space}"><{action}Result>{inner}</{action}Result></{action}Response>'.encode()
