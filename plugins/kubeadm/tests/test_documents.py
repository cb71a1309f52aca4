"""kubeadm's configuration files: all fields are of the public API of their version, and golden renderings for each."""

import re
from pathlib import Path

import pytest
import yaml
from kubeup_core import InvalidSpec
from kubeup_core.bootstrapper import Taint
from kubeup_kubeadm import documents
from kubeup_kubeadm.config import KubeadmConfig
from kubeup_kubeadm.versions import RELEASES

API = yaml.safe_load((Path(__file__).parent / "kubeadm-api.yaml").read_text())
VERSIONS = {"v1beta2": "v1.20.2", "v1beta3": "v1.29.3", "v1beta4": "v1.36.4"}
EVERYTHING = {
    "imageRepository": "mirror.example/k8s",
    "images": {"etcd": "3.5.9-0", "coredns": "v1.11.1", "pause": "mirror.example/k8s/pause:3.9"},
    "featureGates": {"B": False, "A": True},
    "kubeadmFeatureGates": {"RootlessControlPlane": True},
    "extraArgs": {
        "apiServer": {"audit-log-path": "/var/log/audit.log"},
        "controllerManager": {"node-monitor-grace-period": "16s"},
        "scheduler": {"v": "2"},
        "etcd": {"quota-backend-bytes": "8589934592"},
        "kubelet": {"v": "4"},
    },
    "kubelet": {"maxPods": 30},
    "kubeProxy": {"metricsBindAddress": "0.0.0.0:10249"},
    "certSans": ["api.example"],
    "dns": False,
    "dnsDomain": "demo.local",
    "bindPort": 7443,
    "initTimeout": 200,
    "joinTimeout": 100,
    "proxyMode": "none",
    "skipPhases": ["addon/kube-proxy", "preflight"],
}


def faults(value, kind: str, version: str, path: str = "") -> list[str]:
    """Where a document strays from the API's types."""
    if kind.startswith("[]"):
        if not isinstance(value, list):
            return [f"{path} is not a list"]
        return [fault for i, item in enumerate(value) for fault in faults(item, kind[2:], version, f"{path}[{i}]")]
    if kind.startswith("{}"):
        return [fault for key, item in value.items() for fault in faults(item, kind[2:], version, f"{path}.{key}")]
    if kind == "Arguments":
        return faults(value, "[]Arg" if version == "v1beta4" else "{}string", version, path)
    if kind == "duration":
        return [] if isinstance(value, str) and re.fullmatch(r"(\d+h)?(\d+m)?(\d+s)?", value) else [f"{path} is no duration"]
    if kind in ("string", "int", "bool"):
        return [] if type(value).__name__ == {"string": "str"}.get(kind, kind) else [f"{path} is no {kind}"]
    found, fields = [], API[kind]
    for name, item in value.items():
        declared = fields.get(name)
        if declared is None or not _has(declared, version):
            found.append(f"{path}.{name} is not in {kind} of {version}")
        else:
            found += faults(item, declared.split()[0].lstrip("!"), version, f"{path}.{name}")
    return found + [f"{path}.{name} is required" for name, of in fields.items() if of.startswith("!") and name not in value]


def _has(declared: str, version: str) -> bool:
    first, _, last = [*declared.split(), "-"][1].partition("-")
    return (not first or version >= first) and (not last or version <= last)


@pytest.mark.parametrize(
    "config", [{}, EVERYTHING, {"etcd": {"endpoints": ["https://10.1.0.1:2379"]}}], ids=["plain", "all", "etcd"]
)
@pytest.mark.parametrize("role", ["controlPlane", "worker"])
@pytest.mark.parametrize("version", [f"v1.{minor}.{known.latest}" for minor, known in RELEASES.items()])
def test_every_field_is_of_the_public_api_of_its_version(version, role, config, plan, node):
    settings = KubeadmConfig.model_validate(config)
    cluster, machine = plan(version), node(role, provider_id="x://1", labels={"a": "b"}, taints=(Taint(key="k", value="v"),))
    rendered = [
        *documents.init(cluster, machine, settings),
        *documents.join(cluster, machine, settings, "abcdef.0123456789abcdef"),
    ]
    ours = [document for document in rendered if document["apiVersion"].startswith("kubeadm.k8s.io/")]
    assert [document["kind"] for document in ours] == ["InitConfiguration", "ClusterConfiguration", "JoinConfiguration"]
    for document in ours:
        api = document.pop("apiVersion").rpartition("/")[2]
        assert api == RELEASES[int(version.split(".")[1])].api
        kind = document.pop("kind")
        assert faults(document, kind, api, kind) == []


def test_the_schema_itself_tells_what_is_wrong():
    assert faults({"timeouts": {}}, "InitConfiguration", "v1beta3", "X") == [
        "X.timeouts is not in InitConfiguration of v1beta3"
    ]
    assert faults({"extraArgs": {"a": "b"}}, "ControlPlaneComponent", "v1beta4") == [".extraArgs is not a list"]


