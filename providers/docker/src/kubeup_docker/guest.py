"""What a container needs to be a machine: process number 1, what the engine must allow it, and the files it is given before it starts.

Pure; used by launching.py. Two kinds of image: one that says it starts systemd becomes a machine that Kubernetes runs on; in any
other a shell waits, which is enough for trying kubeup out.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from .limits import CAPABILITIES, Limits
from .node_image import INIT_LABEL, USER_DATA_LABEL
from .records import Image, Wish

SEED = "var/lib/cloud/seed/nocloud"
"""Where cloud-init looks for what an engine has no disk for (its datasource NoCloud)."""

VOLUMES = "/kubeup/volumes"
DISK = "disk"
VOLUME_TABLE = "etc/kubeup/volumes"
"""Lines of path and size in bytes: the files that are a machine's data disks. Each start of the machine makes what is missing."""

STOP_SYSTEMD = "SIGRTMIN+3"
SYSTEMDS = frozenset({"init", "systemd"})

MAKE_DISKS = (
    f"[ -e /{VOLUME_TABLE} ] && while read -r path size; do "
    '[ "$(stat -c %s "$path" 2>/dev/null || echo 0)" -ge "$size" ] || truncate -s "$size" "$path"; '
    f"done < /{VOLUME_TABLE}"
)
"""Shell. Files only grow. The image of machines has the same in machine-init."""

WAIT = ("/bin/sh", "-c", f"trap 'exit 0' TERM INT; {MAKE_DISKS}; while :; do sleep 3600 & wait $!; done")
"""Process number 1 where nothing else is: a shell that collects orphans, and ends at once when it is told to. Needs nothing of the
image but sh."""

TOO_NEW = frozenset({"PERFMON", "BPF", "CHECKPOINT_RESTORE"})
"""Docker before 23 does not know these; the kernel lets SYS_ADMIN do all that they allow."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What an image's machines are. command: process number 1, empty for the image's own."""

    systemd: bool
    user_data: bool
    command: tuple[str, ...]


def kind(image: Image, command: Sequence[str] | None) -> Kind:
    """By the labels of our own image; by its stop signal or its command for others that start systemd (kindest/node).

    command: what overrides.docker names. User-data is run by what says so with a label: there is systemd without cloud-init.
    """
    told = image.labels.get(INIT_LABEL) == "systemd" or image.stop_signal == STOP_SYSTEMD
    if command:
        systemd = PurePosixPath(command[0]).name in SYSTEMDS or (told and command[0] == (*image.command, "")[0])
        return Kind(systemd=systemd, user_data=USER_DATA_LABEL in image.labels, command=tuple(command))
    systemd = told or any(PurePosixPath(word).name in SYSTEMDS for word in image.command[:2])
    return Kind(systemd=systemd, user_data=USER_DATA_LABEL in image.labels, command=() if systemd else WAIT)


def as_machine(wish: Wish, limits: Limits) -> Wish:
    """The wish for a container in which systemd runs: everything that the engine can give, for its host's kernel is shared.

    Capabilities are named one by one, as `privileged` asks for all, and engines that lack one then start nothing. Where it is
    not known what the engine lacks, SYS_RESOURCE is left out: it is the one that hosts in a sandbox lack, and no part of
    Kubernetes needs it.
    """
    withheld = limits.withheld if limits.local else frozenset({"SYS_RESOURCE"})
    given = [name for name in CAPABILITIES if name not in withheld | TOO_NEW]
    return replace(
        wish,
        capabilities=tuple(dict.fromkeys([*given, *wish.capabilities])),
        security_options=(*wish.security_options, *_unconfined(wish.security_options)),
        unmasked=True,
        own_cgroups=True,
        console=True,
        stop_signal=STOP_SYSTEMD,
        device_rules=("c *:* rwm", "b *:* rwm"),
        scratch=("/var",),  # containerd's overlays cannot lie on the engine's
        tmpfs={"/run": "exec,mode=755", "/tmp": "exec,mode=1777"},
        binds=(*wish.binds, *((path, path, True) for path in limits.modules)),
    )


def _unconfined(given: Iterable[str]) -> list[str]:
    """What the person said about a subject stays."""
    subjects = {option.partition("=")[0] for option in given}
    ours = ("seccomp=unconfined", "apparmor=unconfined", "label=disable")
    return [option for option in ours if option.partition("=")[0] not in subjects]


def disk_path(volume: str) -> str:
    """Where a machine finds the disk of a volume."""
    return f"{VOLUMES}/{volume}/{DISK}"


def files(name: str, instance: str, user_data: bytes, disks: Sequence[tuple[str, int]]) -> bytes:
    """A tar with what a machine is given before its first start.

    instance  cloud-init runs user-data once per such id
    disks     (volume, bytes)
    """
    meta = json.dumps({"instance-id": instance, "local-hostname": name})  # JSON is YAML
    table = "".join(f"{disk_path(volume)} {size}\n" for volume, size in disks)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        _folder(tar, "var/lib/cloud", 0o755)
        _folder(tar, "var/lib/cloud/seed", 0o755)
        _folder(tar, SEED, 0o700)
        _file(tar, f"{SEED}/meta-data", meta.encode())
        _file(tar, f"{SEED}/user-data", user_data)
        _folder(tar, "etc/kubeup", 0o755)
        _file(tar, VOLUME_TABLE, table.encode())
    return buffer.getvalue()


def _folder(tar: tarfile.TarFile, path: str, mode: int) -> None:
    info = tarfile.TarInfo(path)
    info.type, info.mode = tarfile.DIRTYPE, mode
    tar.addfile(info)


def _file(tar: tarfile.TarFile, path: str, content: bytes) -> None:
    info = tarfile.TarInfo(path)
    info.size, info.mode = len(content), 0o600
    tar.addfile(info, io.BytesIO(content))
