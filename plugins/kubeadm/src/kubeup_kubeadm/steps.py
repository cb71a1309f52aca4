"""The steps of each task, in the order in which they run. The shell is in `scripts/`, kubeadm's configuration in `documents.py`.

Called by `bootstrapper.py`. Every step may be run again. The keys and the token come into /run, which is memory, and are taken away
by the step that used them.
"""

from __future__ import annotations

from kubeup_core.bootstrapper import CLOCK_PATH, SNAPSHOT_PATH, ClusterPlan, File, NodePlan, Secrets, Step

from . import documents, sources
from .config import KubeadmConfig
from .documents import CONTROL_PLANE
from .shell import script
from .shell import source as script_file
from .versions import release

CONFIG = "/run/kubeup/kubeadm.yaml"
IMAGES_CONFIG = "/etc/kubeup/images.yaml"
LOOK = "read what the step printed; `journalctl -u kubelet` on the machine tells more"


def prepare(cluster: ClusterPlan, node: NodePlan, config: KubeadmConfig) -> list[Step]:
    return [
        Step(
            name="machine",
            title="looks at the machine",
            script=script("machine", ARCH=node.arch, DISK_MIB=config.minimum_disk_mib, EVICTION=_eviction(config)),
            timeout=60,
            remedy="choose another image or a larger disk; spec.machine of the Cluster or the NodePool has both",
        ),
        *sources.unpack(cluster, node),
        Step(
            name="system",
            title="sets modules, sysctls, swap and the resolver",
            script=script("debs", "system", CNI=cluster.cni, PROXY=config.proxy_mode, VERSION=cluster.version),
            timeout=600,
            remedy="use an image with the tools and kernel modules that Kubernetes needs",
        ),
        sources.install(cluster, config),
        _containerd(cluster, config),
        _unit(cluster, config, "kubelet"),
        _images(cluster, node, config),
    ]


def init(cluster: ClusterPlan, node: NodePlan, config: KubeadmConfig, secrets: Secrets) -> list[Step]:
    known = release(cluster.version)
    skipped = documents.skipped_phases(known, config) if known.api == "v1beta2" else []
    return [
        Step(
            name="clock",
            title="compares the clock with the certificates",
            script=script("clock", CLOCK=CLOCK_PATH, NOT_BEFORE=documents.ca_begins(cluster.ca)),
            timeout=30,
            remedy="set the machine's clock, best by systemd-timesyncd or chrony in the image",
        ),
        *_network(cluster, node),
        Step(
            name="init",
            title="begins the control plane",
            script=script(
                "facts", "clean", "keys", "explain", "init", **_membership(cluster, config), **_facts(cluster, config),
                SKIP=",".join(skipped), LIMIT=config.init_timeout,
            ),
            check=script("member_check", **_membership(cluster, config)),
            files=(*_keys(secrets), _config_file(documents.init(cluster, node, config))),
            timeout=config.init_timeout + 120,
            remedy=LOOK,
        ),
        _ready(config),
    ]  # fmt: skip


def join(cluster: ClusterPlan, node: NodePlan, config: KubeadmConfig, secrets: Secrets) -> list[Step]:
    known = release(cluster.version)
    skipped = documents.join_phases(config) if known.api == "v1beta2" else []
    steps = [
        Step(
            name="reach",
            title="looks for the API, and compares clocks",
            script=script("reach", ENDPOINT=documents.host_port(cluster.host, cluster.port)),
            check=script("member_check", **_membership(cluster, config)),
            timeout=60,
            remedy="see that the machine reaches the endpoint, and that its clock is right (systemd-timesyncd or chrony in the image)",
        ),
        *_network(cluster, node),
        Step(
            name="join",
            title="joins the cluster",
            script=script(
                "facts", "clean", "keys", "explain", "join", **_membership(cluster, config), **_facts(cluster, config), NAME=node.name,
                ROLE=node.role, SKIP=",".join(skipped), LIMIT=config.join_timeout, ETCD_ADMISSION=known.etcd_admission,
            ),
            check=script("member_check", **_membership(cluster, config)),
            files=(*_keys(secrets), _config_file(documents.join(cluster, node, config, secrets.token))),
            timeout=config.join_timeout + 120,
            remedy=LOOK,
        ),
    ]  # fmt: skip
    if node.role == CONTROL_PLANE:
        steps.append(_ready(config))
    return steps


