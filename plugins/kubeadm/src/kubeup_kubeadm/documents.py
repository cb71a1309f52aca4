"""kubeadm's configuration files, as plain data: Init-, Cluster-, Join-, Kubelet- and KubeProxyConfiguration.

Written for the three versions of kubeadm's API that `versions.py` names. What differs from machine to machine (swap, cgroups,
missing capabilities) is not here: the scripts look at it where it is. `tests/` holds the renderings against the public schemas.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from kubeup_core import InvalidSpec
from kubeup_core.bootstrapper import ClusterPlan, NodePlan, Taint

from .config import Arguments, KubeadmConfig
from .versions import Release, release

Document = dict[str, Any]

CRI_SOCKET = "unix:///run/containerd/containerd.sock"
RESOLV_CONF = "/etc/kubeup/resolv.conf"
CONTROL_PLANE = "controlPlane"


def render(documents: list[Document]) -> bytes:
    """YAML, the same for the same input."""
    text: str = yaml.safe_dump_all(documents, sort_keys=False, default_flow_style=False, width=120, explicit_start=True)
    return text.encode()


def init(cluster: ClusterPlan, node: NodePlan, config: KubeadmConfig) -> list[Document]:
    """What `kubeadm init --config` reads."""
    known = release(cluster.version)
    first: Document = {
        "apiVersion": f"kubeadm.k8s.io/{known.api}",
        "kind": "InitConfiguration",
        # kubeadm insists on making a token; this one nobody knows, and it is gone a minute later
        "bootstrapTokens": [{"ttl": "1m0s", "description": "unused"}],
        "localAPIEndpoint": _endpoint(node, config),
        "nodeRegistration": registration(cluster, node, config),
    }
    if known.api != "v1beta2" and (skipped := skipped_phases(known, config)):
        first["skipPhases"] = skipped
    if known.api == "v1beta4":
        first["timeouts"] = {"controlPlaneComponentHealthCheck": f"{config.init_timeout - 20}s"}
    return [first, cluster_configuration(cluster, config), kubelet(known, config), kube_proxy(cluster, config)]


def join(cluster: ClusterPlan, node: NodePlan, config: KubeadmConfig, token: str) -> list[Document]:
    """What `kubeadm join --config` reads. The CA's hash pins the cluster; the token is the only secret in it."""
    known = release(cluster.version)
    timeout = f"{config.join_timeout - 20}s"
    discovery: Document = {
        "bootstrapToken": {
            "apiServerEndpoint": host_port(cluster.host, cluster.port),
            "token": token,
            "caCertHashes": [ca_hash(cluster.ca)],
        }
    }
    document: Document = {
        "apiVersion": f"kubeadm.k8s.io/{known.api}",
        "kind": "JoinConfiguration",
        "discovery": discovery,
        "nodeRegistration": registration(cluster, node, config),
    }
    if known.api == "v1beta4":
        document["timeouts"] = {"discovery": timeout, "tlsBootstrap": timeout, "controlPlaneComponentHealthCheck": timeout}
    else:
        discovery["timeout"] = timeout
    if node.role == CONTROL_PLANE:
        document["controlPlane"] = {"localAPIEndpoint": _endpoint(node, config)}
    if known.api != "v1beta2" and (skipped := join_phases(config)):
        document["skipPhases"] = skipped
    return [document]


def cluster_configuration(cluster: ClusterPlan, config: KubeadmConfig) -> Document:
    """What all control planes have in common; kubeadm keeps it in the cluster."""
    known = release(cluster.version)
    names = dict.fromkeys(("localhost", "127.0.0.1", cluster.host, *cluster.names, *config.cert_sans))
    api_server: Document = {"certSANs": [name for name in names if name]}
    if known.api != "v1beta4":
        api_server["timeoutForControlPlane"] = f"{config.init_timeout - 20}s"
    document: Document = {
        "apiVersion": f"kubeadm.k8s.io/{known.api}",
        "kind": "ClusterConfiguration",
        "clusterName": cluster.name,
        "kubernetesVersion": cluster.version,
        "controlPlaneEndpoint": host_port(cluster.host, cluster.port),
        "imageRepository": config.image_repository,
        "networking": {"podSubnet": cluster.pod_cidr, "serviceSubnet": cluster.service_cidr, "dnsDomain": config.dns_domain},
        "apiServer": api_server,
        "controllerManager": {},
        "scheduler": {},
        "etcd": _etcd(known, config),
    }
    gates = _gates(config.feature_gates)
    for part, given in (
        ("apiServer", config.extra_args.api_server),
        ("controllerManager", config.extra_args.controller_manager),
        ("scheduler", config.extra_args.scheduler),
    ):
        if wanted := arguments(known, {**gates, **given}, f"spec.kubernetes.config.extraArgs.{part}"):
            document[part]["extraArgs"] = wanted
    if dns := _dns(known, config):
        document["dns"] = dns
    if known.api == "v1beta4" and config.proxy_mode == "none":
        document["proxy"] = {"disabled": True}
    if config.kubeadm_feature_gates:
        document["featureGates"] = dict(config.kubeadm_feature_gates)
    return {key: value for key, value in document.items() if value != {}}