@pytest.mark.parametrize("api", VERSIONS)
@pytest.mark.parametrize("what", ["init", "join-controlPlane", "join-worker"])
def test_the_rendering_is_the_one_that_was_reviewed(api, what, plan, node):
    cluster, settings = plan(VERSIONS[api], names=("api.demo",)), KubeadmConfig()
    role = what.partition("-")[2] or "controlPlane"
    machine = node(role, provider_id="sim://1", labels={"pool": "a", "node-role.kubernetes.io/x": ""})
    if what == "init":
        rendered = documents.render(documents.init(cluster, machine, settings))
    else:
        rendered = documents.render(documents.join(cluster, machine, settings, "abcdef.0123456789abcdef"))
    assert rendered.decode() == (Path(__file__).parent / "golden" / f"{what}-{api}.yaml").read_text()


@pytest.mark.parametrize("api", VERSIONS)
def test_everything_that_can_be_set_is_where_it_was_reviewed_to_be(api, plan, node):
    cluster, settings = plan(VERSIONS[api], names=("api.demo",)), KubeadmConfig.model_validate(EVERYTHING)
    taints = (Taint(key="dedicated", value="db"),)
    plane, worker = node("controlPlane", provider_id="sim://1"), node(labels={"pool": "a"}, taints=taints)
    rendered = [
        *documents.init(cluster, plane, settings),
        *documents.join(cluster, plane, settings, "abcdef.0123456789abcdef"),
        *documents.join(cluster, worker, settings, "abcdef.0123456789abcdef"),
    ]
    assert documents.render(rendered).decode() == (Path(__file__).parent / "golden" / f"everything-{api}.yaml").read_text()


def test_the_ca_is_pinned_by_the_hash_that_openssl_computes(plan):
    assert documents.ca_hash(plan().ca) == "sha256:7e1cdcf212777e6327a2920ae4ee21c8b9a392f93aec759a80d14b29198c859e"


def test_a_control_plane_is_tainted_unless_it_is_schedulable(plan, node):
    machine, settings = node("controlPlane"), KubeadmConfig()

    def taints(version: str, **given: object) -> list[str]:
        return [t["key"] for t in documents.registration(plan(version, **given), machine, settings)["taints"]]

    assert taints("v1.20.2") == ["node-role.kubernetes.io/master"]
    assert taints("v1.34.1") == ["node-role.kubernetes.io/control-plane"]
    assert taints("v1.34.1", schedulable=True) == []


def test_a_kubelet_gets_no_label_that_it_would_refuse_to_start_with(plan, node):
    labels = {
        "node-role.kubernetes.io/db": "",
        "team": "a",
        "node.kubernetes.io/class": "x",
        "topology.kubernetes.io/zone": "z",
        "a.k8s.io/b": "",
    }
    given = documents.registration(plan("v1.30.1"), node(labels=labels), KubeadmConfig())["kubeletExtraArgs"]["node-labels"]
    assert given == "node.kubernetes.io/class=x,team=a,topology.kubernetes.io/zone=z"


def test_a_repeated_flag_needs_kubeadm_1_31(plan, node):
    settings = KubeadmConfig.model_validate({"extraArgs": {"apiServer": {"tls-sni-cert-key": ["a,b", "c,d"]}}})
    new = documents.cluster_configuration(plan("v1.31.0"), settings)["apiServer"]["extraArgs"]
    assert [arg["value"] for arg in new] == ["a,b", "c,d"]
    with pytest.raises(InvalidSpec, match="tls-sni-cert-key is given 2 times") as error:
        documents.cluster_configuration(plan("v1.30.0"), settings)
    assert error.value.path == "spec.kubernetes.config.extraArgs.apiServer.tls-sni-cert-key"


def test_what_people_write_for_the_kubelet_is_merged_over_what_kubeup_writes():
    known = RELEASES[20]
    patch = {"maxPods": 30, "featureGates": {"X": True}, "rotateCertificates": None}
    document = documents.kubelet(known, KubeadmConfig.model_validate({"kubelet": patch}))
    assert document["maxPods"] == 30
    assert document["featureGates"] == {"LocalStorageCapacityIsolation": False, "X": True}
    assert "rotateCertificates" not in document


def test_dns_is_left_out_by_a_phase_or_by_a_field(plan, node):
    settings, machine = KubeadmConfig(dns=False), node("controlPlane")
    assert documents.skipped_phases(RELEASES[20], settings) == ["addon/coredns"]
    assert documents.init(plan("v1.29.0"), machine, settings)[0]["skipPhases"] == ["addon/coredns"]
    assert documents.init(plan("v1.36.4"), machine, settings)[1]["dns"] == {"disabled": True}
    assert "skipPhases" not in documents.init(plan("v1.36.4"), machine, settings)[0]


def test_coredns_is_a_folder_deeper_where_kubeadm_does_not_know_it(plan):
    settings = KubeadmConfig()
    assert documents.cluster_configuration(plan("v1.23.17"), settings)["dns"] == {"imageRepository": "registry.k8s.io/coredns"}
    assert "dns" not in documents.cluster_configuration(plan("v1.25.0"), settings)


def test_ipv6_endpoints_are_written_as_urls_have_them():
    assert documents.host_port("fd00::1", 6443) == "[fd00::1]:6443"
