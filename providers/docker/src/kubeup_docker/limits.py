"""What an engine and its kernel allow, found out by looking: never by trying to start something.

`Limits` is read once per build and held by the suppliers; `problems` is what `probe` tells people, `facts` what a Provider shows with
its capabilities. They come from the engine's own `info`, and for an engine on this machine from /proc and /sys (kernel.py): a
container cannot get a capability that the engine's process lacks, and says so only when it is started.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubeup_core import NoCapacity, Place, Problem, Template

from . import kernel

NOMINAL = 1.1
"""A "24 GiB" host reports 23.5: sizes match within ten percent."""

# fmt: off
CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT",
    "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE",
    "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
    "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)
# fmt: on
"""By number, as capabilities(7) has them in linux/capability.h."""

NEEDED = frozenset({"SYS_ADMIN", "NET_ADMIN", "MKNOD", "SYS_CHROOT", "SETFCAP"})
"""Without one of these neither systemd nor a kubelet comes up."""

MODULES = "/lib/modules"

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What was found out.

    key       who the engine is
    name      its host
    local     it runs on this machine and its kernel, so `withheld` and `kernel` are known
    withheld  capabilities that its process lacks
    cgroups   version of the kernel's cgroups, "1" or "2"; "" before Docker 20.10
    kernel    see kernel.facts
    modules   folders with kernel modules that machines may see
    """

    key: str
    name: str
    rootless: bool
    arch: str
    cpus: int
    memory: int
    limits_cpu: bool
    limits_memory: bool
    rotates_logs: bool
    withheld: frozenset[str]
    warnings: tuple[str, ...]
    local: bool = False
    version: str = ""
    release: str = ""
    cgroups: str = ""
    kernel: Mapping[str, str] = field(default_factory=dict)
    modules: tuple[str, ...] = ()

    def lacking(self, want: Template) -> NoCapacity | None:
        """Why such a machine cannot be on this host at all. Machines share the host: only a single one is measured."""
        if want.arch and want.arch != self.arch:
            asked, has = want.arch, f"is {self.arch}"
        elif want.cpu > self.cpus:
            asked, has = f"{want.cpu:g} CPUs", f"has {self.cpus}"
        elif want.memory > self.memory * NOMINAL:
            asked, has = f"{want.memory / 2**30:.1f} GiB of memory", f"has {self.memory / 2**30:.1f} GiB"
        else:
            return None
        return NoCapacity(
            f"a machine with {asked} does not fit on {self.name}, which {has}",
            scope=Place(place=self.name),
            person=True,
            remedy="ask for a smaller spec.machine, or use another provider",
        )

    def no_systemd(self) -> Problem | None:
        """Why no image with systemd can run here; None when it can."""
        lacking = sorted(NEEDED & self.withheld)
        if self.rootless:
            message, remedy = f"the engine on {self.name} is rootless", "use an engine that runs as root"
        elif lacking:
            message = f"the engine on {self.name} cannot give {', '.join(lacking)}"
            remedy = "run the engine outside of a sandbox or container, or use another provider"
        elif not self.cgroups:
            message = f"the engine on {self.name} is older than Docker 20.10 and has no private cgroup namespaces"
            remedy = "update the engine"
        else:
            return None
        return Problem(path="", message=f"{message}: systemd does not start in its containers, nor Kubernetes", remedy=remedy)


def identity(info: Mapping[str, Any]) -> str:
    """Who an engine is. Before Docker 24 its ID is the host's, so the data folder tells two engines on one host apart."""
    return f"{info.get('ID', '')}@{info.get('DockerRootDir', '')}"


def limits(info: Mapping[str, Any], url: str) -> Limits:
    """From the engine's `info`."""
    kernel_arch = str(info.get("Architecture", ""))
    # A socket of this machine may lead into a virtual machine (Docker Desktop), which has a kernel of its own
    local = url.startswith("unix://") and info.get("KernelVersion") == os.uname().release
    return Limits(
        key=identity(info),
        name=str(info.get("Name") or "docker"),
        rootless=any("rootless" in str(option) for option in info.get("SecurityOptions") or ()),
        arch=ARCHITECTURES.get(kernel_arch, kernel_arch),
        cpus=int(info.get("NCPU") or 1),
        memory=int(info.get("MemTotal") or 0),
        limits_cpu=bool(info.get("CpuCfsQuota") and info.get("CpuCfsPeriod")),
        limits_memory=bool(info.get("MemoryLimit")),
        rotates_logs=info.get("LoggingDriver") in ("json-file", "local"),
        withheld=withheld(url) if local else frozenset(),
        warnings=tuple(str(w) for w in info.get("Warnings") or ()),
        local=local,
        version=str(info.get("ServerVersion") or ""),
        release=str(info.get("KernelVersion") or ""),
        cgroups=str(info.get("CgroupVersion") or ""),
        kernel=kernel.facts() if local else {},
        modules=(MODULES,) if local and Path(MODULES).is_dir() else (),
    )


