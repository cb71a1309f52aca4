"""What the kernel of the engine's host offers to machines, read from /proc and /sys: only for an engine on this machine.

Used by limits.py. Nothing is loaded, started or changed to find out. `root` is "/" outside of tests.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from pathlib import Path

MODULES = {"br_netfilter": "BRIDGE_NETFILTER", "ip_vs": "IP_VS", "overlay": "OVERLAY_FS", "vxlan": "VXLAN"}
"""Module -> its name in the kernel's configuration: what pod networks and service proxies ask for."""

INOTIFY_INSTANCES = 512
"""Of fs.inotify.max_user_instances, for a handful of machines: systemd takes a dozen in each, a kubelet and its pods more."""
INOTIFY_WATCHES = 65536

BRIDGE = "proc/sys/net/bridge/bridge-nf-call-iptables"
INOTIFY = "proc/sys/fs/inotify"


def facts(root: Path = Path("/")) -> dict[str, str]:
    """Module -> "yes", "no", or "module" (it can be loaded); and `inotifyInstances`, `inotifyWatches`.

    What cannot be told is left out.
    """
    config, loadable = _config(root), _loadable(root)
    found = {}
    for name, option in MODULES.items():
        if (root / "sys/module" / name).exists() or (name == "br_netfilter" and (root / BRIDGE).exists()):
            found[name] = "yes"
        elif loadable.get(name):
            found[name] = loadable[name]
        elif config:
            found[name] = {"y": "yes", "m": "module"}.get(config.get(option, ""), "no")
    for key, file in (("inotifyInstances", "max_user_instances"), ("inotifyWatches", "max_user_watches")):
        if value := _read(root / INOTIFY / file):
            found[key] = value
    return found


def _config(root: Path) -> Mapping[str, str]:
    try:
        text = gzip.decompress((root / "proc/config.gz").read_bytes()).decode(errors="replace")
    except OSError:
        text = _read(root / f"boot/config-{_release(root)}")
    return dict(re.findall(r"^CONFIG_(\w+)=([ym])$", text, re.MULTILINE))


def _loadable(root: Path) -> Mapping[str, str]:
    folder = root / "lib/modules" / _release(root)
    found: dict[str, str] = {}
    for file, answer in (("modules.dep", "module"), ("modules.builtin", "yes")):
        paths = (line.partition(":")[0] for line in _read(folder / file).splitlines())
        found |= {Path(path).name.partition(".ko")[0].replace("-", "_"): answer for path in paths}
    return found


def _release(root: Path) -> str:
    return _read(root / "proc/sys/kernel/osrelease") or "unknown"


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
