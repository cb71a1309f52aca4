"""The pluggy hooks through which a package introduces itself to kubeup. There is one for each thing that can be added.

A hook only introduces: it is called once, when `plugins.py` discovers the package, and registers things that the core looks up
by name afterwards. No hook ever asks every plugin "is this yours?". A package offers its module under the entry-point group
`kubeup`; a single file comes with `--plugin ./mine.py`. Implementations carry `@hookimpl` and the exact names of the arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import pluggy
from pydantic import BaseModel

from .bootstrapper import Bootstrapper
from .executor import Executor, Keys
from .snapshots import SnapshotStore
from .supplier import Context, Data, Suppliers

PROJECT = "kubeup"
"""pluggy's project name, the entry-point group, and the prefix of every hook."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin as the implementation of the hook of the same name."""

ModelClass: TypeAlias = type[BaseModel]
"""A pydantic model's class."""

Build: TypeAlias = Callable[[Any, Context], Suppliers]
"""build(config, context) -> Suppliers. `config` is an instance of the registered config model.

Called once per Provider object, and again when its config or a Secret it refers to changed; the old Suppliers are closed
afterwards. Raises the errors of `errors.py`; may look at the place (to learn the identity and the capabilities), makes nothing.
"""

BuildExecutor: TypeAlias = Callable[[Keys], Executor]
"""build(keys) -> Executor. Called once per key pair; without I/O. Raises InvalidSpec for a key that cannot be read."""


BuildBootstrapper: TypeAlias = Callable[[], Bootstrapper]
"""build() -> Bootstrapper. Called once per process, at first use; without I/O, never raises."""


BuildSnapshotStore: TypeAlias = Callable[[str, Data], SnapshotStore]
"""build(url, secrets) -> SnapshotStore. `secrets` is the data of the Secret that goes with the URL, {} when none is named. Without
I/O. Raises InvalidSpec for a URL that is none."""


class ProviderRegister(Protocol):
    """What `kubeup_register_providers` is handed."""

    def provider(self, *, type: str, config: ModelClass, overrides: ModelClass, build: Build, ambient: bool = False) -> None:
        """Offer a type of Provider.

        type       what people write in `Provider.spec.type`: a DNS label, one per installation
        config     pydantic model of `Provider.spec.config`. When it needs no field, a Provider of the type's name exists by itself
        overrides  pydantic model of `overrides.<type>` in Clusters, NodePools, LoadBalancers and Volumes
        build      makes the suppliers of one Provider
        ambient    what the config leaves out comes from the environment (credentials, a region, a daemon): the Provider of the
                   type's name then exists as soon as something names it, so that no account is spoken to that nobody asked for

        Both models, and those within, need `extra="forbid"`; secrets are fields of type SecretRef, never text.
        """
        ...


@hookspec
def kubeup_register_providers(register: ProviderRegister) -> None:
    """Register the types of provider that this package brings: call `register.provider(...)` once for each."""


class ExecutorRegister(Protocol):
    """What `kubeup_register_executors` is handed."""

    def executor(self, *, kind: str, build: BuildExecutor) -> None:
        """Offer a way to run things on machines.

        kind   the `Access.kind` that it serves ("ssh"): a DNS label, one per installation
        build  makes the executor for one key pair
        """
        ...


@hookspec
def kubeup_register_executors(register: ExecutorRegister) -> None:
    """Register the executors that this package brings: call `register.executor(...)` once for each."""


class BootstrapperRegister(Protocol):
    """What `kubeup_register_bootstrappers` is handed."""

    def bootstrapper(self, *, name: str, config: ModelClass, build: BuildBootstrapper) -> None:
        """Offer a way to turn machines into a Kubernetes cluster.

        name    what people write in `Cluster.spec.kubernetes.bootstrapper`: a DNS label, one per installation
        config  pydantic model of `Cluster.spec.kubernetes.config`; every field needs a default, it and those within `extra="forbid"`
        build   makes the bootstrapper
        """
        ...


@hookspec
def kubeup_register_bootstrappers(register: BootstrapperRegister) -> None:
    """Register the bootstrappers that this package brings: call `register.bootstrapper(...)` once for each."""


class SnapshotStoreRegister(Protocol):
    """What `kubeup_register_snapshot_stores` is handed."""

    def snapshot_store(self, *, scheme: str, build: BuildSnapshotStore) -> None:
        """Offer a place for snapshots of etcd.

        scheme  of the URLs in `Cluster.spec.etcd.snapshots.to` that it serves ("s3"): a DNS label, one per installation; not "file"
        build   makes the store of one URL
        """
        ...


@hookspec
def kubeup_register_snapshot_stores(register: SnapshotStoreRegister) -> None:
    """Register the stores that this package brings: call `register.snapshot_store(...)` once for each."""
