"""Two machines that share one address: keepalived.conf, pure and deterministic. Used by `balancers.py`; `guest.sh` runs it.

VRRP goes from one to the other directly, not by multicast, which few networks carry. Neither takes the address back from the other: an
address that moves twice breaks connections twice. A machine that kubeup does not reach may hold it all the same, so each hears all
the others that are not gone. One whose configuration could not be changed does not speak to those that came later: they rank
higher, so that it lets go when it hears them.
"""

from __future__ import annotations

import hashlib
import ipaddress

from kubeup_core import Host, InvalidSpec, LoadBalancerSpec

from .config import HaproxyOverrides

ADVERT = 0.5
"""Seconds between two signs of life; after a bit more than three without any the other one takes over."""

NOBODY = {4: "192.0.2.1", 6: "2001:db8::1"}
"""For one that is alone: without any peer keepalived speaks by multicast, to other pairs too. No machine has these (RFC 5737, 3849)."""


def address(want: LoadBalancerSpec, settings: HaproxyOverrides) -> str:
    """The address that they share. Raises InvalidSpec."""
    try:
        return str(ipaddress.ip_address(want.address))
    except ValueError as error:
        raise InvalidSpec(
            f"load balancer {want.name} is a pair, and has no address to share",
            path="spec.address",
            remedy="give it a free address of the network that its two machines are in",
        ) from error


def render(want: LoadBalancerSpec, host: Host, vip: str) -> str:
    """For one of them; the interface is found there. A pair of which only one is left runs on."""
    own = _inside(host)
    order = list(dict.fromkeys([*want.neighbours, *(_inside(other) for other in want.hosts)]))
    peers = [other for other in order if other != own] or [NOBODY[ipaddress.ip_address(own).version]]
    lines = [
        f"# Written by kubeup for load balancer {want.name}. It is written anew at every change.",
        f"# own {own}",
        "global_defs {",
        "  vrrp_version 3",
        "  script_user root",
        "  enable_script_security",
        "}",
        "vrrp_script alive {",
        '  script "/bin/sh @ETC@/alive"',
        "  interval 1",
        "  timeout 2",
        "  fall 2",
        "  rise 1",
        "}",
        "vrrp_instance kubeup {",
        "  state BACKUP",
        "  nopreempt",
        "  interface @INTERFACE@",
        f"  virtual_router_id {_router(want)}",
        f"  priority {100 + order.index(own)}",
        f"  advert_int {ADVERT}",
        f"  unicast_src_ip {own}",
        "  unicast_peer {",
        *(f"    {peer}" for peer in peers),
        "  }",
        "  virtual_ipaddress {",
        f"    {vip}/{ipaddress.ip_address(vip).max_prefixlen} dev @INTERFACE@",
        "  }",
        "  track_script {",
        "    alive",
        "  }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _inside(host: Host) -> str:
    return host.internal or host.address


def _router(want: LoadBalancerSpec) -> int:
    """1 to 255, the same on both."""
    return hashlib.sha256(want.mark.maker.encode()).digest()[0] % 255 + 1
