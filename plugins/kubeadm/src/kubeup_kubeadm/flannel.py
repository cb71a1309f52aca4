"""The addon `flannel`: its manifest for a cluster's pod network, VXLAN. Rendered here; it was not run, for want of a registry."""

from __future__ import annotations

import json

import yaml
from kubeup_core.bootstrapper import ClusterPlan

VERSION = "v0.27.4"
PLUGIN = "v1.8.0-flannel1"
_NAMES = {"name": "flannel", "namespace": "kube-flannel"}


def manifest(cluster: ClusterPlan) -> str:
    """YAML documents: namespace, rights, configuration, and the DaemonSet that runs on every Node."""
    labels = {"app": "flannel", "k8s-app": "flannel"}
    cni = {
        "name": "cbr0",
        "cniVersion": "0.3.1",
        "plugins": [
            {"type": "flannel", "delegate": {"hairpinMode": True, "isDefaultGateway": True}},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }
    network = {"Network": cluster.pod_cidr, "EnableNFTables": False, "Backend": {"Type": "vxlan"}}
    documents = [
        {"apiVersion": "v1", "kind": "Namespace",
         "metadata": {"name": "kube-flannel", "labels": {"pod-security.kubernetes.io/enforce": "privileged"}}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _NAMES},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "flannel"},
         "rules": [
             {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
             {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
             {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
         ]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "flannel"},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "flannel"},
         "subjects": [{"kind": "ServiceAccount", **_NAMES}]},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-flannel-cfg", "namespace": "kube-flannel"},
         "data": {"cni-conf.json": json.dumps(cni, indent=1), "net-conf.json": json.dumps(network, indent=1)}},
        {"apiVersion": "apps/v1", "kind": "DaemonSet",
         "metadata": {"name": "kube-flannel-ds", "namespace": "kube-flannel", "labels": labels},
         "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": _pod()}}},
    ]  # fmt: skip
    text: str = yaml.safe_dump_all(documents, sort_keys=False)
    return text


def _pod() -> dict[str, object]:
    plugin, config = (
        {"name": "cni-plugin", "mountPath": "/opt/cni/bin"},
        {"name": "flannel-cfg", "mountPath": "/etc/kube-flannel/"},
    )
    conf = {"name": "cni", "mountPath": "/etc/cni/net.d"}
    image = f"ghcr.io/flannel-io/flannel:{VERSION}"

    def field(name: str, path: str) -> dict[str, object]:
        return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}

    return {
        "hostNetwork": True,
        "priorityClassName": "system-node-critical",
        "serviceAccountName": "flannel",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists", "effect": "NoSchedule"}],
        "initContainers": [
            {"name": "install-cni-plugin", "image": f"ghcr.io/flannel-io/flannel-cni-plugin:{PLUGIN}",
             "command": ["cp", "-f", "/flannel", "/opt/cni/bin/flannel"], "volumeMounts": [plugin]},
            {"name": "install-cni", "image": image, "volumeMounts": [conf, config],
             "command": ["cp", "-f", "/etc/kube-flannel/cni-conf.json", "/etc/cni/net.d/10-flannel.conflist"]},
        ],
        "containers": [
            {"name": "kube-flannel", "image": image, "command": ["/opt/bin/flanneld", "--ip-masq", "--kube-subnet-mgr"],
             "env": [field("POD_NAME", "metadata.name"), field("POD_NAMESPACE", "metadata.namespace"),
                     {"name": "EVENT_QUEUE_DEPTH", "value": "5000"}],
             "resources": {"requests": {"cpu": "100m", "memory": "50Mi"}},
             "securityContext": {"privileged": False, "capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}},
             "volumeMounts": [{"name": "run", "mountPath": "/run/flannel"}, config,
                              {"name": "xtables-lock", "mountPath": "/run/xtables.lock"}]},
        ],
        "volumes": [
            {"name": "run", "hostPath": {"path": "/run/flannel"}},
            {"name": "cni-plugin", "hostPath": {"path": "/opt/cni/bin"}},
            {"name": "cni", "hostPath": {"path": "/etc/cni/net.d"}},
            {"name": "flannel-cfg", "configMap": {"name": "kube-flannel-cfg"}},
            {"name": "xtables-lock", "hostPath": {"path": "/run/xtables.lock", "type": "FileOrCreate"}},
        ],
    }  # fmt: skip
