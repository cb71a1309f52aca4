"""Where snapshots of etcd are kept: the contract of a store, and the one that needs no plugin, a directory.

Called by `controllers/etcd_snapshots.py` and by `kubeup etcd`, in a thread that may block. Other stores come by the hook
`kubeup_register_snapshot_stores`, chosen by the scheme of the URL in `Cluster.spec.etcd.snapshots.to`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from .errors import InvalidSpec, NotFound, NotReady

SUFFIX = ".etcd-snapshot"
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*\.etcd-snapshot")


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One snapshot. name: as it was put; size: bytes; at: epoch seconds."""

    name: str
    size: int
    at: float


class SnapshotStore(Protocol):
    """A folder of snapshots. Names end in SUFFIX; anything else that lies there is neither listed nor touched.

    Raises the errors of `errors.py`: NotFound for a name that is not there, Denied, NotReady when the store does not answer,
    InvalidSpec for what will never work. A snapshot appears whole or not at all.
    """

    def put(self, name: str, file: Path) -> None: ...

    def get(self, name: str, file: Path) -> None:
        """Write it to `file`, which appears whole or not at all."""
        ...

    def list(self) -> Sequence[Stored]:
        """The newest first."""
        ...

    def delete(self, name: str) -> None:
        """Succeeds when it is gone."""
        ...

    def close(self) -> None: ...


def ours(name: str) -> bool:
    """Whether a name is one that a snapshot can have."""
    return _NAME.fullmatch(name) is not None


class Directory:
    """`file:///path`: a directory of kubeup's own machine, for its owner only."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        path = Path(unquote(parts.path))
        if parts.scheme != "file" or parts.netloc or not path.is_absolute():
            raise InvalidSpec(
                f"{url!r} does not name a directory", path="spec.etcd.snapshots.to", remedy="write file:///absolute/path"
            )
        self._folder = path

    def put(self, name: str, file: Path) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _copy(file, self._folder / name)
        except OSError as error:
            raise _cannot(self._folder, error) from error

    def get(self, name: str, file: Path) -> None:
        try:
            _copy(self._folder / name, file)
        except FileNotFoundError as error:
            raise NotFound(f"there is no snapshot {name} in {self._folder}") from error
        except OSError as error:
            raise _cannot(self._folder, error) from error

    def list(self) -> Sequence[Stored]:
        try:
            found = [(entry, entry.stat()) for entry in os.scandir(self._folder) if ours(entry.name) and entry.is_file()]
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise _cannot(self._folder, error) from error
        stored = [Stored(name=entry.name, size=stat.st_size, at=stat.st_mtime) for entry, stat in found]
        return tuple(sorted(stored, key=lambda s: (s.at, s.name), reverse=True))

    def delete(self, name: str) -> None:
        try:
            (self._folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise _cannot(self._folder, error) from error

    def close(self) -> None:
        return None


def _copy(source: Path, target: Path) -> None:
    """Through a name of its own, so that nobody ever sees half of it."""
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with source.open("rb") as there, open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as here:
            shutil.copyfileobj(there, here, 1 << 20)
            here.flush()
            os.fsync(here.fileno())
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _cannot(folder: Path, error: OSError) -> NotReady:
    return NotReady(
        f"the directory {folder} cannot be used: {error.strerror or error}",
        remedy="free space there, or give the user that runs kubeup the right to write it",
    )
