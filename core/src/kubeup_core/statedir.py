"""The state directory: who owns it, what lies in it, and where it may lie.

One process owns a state directory, by a lock that the kernel drops with the process, so a crash leaves no stale one. Opened by the
server (and `--once`); commands that only ask read `server.json`. SQLite's locks do not hold on network filesystems, so those are
refused (sqlite.org/faq.html, question 5).
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from pathlib import Path
from typing import Any

NETWORK_FILESYSTEMS = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fuse.ceph", "fuse.ceph-fuse", "fuse.davfs2", "fuse.gcsfuse",
    "fuse.glusterfs", "fuse.goofys", "fuse.juicefs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "fuse.vmhgfs-fuse", "gfs2",
    "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "smb", "smb3", "smbfs", "vboxsf",
})  # fmt: skip


class StateDirError(Exception):
    """The directory cannot be used; the message says what, where, and what to do."""


class InUse(StateDirError):
    """Another process owns it. pid 0 and address "" when it has not said (yet)."""

    def __init__(self, path: Path, pid: int, address: str = "") -> None:
        who = f"the server with pid {pid or 'unknown'}{f' at {address}' if address else ''}"
        super().__init__(f"{path} is in use by {who}; talk to that one, end it with `kubeup stop`, or choose another --state")
        self.pid = pid
        self.address = address


class NetworkFilesystem(StateDirError):
    """The directory lies on a filesystem whose locks cannot be trusted."""


class StateDir:
    """An owned state directory. Close it to let the next one in."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock: int | None = lock
        self.database = path / "kubeup.db"
        self.epoch = path / "epoch"
        self.server = path / "server.json"
        self.ca_crt, self.ca_key = path / "ca.crt", path / "ca.key"
        self.server_crt, self.server_key = path / "server.crt", path / "server.key"
        self.token = path / "token"
        self.kubeconfig = path / "kubeconfig"
        self.log = path / "serve.log"
        self.audit = path / "audit.log"

    @classmethod
    def open(cls, path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> StateDir:
        """Make it (0700) if needed and own it. Raises InUse, NetworkFilesystem, StateDirError; then nothing was changed."""
        kind = filesystem(path, mountinfo)
        if kind in NETWORK_FILESYSTEMS:
            raise NetworkFilesystem(f"{path} lies on {kind}, where locks cannot be trusted; choose a --state on a local disk")
        try:
            _make_private(path)
            lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateDirError(f"{path} cannot be the state directory: {error.strerror}; choose another --state") from error
        try:
            _take(lock)
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()} {born(os.getpid())}".encode(), 0)
        except BlockingIOError:
            owner = os.pread(lock, 64, 0).decode(errors="replace").split()
            os.close(lock)
            pid = int(owner[0]) if owner and owner[0].isdigit() else 0
            raise InUse(path, pid, _address(path, pid)) from None
        except OSError as error:
            os.close(lock)
            raise StateDirError(f"{path}/lock: {error.strerror}; free disk space, or choose another --state") from error
        return cls(path, lock)

    def say(self, facts: dict[str, Any]) -> None:
        """Write server.json: who and where the server is (pid, born, port, url, version, started)."""
        write_private(self.server, json.dumps(facts, indent=1))

    def said(self) -> dict[str, Any]:
        """What the last server wrote, or nothing."""
        return _said(self.path)

    def beat(self) -> None:
        """A sign of life: the time of server.json, which tells after a crash until when things were attended."""
        self.server.touch()

    def close(self) -> None:
        """Idempotent."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def _make_private(path: Path) -> None:
    """A typing error such as --state /tmp must not close a directory to everybody else."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o077:
        names = {entry.name for entry in path.iterdir()}
        if names and not names & {"lock", "kubeup.db", "serve.log"}:
            raise StateDirError(f"{path} holds other things than kubeup's state; choose another --state, or an empty directory")
        path.chmod(0o700)


def _said(path: Path) -> dict[str, Any]:
    try:
        found = json.loads((path / "server.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _address(path: Path, pid: int) -> str:
    """Where that process listens, if it has said so; what a former one said does not count."""
    facts = _said(path)
    if pid == 0 or facts.get("pid") != pid:
        return ""
    return str(facts.get("url") or (f"127.0.0.1:{facts['port']}" if facts.get("port") else ""))


def _take(lock: int) -> None:
    """Raises BlockingIOError when a living process holds it. One that was just killed lets go within moments: that is waited for."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(lock, 64, 0).decode(errors="replace").split()
        if len(owner) != 2 or not owner[0].isdigit() or born(int(owner[0])) == owner[1]:
            raise
        fcntl.flock(lock, fcntl.LOCK_EX)


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
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]


def filesystem(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> str:
    """Type of the filesystem that holds a path (proc(5), mountinfo); "" where nobody says."""
    try:
        lines = os.fsdecode(mountinfo.read_bytes()).split("\n")
    except OSError:
        return ""
    real, best, kind = os.path.realpath(path), "", ""
    for line in filter(None, lines):
        mount, _, rest = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), mount.split(" ")[4])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, rest.split()[0]
    return kind
