"""Containers and networks as kubeup sees them, read off what the engine's API says. No SDK here.

Made by client.py, read by machines.py and networks.py. Field names of the API: Docker Engine API, v1.40 and later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Container:
    """A container. A listing leaves started_at, cpu and memory out. state: the engine's own word (`created`, `running` ...)."""

    id: str
    name: str
    state: str
    labels: Mapping[str, str]
    image: str
    addresses: Mapping[str, str] = field(default_factory=dict)  # network -> IPv4, "" while it has none
    started_at: str = ""
    cpu: float = 0.0
    memory: int = 0
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Network:
    id: str
    name: str
    labels: Mapping[str, str]
    created: str


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A container to create. cpu, memory: limits, 0 for none. rotate_logs: the engine writes them to files of its own."""

    name: str
    hostname: str
    image: str
    command: tuple[str, ...]
    labels: Mapping[str, str]
    network: str = ""
    cpu: float = 0.0
    memory: int = 0
    capabilities: tuple[str, ...] = ()
    security_options: tuple[str, ...] = ()
    rotate_logs: bool = False


def listed(item: Mapping[str, Any]) -> Container:
    networks = (item.get("NetworkSettings") or {}).get("Networks") or {}
    return Container(
        id=item["Id"],
        name=(item.get("Names") or [""])[0].lstrip("/"),
        state=item.get("State") or "",
        labels=item.get("Labels") or {},
        image=item.get("Image") or "",
        addresses={name: end.get("IPAddress") or "" for name, end in networks.items()},
    )


def inspected(item: Mapping[str, Any]) -> Container:
    networks = (item.get("NetworkSettings") or {}).get("Networks") or {}
    return Container(
        id=item["Id"],
        name=item["Name"].lstrip("/"),
        state=item["State"]["Status"],
        labels=item["Config"].get("Labels") or {},
        image=item["Config"]["Image"],
        addresses={name: end.get("IPAddress") or "" for name, end in networks.items()},
        started_at=item["State"].get("StartedAt") or "",
        cpu=(item["HostConfig"].get("NanoCpus") or 0) / 1e9,
        memory=item["HostConfig"].get("Memory") or 0,
        error=item["State"].get("Error") or "",
    )


def network(item: Mapping[str, Any]) -> Network:
    return Network(id=item["Id"], name=item["Name"], labels=item.get("Labels") or {}, created=item.get("Created") or "")
