"""What libvirt says, as plain data: domains, networks and storage volumes. Read out of its XML here; pure.

Used by client.py, which fills them, and by the suppliers.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from xml.etree import ElementTree

from kubeup_core import Mark

from . import marks


@dataclass(frozen=True, kw_only=True)
class Place:
    """The host as libvirt knows it. memory: bytes. kvm: it works. identity: of the storage pool, which has everything."""

    hostname: str
    arch: str
    cpus: int
    memory: int
    kvm: bool
    version: str
    identity: str
    pool_path: str


@dataclass(frozen=True, kw_only=True)
class Disk:
    """One of a domain's: path of the file, name in the guest (sda), bus."""

    path: str
    target: str
    bus: str


@dataclass(frozen=True, kw_only=True)
class Domain:
    """state: libvirt's number. said: what the element of the mark says. started: it was, once. macs: of its cards."""

    uuid: str
    name: str
    state: int
    mark: Mark | None
    said: dict[str, str]
    started: bool
    disks: tuple[Disk, ...]
    macs: tuple[str, ...]
    networks: tuple[str, ...]

    @property
    def active(self) -> bool:
        return self.state not in (0, 5)


@dataclass(frozen=True, kw_only=True)
class Network:
    """subnet: of its <ip>, "" where it has none; gateway: the host in it."""

    uuid: str
    name: str
    active: bool
    mark: Mark | None
    said: dict[str, str]
    subnet: str
    gateway: str


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A volume in the storage pool. size: bytes that it appears to have."""

    name: str
    path: str
    size: int
    format: str


def domain(xml: str, state: int) -> Domain:
    root = ElementTree.fromstring(xml)
    said = marks.said(root)
    disks = []
    for disk in root.iterfind("devices/disk"):
        source, target = disk.find("source"), disk.find("target")
        if source is not None and target is not None and source.get("file"):
            disks.append(Disk(path=source.get("file", ""), target=target.get("dev", ""), bus=target.get("bus", "")))
    return Domain(
        uuid=root.findtext("uuid", ""),
        name=root.findtext("name", ""),
        state=state,
        mark=marks.mark_of(said),
        said=said,
        started=root.find(f"metadata/{{{marks.STARTED}}}started") is not None,
        disks=tuple(disks),
        macs=tuple(m.get("address", "") for m in root.iterfind("devices/interface/mac")),
        networks=tuple(n for s in root.iterfind("devices/interface/source") if (n := s.get("network"))),
    )


def network(xml: str, active: bool) -> Network:
    root = ElementTree.fromstring(xml)
    said = marks.said(root)
    subnet = gateway = ""
    for ip in root.iterfind("ip"):
        address = ip.get("address", "")
        if ip.get("family", "ipv4") == "ipv4" and address:
            size = ip.get("prefix") or ip.get("netmask") or str(ipaddress.ip_network(address).prefixlen)
            subnet, gateway = str(ipaddress.ip_network(f"{address}/{size}", strict=False)), address
            break
    return Network(
        uuid=root.findtext("uuid", ""),
        name=root.findtext("name", ""),
        active=active,
        mark=marks.mark_of(said),
        said=said,
        subnet=subnet,
        gateway=gateway,
    )
