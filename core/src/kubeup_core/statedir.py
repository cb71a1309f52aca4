"""The state directory: who owns it, what lies in it, and where it may lie.

One process owns a state directory, by a lock that the kernel drops with the process, so a crash leaves no stale one. Opened by the
server (and `--once`); commands that only ask read `server.json`. SQLite's locks do not hold on network filesystems, so those are
refused (sqlite.org/faq.html, question 5).
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

NETWORK_FILESYSTEMS = frozenset({
    "9p", "afs", "ceph", "cifs", "davfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "gfs2", "glusterfs",
    "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb3", "smbfs",
})  # fmt: skip


class StateDirError(Exception):
    """The directory cannot be used; the message says what, where, and what to do."""


class InUse(StateDirError):
    """Another process owns it. pid is 0 when it did not say."""

    def __init__(self, path: Path, pid: int) -> None:
        super().__init__(
            f"{path} is in use by the server with pid {pid or 'unknown'}; `kubeup stop` ends it, or choose another --state"
        )
        self.pid = pid


class NetworkFilesystem(StateDirError):
    """The directory lies on a filesystem whose locks cannot be trusted."""


class StateDir:
    """An owned state directory. Close it to let the next one in."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock
        self.database = path / "kubeup.db"
        self.kubeconfig = path / "kubeconfig"
        self.token = path / "token"
        self.audit = path / "audit.log"

    @classmethod
    def open(cls, path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> StateDir:
        """Make it (0700) if needed and own it. Raises InUse, NetworkFilesystem, StateDirError."""
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.chmod(0o700)
        except OSError as error:
            raise StateDirError(f"{path} cannot be the state directory: {error.strerror}; choose another --state") from error
        kind = filesystem(path, mountinfo)
        if kind in NETWORK_FILESYSTEMS:
            raise NetworkFilesystem(f"{path} lies on {kind}, where locks cannot be trusted; choose a --state on a local disk")
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(lock, 32, 0).decode(errors="replace").strip()
            os.close(lock)
            raise InUse(path, int(pid) if pid.isdigit() else 0) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        return cls(path, lock)

    def say(self, facts: dict[str, Any]) -> None:
        """Write server.json: who and where the server is."""
        write_private(self.path / "server.json", json.dumps(facts, indent=1))

    def said(self) -> dict[str, Any]:
        """What the last server wrote, or nothing."""
        try:
            found: dict[str, Any] = json.loads((self.path / "server.json").read_text())
        except (OSError, ValueError):
            return {}
        return found

    def beat(self) -> None:
        """A sign of life: the time of server.json, which tells after a crash until when things were attended."""
        (self.path / "server.json").touch()

    def close(self) -> None:
        os.close(self._lock)


def write_private(file: Path, text: str) -> None:
    """Replace a file as a whole, mode 0600."""
    new = file.with_name(f"{file.name}.new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    os.replace(new, file)


def born(pid: int) -> str:
    """Start time of a process in clock ticks (proc(5), stat, field 22): with the pid it names one process for ever. "" if none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def filesystem(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> str:
    """Type of the filesystem that holds a path (proc(5), mountinfo); "" where nobody says."""
    try:
        lines = mountinfo.read_text().splitlines()
    except OSError:
        return ""
    real, best, kind = os.path.realpath(path), "", ""
    for line in lines:
        mount, _, rest = line.partition(" - ")
        point = mount.split()[4].replace("\\040", " ")
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, rest.split()[0]
    return kind