def kubelet(known: Release, config: KubeadmConfig) -> Document:
    """The kubelets' common configuration, without what kubeadm fills in (cluster DNS, certificates)."""
    gates = dict(config.feature_gates)
    if known.etcd_admission:
        # with it on, a kubelet that has just started may refuse the static pod of etcd for good
        gates.setdefault("LocalStorageCapacityIsolation", False)
    document: Document = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "systemd",
        "resolvConf": RESOLV_CONF,
        "rotateCertificates": True,
    }
    if known.slow_status:
        document |= {"nodeStatusUpdateFrequency": "2s", "nodeStatusReportFrequency": "5m"}
    if gates:
        document["featureGates"] = gates
    return merged(document, config.kubelet)


def kube_proxy(cluster: ClusterPlan, config: KubeadmConfig) -> Document:
    """kube-proxy's configuration. It leaves the machine's connection tracking alone: each machine sets its own while it is prepared."""
    document: Document = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables" if config.proxy_mode == "none" else config.proxy_mode,
        "clusterCIDR": cluster.pod_cidr,
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
    if config.feature_gates:
        document["featureGates"] = dict(config.feature_gates)
    return merged(document, config.kube_proxy)


def registration(cluster: ClusterPlan, node: NodePlan, config: KubeadmConfig) -> Document:
    """How the machine registers its Node."""
    known = release(cluster.version)
    flags: Arguments = dict(config.extra_args.kubelet)
    if node.address:
        flags.setdefault("node-ip", node.address)
    if node.provider_id:
        flags.setdefault("provider-id", node.provider_id)
    if labels := _kubelet_labels(node.labels):
        flags.setdefault("node-labels", labels)
    document: Document = {"name": node.name, "criSocket": CRI_SOCKET, "taints": _taints(cluster, node, known)}
    if flags:
        document["kubeletExtraArgs"] = arguments(known, flags, "spec.kubernetes.config.extraArgs.kubelet")
    return document


def skipped_phases(known: Release, config: KubeadmConfig) -> list[str]:
    """Phases of `kubeadm init` that are left out."""
    phases = list(config.skip_phases)
    if known.api != "v1beta4":
        phases += [] if config.dns else ["addon/coredns"]
        phases += ["addon/kube-proxy"] if config.proxy_mode == "none" else []
    return list(dict.fromkeys(phases))


def join_phases(config: KubeadmConfig) -> list[str]:
    """Phases of `kubeadm join` that are left out: those given, except the ones that only `init` has."""
    only_init = (
        "addon",
        "certs",
        "kubeconfig",
        "upload-config",
        "upload-certs",
        "mark-control-plane",
        "bootstrap-token",
        "etcd",
    )
    return [phase for phase in config.skip_phases if phase.split("/")[0] not in only_init]


def arguments(known: Release, given: Mapping[str, str | list[str]], path: str) -> Any:
    """Flags as the API has them: a list of name and value since v1beta4, a map before. Raises InvalidSpec where that cannot be."""
    if known.api == "v1beta4":
        return [
            {"name": name, "value": one}
            for name, value in given.items()
            for one in (value if isinstance(value, list) else [value])
        ]
    flat: dict[str, str] = {}
    for name, value in given.items():
        if isinstance(value, list) and len(value) != 1:
            raise InvalidSpec(
                f"--{name} is given {len(value)} times, which kubeadm allows from v1.31 on only",
                path=f"{path}.{name}",
                remedy="give one value, or join them with commas where the flag takes a list",
            )
        flat[name] = value[0] if isinstance(value, list) else value
    return flat


