"""The store of snapshots in a bucket's folder: names to keys, and which objects are snapshots. Everything else is `client.py`'s."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kubeup_core import StoredSnapshot
from kubeup_core.snapshots import ours

from .client import Bucket


class S3Store:
    def __init__(self, bucket: Bucket, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = prefix

    def put(self, name: str, file: Path) -> None:
        self._bucket.put(self._prefix + name, file)

    def get(self, name: str, file: Path) -> None:
        self._bucket.get(self._prefix + name, file)

    def list(self) -> Sequence[StoredSnapshot]:
        """The newest first; what is no snapshot is left out."""
        found = ((key.removeprefix(self._prefix), size, at) for key, size, at in self._bucket.list(self._prefix))
        stored = [StoredSnapshot(name=name, size=size, at=at) for name, size, at in found if ours(name)]
        return tuple(sorted(stored, key=lambda s: (s.at, s.name), reverse=True))

    def delete(self, name: str) -> None:
        self._bucket.delete(self._prefix + name)

    def close(self) -> None:
        self._bucket.close()
