"""Which Kubernetes versions this plugin knows, what differs between their kubeadms, and the way from one to another.

`documents.py` asks for the configuration API and the quirks, `bootstrapper.py` for `hops`. One line of the table per minor version; a
minor that is not here is refused, because its differences are not known. Sources: Kubernetes' changelogs and version skew policy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kubeup_core import InvalidSpec

_VERSION = re.compile(r"v(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True, kw_only=True)
class Release:
    """What is particular to a minor version.

    latest           the newest patch known to exist; a way through this minor goes over it
    api              version of kubeadm's configuration API that is written for it
    taint            key of the control planes' taint and of their role label
    kubelet_lag      how many minors a kubelet may be older than the API server
    crictl           kubeadm refuses to run without crictl
    packages         its packages are at the community's repositories (those of older minors were taken away)
    dns_repository   CoreDNS is a folder deeper than kubeadm thinks when the image repository is named
    etcd_admission   a joining control plane's kubelet may refuse etcd for good (kubernetes#99305)
    deaf_api_server  the first API server's watches die when the second etcd member comes (kubernetes#97294)
    slow_status      its kubelet tells that the Node is Ready up to ten seconds late, unless told to look more often: it looks once
                     when it knows its pod range, and the pod network is configured only then; later kubelets go on until it is Ready
    cgroup_v1        the kubelet starts on cgroup v1 only when told to; kubeadm's preflight refuses it
    containerd_1     containerd 1.x is still supported
    nftables         kube-proxy's mode: "" it has none, "gate" behind the feature gate NFTablesProxyMode, "yes"
    kernel           the newest major version of the kernel that its preflight knows
    """

    minor: int
    latest: int
    api: str
    taint: str = "node-role.kubernetes.io/control-plane"
    kubelet_lag: int = 3
    crictl: bool = False
    packages: bool = True
    dns_repository: bool = False
    etcd_admission: bool = False
    deaf_api_server: bool = False
    slow_status: bool = False
    cgroup_v1: bool = True
    containerd_1: bool = True
    kernel: int = 6

    @property
    def nftables(self) -> str:
        return "" if self.minor < 29 else "gate" if self.minor < 31 else "yes"


_MASTER = "node-role.kubernetes.io/master"
_RELEASES = (
    Release(
        minor=20, latest=15, api="v1beta2", taint=_MASTER, kubelet_lag=2, crictl=True, packages=False, etcd_admission=True,
        deaf_api_server=True, slow_status=True, kernel=5,
    ),
    Release(
        minor=21, latest=14, api="v1beta2", taint=_MASTER, kubelet_lag=2, crictl=True, packages=False, etcd_admission=True,
        dns_repository=True, slow_status=True, kernel=5,
    ),
    Release(
        minor=22, latest=17, api="v1beta3", taint=_MASTER, kubelet_lag=2, crictl=True, packages=False, dns_repository=True,
        slow_status=True, kernel=5,
    ),
    Release(
        minor=23, latest=17, api="v1beta3", taint=_MASTER, kubelet_lag=2, crictl=True, packages=False, dns_repository=True,
        slow_status=True, kernel=5,
    ),
    Release(minor=24, latest=17, api="v1beta3", slow_status=True, kubelet_lag=2, crictl=True, dns_repository=True, kernel=5),
    Release(minor=25, latest=16, api="v1beta3", slow_status=True, kubelet_lag=2, crictl=True, kernel=5),
    Release(minor=26, latest=15, api="v1beta3", slow_status=True, kubelet_lag=2, crictl=True),
    Release(minor=27, latest=16, api="v1beta3", kubelet_lag=2, crictl=True),
    Release(minor=28, latest=15, api="v1beta3", crictl=True),
    Release(minor=29, latest=15, api="v1beta3", crictl=True),
    Release(minor=30, latest=14, api="v1beta3", crictl=True),
    Release(minor=31, latest=14, api="v1beta4"),
    Release(minor=32, latest=10, api="v1beta4"),
    Release(minor=33, latest=6, api="v1beta4"),
    Release(minor=34, latest=2, api="v1beta4"),
    Release(minor=35, latest=0, api="v1beta4", cgroup_v1=False),
    Release(minor=36, latest=4, api="v1beta4", cgroup_v1=False),
    Release(minor=37, latest=1, api="v1beta4", cgroup_v1=False, containerd_1=False),
)  # fmt: skip
RELEASES = {release.minor: release for release in _RELEASES}

NEWEST = "v1.36.4"
"""The last minor that runs on the containerd of every Debian and Ubuntu in use; newer ones need containerd 2."""


def parse(version: str, path: str = "spec.kubernetes.version") -> tuple[int, int, int]:
    """(major, minor, patch). Raises InvalidSpec when it is not of the form v1.34.1."""
    found = _VERSION.fullmatch(version)
    if found is None:
        raise InvalidSpec(f"{version!r} is not a Kubernetes version", path=path, remedy=f"write it as {NEWEST}")
    major, minor, patch = (int(part) for part in found.groups())
    return major, minor, patch


def release(version: str, path: str = "spec.kubernetes.version") -> Release:
    """The table's line for a version. Raises InvalidSpec for one that is not known."""
    major, minor, _ = parse(version, path)
    known = RELEASES.get(minor) if major == 1 else None
    if known is None:
        first, last = min(RELEASES), max(RELEASES)
        raise InvalidSpec(
            f"Kubernetes {version} is not known to kubeup-kubeadm, which knows v1.{first} to v1.{last}",
            path=path,
            remedy=f"choose one of these, {NEWEST} for example, or upgrade kubeup-kubeadm",
        )
    return known


def hops(have: str, want: str) -> tuple[str, ...]:
    """The versions to go through from one to the other, one minor at a time, `want` last; () when equal.

    Each minor in between is passed at its newest known patch. Raises InvalidSpec for a downgrade and for versions that are not known.
    """
    release(have, "status.version")
    release(want)
    start, end = parse(have), parse(want)
    if end < start:
        raise InvalidSpec(
            f"Kubernetes cannot go back from {have} to {want}: etcd's data may not be readable by the older version",
            path="spec.kubernetes.version",
            remedy=f"set it to {have} or newer, or restore a snapshot into a new cluster of {want}",
        )
    if end == start:
        return ()
    between = tuple(f"v1.{minor}.{RELEASES[minor].latest}" for minor in range(start[1] + 1, end[1]))
    return (*between, want)
