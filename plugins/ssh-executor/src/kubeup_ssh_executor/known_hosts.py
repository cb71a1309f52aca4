"""OpenSSH's known_hosts files, hashed names and all: for providers whose people keep the keys of their hosts there.

Not used by the executor itself, which is given keys. Reading is paramiko's; writing is one line at a time, under a lock.
"""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import paramiko
from kubeup_core.errors import InvalidSpec


class KnownHosts:
    """One file. Thread-safe; read anew when it has changed. It need not be there."""

    def __init__(self, path: str) -> None:
        self.path = Path(path).expanduser()
        self._lock = threading.Lock()
        self._read: tuple[float, int] | None = None
        self._keys = paramiko.HostKeys()

    def keys(self, address: str, port: int = 22) -> str:
        """The keys of a host as `type base64` lines, "" when it is not named. Raises InvalidSpec for a file that cannot be read."""
        with self._lock:
            self._refresh()
            found = self._keys.lookup(_name(address, port))
            return "\n".join(f"{type_} {key.get_base64()}" for type_, key in (found or {}).items())

    def add(self, address: str, port: int, key: str) -> None:
        """One more line. key: `type base64`. Raises InvalidSpec."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._lock, os.fdopen(os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600), "r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                text = file.read()
                file.write(("\n" if text and not text.endswith("\n") else "") + f"{_name(address, port)} {key}\n")
        except OSError as error:
            raise InvalidSpec(
                f"{self.path} cannot be written: {error.strerror}", remedy="name a file for knownHosts that can"
            ) from error

    def _refresh(self) -> None:
        try:
            about = self.path.stat()
            if self._read == (about.st_mtime, about.st_size):
                return
            keys = paramiko.HostKeys(str(self.path))
        except FileNotFoundError:
            self._read, self._keys = None, paramiko.HostKeys()
            return
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidSpec(f"{self.path} cannot be read: {error}", remedy="correct it, or name another file") from error
        self._read, self._keys = (about.st_mtime, about.st_size), keys


def _name(address: str, port: int) -> str:
    return address if port == 22 else f"[{address}]:{port}"
