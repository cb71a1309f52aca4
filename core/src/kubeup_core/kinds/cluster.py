"""Cluster: what belongs together and what its pools inherit. Without `kubernetes` it is a plain, self-healing set of machines."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from itertools import combinations
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from ..objects import Model, Resource, Status
from ..statuses import Cause
from .durations import Duration
from .kind import AGE, Column, Kind, ready
from .template import MachineTemplate

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*")
_NUMBERS = re.compile(r"[0-9.]+")


def _version_text(value: Any) -> Any:
    if isinstance(value, float | int) and not isinstance(value, bool):
        raise ValueError(f'{value} is a number, and YAML turns 1.30 into 1.3: write a full version in the form "v1.34.1"')
    return value


def _cidr(value: str) -> str:
    try:
        if "/" not in value:
            raise ValueError("the length of the prefix is missing")
        ipaddress.ip_network(value)
    except ValueError as error:
        raise ValueError(f"{value!r} is not a network in CIDR form, such as 10.244.0.0/16: {error}") from None
    return value


Version = Annotated[str, BeforeValidator(_version_text), Field(pattern=r"^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$")]
Cidr = Annotated[str, AfterValidator(_cidr)]
Overrides = Annotated[
    dict[str, dict[str, Any]],
    Field(
        description="What only one type of provider knows, by type; ignored where another type is in use",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    ),
]


class Bundle(Model):
    path: str = Field(description="File of an offline bundle where kubeup runs, or a URL that machines fetch it from")
    sha256: str = Field(pattern="^[0-9a-fA-F]{64}$", description="Hash that the bundle must have")


class Kubernetes(Model):
    version: Version = Field(description="vX.Y.Z")
    bootstrapper: str = Field(default="kubeadm", description="The plugin that turns machines into a cluster")
    source: Literal["auto", "packages", "bundle", "preinstalled"] = Field(
        default="auto", description="Where artifacts come from"
    )
    repository: str | None = Field(default=None, description="URL of a package repository to use instead of the community's")
    bundle: Bundle | None = Field(default=None, description="An offline bundle")
    config: dict[str, Any] = Field(
        default_factory=dict,
        description="The bootstrapper's own settings",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )


class ClusterNetwork(Model):
    pod_cidr: Cidr = Field(default="10.244.0.0/16", alias="podCIDR", description="Addresses of pods. Immutable")
    service_cidr: Cidr = Field(default="10.96.0.0/12", alias="serviceCIDR", description="Addresses of services. Immutable")
    machine_cidr: Literal["auto"] | Cidr = Field(
        default="auto", alias="machineCIDR", description="Addresses of machines. Immutable"
    )
    cni: Literal["auto", "bridge", "flannel", "none"] = Field(default="auto", description="Pod network")
    routed: bool = Field(default=False, description="Your word that networks of different providers reach each other")


class Endpoint(Model):
    host: str = Field(default="auto", description="Name or address of the API endpoint")
    port: int = Field(default=6443, ge=1, le=65535, description="Port of the API endpoint")
    load_balancer: str = Field(default="auto", description="auto, none or a Provider; auto is none for one replica")
    exposure: Literal["public", "internal"] = Field(default="public", description="Who can reach it")
    allow_from: list[Cidr] = Field(
        default_factory=lambda: ["0.0.0.0/0"],
        description="Networks that may reach the balancer before the API, and control planes past it. Without a balancer, all",
    )


class LoadBalancers(Model):
    provider: str = Field(default="auto", description="Provider of load balancers; auto is the cluster's own where it has any")


class ControlPlane(Model):
    replicas: Literal[1, 3, 5] = Field(default=1, description="Control-plane machines")
    machine: MachineTemplate = Field(default_factory=MachineTemplate, description="What they are; over spec.machine")
    schedulable: Literal["auto", "true", "false"] = Field(
        default="auto", description="Run workloads there; auto: without pools"
    )
    spread: Literal["zone", "none"] = Field(default="zone", description="Spread over zones")
    overrides: Overrides = Field(default_factory=dict)


class Manifest(Model):
    """One of url and path."""

    url: str | None = Field(default=None, description="Where it is fetched from; http:// needs sha256")
    path: str | None = Field(default=None, description="An absolute path on kubeup's own machine")
    sha256: str | None = Field(default=None, pattern="^[0-9a-fA-F]{64}$", description="Hash that it must have")


class OnDelete(Model):
    workload_load_balancers: Literal["Delete", "Retain"] = "Delete"
    workload_volumes: Literal["Delete", "Retain"] = "Delete"


class StoreSecret(Model):
    namespace: str | None = Field(default=None, description="Namespace of the Secret; the cluster's own when absent")
    name: str = Field(description="Name of the Secret")


class EtcdSnapshots(Model):
    to: str | None = Field(
        default=None,
        description="URL of the place where they are kept, file:///DIRECTORY or s3://BUCKET/PREFIX; absent: none are taken",
    )
    every: Duration = Field(default="6h", description="Time between two")
    keep: int = Field(default=28, ge=1, description="The newest that are kept; older ones of this cluster are deleted")
    secret_ref: StoreSecret | None = Field(default=None, description="Secret whose keys are the credentials of that place")


class Etcd(Model):
    snapshots: EtcdSnapshots = Field(default_factory=EtcdSnapshots, description="Snapshots of etcd")


class ClusterSpec(Model):
    provider: str = Field(description="Name of a Provider: the one line you swap. Immutable while control-plane machines exist")
    kubernetes: Kubernetes | None = Field(default=None, description="Absent: a plain, self-healing set of machines")
    network: ClusterNetwork = Field(default_factory=ClusterNetwork, description="Addresses and pod network")
    endpoint: Endpoint = Field(default_factory=Endpoint, description="Where the cluster's API answers")
    load_balancers: LoadBalancers = Field(default_factory=LoadBalancers, description="Who supplies load balancers")
    control_plane: ControlPlane = Field(
        default_factory=ControlPlane, description="Control-plane machines; with kubernetes only"
    )
    machine: MachineTemplate = Field(default_factory=MachineTemplate, description="Default for all pools")
    manifests: list[Manifest] = Field(default_factory=list, description="Addons as data")
    etcd: Etcd = Field(default_factory=Etcd, description="The cluster's own store; with kubernetes only")
    on_delete: OnDelete = Field(default_factory=OnDelete, description="What happens to things the workload made")
    overrides: Overrides = Field(default_factory=dict)
    paused: bool = Field(default=False, description="Stops every change to this cluster and what belongs to it")
    protect: bool = Field(default=False, description="The API refuses to delete it")


class NetworkRecord(Model):
    """One network per (cluster, Provider). `data` is opaque and goes to every launch and balancer."""

    provider: str
    id: str
    state: str
    fabric: str = ""
    flat: bool = False
    data: dict[str, str] = Field(default_factory=dict)


class EndpointStatus(Model):
    host: str = ""
    port: int = 6443


class Resolved(Model):
    cni: str | None = None
    source: str | None = None
    load_balancer: str | None = None
    machine_cidr: str | None = Field(default=None, alias="machineCIDR")


class Counts(Model):
    total: int = 0
    ready: int = 0


class Certificate(Model):
    name: str
    begins: str
    ends: str
    renewed: bool = Field(default=True, description="By kubeup; false: whoever uses it renews it by itself, as a kubelet does")


class MachineCertificates(Model):
    machine: str
    uid: str
    read: str = Field(default="", description="When they were read there; empty: they are to be read")
    version: str = Field(default="", description="Version that ran there then")
    renewed: str = Field(default="", description="When kubeup renewed them last")
    certificates: list[Certificate] = Field(default_factory=list)


class Renewal(Model):
    at: str = Field(default="", description="When the round that is under way began; empty: none is")
    machine: str = Field(default="", description="uid of the only Machine whose certificates are being renewed now")
    done: list[str] = Field(default_factory=list, description="uids of those that were renewed in this round")
    request: str = Field(default="", description="The last token of kubeup.dev/renew-certificates that was met")


class Restore(Model):
    request: str = Field(description="The value of kubeup.dev/restore-etcd that it is about")
    snapshot: str = ""
    machine: str = Field(
        default="", description="uid of the only Machine that gets the snapshot; empty: it is not known, or over"
    )
    at: str = Field(default="", description="When it began")
    done: str = Field(default="", description="When it was restored")
    refused: str = Field(default="", description="Why it could not be done; nothing was changed then")

    @property
    def under_way(self) -> bool:
        return not self.done and not self.refused


class ControlPlaneStatus(Model):
    replicas: int = 0
    ready: int = 0
    initialized: bool = Field(default=False, description="Its API has answered once: no machine begins a cluster again")
    first: str = Field(default="", description="The Machine that begins the cluster")
    first_uid: str = Field(default="", alias="firstUID")
    turn: str = Field(default="", description="uid of the only Machine that may join the control planes now")
    version: str = Field(
        default="", description="Version that machines are made with: one on the way to spec.kubernetes.version"
    )
    next: str = Field(default="", description="Version that machines are being upgraded to")
    upgrading: str = Field(default="", description="uid of the only control plane that is being upgraded now")
    workers: list[str] = Field(default_factory=list, description="uids of the workers that are being upgraded in place now")
    bundle: Bundle | None = Field(default=None, description="The bundle of `version`, while spec.kubernetes wants another one")
    certificates: list[MachineCertificates] = Field(
        default_factory=list, description="Certificates that control planes made for themselves, as they were read there"
    )
    renewal: Renewal | None = None
    restore: Restore | None = Field(default=None, description="The last etcd snapshot that was restored, or is being restored")


class EtcdSnapshot(Model):
    name: str
    size: int = Field(description="Bytes")
    at: str = Field(description="When it was taken")


class EtcdStatus(Model):
    snapshots: list[EtcdSnapshot] = Field(default_factory=list, description="The newest few, the newest first")
    last: str | None = Field(default=None, description="When the newest was taken")
    next: str | None = Field(default=None, description="When the next is due")
    request: str = Field(default="", description="The last token of kubeup.dev/snapshot-etcd that was met")


class ClusterStatus(Status):
    endpoint: EndpointStatus | None = None
    version: str | None = None
    resolved: Resolved | None = None
    providers: list[str] = Field(
        default_factory=list, description="Providers at which anything of it may be: searched for leftovers before it goes"
    )
    networks: list[NetworkRecord] = Field(default_factory=list)
    machines: Counts = Field(default_factory=Counts)
    control_plane: ControlPlaneStatus | None = None
    etcd: EtcdStatus | None = None
    kubeconfig_secret: str | None = None
    certificates_expire: str | None = None
    unused_overrides: list[str] = Field(default_factory=list)


class Cluster(Resource):
    """Machines, networks, load balancers and volumes that belong together."""

    kind: str = "Cluster"
    spec: ClusterSpec
    status: ClusterStatus = Field(default_factory=ClusterStatus)


def rules(new: Cluster, old: Cluster | None) -> list[Cause]:
    network = new.spec.network
    named = {"podCIDR": network.pod_cidr, "serviceCIDR": network.service_cidr, "machineCIDR": network.machine_cidr}
    networks = {field: ipaddress.ip_network(cidr) for field, cidr in named.items() if cidr != "auto"}
    overlaps = [
        Cause(
            "FieldValueInvalid",
            f'Invalid value: "{networks[b]}": overlaps spec.network.{a} ({networks[a]}); choose networks that share no address',
            f"spec.network.{b}",
        )
        for a, b in combinations(networks, 2)
        if networks[a].version == networks[b].version and networks[a].overlaps(networks[b])
    ]
    manifests = (cause for i, manifest in enumerate(new.spec.manifests) for cause in _manifest(manifest, i))
    return [*overlaps, *_endpoint(new.spec), *manifests, *(_kept(new, old) if old is not None else ())]


def _endpoint(spec: ClusterSpec) -> Iterator[Cause]:
    """The endpoint is in every certificate and kubeconfig: a name or an address, and one that outlives a machine."""
    host = spec.endpoint.host
    if host != "auto" and not _is_host(host):
        message = f'Invalid value: "{host}": write a DNS name or an address, without scheme and port, such as api.example.org'
        yield Cause("FieldValueInvalid", message, "spec.endpoint.host")
    alone = spec.endpoint.load_balancer == "none" and host == "auto"
    if spec.kubernetes is not None and spec.control_plane.replicas > 1 and alone:
        message = (
            f'Invalid value: "none": nothing would stand before {spec.control_plane.replicas} control planes; leave it out, or set '
            "spec.endpoint.host to a name of yours that leads to all of them"
        )
        yield Cause("FieldValueInvalid", message, "spec.endpoint.loadBalancer")


def _kept(new: Cluster, old: Cluster) -> Iterator[Cause]:
    """What a cluster that is there cannot become."""
    before, after = old.spec.kubernetes, new.spec.kubernetes
    if (before is None) != (after is None):
        message = (
            "Forbidden: machines that are there do not become a Kubernetes cluster, nor the other way round; create another "
            "Cluster, and delete this one"
        )
        yield Cause("FieldValueForbidden", message, "spec.kubernetes")
    begun = old.status.control_plane is not None and old.status.control_plane.initialized
    if before is None or after is None or not begun:
        return
    fixed = {
        "spec.kubernetes.bootstrapper": (before.bootstrapper, after.bootstrapper),
        "spec.endpoint.host": (old.spec.endpoint.host, new.spec.endpoint.host),
        "spec.endpoint.port": (old.spec.endpoint.port, new.spec.endpoint.port),
        "spec.endpoint.loadBalancer": (old.spec.endpoint.load_balancer, new.spec.endpoint.load_balancer),
        "spec.network.cni": (old.spec.network.cni, new.spec.network.cni),
    }
    for field, (was, is_) in fixed.items():
        if was != is_:
            message = (
                f'Invalid value: "{is_}": field is immutable once the cluster has begun ({was}): its machines were made with it'
            )
            yield Cause("FieldValueInvalid", message, field)
    own = old.status.resolved is not None and old.status.resolved.load_balancer == "none" and old.spec.endpoint.host == "auto"
    if own and new.spec.control_plane.replicas > old.spec.control_plane.replicas:
        message = (
            f"Invalid value: {new.spec.control_plane.replicas}: the API's endpoint is the address of this cluster's only control "
            "plane, so others would add nothing; create a cluster with spec.endpoint.loadBalancer or spec.endpoint.host, and grow that"
        )
        yield Cause("FieldValueInvalid", message, "spec.controlPlane.replicas")


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return len(text) <= 253 and not _NUMBERS.fullmatch(text) and _NAME.fullmatch(text) is not None
    return True


def _manifest(manifest: Manifest, index: int) -> Iterator[Cause]:
    where, url, path = f"spec.manifests[{index}]", manifest.url, manifest.path
    if (url is None) == (path is None):
        yield Cause("FieldValueInvalid", "Invalid value: name one of url and path: where the manifest is", where)
    if url is not None and not url.startswith(("https://", "http://")):
        yield Cause("FieldValueInvalid", f'Invalid value: "{url}": write a URL that begins with https://', f"{where}.url")
    if url is not None and url.startswith("http://") and manifest.sha256 is None:
        message = f'Invalid value: "{url}": anybody on the way could change it: use https://, or declare its sha256'
        yield Cause("FieldValueInvalid", message, f"{where}.url")
    if path is not None and not path.startswith("/"):
        yield Cause("FieldValueInvalid", f'Invalid value: "{path}": write an absolute path', f"{where}.path")


KIND = Kind(
    "Cluster",
    "clusters",
    Cluster,
    short_names=("cl",),
    categories=("all", "kubeup"),
    columns=(
        Column("Provider", ".spec.provider", description="Where its machines come from"),
        ready(),
        Column("Machines", ".status.machines.total", "integer", description="Machines that exist"),
        Column("Up", ".status.machines.ready", "integer", description="Machines that are Ready"),
        Column("Version", ".status.version", description="Kubernetes version that runs"),
        Column("Message", '.status.conditions[?(@.type=="Ready")].message', priority=1, description="What it is doing"),
        AGE,
    ),
    immutable=("spec.network.podCIDR", "spec.network.serviceCIDR", "spec.network.machineCIDR"),
    rules=rules,
    description="Machines, networks, load balancers and volumes that belong together",
)
