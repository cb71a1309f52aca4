"""Containers and networks as kubeup sees them, read off what the engine's API says. No SDK here.

Made by client.py, read by the suppliers. Field names of the API: Docker Engine API, v1.40 and later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Container:
    """A container. state: the engine's own word (`created`, `running` ...). A listing leaves started_at, cpu, memory and error out,
    names an image by its id when its name went to another, and alone has `uptime`, in words ("Up 5 minutes")."""

    id: str
    name: str
    state: str
    labels: Mapping[str, str]
    image: str
    addresses: Mapping[str, str] = field(default_factory=dict)  # network -> IPv4, "" while it has none
    fixed: frozenset[str] = frozenset()  # IPv4 addresses that it was made with
    volumes: Mapping[str, str] = field(default_factory=dict)  # name -> path in the container
    uptime: str = ""
    started_at: str = ""
    cpu: float = 0.0
    memory: int = 0
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Image:
    """command: entrypoint and arguments."""

    id: str
    labels: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    stop_signal: str = ""


@dataclass(frozen=True, kw_only=True)
class Network:
    """subnet, gateway: "" when there is none, or it is not told."""

    id: str
    name: str
    labels: Mapping[str, str]
    created: str
    subnet: str = ""
    gateway: str = ""


@dataclass(frozen=True, kw_only=True)
class Volume:
    name: str
    labels: Mapping[str, str]
    created: str = ""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A container to create. cpu, memory: limits, 0 for none.

    command      entrypoint and arguments; empty: the image's own
    address      fixed IPv4 address in `network`
    rotate_logs  the engine writes them to files of its own
    unmasked     no path of /proc and /sys is hidden or read-only
    own_cgroups  a cgroup namespace of its own
    console      process number 1 gets a terminal, and what it writes there is the container's log
    scratch      paths that get a volume of the container's own
    tmpfs        path -> mount options
    binds        (volume name or path on the engine's host, path, read-only)
    """

    name: str
    hostname: str
    image: str
    command: tuple[str, ...]
    labels: Mapping[str, str]
    network: str = ""
    address: str = ""
    cpu: float = 0.0
    memory: int = 0
    capabilities: tuple[str, ...] = ()
    security_options: tuple[str, ...] = ()
    rotate_logs: bool = False
    unmasked: bool = False
    own_cgroups: bool = False
    console: bool = False
    stop_signal: str = ""
    device_rules: tuple[str, ...] = ()
    scratch: tuple[str, ...] = ()
    tmpfs: Mapping[str, str] = field(default_factory=dict)
    binds: tuple[tuple[str, str, bool], ...] = ()


def listed(item: Mapping[str, Any]) -> Container:
    networks = (item.get("NetworkSettings") or {}).get("Networks") or {}
    return Container(
        id=item["Id"],
        name=(item.get("Names") or [""])[0].lstrip("/"),
        state=item.get("State") or "",
        labels=item.get("Labels") or {},
        image=item.get("Image") or "",
        uptime=item.get("Status") or "",
        **_attached(networks, item),
    )


def inspected(item: Mapping[str, Any]) -> Container:
    networks = (item.get("NetworkSettings") or {}).get("Networks") or {}
    return Container(
        id=item["Id"],
        name=item["Name"].lstrip("/"),
        state=item["State"]["Status"],
        labels=item["Config"].get("Labels") or {},
        image=item["Config"]["Image"],
        started_at=item["State"].get("StartedAt") or "",
        cpu=(item["HostConfig"].get("NanoCpus") or 0) / 1e9,
        memory=item["HostConfig"].get("Memory") or 0,
        error=item["State"].get("Error") or "",
        **_attached(networks, item),
    )


def _attached(networks: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
    wished = ((end.get("IPAMConfig") or {}).get("IPv4Address") for end in networks.values())
    mounts = item.get("Mounts") or ()
    return {
        "addresses": {name: end.get("IPAddress") or "" for name, end in networks.items()},
        "fixed": frozenset(address for address in wished if address),
        "volumes": {m["Name"]: m.get("Destination") or "" for m in mounts if m.get("Type") == "volume" and m.get("Name")},
    }


def image(item: Mapping[str, Any]) -> Image:
    config = item.get("Config") or {}
    return Image(
        id=item["Id"],
        labels=config.get("Labels") or {},
        command=(*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())),
        stop_signal=config.get("StopSignal") or "",
    )


def network(item: Mapping[str, Any]) -> Network:
    pools = [p for p in (item.get("IPAM") or {}).get("Config") or () if "." in (p.get("Subnet") or "")]
    return Network(
        id=item["Id"],
        name=item["Name"],
        labels=item.get("Labels") or {},
        created=item.get("Created") or "",
        subnet=pools[0]["Subnet"] if pools else "",
        gateway=(pools[0].get("Gateway") or "").partition("/")[0] if pools else "",
    )


def volume(item: Mapping[str, Any]) -> Volume:
    return Volume(name=item["Name"], labels=item.get("Labels") or {}, created=item.get("CreatedAt") or "")
