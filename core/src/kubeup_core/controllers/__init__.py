"""The controllers: one file per kind or task, each level-triggered, each reading by name and taking one next step."""

from __future__ import annotations

from ..runtime.controller import Controller, Env
from .cluster import ClusterController
from .deleter import DeleterController
from .etcd_snapshots import EtcdSnapshotsController
from .garbage import GarbageController
from .launch import LaunchController
from .load_balancer import LoadBalancerController
from .look_around import LookAroundController
from .machine import MachineController
from .namespace import NamespaceController
from .node import NodesController
from .nodepool import NodePoolController
from .placement import PlacementController
from .provider import ProviderController, ensure_implicit
from .sweeper import SweeperController
from .volume import VolumeController

__all__ = ["all_controllers", "ensure_implicit"]


def all_controllers(env: Env) -> list[Controller]:
    """Every controller of the core, for `runtime.manager.Manager`."""
    return [
        kind(env)
        for kind in (
            ProviderController,
            ClusterController,
            NodePoolController,
            NodesController,
            PlacementController,
            LaunchController,
            MachineController,
            DeleterController,
            LoadBalancerController,
            VolumeController,
            SweeperController,
            LookAroundController,
            EtcdSnapshotsController,
            GarbageController,
            NamespaceController,
        )
    ]