def facts(limits: Limits) -> dict[str, str]:
    """For people, in Provider.status.capabilities.facts."""
    known = {
        "engine": f"Docker {limits.version}".strip(),
        "kernel": limits.release,
        "cgroups": limits.cgroups and f"v{limits.cgroups}",
        "rootless": "yes" if limits.rootless else "no",
        "capabilitiesWithheld": ",".join(sorted(limits.withheld)) or ("none" if limits.local else "not known from here"),
        "systemdMachines": "no" if limits.no_systemd() else "yes",
        "diskLimits": "no",
        **limits.kernel,
    }
    return {key: value for key, value in known.items() if value}


def withheld(url: str) -> frozenset[str]:
    """The capabilities outside of the bounding set of the process that listens at a local socket."""
    if not url.startswith("unix://"):
        return frozenset()
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(5)
            probe.connect(url.removeprefix("unix://"))
            credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid = struct.unpack("3i", credentials)[0]
        return missing_from(Path(f"/proc/{pid}/status").read_text())
    except (OSError, AttributeError):  # no /proc, or no SO_PEERCRED: not Linux
        return frozenset()


def missing_from(status: str) -> frozenset[str]:
    """From the text of /proc/PID/status."""
    for line in status.splitlines():
        if line.startswith("CapBnd:"):
            held = int(line.split()[1], 16)
            return frozenset(name for bit, name in enumerate(CAPABILITIES) if not held >> bit & 1)
    return frozenset()


def problems(limits: Limits) -> list[Problem]:
    """What a person may want to put right on the engine's host."""
    found = [
        Problem(
            path="",
            message=f"the engine on {limits.name} cannot limit {what} of a machine: machines get what the host has",
            remedy=f"give its kernel the cgroup controller for {controller}",
        )
        for what, controller, can in (("the CPU", "cpu", limits.limits_cpu), ("the memory", "memory", limits.limits_memory))
        if not can
    ]
    if limits.withheld:
        found.append(
            Problem(
                path="",
                message=f"the engine on {limits.name} cannot give {', '.join(sorted(limits.withheld))}: "
                "privileged containers and the capability ALL fail there",
                remedy="name single capabilities in overrides.docker.capabilities; machines with systemd do without these already",
            )
        )
    if never := limits.no_systemd():
        found.append(never)
    found += _kernel_problems(limits)
    found += [
        Problem(path="", message=f"Docker on {limits.name}: {w.removeprefix('WARNING: ')}")
        for w in limits.warnings
        if "bridge-nf" in w
    ]
    return found


def _kernel_problems(limits: Limits) -> list[Problem]:
    found = []
    lows = (
        ("inotifyInstances", "max_user_instances", kernel.INOTIFY_INSTANCES),
        ("inotifyWatches", "max_user_watches", kernel.INOTIFY_WATCHES),
    )
    for key, setting, enough in lows:
        if (value := limits.kernel.get(key, "")).isdigit() and int(value) < enough:
            found.append(
                Problem(
                    path="",
                    message=f"fs.inotify.{setting} is {value} on {limits.name}, for all machines together: beyond a handful of "
                    "machines, kubelets and pods fail with 'too many open files'",
                    remedy=f"on the engine's host: sysctl -w fs.inotify.{setting}={enough * 16}",
                )
            )
    for module, without in (("br_netfilter", "Kubernetes Services do not work"), ("overlay", "containerd has no snapshotter")):
        if limits.kernel.get(module) == "no":
            message = f"the kernel of {limits.name} has no {module}: {without} in machines there"
            found.append(Problem(path="", message=message, remedy="use a kernel that has it"))
    return found


def refused(asked: list[str], withheld: frozenset[str]) -> list[str]:
    """Which of the asked capabilities a start would fail for."""
    return sorted(withheld if "ALL" in asked else withheld & set(asked))