def merged(base: Mapping[str, Any], patch: Mapping[str, Any]) -> Document:
    """`patch` over `base`: maps are merged, null takes a key away, all else replaces."""
    result: Document = dict(base)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def ca_hash(pem: str) -> str:
    """What pins a certificate authority in a join: the hash of its public key. A placeholder for ""."""
    if not pem:
        return "sha256:" + "0" * 64
    key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    return "sha256:" + hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def ca_begins(pem: str) -> int:
    """Since when the certificate authority is valid, in seconds since 1970; 0 without one."""
    return int(x509.load_pem_x509_certificate(pem.encode()).not_valid_before_utc.timestamp()) if pem else 0


def host_port(host: str, port: int) -> str:
    """As it stands in URLs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _endpoint(node: NodePlan, config: KubeadmConfig) -> Document:
    return {"advertiseAddress": node.address, "bindPort": config.bind_port} if node.address else {"bindPort": config.bind_port}


def _etcd(known: Release, config: KubeadmConfig) -> Document:
    if config.etcd is not None:
        outside = config.etcd
        return {
            "external": {
                "endpoints": list(outside.endpoints),
                "caFile": outside.ca_file,
                "certFile": outside.cert_file,
                "keyFile": outside.key_file,
            }
        }
    local: Document = {"dataDir": "/var/lib/etcd"}
    if config.images.etcd:
        local["imageTag"] = config.images.etcd
    if config.extra_args.etcd:
        local["extraArgs"] = arguments(known, config.extra_args.etcd, "spec.kubernetes.config.extraArgs.etcd")
    return {"local": local}


def dns_repository(known: Release, config: KubeadmConfig) -> str:
    """Where CoreDNS is, for a kubeadm that would look a folder too high; "" for the others."""
    deeper = known.dns_repository and config.image_repository == "registry.k8s.io"
    return "registry.k8s.io/coredns" if deeper else ""


def _dns(known: Release, config: KubeadmConfig) -> Document:
    dns: Document = {}
    if deeper := dns_repository(known, config):
        dns["imageRepository"] = deeper
    if config.images.coredns:
        dns["imageTag"] = config.images.coredns
    if known.api == "v1beta4" and not config.dns:
        dns["disabled"] = True
    return dns


def role(cluster: ClusterPlan, node: NodePlan) -> tuple[list[str], list[str]]:
    """What kubeadm marks a control plane with: labels as `name=`, taints as `key=value:Effect`."""
    known = release(cluster.version)
    labels = dict.fromkeys(["node-role.kubernetes.io/control-plane=", f"{known.taint}="])
    taints = [f"{t['key']}={t.get('value', '')}:{t['effect']}" for t in _taints(cluster, node, known)]
    return list(labels), taints


def _taints(cluster: ClusterPlan, node: NodePlan, known: Release) -> list[Document]:
    taints = list(node.taints)
    if node.role == CONTROL_PLANE and not cluster.schedulable and all(taint.key != known.taint for taint in taints):
        taints.insert(0, Taint(key=known.taint))
    return [{"key": taint.key, **({"value": taint.value} if taint.value else {}), "effect": taint.effect} for taint in taints]


def _kubelet_labels(labels: Mapping[str, str]) -> str:
    """Those that a kubelet may give itself; it does not start with others of the reserved domains. The core sets the rest."""
    allowed = ("kubelet.kubernetes.io", "node.kubernetes.io")
    single = ("kubernetes.io/arch", "kubernetes.io/hostname", "kubernetes.io/os", "topology.kubernetes.io/region",
              "topology.kubernetes.io/zone")  # fmt: skip

    def may(name: str) -> bool:
        domain = name.rpartition("/")[0]
        reserved = any(domain == root or domain.endswith(f".{root}") for root in ("kubernetes.io", "k8s.io"))
        return not reserved or name in single or any(domain == d or domain.endswith(f".{d}") for d in allowed)

    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()) if may(name))


def _gates(gates: Mapping[str, bool]) -> dict[str, str | list[str]]:
    if not gates:
        return {}
    return {"feature-gates": ",".join(f"{name}={str(on).lower()}" for name, on in sorted(gates.items()))}
