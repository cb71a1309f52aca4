"""The kinds: one file each, with spec, status, defaults, columns and the rules that need one object only.

`KINDS` is all of them. The pydantic models are the single source: OpenAPI, docs and editor schemas come from them.
"""

from __future__ import annotations

from ..objects import Resource
from . import cluster, installation, launch, load_balancer, machine, nodepool, provider, volume
from .builtins import EVENT, LEASE, NAMESPACE, SECRET, Event, Lease, Namespace, Secret
from .cluster import Cluster
from .installation import Installation
from .kind import Column, Kind
from .launch import Launch
from .load_balancer import LoadBalancer
from .machine import Machine
from .nodepool import NodePool
from .provider import Provider
from .volume import Volume

__all__ = [
    "KINDS",
    "Cluster",
    "Column",
    "Event",
    "Installation",
    "Kind",
    "Launch",
    "Lease",
    "LoadBalancer",
    "Machine",
    "Namespace",
    "NodePool",
    "Provider",
    "Secret",
    "Volume",
    "kind_of",
]

KINDS: tuple[Kind, ...] = (
    NAMESPACE,
    SECRET,
    EVENT,
    LEASE,
    installation.KIND,
    provider.KIND,
    cluster.KIND,
    nodepool.KIND,
    machine.KIND,
    launch.KIND,
    load_balancer.KIND,
    volume.KIND,
)

_BY_MODEL = {kind.model: kind for kind in KINDS}


def kind_of(model: type[Resource]) -> Kind:
    """The Kind of a model class."""
    return _BY_MODEL[model]
