"""The container images of the tests' Kubernetes, each an OCI tar: the control plane, kube-proxy, etcd, pause, and one to test with.

The binaries are `kubernetes.py`'s; etcd, iptables and busybox are Debian's, unpacked and not installed. kube-proxy gets the nft
flavour of iptables, as Debian's machines have: two flavours on one machine do not see each other's rules.
There is no CoreDNS, which Debian does not have: clusters of the tests have no DNS.
"""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
from pathlib import Path

from . import oci
from .build import SUITE, CannotBuild, artifact, mmdebstrap
from .kubernetes import VERSIONS, binaries
from .progress import step

REPOSITORY = "kubeup.local"
ETCD = f"{REPOSITORY}/etcd:3.4.23-0"
PAUSE = f"{REPOSITORY}/pause:3.2"
BUSYBOX = f"{REPOSITORY}/busybox:1.35"

SERVERS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")

PACKAGES = "libc6,iptables,conntrack,ipset,kmod,busybox,etcd-server,etcd-client,containernetworking-plugins"
CNI_FOLDER = "usr/lib/cni"
IPTABLES = [f"{family}tables{what}" for family in ("ip", "ip6") for what in ("", "-save", "-restore")]
APPLETS = (
    "awk cat date echo env false grep head hostname httpd id ip kill ls mkdir nc nslookup ping printf ps rm sed seq sh sleep sort"
    " tail touch tr true uniq wget"
)

UNWANTED = (
    "dev/", "etc/apt/", "etc/resolv.conf", "etc/hostname", "etc/dpkg/", "var/cache/", "var/lib/apt/", "var/lib/dpkg/",
    "usr/share/", "usr/bin/perl", "usr/lib/x86_64-linux-gnu/perl", "usr/lib/x86_64-linux-gnu/gconv/",
)  # fmt: skip
"""Of the Debian root: what the container runtime brings, what belongs to the machine that built it, and ballast."""


def images(version: str = VERSIONS[0]) -> dict[str, Path]:
    """Image name -> its tar, all that a cluster of this version needs. Raises CannotBuild."""
    tars = dict.fromkeys([server_image(name, version) for name in (*SERVERS, "kube-proxy")], server_images(version))
    tars |= dict.fromkeys([ETCD, PAUSE, BUSYBOX], common_images())
    return {name: folder / tar_name(name) for name, folder in tars.items()}


def server_image(name: str, version: str) -> str:
    return f"{REPOSITORY}/{name}:{version}"


def tar_name(image: str) -> str:
    """kubeup.local/etcd:3.4.23-0 -> etcd.tar"""
    return image.rpartition("/")[2].partition(":")[0] + ".tar"


def server_images(version: str) -> Path:
    """The folder with the tars of the images that carry this version."""
    folder, root = binaries(version), debian_root()

    def make(path: Path) -> None:
        path.mkdir()
        with step(f"Images of Kubernetes {version}", about=10):
            for name in (*SERVERS, "kube-proxy"):
                layers = [oci.layer({f"usr/local/bin/{name}": folder / name})]
                if name == "kube-proxy":
                    layers.insert(0, oci.part(root, is_base))
                image = server_image(name, version)
                oci.write_image(path / tar_name(image), image, layers, architecture())

    return artifact(
        f"images-{version}", {"recipe": recipe(), "binaries": folder.parent.name, "root": root.name}, make, suffix=""
    )


def common_images() -> Path:
    """The folder with the tars of etcd, pause and busybox, which are the same for all of VERSIONS."""
    pause, root = binaries() / "pause", debian_root()

    def make(path: Path) -> None:
        path.mkdir()
        with step("Images of etcd, pause and busybox", about=5):
            base = oci.part(root, is_base)
            etcd = oci.part(root, lambda name: name in ("usr/bin/etcd", "usr/bin/etcdctl"))
            links = oci.layer({f"usr/local/bin/{applet}": oci.Link("/bin/busybox") for applet in APPLETS.split()})
            oci.write_image(path / tar_name(ETCD), ETCD, [base, etcd], architecture())
            oci.write_image(path / tar_name(PAUSE), PAUSE, [oci.layer({"pause": pause})], architecture(), entrypoint=["/pause"])
            oci.write_image(path / tar_name(BUSYBOX), BUSYBOX, [base, links], architecture(), command=["sh"])

    return artifact(
        "images-common", {"recipe": recipe(), "pause": pause.parent.parent.name, "root": root.name}, make, suffix=""
    )


def debian_root() -> Path:
    """A small Debian root as a tar, unpacked only: no maintainer script ran, so what alternatives would link is linked here."""
    hook = f"""
        set -e; cd "$1"; mkdir -p bin usr/sbin
        for name in {" ".join(IPTABLES)}; do ln -sf xtables-nft-multi usr/sbin/$name; done
        ln -sf busybox bin/sh
    """
    command = [
        "mmdebstrap", "--quiet", "--variant=extract", "--format=tar", f"--include={PACKAGES}",
        "--aptopt=APT::Install-Recommends false", "--dpkgopt=path-exclude=/usr/share/*", f"--extract-hook={hook}",
    ]  # fmt: skip

    def make(path: Path) -> None:
        with step("Debian root for images", about=25):
            mmdebstrap(command, path)

    return artifact("debian-root", {"command": command, "suite": SUITE}, make)


def cni_plugins() -> Path:
    """The folder with Debian's CNI plugins: bridge, host-local, loopback, portmap and the others."""
    root = debian_root()

    def make(path: Path) -> None:
        path.mkdir()
        with tarfile.open(root) as tar:
            for member in tar.getmembers():
                folder, _, name = member.name.removeprefix("./").rpartition("/")
                if folder == CNI_FOLDER and member.isreg():
                    content = tar.extractfile(member)
                    assert content is not None
                    (path / name).write_bytes(content.read())
                    (path / name).chmod(0o755)

    return artifact("cni", {"root": root.name}, make, suffix="")


def is_base(name: str) -> bool:
    return not f"{name}/".startswith((*UNWANTED, "usr/bin/etcd", CNI_FOLDER))


def recipe() -> str:
    """The digest of the two files that say what is in an image."""
    return hashlib.sha256(Path(__file__).read_bytes() + Path(oci.__file__).read_bytes()).hexdigest()


def architecture() -> str:
    """As Debian, Go and OCI call it: amd64, arm64."""
    done = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True)
    if done.returncode != 0:
        raise CannotBuild("dpkg does not say what architecture this is: images for tests are made on Debian")
    return done.stdout.strip()
