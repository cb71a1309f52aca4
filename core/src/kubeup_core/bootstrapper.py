"""What a bootstrapper is: the contract between the core and a plugin that turns bare machines into a Kubernetes cluster.

A bootstrapper yields *steps*, as data: shell, check and files, for one task on one machine. It never talks to a machine, a cloud or
the store. The core decides whose turn it is, runs the steps (over the machine's Access, or as user-data), keeps the keys, and watches
the workload's API; `kubeup steps` prints the same steps as a runbook. Standard library only; frozen; secrets print masked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from .supplier import Problem

CONTRACT = 1


class Task(Enum):
    """What steps are for. The core asks for one task, for one machine, at a time.

    PREPARE   operating system, container runtime, binaries, images: no secret, on every machine, in parallel
    INIT      the first control plane; `Secrets.pki` is filled
    JOIN      any other machine; control planes one at a time (`pki` filled), workers in parallel (`pki` empty)
    SETTLE    on every control plane after another one has joined: what a version needs then; usually nothing
    UPGRADE   in place, to `ClusterPlan.version`; on control planes one at a time, `NodePlan.first` for the first of them
    RENEW     certificates on a control plane, from the same keys
    SNAPSHOT  on one control plane: leaves a snapshot of etcd at SNAPSHOT_PATH
    RESTORE   on one control plane: a new etcd of one member out of the snapshot at SNAPSHOT_PATH
    LEAVE     cleans a machine that outlives its membership (an inventory's host); survives a half-installed machine
    """

    PREPARE = "prepare"
    INIT = "init"
    JOIN = "join"
    SETTLE = "settle"
    UPGRADE = "upgrade"
    RENEW = "renew"
    SNAPSHOT = "snapshot"
    RESTORE = "restore"
    LEAVE = "leave"


SNAPSHOT_PATH = "/var/lib/kubeup/etcd-snapshot.db"
"""On the machine. The core fetches it from there after SNAPSHOT, and puts it there before RESTORE."""

CLOCK_PATH = "/var/lib/kubeup/clock"
"""On the machine: kubeup's wall clock and the machine's own, in whole seconds, as they were when the core sent the steps that run.
Not there where user-data or a person brought them."""


@dataclass(frozen=True, kw_only=True)
class File:
    """What a step needs on the machine before its script runs. Written atomically, with `mode`, as root.

    content  the bytes themselves; for small files
    source   instead of content: a path on kubeup's own machine, for files of hundreds of megabytes; sent in chunks that are
             resumed, and verified by `sha256` (hex, required with source)
    secret   never in a log, never printed by `kubeup steps`, and never in user-data; but for a worker that nobody reaches, whose JOIN
             comes with nothing secret but its token
    """

    path: str
    content: bytes = field(default=b"", repr=False)
    mode: int = 0o644
    secret: bool = False
    source: str = ""
    sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step: run as root by a POSIX shell with `set -eu`; idempotent, because it is run again when its outcome is not known.

    name     a DNS label, unique within a task's steps: `containerd`; its marker on the machine is this name and the step's digest
    title    for people, as in "installs containerd"
    check    shell; exit code 0 means there is nothing to do. "" = run unless the marker says that it was done
    timeout  seconds, after which it is stopped and counts as failed
    remedy   what a person should do when it fails, in one sentence
    """

    name: str
    title: str
    script: str = field(repr=False)
    check: str = field(default="", repr=False)
    files: tuple[File, ...] = ()
    timeout: float = 600.0
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """An offline bundle: path on kubeup's own machine, or a URL that machines fetch it from; sha256 as hex."""

    path: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A machine of the cluster that runs already. address: internal."""

    name: str
    address: str


@dataclass(frozen=True, kw_only=True)
class Taint:
    key: str
    value: str = ""
    effect: str = "NoSchedule"


@dataclass(frozen=True, kw_only=True)
class ClusterPlan:
    """All that a bootstrapper may know of a cluster.

    version         what this task is to run, "v1.34.1"
    host, port      the API's endpoint; host is "" only for PREPARE before it is known
    names           further names and addresses that the API's certificate must hold
    cni             bridge | flannel | none: decided already
    source          auto | packages | bundle | preinstalled, as declared
    config          spec.kubernetes.config, valid by the registered model
    schedulable     control planes run workloads: no taint
    ca              PEM of the cluster's certificate authority; "" only for PREPARE and for `kubeup steps` before it exists
    control_planes  those that have joined, the first first
    """

    name: str
    version: str
    host: str = ""
    port: int = 6443
    names: tuple[str, ...] = ()
    pod_cidr: str = "10.244.0.0/16"
    service_cidr: str = "10.96.0.0/12"
    cni: str = "bridge"
    source: str = "auto"
    repository: str = ""
    bundle: Archive | None = None
    config: Mapping[str, object] = field(default_factory=dict)
    schedulable: bool = False
    ca: str = ""
    control_planes: tuple[Peer, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NodePlan:
    """The machine that the steps are for. name: of the Machine and of its Node. address: what the kubelet announces.
    first: INIT and the first UPGRADE of a round."""

    name: str
    role: str
    address: str = ""
    provider_id: str = ""
    arch: str = "amd64"
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    first: bool = False


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """pki: name under the PKI folder ("ca.key", "etcd/ca.crt", "sa.pub") -> PEM; only for control planes.
    token: a bootstrap token (`abcdef.0123456789abcdef`) that lives for minutes."""

    pki: Mapping[str, str] = field(default_factory=dict, repr=False)
    token: str = field(default="", repr=False)


NO_SECRETS = Secrets()


@dataclass(frozen=True, kw_only=True)
class Addon:
    """Kubernetes manifests (YAML, any number of documents) that the core applies through the workload's API, in order."""

    name: str
    manifest: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class EtcdMember:
    """As the member list tells. name is "" as long as it was added but never started."""

    id: str
    name: str
    address: str
    learner: bool = False


class Bootstrapper(Protocol):
    """Thread-safe, without state, without I/O except reading the bundle on kubeup's own machine."""

    def check(self, cluster: ClusterPlan) -> Sequence[Problem]:
        """What will never work: a version it does not know, a bundle that is not there or of another version. Empty: go on."""
        ...

    def newest(self) -> str:
        """The newest version it was made for: what `kubeup init` writes when nobody names one."""
        ...

    def hops(self, have: str, want: str) -> Sequence[str]:
        """The versions to go through, `want` last; () when equal. Raises InvalidSpec for a downgrade or a hop that cannot be."""
        ...

    def steps(self, task: Task, cluster: ClusterPlan, node: NodePlan, secrets: Secrets = NO_SECRETS) -> Sequence[Step]:
        """The same for the same input: a step's digest tells whether it was done. Raises InvalidSpec."""
        ...

    def addons(self, cluster: ClusterPlan) -> Sequence[Addon]:
        """What every cluster of this kind gets after INIT: the pod network, where it is manifests."""
        ...

    def certificates(self, cluster: ClusterPlan) -> str:
        """Shell for a control plane that prints the certificates which it made for itself: for each a line `certificate NAME renewed`
        (RENEW makes a new one) or `certificate NAME rotated` (whoever uses it does so by itself), and then its PEM. Never a key.
        Exit code 0 when all were read. "": they are not known, and never renewed.
        """
        ...

    # What follows are scripts for a living control plane; their output is read by the functions beside them.

    def etcd_list(self, cluster: ClusterPlan) -> str:
        """Shell that prints etcd's member list. "": etcd is not the cluster's own: no member is taken out, no snapshot taken."""
        ...

    def etcd_members(self, output: bytes) -> Sequence[EtcdMember]:
        """Reads what etcd_list printed. Raises Unknown when it is not a member list."""
        ...

    def etcd_remove(self, member: EtcdMember) -> str:
        """Shell that removes a member; succeeds when it is gone already."""
        ...