def settle(cluster: ClusterPlan, node: NodePlan, config: KubeadmConfig) -> list[Step]:
    planes = [peer.name for peer in cluster.control_planes]
    if not release(cluster.version).deaf_api_server or len(planes) != 2 or planes[0] != node.name or config.etcd is not None:
        return []
    return [
        Step(
            name="settle",
            title="restarts the first API server",
            script=script("explain", "settle", PORT=config.bind_port),
            timeout=240,
            remedy=LOOK,
        )
    ]


def upgrade(cluster: ClusterPlan, node: NodePlan, config: KubeadmConfig) -> list[Step]:
    facts, control = _facts(cluster, config), node.role == CONTROL_PLANE
    suffix = cluster.version.removeprefix("v").replace(".", "-")
    steps = [
        Step(
            name=f"runtime-{suffix}",
            title=f"looks whether containerd goes with {cluster.version}",
            script=script("runtime", "runtime_check", **_runtime(cluster)),
            timeout=30,
            remedy="put containerd 2 on the machine, or an image that has it into spec.machine, and let machines be replaced",
        ),
        *sources.unpack(cluster, node),
        sources.install(cluster, config, ("kubeadm",), f"kubeadm-{suffix}"),
        _containerd(cluster, config, f"containerd-{suffix}"),  # the pause image is another one
        _images(cluster, node, config),
        Step(
            name=f"upgrade-{suffix}",
            title=f"upgrades {'the control plane' if control else 'the Node'} to {cluster.version}",
            script=script(
                "facts", "explain", "upgrade", **facts, FIRST=control and node.first, LIMIT=600,
                DNS_REPOSITORY=documents.dns_repository(release(cluster.version), config),
            ),
            timeout=660,
            remedy=LOOK,
        ),
    ]  # fmt: skip
    steps += [
        sources.install(cluster, config, ("kubelet", "kubectl"), f"kubelet-{suffix}"),
        _unit(cluster, config, f"unit-{suffix}"),
        Step(
            name=f"restart-{suffix}",
            title=f"restarts the kubelet as {cluster.version}",
            script=script("explain", "kubelet_restart", VERSION=cluster.version),
            timeout=150,
            remedy=LOOK,
        ),
    ]
    return steps + ([_ready(config, f"ready-{suffix}")] if control else [])


def certificates(config: KubeadmConfig) -> str:
    """No step: a script whose output the core reads."""
    return script("served", "certificates", PORT=config.bind_port)


def renew(config: KubeadmConfig) -> list[Step]:
    return [
        Step(
            name="renew",
            title="renews the control plane's certificates",
            script=script("explain", "etcd", "served", "renew", PORT=config.bind_port),
            timeout=600,
            remedy=LOOK,
        )
    ]


def snapshot() -> list[Step]:
    return [
        Step(
            name="snapshot",
            title="takes a snapshot of etcd",
            script=script("snapshot", SNAPSHOT=SNAPSHOT_PATH),
            timeout=300,
            remedy="look at etcd's log under /var/log/pods, and at the machine's disk",
        )
    ]


def restore(cluster: ClusterPlan, node: NodePlan, config: KubeadmConfig) -> list[Step]:
    labels, taints = documents.role(cluster, node)
    return [
        Step(
            name="restore",
            title="makes a new etcd out of the snapshot",
            script=script(
                "explain",
                "etcd",
                "restore",
                SNAPSHOT=SNAPSHOT_PATH,
                NAME=node.name,
                ADDRESS=node.address,
                PORT=config.bind_port,
                LABELS=" ".join(labels),
                TAINTS=" ".join(taints),
            ),
            timeout=900,
            remedy="the etcd from before is in /var/lib/etcd.TIME on the machine; try an older snapshot",
        )
    ]


def leave() -> list[Step]:
    return [
        Step(
            name="leave",
            title="takes Kubernetes off the machine",
            script=script("clean", "leave"),
            timeout=300,
            remedy="restart the machine, and try again",
        )
    ]


def _containerd(cluster: ClusterPlan, config: KubeadmConfig, name: str = "containerd") -> Step:
    return Step(
        name=name,
        title="sets containerd up",
        script=script(
            "debs",
            "runtime",
            "containerd",
            PAUSE=config.images.pause,
            REPOSITORY=config.image_repository,
            **_runtime(cluster),
        ),
        files=tuple(_mirror(registry, urls) for registry, urls in sorted(config.registry_mirrors.items())),
        timeout=600,
        remedy="use an image that has containerd, or see that the machine reaches its package repositories",
    )


def _runtime(cluster: ClusterPlan) -> dict[str, str | int | bool]:
    return {"VERSION": cluster.version, "CONTAINERD_1": release(cluster.version).containerd_1}


