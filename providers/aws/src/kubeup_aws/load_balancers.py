"""Network load balancers: the supplier. One balancer, a security group of its own, and a target group and a listener for each port.

Names are made from marks, as the service finds nothing by tags; the tags, asked for by name, prove whose it is. A listener is made
last, so where one is, its target group is as it should be. Target groups and the security group outlive the balancer for minutes when
it is deleted: until then it is shown as half-made, and `delete` takes them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from kubeup_core import (
    EVERY,
    Blocked,
    InvalidSpec,
    Listener,
    LoadBalancerSpec,
    LoadBalancerState,
    Mark,
    NotFound,
    NotReady,
    Phase,
    Ref,
    Scope,
    Snapshot,
    Taken,
)

from . import marks, targets
from .client import Aws
from .config import overrides
from .departures import Departures
from .firewall import Permission, as_request, present
from .layout import BALANCER, Layout
from .parts import group_named, specification

PHASES = {"provisioning": Phase.PENDING, "active": Phase.RUNNING, "active_impaired": Phase.RUNNING, "failed": Phase.FAILED}
TAGGED = 20
"""Resources whose tags one request tells."""


@dataclass(kw_only=True)
class Set:
    """All that was made for one object. balancer, groups: as the service describes them; security: ids."""

    mark: Mark
    balancer: dict[str, Any] | None = None
    groups: list[dict[str, Any]] = field(default_factory=list)
    security: list[str] = field(default_factory=list)

    def ids(self) -> list[str]:
        return [*(group["TargetGroupArn"] for group in self.groups), *self.security]


class AwsLoadBalancers:
    """The balancers of one account in one region. Thread-safe."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._targets = targets.Targets(aws)
        self._lock = threading.Lock()
        self._set: dict[str, Listener] = {}
        self._departures = Departures()

    def ensure(self, want: LoadBalancerSpec) -> LoadBalancerState:
        overrides(want.overrides)
        if want.address:
            raise InvalidSpec("AWS chooses the name of a balancer", path="spec.address", remedy="take spec.address out")
        with self._lock:
            layout = Layout.read(want.network)
            balancer = self._balancer(want, layout)
            self._departures.seen(want.mark, [balancer["LoadBalancerArn"]])
            groups = {targets.port_of(group): group for group in self._groups_of(want)}
            members: dict[str, str] = {}
            for listener in want.listeners:
                group = self._group(want, listener, groups.get(listener.port), layout)
                self._departures.seen(want.mark, [group["TargetGroupArn"]])
                members = _worst(
                    members, self._targets.bring(group["TargetGroupArn"], listener.target, want.members, layout.vpc)
                )
                groups[listener.port] = group
            self._listeners(want, balancer["LoadBalancerArn"], groups)
        return _state(balancer, want.mark, members)

    def observe(self, scope: Scope) -> Snapshot[LoadBalancerState]:
        items = []
        for made in self._sets(scope.installation):
            if not scope.covers(made.mark):
                continue
            if made.balancer is None:
                # Not strays: the object must stay until the last of them is gone
                items += [LoadBalancerState(ref=Ref(id=id, mark=made.mark), phase=Phase.PARTIAL) for id in made.ids()]
            else:
                items.append(_state(made.balancer, made.mark, self._members(made)))
        there = {item.ref.mark.maker for item in items}
        over = [ref for ref in scope.doubt if ref.mark.maker not in there and self._departures.over(ref.mark)]
        items += [LoadBalancerState(ref=ref, phase=Phase.GONE) for ref in over if not self._named_there(ref)]
        return Snapshot(items=tuple(items))

    def delete(self, ref: Ref) -> None:
        made = next((m for m in self._sets(ref.mark.installation) if m.mark.same(ref.mark)), None)
        if made is None or (made.balancer and made.balancer["LoadBalancerArn"] != ref.id and ref.id not in made.ids()):
            return self._not_ours(ref)
        if made.balancer is not None:
            with suppress(NotFound):
                self._aws.call("elbv2", "delete_load_balancer", LoadBalancerArn=made.balancer["LoadBalancerArn"])
            self._departures.deleted(made.balancer["LoadBalancerArn"])
        blocked: Blocked | None = None
        for group in made.groups:
            try:
                self._targets.delete(group["TargetGroupArn"])
                self._departures.deleted(group["TargetGroupArn"])
            except Blocked as error:
                blocked = error
        for id in made.security:
            try:
                with suppress(NotFound):
                    self._aws.call("ec2", "delete_security_group", GroupId=id)
                self._departures.deleted(id)
            except Blocked as error:  # the balancer's interfaces go later than itself
                blocked = error
        if blocked is not None:
            raise Blocked(blocked.message, by=tuple(made.ids()), code=blocked.code) from blocked
        return None

    # -- the balancer ------------------------------------------------------------------------------------------------------

    def _balancer(self, want: LoadBalancerSpec, layout: Layout) -> dict[str, Any]:
        named = self._named(want)
        found = self._find(named)
        if found is not None:
            self._check_owner(found["LoadBalancerArn"], want.mark, named)
            self._allow(want, layout)
            return found
        if not layout.subnets:
            raise NotReady("the cluster's network has no subnets yet", retry_after=5)
        security = self._allow(want, layout)
        try:
            return dict(
                self._aws.call(
                    "elbv2",
                    "create_load_balancer",
                    Name=named,
                    Type="network",
                    Scheme="internal" if want.internal else "internet-facing",
                    Subnets=[subnet for _, subnet in sorted(layout.subnets.items())],
                    SecurityGroups=[group for group in (security, layout.groups.get(BALANCER, "")) if group],
                    Tags=marks.as_list(marks.tags(want.mark, want.name)),
                )["LoadBalancers"][0]
            )
        except Taken as error:
            raise NotReady(f"balancer {named} was made a moment ago", retry_after=2, code=error.code) from error

    def _find(self, named: str) -> dict[str, Any] | None:
        try:
            found = self._aws.read("elbv2", "describe_load_balancers", Names=[named])["LoadBalancers"]
        except NotFound:
            return None
        return found[0] if found else None

    def _check_owner(self, arn: str, mark: Mark, named: str) -> None:
        if arn in self._set:
            return
        found = self._tags([arn]).get(arn)
        if found is None or not found.same(mark):
            raise Taken(
                f"a balancer called {named} is there already", by=marks.owner(found), remedy="delete it, or rename ours"
            )
        self._set[arn] = Listener(port=0, target=0)

    def _named(self, want: LoadBalancerSpec) -> str:
        readable = "".join(c if c.isascii() and c.isalnum() else "-" for c in want.name)[:9].strip("-")
        return f"{targets.prefix(want.mark.installation)}{readable}-{marks.digest(want.mark)}"

    def _allow(self, want: LoadBalancerSpec, layout: Layout) -> str:
        """The balancer's own security group: who may call. Its id."""
        filters = marks.of_maker(want.mark)
        found = self._aws.pages("ec2", "describe_security_groups", "SecurityGroups", Filters=filters)
        group = min(found, key=lambda g: str(g["GroupId"]), default=None) or self._security_group(want, layout)
        wanted = {
            Permission("tcp", listener.port, listener.port, source) for listener in want.listeners for source in want.allow_from
        }
        has = present(group)
        for action, some in (("authorize", wanted - has), ("revoke", has - wanted)):
            if some:
                with suppress(Taken, NotFound):
                    name = f"{action}_security_group_ingress"
                    self._aws.call("ec2", name, GroupId=group["GroupId"], IpPermissions=as_request(some))
        self._departures.seen(want.mark, [group["GroupId"]])
        return str(group["GroupId"])

    def _security_group(self, want: LoadBalancerSpec, layout: Layout) -> dict[str, Any]:
        name = f"kubeup-{marks.digest(want.mark)}"
        try:
            made = self._aws.call(
                "ec2",
                "create_security_group",
                GroupName=name,
                Description=f"kubeup: who may call the load balancer of {want.mark.cluster_name}"[:255],
                VpcId=layout.vpc,
                TagSpecifications=specification("security-group", want.mark, want.name, "calls"),
            )
        except Taken as error:  # made a moment ago, and not listed yet
            return group_named(self._aws, name, layout.vpc, want.mark, error)
        return {"GroupId": made["GroupId"], "IpPermissions": []}

    # -- target groups and listeners ---------------------------------------------------------------------------------------

    def _group(
        self, want: LoadBalancerSpec, listener: Listener, found: dict[str, Any] | None, layout: Layout
    ) -> dict[str, Any]:
        if found is None:
            found = self._aws.call(
                "elbv2",
                "create_target_group",
                Name=targets.name(want.mark, listener.port),
                Protocol="TCP",
                Port=listener.target,
                VpcId=layout.vpc,
                TargetType="ip",
                Tags=marks.as_list(marks.tags(want.mark, f"{want.name}-{listener.port}")),
                **targets.settings(listener),
            )["TargetGroups"][0]
        arn = found["TargetGroupArn"]
        if self._set.get(arn) != listener:
            self._aws.call(
                "elbv2", "modify_target_group_attributes", TargetGroupArn=arn, Attributes=targets.attributes(listener)
            )
            health = targets.settings(listener)
            if any(str(found.get(key)) != str(value) for key, value in health.items()):
                self._aws.call("elbv2", "modify_target_group", TargetGroupArn=arn, **health)
            self._set[arn] = listener
        return dict(found)

    def _members(self, made: Set) -> dict[str, str]:
        members: dict[str, str] = {}
        for group in made.groups:
            with suppress(NotFound):  # it went in the meantime
                members = _worst(members, self._targets.seen(group["TargetGroupArn"]))
        return members

    def _groups_of(self, want: LoadBalancerSpec) -> list[dict[str, Any]]:
        start = targets.name(want.mark, 0).removesuffix("0")
        return [group for group in self._all_groups() if group["TargetGroupName"].startswith(start)]

    def _listeners(self, want: LoadBalancerSpec, arn: str, groups: dict[int, dict[str, Any]]) -> None:
        listed = self._aws.pages("elbv2", "describe_listeners", "Listeners", LoadBalancerArn=arn)
        there = {listener["Port"]: listener for listener in listed}
        wanted = {listener.port for listener in want.listeners}
        for port in sorted(wanted - set(there)):
            action = {"Type": "forward", "TargetGroupArn": groups[port]["TargetGroupArn"]}
            with suppress(Taken):
                self._aws.call(
                    "elbv2", "create_listener", LoadBalancerArn=arn, Protocol="TCP", Port=port, DefaultActions=[action],
                    Tags=marks.as_list(marks.tags(want.mark, f"{want.name}-{port}")),
                )  # fmt: skip
        for port in sorted(set(there) - wanted):
            with suppress(NotFound):
                self._aws.call("elbv2", "delete_listener", ListenerArn=there[port]["ListenerArn"])
        for port in sorted(set(groups) - wanted):
            with suppress(Blocked):
                self._targets.delete(groups[port]["TargetGroupArn"])

    # -- below -------------------------------------------------------------------------------------------------------------

    def _sets(self, installation: str) -> Iterable[Set]:
        """Everything of this installation (or of EVERY one), by object."""
        start = "" if installation == EVERY else targets.prefix(installation)
        listed = self._aws.pages("elbv2", "describe_load_balancers", "LoadBalancers", PageSize=400)
        balancers = {b["LoadBalancerArn"]: b for b in listed if b["LoadBalancerName"].startswith(start)}
        groups = {g["TargetGroupArn"]: g for g in self._all_groups() if g["TargetGroupName"].startswith(start)}
        sets: dict[str, Set] = {}
        for arn, mark in self._tags([*balancers, *groups]).items():
            if mark is None or mark.kind != "LoadBalancer" or installation not in (mark.installation, EVERY):
                continue
            made = sets.setdefault(mark.maker, Set(mark=mark))
            if arn in balancers:
                made.balancer = balancers[arn]
            else:
                made.groups.append(groups[arn])
        filters = marks.of_scope(Scope(installation=installation), "LoadBalancer")
        for group in self._aws.pages("ec2", "describe_security_groups", "SecurityGroups", Filters=filters, MaxResults=1000):
            mark = marks.mark_of(marks.as_dict(group.get("Tags")))
            if mark is not None:
                sets.setdefault(mark.maker, Set(mark=mark)).security.append(group["GroupId"])
        for made in sets.values():
            arns = [made.balancer["LoadBalancerArn"]] if made.balancer else []
            self._departures.seen(made.mark, [*arns, *made.ids()])
        return sets.values()

    def _named_there(self, ref: Ref) -> bool:
        """Asked for by its name in the service, as a listing may lag."""
        if not ref.id.startswith("arn:") or ":loadbalancer/" not in ref.id:
            return False
        try:
            return bool(self._aws.read("elbv2", "describe_load_balancers", LoadBalancerArns=[ref.id])["LoadBalancers"])
        except NotFound:
            return False

    def _all_groups(self) -> list[dict[str, Any]]:
        return self._aws.pages("elbv2", "describe_target_groups", "TargetGroups", PageSize=400)

    def _tags(self, arns: list[str]) -> dict[str, Mark | None]:
        found: dict[str, Mark | None] = {}
        for start in range(0, len(arns), TAGGED):
            some = arns[start : start + TAGGED]
            for entry in self._aws.read("elbv2", "describe_tags", ResourceArns=some)["TagDescriptions"]:
                found[entry["ResourceArn"]] = marks.mark_of(marks.as_dict(entry.get("Tags")))
        return found

    def _not_ours(self, ref: Ref) -> None:
        """Nothing with this id carries the mark: it is gone, or it is somebody's."""
        if not ref.id.startswith("arn:"):
            return
        try:
            mark = self._tags([ref.id]).get(ref.id)
        except NotFound:
            return
        if mark is not None and not mark.same(ref.mark):
            raise NotFound(f"{ref.id} belongs to {marks.owner(mark)}", code=marks.FOREIGN)


def _worst(one: dict[str, str], other: dict[str, str]) -> dict[str, str]:
    """A member is as well as it is behind the port where it is worst; one that has left a port has left."""
    order = ("healthy", "initial", "unhealthy", "draining", "unused")
    return (
        other
        if not one
        else {key: max(one.get(key, "unused"), other.get(key, "unused"), key=order.index) for key in {**one, **other}}
    )


def _state(balancer: dict[str, Any], mark: Mark, members: dict[str, str]) -> LoadBalancerState:
    said = balancer.get("State", {})
    return LoadBalancerState(
        ref=Ref(id=balancer["LoadBalancerArn"], mark=mark),
        phase=PHASES.get(said.get("Code", ""), Phase.UNKNOWN),
        addresses=tuple(filter(None, [balancer.get("DNSName")])),
        members=members,
    )
