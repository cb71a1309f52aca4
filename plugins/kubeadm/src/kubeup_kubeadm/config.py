"""`spec.kubernetes.config` of a Cluster whose bootstrapper is kubeadm. `documents.py` turns it into kubeadm's own configuration.

What kubeup decides itself (addresses, names, certificates, subnets, taints, tokens) is not here: those are fields of the Cluster.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

Arguments = dict[str, str | list[str]]
"""Flag without dashes -> value, or the values of a flag that is given several times (kubeadm 1.31 and newer)."""

Preserved = Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True, frozen=True)


class Images(_Model):
    etcd: str = Field(default="", description="Tag of the etcd image; kubeadm's own choice when empty")
    pause: str = Field(default="", description="Whole name of the pause image; kubeadm's own choice when empty")
    coredns: str = Field(default="", description="Tag of the CoreDNS image; kubeadm's own choice when empty")


_FLAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class ExtraArgs(_Model):
    api_server: Arguments = Field(default_factory=dict, description="kube-apiserver")
    controller_manager: Arguments = Field(default_factory=dict, description="kube-controller-manager")
    scheduler: Arguments = Field(default_factory=dict, description="kube-scheduler")
    etcd: Arguments = Field(default_factory=dict, description="etcd")
    kubelet: Arguments = Field(default_factory=dict, description="The kubelet of every machine")

    @field_validator("*")
    @classmethod
    def _flags(cls, value: Arguments) -> Arguments:
        for name in value:
            if not _FLAG.fullmatch(name):
                raise ValueError(
                    f"{name!r} is not a flag's name; write it without dashes before it, as in {name.strip('- =')!r}"
                )
        return value


class ExternalEtcd(_Model):
    endpoints: list[str] = Field(min_length=1, description="https://host:2379 of each member")
    ca_file: str = Field(
        default="/etc/kubeup/etcd/ca.crt", description="On the control planes; `files` of the machine template can put it there"
    )
    cert_file: str = Field(default="/etc/kubeup/etcd/client.crt", description="On the control planes")
    key_file: str = Field(default="/etc/kubeup/etcd/client.key", description="On the control planes")

    @field_validator("endpoints")
    @classmethod
    def _urls(cls, value: list[str]) -> list[str]:
        for url in value:
            if not re.fullmatch(r"https?://[^/\s]+", url):
                raise ValueError(f"{url!r} is not of the form https://host:2379")
        return value

    @model_validator(mode="after")
    def _safe(self) -> ExternalEtcd:
        """http is for an etcd without certificates, and says so by having none."""
        if (self.ca_file or self.cert_file or self.key_file) and any(url.startswith("http:") for url in self.endpoints):
            raise ValueError(
                "etcd's endpoints are to be https; for one without certificates, set caFile, certFile and keyFile to ''"
            )
        return self


class IgnoredError(_Model):
    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9-]*$", description="As kubeadm prints it in [ERROR Name]; never `all`")
    reason: str = Field(min_length=1, description="Why it is harmless here")

    @field_validator("name")
    @classmethod
    def _named(cls, value: str) -> str:
        if value.lower() == "all":
            raise ValueError("ignoring all errors hides the one that matters; name them one by one")
        return value


class Packages(_Model):
    key_url: str = Field(
        default="", description="Where the repository's armored public key is; REPOSITORY/Release.key when empty"
    )
    key_sha256: str = Field(
        default="", pattern=r"^([0-9a-f]{64})?$", description="The key is refused when its hash is another one"
    )


class KubeadmConfig(_Model):
    """`spec.kubernetes.config`: how kubeadm sets the cluster up, beyond what the Cluster itself says."""

    image_repository: str = Field(
        default="registry.k8s.io", min_length=1, description="Where the images of Kubernetes come from"
    )
    images: Images = Field(default_factory=Images, description="Single images")
    registry_mirrors: dict[str, list[str]] = Field(
        default_factory=dict, description="Registry -> URLs that containerd asks first; http:// ones are plain"
    )
    feature_gates: dict[str, bool] = Field(default_factory=dict, description="Of every component of Kubernetes")
    kubeadm_feature_gates: dict[str, bool] = Field(default_factory=dict, description="Of kubeadm itself")
    extra_args: ExtraArgs = Field(default_factory=ExtraArgs, description="Flags of the components, without dashes before them")
    kubelet: Preserved = Field(default_factory=dict, description="Merged over the KubeletConfiguration that kubeup writes")
    kube_proxy: Preserved = Field(default_factory=dict, description="Merged over the KubeProxyConfiguration that kubeup writes")
    proxy_mode: Literal["iptables", "ipvs", "nftables", "none"] = Field(
        default="iptables", description="kube-proxy's; none leaves kube-proxy out"
    )
    dns: bool = Field(default=True, description="CoreDNS, as kubeadm installs it")
    dns_domain: str = Field(default="cluster.local", min_length=1, description="Domain of Services")
    cert_sans: list[str] = Field(default_factory=list, description="Further names and addresses in the API's certificate")
    bind_port: int = Field(default=6443, ge=1, le=65535, description="Where API servers listen on their machines")
    etcd: ExternalEtcd | None = Field(default=None, description="An etcd that is there already; kubeadm runs its own otherwise")
    skip_phases: list[str] = Field(default_factory=list, description="Phases of `kubeadm init` and `join` that are left out")
    ignore_preflight_errors: list[IgnoredError] = Field(
        default_factory=list, description="Beyond those that kubeup finds harmless"
    )
    packages: Packages = Field(default_factory=Packages, description="The repository's key, when source is packages")
    minimum_disk: str = Field(
        default="4Gi", pattern=r"^\d+(Mi|Gi)$", description="Free space under /var below which nothing is begun"
    )
    init_timeout: int = Field(default=300, ge=30, description="Seconds for kubeadm init")
    join_timeout: int = Field(default=300, ge=30, description="Seconds for kubeadm join")

    @model_validator(mode="after")
    def _consistent(self) -> KubeadmConfig:
        for registry, urls in self.registry_mirrors.items():
            if not re.fullmatch(r"[A-Za-z0-9._-]+(:\d+)?", registry):
                raise ValueError(f"registryMirrors: {registry!r} is not a registry's name")
            for url in urls:
                if not re.fullmatch(r"https?://[^\s\"']+", url):
                    raise ValueError(f"registryMirrors: {url!r} is not a URL")
        for kind, patch in (("kubelet", self.kubelet), ("kubeProxy", self.kube_proxy)):
            if {"kind", "apiVersion"} & set(patch):
                raise ValueError(f"{kind}: kind and apiVersion are kubeup's")
        return self

    @property
    def minimum_disk_mib(self) -> int:
        number, unit = int(self.minimum_disk[:-2]), self.minimum_disk[-2:]
        return number * (1024 if unit == "Gi" else 1)
