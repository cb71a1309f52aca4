"""Networks of libvirt as networks, one per cluster: a bridge with NAT to the outside. Found by mark; the uuid follows from the mark.

kubeup gives the addresses in a network of its own, and those of a range that the overrides name in one that is somebody else's. Rules
between roles have no counterpart here: machines on one bridge reach each other on every port, and from outside only the host does.
"""

from __future__ import annotations

import hashlib
import threading
from ipaddress import IPv4Network, ip_address, ip_network

from kubeup_core import (
    Blocked,
    InvalidSpec,
    Mark,
    NetworkSpec,
    NetworkState,
    NotFound,
    Phase,
    Ref,
    Scope,
    Snapshot,
    SupplierError,
    Taken,
)

from . import marks, xml
from .client import Hypervisor
from .config import PATH, LibvirtOverrides, overrides
from .launching import GATEWAY, NETWORK, RANGE, SUBNET
from .records import Network, Place

TRIES = 16
"""Subnets that are tried in one call; libvirt says which the host already uses."""


class LibvirtNetworks:
    """The networks of one libvirt. Thread-safe."""

    def __init__(self, hypervisor: Hypervisor, place: Place) -> None:
        self._hypervisor = hypervisor
        self._place = place
        self._lock = threading.Lock()

    def ensure(self, want: NetworkSpec) -> NetworkState:
        parsed = overrides(want.overrides)
        if isinstance(parsed, list):
            raise InvalidSpec(parsed[0].message, path=parsed[0].path, remedy=parsed[0].remedy)
        with self._lock:
            networks = self._hypervisor.networks()
            if parsed.network:
                return self._existing(want, parsed, networks)
            ours = next((n for n in networks if n.mark and n.mark.same(want.mark)), None)
            if ours is None or not ours.active:
                ours = self._make(want, networks, ours)
        return self._state(ours, want.mark)

    def observe(self, scope: Scope) -> Snapshot[NetworkState]:
        found = self._hypervisor.networks()
        ours = [(n, n.mark) for n in found if n.mark and n.mark.kind == "Network" and scope.covers(n.mark)]
        return Snapshot(items=tuple(self._state(network, mark) for network, mark in ours))

    def delete(self, ref: Ref) -> None:
        try:
            network = self._hypervisor.network(ref.id)
        except NotFound:
            return
        except SupplierError as error:
            if "uuid" in error.message.lower():
                return
            raise
        if network.mark is None:
            return  # one that overrides named: there is nothing of ours to take away
        if not network.mark.same(ref.mark):
            raise NotFound(f"network {network.name} belongs to {marks.owner(network.mark)}", code=marks.FOREIGN)
        if users := [d for d in self._hypervisor.domains() if network.name in d.networks]:
            names = ", ".join(sorted(d.name for d in users))
            raise Blocked(f"network {network.name} is used by {names}", by=tuple(d.uuid for d in users))
        try:
            if network.active:
                self._hypervisor.stop_network(ref.id)
            self._hypervisor.undefine_network(ref.id)
        except NotFound:
            return

    def _existing(self, want: NetworkSpec, parsed: LibvirtOverrides, networks: list[Network]) -> NetworkState:
        """One that somebody else made and keeps: it does not carry the mark, so `delete` never takes it."""
        found = next((n for n in networks if parsed.network in (n.name, n.uuid)), None)
        if found is None:
            raise InvalidSpec(
                f"libvirt has no network {parsed.network}",
                path=f"{PATH}.network",
                remedy=f"it has {', '.join(sorted(n.name for n in networks)) or 'none'}",
            )
        if not found.active:
            raise InvalidSpec(
                f"network {found.name} is not started", path=f"{PATH}.network", remedy=f"virsh net-start {found.name}"
            )
        if parsed.addresses:
            self._check_range(found, parsed.addresses)
        return self._state(found, want.mark, parsed.addresses or "")

    def _check_range(self, network: Network, given: str) -> None:
        try:
            first, last = (ip_address(end) for end in given.split("-"))
            fits = (
                bool(network.subnet) and int(first) <= int(last) and all(e in ip_network(network.subnet) for e in (first, last))
            )
        except ValueError:
            fits = False
        if not fits:
            of = f"its addresses are {network.subnet}" if network.subnet else "libvirt does not know its addresses"
            raise InvalidSpec(
                f"{given} is no range of addresses in network {network.name}: {of}",
                path=f"{PATH}.addresses",
                remedy="name first and last address, outside of what its DHCP leases",
            )

    def _make(self, want: NetworkSpec, networks: list[Network], ours: Network | None) -> Network:
        """Define it and start it; one that was defined and never started is taken up again."""
        uuid, named = marks.uuid_of(want.mark), marks.name_of(want.name, want.mark)
        last: SupplierError | None = None
        for attempt in range(TRIES):
            cidr = _wanted(want.cidr) if want.cidr else _free(networks, f"{uuid}/{attempt}")
            if ours is None or attempt:
                try:
                    self._hypervisor.define_network(xml.network(uuid, named, marks.element(want.mark), cidr))
                except Taken as error:
                    raise Taken(f"a network called {named} exists already", code=error.code) from error
            try:
                self._hypervisor.start_network(uuid)
                break
            except SupplierError as error:
                network = self._hypervisor.network(uuid)
                if network.active:  # somebody was quicker
                    break
                if "in use" not in error.message:
                    raise
                if want.cidr:
                    self._hypervisor.undefine_network(uuid)
                    raise Taken(f"the addresses {want.cidr} are in use on {self._place.hostname}: {error.message}") from error
                last = error
        else:
            assert last is not None
            raise last
        return self._hypervisor.network(uuid)

    def _state(self, network: Network, mark: Mark, given: str = "") -> NetworkState:
        data = {NETWORK: network.name}
        if network.mark is not None and network.subnet:
            cidr = ip_network(network.subnet)
            first = cidr.network_address
            given = f"{first + 2}-{first + cidr.num_addresses // 2 - 1}"
        if given:
            data |= {SUBNET: network.subnet, GATEWAY: network.gateway, RANGE: given}
        return NetworkState(
            ref=Ref(id=network.uuid, mark=mark),
            phase=Phase.RUNNING if network.active else Phase.PENDING,
            fabric=f"libvirt:{self._place.identity}/{network.uuid}",
            flat=True,
            data=data,
        )


def _wanted(cidr: str) -> IPv4Network:
    try:
        found = IPv4Network(cidr)
    except ValueError as error:
        raise InvalidSpec(f"{cidr} is no IPv4 network: {error}", path="spec.network.machineCIDR") from error
    if found.prefixlen > 29:
        raise InvalidSpec(f"{cidr} is too small: /29 at least", path="spec.network.machineCIDR")
    return found


def _free(networks: list[Network], seed: str) -> IPv4Network:
    """A /24 of 192.168 that no network of libvirt has."""
    used = [ip_network(n.subnet) for n in networks if n.subnet]
    start = hashlib.sha256(seed.encode()).digest()[0]
    for number in range(256):
        cidr = IPv4Network(f"192.168.{(start + number) % 256}.0/24")
        if not any(cidr.overlaps(other) for other in used):
            return cidr
    raise Taken("all of 192.168.0.0/16 is in use by networks of libvirt", remedy="name spec.network.machineCIDR")
