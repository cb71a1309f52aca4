"""Snapshots of etcd in an S3-compatible store: `spec.etcd.snapshots.to: s3://BUCKET/FOLDER` in a Cluster.

This module only introduces the plugin; `location.py` reads the URL, `store.py` is the store, `client.py` the only import of the SDK.
"""

from __future__ import annotations

from collections.abc import Mapping

from kubeup_core import SnapshotStore, SnapshotStoreRegister, hookimpl

__all__ = ["build", "kubeup_register_snapshot_stores"]


@hookimpl
def kubeup_register_snapshot_stores(register: SnapshotStoreRegister) -> None:
    register.snapshot_store(scheme="s3", build=build)


def build(url: str, secrets: Mapping[str, str]) -> SnapshotStore:
    """The store of one URL. Asks nothing of anybody yet; raises InvalidSpec for a URL that is not one."""
    from .client import Bucket
    from .location import locate
    from .store import S3Store

    place = locate(url)
    return S3Store(Bucket(place, secrets), place.prefix)
