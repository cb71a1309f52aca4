"""A volume's file system: made on what is blank, mounted where the spec says, grown with the volume, unmounted before it is detached.

A part of the volume controller, for machines that kubeup gets into. It is a script each time, safe to run again, which looks at what
is there: nothing that holds data is ever formatted. What is remembered only saves calls, and ends with the machine's boot id.
"""

from __future__ import annotations

import shlex

from ..errors import InvalidSpec, NotFound, SupplierError
from ..kinds import Machine, Volume
from ..runtime.calls import InProgress
from ..runtime.controller import Env, Key
from .access import Reach, not_reached
from .troubles import LATER, SOON, Trouble

LIMIT = 30.0
"""Seconds that a script may take: file systems are made without being written over."""


class Mounts:
    """For the volume controller."""

    def __init__(self, env: Env, controller: str) -> None:
        self.reach = Reach(env, controller)
        self._done: dict[str, tuple[object, ...]] = {}

    def step(self, volume: Volume, device: str, size: int, machine: Machine, key: Key) -> Trouble | None:
        """None: it is as the spec has it. device: its path on the machine, which has it."""
        spec = volume.spec
        if spec.mount_path is None and spec.filesystem == "none":
            return None
        wish = (machine.uid, machine.status.boot_id, size, spec.filesystem, spec.mount_path)
        if self._done.get(volume.uid) == wish:
            return None
        found = self._run(machine, mounting(device, spec.filesystem, spec.mount_path or ""), key, "mount")
        if isinstance(found, Trouble):
            return found
        code, said = found
        if code != 0:
            return Trouble(reason="NotMounted", message=f"on {machine.name}: {said}", after=LATER, stalled=True)
        self._done[volume.uid] = wish
        return None

    def release(self, volume: Volume, device: str, machine: Machine, key: Key) -> Trouble | None:
        """Before it is detached. None: nothing of it is mounted where kubeup did it, or nobody can say."""
        path, over = volume.spec.mount_path, ("unmounted", machine.uid)
        if self._done.get(volume.uid) == over:
            return None
        self._done.pop(volume.uid, None)
        if path is None or machine.status.state in ("Failed", "Unknown", "Pending", "Launching"):
            return None
        found = self._run(machine, f"set -- {shlex.join([device, 'none', path])}\n{_FIND}{_UNMOUNT}", key, "unmount")
        if isinstance(found, Trouble):
            return None if found.reason in ("NoAccess", "NotThere") else found
        code, said = found
        if code != 0:
            return Trouble(reason="StillMounted", message=f"on {machine.name}: {said}", after=SOON)
        self._done[volume.uid] = over
        return None

    def _run(self, machine: Machine, script: str, key: Key, verb: str) -> tuple[int, str] | Trouble:
        try:
            finished = self.reach.run(machine, script, timeout=LIMIT, key=key, verb=verb)
        except InProgress as running:
            return Trouble(reason="Mounting", message=f"its file system on {machine.name} is looked after", after=running.after)
        except InvalidSpec as error:
            message = f"{error.message}, so nobody can mount it there; leave mountPath and filesystem out, or {error.remedy}"
            return Trouble(reason="NoAccess", message=message, stalled=True)
        except NotFound as error:
            return Trouble(reason="NotThere", message=error.message, after=SOON)
        except SupplierError as error:
            return not_reached(error, machine)
        lines = finished.output.decode("utf-8", "replace").strip().splitlines()
        return finished.code, lines[-1] if lines else f"exit code {finished.code}"


def mounting(device: str, filesystem: str, path: str) -> str:
    """The script that has it formatted, mounted and as large as its device; path "" for not mounted."""
    return f"set -- {shlex.join([device, filesystem, path])}\n{_FIND}{_MOUNT}"


_FIND = """device=$1 type=$2 path=$3
PATH="$PATH:/usr/sbin:/sbin"
# A disk in a file, as containers have them, is mounted through a loop device.
disk() {
    if [ -f "$device" ]; then losetup -n -O NAME -j "$device" | head -n 1 | tr -d ' '; else readlink -f "$device"; fi
}
"""

_MOUNT = """tries=0
until [ -e "$device" ]; do
    tries=$((tries + 1))
    [ $tries -lt 20 ] || { echo "there is no $device"; exit 1; }
    sleep 0.5
done
there=$(blkid -p -o value -s TYPE "$device" 2>/dev/null) || :
if [ -z "$there" ] && [ "$type" != none ]; then
    if [ -n "$(blkid -p -o export "$device" 2>/dev/null)" ]; then
        echo "the disk $device is not blank, and has no file system: nothing is made on it"
        exit 1
    fi
    case $type in
    ext4) mkfs.ext4 -q -F "$device" ;;
    xfs) mkfs.xfs -q "$device" ;;
    esac || { echo "mkfs.$type failed: is it installed on the machine?"; exit 1; }
    there=$type
fi
[ -n "$path" ] || exit 0
if [ -z "$there" ]; then
    echo "there is no file system on $device; set spec.filesystem to make one"
    exit 1
fi
now=$(disk)
if ! { [ -n "$now" ] && findmnt -n -S "$now" -M "$path" >/dev/null; }; then
    if findmnt -n -M "$path" >/dev/null; then
        echo "something else is mounted at $path; choose another mountPath"
        exit 1
    fi
    mkdir -p "$path"
    options=defaults
    [ ! -f "$device" ] || options=loop
    mount -o "$options" "$device" "$path" || exit 1
fi
[ ! -f "$device" ] || losetup -c "$(disk)"
case $there in
ext4) said=$(resize2fs "$(disk)" 2>&1) ;;
xfs) said=$(xfs_growfs "$path" 2>&1) ;;
*) said= ;;
esac || { echo "it is mounted at $path, and could not be grown: $(echo "$said" | tail -n 1)"; exit 1; }
"""

_UNMOUNT = """now=$(disk)
[ -n "$now" ] || exit 0
if findmnt -n -S "$now" -M "$path" >/dev/null; then
    umount "$path" || exit 1
fi
"""
