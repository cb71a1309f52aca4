"""The face of kubeup-core: what a plugin imports. Everything else in this package is the core's own business.

The contract is `supplier.py` and `errors.py`; `hookimpl` and `SecretRef` are what registering takes. The tests that every
supplier must pass are in `kubeup_core.testing`. The two names that need a library (pluggy, pydantic) are looked up when first
used: every part of kubeup imports this file, and the command line must start quickly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import Blocked, Denied, InvalidSpec, NoCapacity, NotFound, NotReady, Place, SupplierError, Taken, Unknown
from .one_by_one import OneByOne
from .snapshots import SnapshotStore
from .snapshots import Stored as StoredSnapshot
from .supplier import (
    CONTRACT,
    EVERY,
    Access,
    BaseMachines,
    Capabilities,
    Context,
    Data,
    Host,
    Identity,
    Launch,
    LBMember,
    Listener,
    LoadBalancerSpec,
    LoadBalancerState,
    LoadBalancerSupplier,
    MachineState,
    MachineSupplier,
    Mark,
    Member,
    NetworkSpec,
    NetworkState,
    NetworkSupplier,
    Offer,
    Outcome,
    Phase,
    Problem,
    Ref,
    Result,
    Rule,
    Scope,
    SlotState,
    Snapshot,
    Suppliers,
    Template,
    VolumeSpec,
    VolumeState,
    VolumeSupplier,
)

if TYPE_CHECKING:
    from .hookspecs import BootstrapperRegister, ExecutorRegister, ProviderRegister, SnapshotStoreRegister, hookimpl
    from .plugin_config import SecretRef

__all__ = [
    "Access",
    "BaseMachines",
    "Blocked",
    "BootstrapperRegister",
    "CONTRACT",
    "Capabilities",
    "Context",
    "Data",
    "Denied",
    "EVERY",
    "ExecutorRegister",
    "Host",
    "Identity",
    "InvalidSpec",
    "LBMember",
    "Launch",
    "Listener",
    "LoadBalancerSpec",
    "LoadBalancerState",
    "LoadBalancerSupplier",
    "MachineState",
    "MachineSupplier",
    "Mark",
    "Member",
    "NetworkSpec",
    "NetworkState",
    "NetworkSupplier",
    "NoCapacity",
    "NotFound",
    "NotReady",
    "Offer",
    "OneByOne",
    "Outcome",
    "Phase",
    "Place",
    "Problem",
    "ProviderRegister",
    "Ref",
    "Result",
    "Rule",
    "Scope",
    "SecretRef",
    "SlotState",
    "Snapshot",
    "SnapshotStore",
    "SnapshotStoreRegister",
    "StoredSnapshot",
    "SupplierError",
    "Suppliers",
    "Taken",
    "Template",
    "Unknown",
    "VolumeSpec",
    "VolumeState",
    "VolumeSupplier",
    "hookimpl",
]

_LATER = {
    "BootstrapperRegister": "hookspecs",
    "ExecutorRegister": "hookspecs",
    "ProviderRegister": "hookspecs",
    "SecretRef": "plugin_config",
    "SnapshotStoreRegister": "hookspecs",
    "hookimpl": "hookspecs",
}


def __getattr__(name: str) -> object:
    if name in _LATER:
        from importlib import import_module

        return getattr(import_module(f".{_LATER[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