def _unit(cluster: ClusterPlan, config: KubeadmConfig, name: str) -> Step:
    return Step(
        name=name,
        title="sets the kubelet's service up",
        script=script("facts", "unit", **_facts(cluster, config)),
        timeout=60,
        remedy=LOOK,
    )


def _mirror(registry: str, urls: list[str]) -> File:
    """containerd's hosts.toml: which hosts it asks for a registry's images, the registry itself last."""
    host = "registry-1.docker.io" if registry == "docker.io" else registry
    lines = [f'server = "https://{host}"', ""]
    for url in urls:
        lines += [f'[host."{url}"]', '  capabilities = ["pull", "resolve"]', ""]
    return File(path=f"/etc/containerd/certs.d/{registry}/hosts.toml", content="\n".join(lines).encode())


def _images(cluster: ClusterPlan, node: NodePlan, config: KubeadmConfig) -> Step:
    """Its configuration names no host: it is the same before and after the endpoint is known."""
    wanted = documents.cluster_configuration(cluster, config)
    kept = ("apiVersion", "kind", "kubernetesVersion", "imageRepository", "etcd", "dns")
    document = {key: wanted[key] for key in kept if key in wanted}
    return Step(
        name=f"images-{cluster.version.removeprefix('v').replace('.', '-')}",
        title="gets the images",
        script=script(
            "facts", "images", **_facts(cluster, config), ROLE=node.role, SOURCE=sources.source(cluster), CONFIG=IMAGES_CONFIG,
            ETCD=_etcd(config), PROXY=config.proxy_mode != "none",
        ),
        files=(File(path=IMAGES_CONFIG, content=documents.render([document])),),
        timeout=1200,
        remedy="see that the machine reaches the registry, set registryMirrors or imageRepository, or use a bundle",
    )  # fmt: skip


def _network(cluster: ClusterPlan, node: NodePlan) -> list[Step]:
    """Before the Node is there, so that it does not have to wait for its network; the agent waits for the kubelet's credentials."""
    if cluster.cni != "bridge":
        return []
    return [
        Step(
            name="network",
            title="keeps routes to the other Nodes",
            script=script("routes", NAME=node.name, POD_CIDR=cluster.pod_cidr),
            check=script("routes_check", NAME=node.name, POD_CIDR=cluster.pod_cidr),
            files=(
                File(path="/usr/local/lib/kubeup/kubeup-routes", content=script_file("kubeup-routes").encode(), mode=0o755),
            ),
            timeout=60,
            remedy="`journalctl -u kubeup-routes` on the machine tells more",
        )
    ]


def _ready(config: KubeadmConfig, name: str = "ready") -> Step:
    return Step(
        name=name,
        title="waits for the control plane of this machine",
        script=script("explain", "etcd", "ready", PORT=config.bind_port, ETCD=_etcd(config), LIMIT=120),
        timeout=300,
        remedy=LOOK,
    )


def _facts(cluster: ClusterPlan, config: KubeadmConfig) -> dict[str, str | int | bool]:
    """What `facts.sh` compares the machine with."""
    known = release(cluster.version)
    deeper = "/coredns" if known.dns_repository and config.image_repository == "registry.k8s.io" else ""
    return {
        "VERSION": cluster.version,
        "KERNEL": known.kernel,
        "CGROUP_V1": "accepted" if known.cgroup_v1 else "refused",
        "DNS": config.dns,
        "COREDNS": f"{config.image_repository}{deeper}/coredns:{config.images.coredns}",
        "IGNORE": " ".join(error.name for error in config.ignore_preflight_errors),
    }


def _membership(cluster: ClusterPlan, config: KubeadmConfig) -> dict[str, str | int | bool]:
    """Which cluster a machine belongs to: its authority, which no other cluster has."""
    return {"CA": documents.ca_hash(cluster.ca), "CONFIG": CONFIG}


def _keys(secrets: Secrets) -> tuple[File, ...]:
    return tuple(
        File(path=f"/run/kubeup/pki/{name}", content=pem.encode(), mode=0o600, secret=True)
        for name, pem in sorted(secrets.pki.items())
    )


def _config_file(parts: list[documents.Document]) -> File:
    return File(path=CONFIG, content=documents.render(parts), mode=0o600, secret=True)


def _etcd(config: KubeadmConfig) -> str:
    return "local" if config.etcd is None else "external"


def _eviction(config: KubeadmConfig) -> str:
    return "own" if "evictionHard" in config.kubelet else "default"
