"""Which address a machine gets: pure functions over a subnet and what is in use in it. Used by launching.py.

An address that the engine gives out goes to whoever starts first after the engine does. Machines of a Kubernetes cluster are known
by theirs, so each gets one that is written down in its container.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Collection, Iterable

from .records import Container, Network

LOW = 16
"""Addresses at the start of a large subnet that are left to the engine, for containers that ask for none."""


def free(network: Network, used: Collection[str], seed: str) -> str:
    """An unused address of the network, "" when there is none. The same for the same seed, as long as it is unused."""
    subnet = ipaddress.IPv4Network(network.subnet)
    first, last = int(subnet.network_address) + 2, int(subnet.broadcast_address) - 1  # the first host is the engine's own
    if last - first >= 4 * LOW:
        first += LOW
    size = last - first + 1
    start = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8]) % max(size, 1)
    for step in range(size):
        address = str(ipaddress.IPv4Address(first + (start + step) % size))
        if address not in used and address != network.gateway:
            return address
    return ""


def wanted(network: Network, used: Collection[str], address: str) -> str:
    """The address that a machine asks for, where it can have it; else ""."""
    try:
        inside = ipaddress.IPv4Address(address) in ipaddress.IPv4Network(network.subnet)
    except ValueError:
        return ""
    return address if inside and address not in used and address != network.gateway else ""


def in_use(containers: Iterable[Container], besides: str = "") -> set[str]:
    """What containers hold or will hold when they are started."""
    return {address for c in containers if c.id != besides for address in (*c.fixed, *c.addresses.values()) if address}


def must_yield(mine: Container, containers: Iterable[Container]) -> bool:
    """Whether another one has the address of `mine`, which was never started, with more right: one that was started before,
    else the one with the smaller id. Two that ask this at once never both stay, and never both go."""
    return any(
        other.id != mine.id
        and mine.fixed & {*other.fixed, *other.addresses.values()}
        and (other.state != "created" or other.id < mine.id)
        for other in containers
    )
