"""What the status of a LoadBalancer says. Pure: from the wish and the state at the place to the status. Called by `load_balancer.py`.

Counts, and the first members that are not healthy: all 5,000 would be half a megabyte at every change.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any, cast

from ..kinds import LoadBalancer
from ..kinds.load_balancer import LBMemberStatus, ListenerStatus, LoadBalancerStatus, MemberCounts
from ..supplier import Host, LoadBalancerState, Phase
from .members import Chosen
from .troubles import Trouble

SHOWN = 20
ADDRESS_FIXED = "AddressFixed"
"""The condition of a balancer on machines: whether its address stays when a machine under it is replaced."""

STATES = ("initial", "healthy", "unhealthy", "draining", "unused")


def describe(
    balancer: LoadBalancer, status: LoadBalancerStatus, chosen: Chosen, state: LoadBalancerState | None, now: float
) -> Trouble:
    """Fill `status`, but for what `troubles.stand` writes. -> where the balancer is on its way."""
    seen = state.members if state is not None else {}
    if state is not None:
        status.id = state.ref.id
        status.address, status.hostname = _address(state.addresses, status)
    members = [_member(m.key, m.address, _known(seen.get(m.key), m.drain)) for m in chosen.wish]
    refused = [_member(name, "", "unused", why) for name, why in chosen.refused.items()]
    status.listeners = [
        ListenerStatus(port=item.port, target_port=item.target_port or item.port, protocol=item.protocol)
        for item in balancer.spec.listeners
    ]
    status.counts = MemberCounts(total=len(members), healthy=_count(members, "healthy"), draining=_count(members, "draining"))
    shown = sorted([*members, *refused], key=lambda m: m.machine)
    status.members = [m for m in shown if m.state != "healthy"][:SHOWN]
    _degraded(balancer, status, chosen, members, now)
    if state is not None and not state.self_reach:
        message = "a machine behind it that connects to it does not reach itself; use the machine's own address there"
        _set(balancer, status, "SelfReach", False, "NotOffered", message, now)
    else:
        status.drop_condition("SelfReach")
    return _progress(balancer, status, members, state)


def follow(balancer: LoadBalancer, status: LoadBalancerStatus, hosts: tuple[Host, ...], now: float, *, kept: bool) -> None:
    """For a balancer on machines: with one, its address is that machine's, known before anything listens there, and only as lasting.

    kept: a machine that replaces it is given the same
    """
    if len(hosts) > 1:
        status.drop_condition(ADDRESS_FIXED)
        return
    status.address, _ = _address((hosts[0].address,), status)
    if kept:
        message = "its address is that of the one machine that it runs on; a machine that replaces that one is given the same"
        _set(balancer, status, ADDRESS_FIXED, True, "HandedOn", message, now)
    else:
        message = "its address is that of the one machine that it runs on, and may change when that machine is replaced"
        _set(balancer, status, ADDRESS_FIXED, False, "FollowsMachine", message, now)


def _degraded(
    balancer: LoadBalancer, status: LoadBalancerStatus, chosen: Chosen, members: list[LBMemberStatus], now: float
) -> None:
    unhealthy = [m.machine for m in members if m.state == "unhealthy"]
    if chosen.refused:
        _set(balancer, status, "Degraded", True, "MembersRefused", next(iter(chosen.refused.values())), now)
    elif unhealthy:
        first = balancer.spec.listeners[0]
        port = balancer.spec.health.port or first.target_port or first.port
        message = f"{len(unhealthy)} of {len(members)} members do not answer on port {port}: {', '.join(unhealthy[:3])}"
        _set(balancer, status, "Degraded", True, "MembersUnhealthy", message, now)
    else:
        _set(balancer, status, "Degraded", False, "AsWanted", "no member is refused or unhealthy", now)


def _progress(
    balancer: LoadBalancer, status: LoadBalancerStatus, members: list[LBMemberStatus], state: LoadBalancerState | None
) -> Trouble:
    if state is None or state.phase is not Phase.RUNNING or not (status.address or status.hostname):
        return Trouble(reason="Creating", message=f"it is being made at {status.provider}")
    if not members:
        return Trouble(reason="NoMembers", message=f"no machine is behind it; it takes {_wanted(balancer)}")
    if not status.counts.healthy:
        message = f"none of {len(members)} members answers the health check yet"
        return Trouble(reason="NoHealthyMembers", message=message)
    return Trouble(reason="Ready", message=f"{status.counts.healthy} of {len(members)} members take traffic")


def _wanted(balancer: LoadBalancer) -> str:
    members = balancer.spec.members
    if members.machines is not None:
        return f"the machines {', '.join(members.machines) or '(none is named in spec.members.machines)'}"
    if members.selector is None:
        return f"every running machine of Cluster {balancer.spec.cluster}"
    return f"running machines with the labels {', '.join(f'{k}={v}' for k, v in sorted(members.selector.items()))}"


def _address(addresses: tuple[str, ...], status: LoadBalancerStatus) -> tuple[str | None, str | None]:
    """-> (address, hostname). They are given as soon as they are fixed, and kept then."""
    address, hostname = status.address, status.hostname
    for text in reversed(addresses):
        try:
            ipaddress.ip_address(text)
        except ValueError:
            hostname = text
        else:
            address = text
    return address, hostname


def _member(machine: str, address: str, state: str, reason: str | None = None) -> LBMemberStatus:
    """Not validated: there may be thousands, and `state` is one of STATES."""
    return LBMemberStatus.model_construct(machine=machine, address=address, state=cast(Any, state), reason=reason)


def _known(state: str | None, drain: bool) -> str:
    return state if state in STATES else "draining" if drain else "initial"


def _count(members: Iterable[LBMemberStatus], state: str) -> int:
    return sum(1 for member in members if member.state == state)


def _set(
    balancer: LoadBalancer, status: LoadBalancerStatus, type_: str, value: bool, reason: str, message: str, now: float
) -> None:
    status.set_condition(type_, value, reason, message, now=now, generation=balancer.metadata.generation)
