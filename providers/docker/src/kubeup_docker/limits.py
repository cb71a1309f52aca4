"""What an engine and its kernel allow, found out by looking: never by trying to start something.

`Limits` is read once per build and held by the suppliers; `problems` is what `probe` tells people. Facts come from the
engine's own `info`, and for an engine on this machine from /proc: a container cannot get a capability that the engine's
process lacks, and says so only when it is started.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubeup_core import NoCapacity, Place, Problem, Template

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

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """key: who the engine is. name: its host. withheld: capabilities that its process lacks, empty when that is not known."""

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


def identity(info: Mapping[str, Any]) -> str:
    """Who an engine is. Before Docker 24 its ID is the host's, so the data folder tells two engines on one host apart."""
    return f"{info.get('ID', '')}@{info.get('DockerRootDir', '')}"


def limits(info: Mapping[str, Any], url: str) -> Limits:
    """From the engine's `info`."""
    kernel_arch = str(info.get("Architecture", ""))
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
        withheld=withheld(url),
        warnings=tuple(str(w) for w in info.get("Warnings") or ()),
    )


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
                remedy="name single capabilities in overrides.docker.capabilities",
            )
        )
    found += [
        Problem(path="", message=f"Docker on {limits.name}: {w.removeprefix('WARNING: ')}")
        for w in limits.warnings
        if "bridge-nf" in w
    ]
    return found


def refused(asked: list[str], withheld: frozenset[str]) -> list[str]:
    """Which of the asked capabilities a start would fail for."""
    return sorted(withheld if "ALL" in asked else withheld & set(asked))
