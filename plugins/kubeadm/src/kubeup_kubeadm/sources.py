"""Where kubeadm, kubelet, kubectl and the images come from: the steps for `packages`, `bundle`, `preinstalled` and `auto`.

`steps.py` puts them between the steps that every machine needs. An upgrade takes kubeadm first and the kubelet last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kubeup_core.bootstrapper import Archive, ClusterPlan, File, NodePlan, Step

from .bundle import check_arch
from .config import KubeadmConfig
from .shell import script
from .versions import release

COMMUNITY = "https://pkgs.k8s.io/core:/stable:/v{minor}/{format}/"
ALL = ("kubeadm", "kubelet", "kubectl")


def source(cluster: ClusterPlan) -> str:
    """packages | bundle | preinstalled | auto (preinstalled where it fits, else packages)."""
    if cluster.source == "auto" and cluster.bundle is not None:
        return "bundle"
    return cluster.source


def repository(cluster: ClusterPlan, form: str) -> str:
    """URL of the repository for "deb" or "rpm". {version}, {minor} and {format} are filled in, in a given one too."""
    major_minor = cluster.version.removeprefix("v").rpartition(".")[0]
    url = cluster.repository or COMMUNITY
    for name, value in (("{version}", cluster.version.removeprefix("v")), ("{minor}", major_minor), ("{format}", form)):
        url = url.replace(name, value)
    return url


def gone(cluster: ClusterPlan) -> bool:
    """The community's repositories no longer have this version, and no other one is named."""
    return not release(cluster.version).packages and not cluster.repository


def key_url(cluster: ClusterPlan, config: KubeadmConfig) -> str:
    return config.packages.key_url or repository(cluster, "deb").split(" ")[0].rstrip("/") + "/Release.key"


def is_url(archive: Archive) -> bool:
    """Machines fetch it themselves; else it is sent to them."""
    return archive.path.startswith(("https://", "http://"))


def unpack(cluster: ClusterPlan, node: NodePlan) -> tuple[Step, ...]:
    """The bundle, on the machine; () without one. Raises InvalidSpec when it is for another architecture."""
    if source(cluster) != "bundle" or cluster.bundle is None:
        return ()
    archive: Archive = cluster.bundle
    path = f"/var/lib/kubeup/bundle-{archive.sha256[:12]}.tar"
    variables = {"VERSION": cluster.version, "SHA256": archive.sha256, "ARCHIVE": path}
    if is_url(archive):
        return (
            Step(
                name="bundle",
                title=f"fetches and unpacks the bundle of {cluster.version}",
                script=script("fetch", "bundle", URL=archive.path, **variables),
                check=script("bundle_check", **variables),
                timeout=1800,
                remedy="see that the machine reaches the URL, that the hash is right, and that its disk has room",
            ),
        )
    check_arch(archive, node.arch)
    return (
        Step(
            name="bundle",
            title=f"unpacks the bundle of {cluster.version}",
            script=script("bundle", **variables),
            check=script("bundle_check", **variables),
            files=(File(path=path, source=archive.path, sha256=archive.sha256, mode=0o600),),
            timeout=900,
            remedy="make the bundle again with `kubeup bundle create`, and look at the machine's disk",
        ),
    )


def install(cluster: ClusterPlan, config: KubeadmConfig, binaries: Sequence[str] = ALL, name: str = "kubernetes") -> Step:
    """These binaries, of the cluster's version."""
    kind = source(cluster)
    title = f"installs {', '.join(binaries)} {cluster.version}"
    if kind == "bundle":
        known = release(cluster.version)
        wanted = (*binaries, "crictl") if known.crictl and "kubeadm" in binaries else tuple(binaries)
        return Step(
            name=name,
            title=title,
            script=script("binaries", VERSION=cluster.version, BINARIES=" ".join(wanted)),
            timeout=120,
            remedy="make a bundle of this version and architecture with `kubeup bundle create`",
        )
    if kind == "preinstalled" or (kind == "auto" and gone(cluster)):
        why, remedy = "", "set spec.kubernetes.source to packages"
        if kind == "auto":
            why = f", and the community's repositories no longer have packages of {cluster.version}"
            remedy = "name a repository that has it in spec.kubernetes.repository, or a bundle"
        return Step(
            name=name,
            title=f"looks for {cluster.version} on the machine",
            script=script("installed", "preinstalled", VERSION=cluster.version, PACKAGES=" ".join(binaries), WHY=why),
            timeout=60,
            remedy=f"use an image that has this version, or {remedy}",
        )
    step = Step(
        name=name,
        title=title,
        script=script(
            "key",
            "packages",
            VERSION=cluster.version,
            PACKAGES=" ".join(binaries),
            DEB=_deb_line(repository(cluster, "deb")),
            RPM=repository(cluster, "rpm"),
            KEY_URL=key_url(cluster, config),
            KEY_SHA256=config.packages.key_sha256,
        ),
        timeout=900,
        remedy="see that the machine reaches the repository, or name a mirror in spec.kubernetes.repository, or use a bundle",
    )
    if kind == "auto":
        return replace(step, check=script("installed", "installed_check", VERSION=cluster.version, PACKAGES=" ".join(binaries)))
    return step


def _deb_line(url: str) -> str:
    """What follows `deb` in a list of apt: a flat repository (URL/ /), unless suite and component are written behind the URL."""
    return url if " " in url.strip() else f"{url.rstrip('/')}/ /"
