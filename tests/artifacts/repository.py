"""A signed Debian repository with the Kubernetes of the tests, laid out as pkgs.k8s.io lays out its own: one for each minor.

    core:/stable:/v1.20/deb/   InRelease, Release.key, Packages, amd64/*.deb; `deb URL/core:/stable:/v1.20/deb/ /` in a sources list

The packages are named and filled as the community's are (kubelet, kubeadm, kubectl, cri-tools, kubernetes-cni), and hold what
`kubernetes.py` built, Debian's CNI plugins, and in cri-tools the stand-in for crictl. The key that signs is made with the
repository and forgotten; machines get its public half as Release.key.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from .build import CannotBuild, artifact
from .bundle_inputs import CRICTL
from .images import architecture, cni_plugins
from .kubernetes import VERSIONS, binaries, run
from .progress import step
from .system import advice, missing
from .web import EVERY_ADDRESS, Handler, Served, serving

FILES = Path(__file__).parent / "files"
REVISION = "1.1"
TOOLS = ("apt-utils", "gnupg", "dpkg-dev")
SIGNER = "kubeup tests <tests@kubeup.local>"


def folder(version: str) -> str:
    """v1.20.2 -> where the repository of its minor lies, below the server's root."""
    return f"core:/stable:/{version.rpartition('.')[0]}/deb"


def package_version(version: str) -> str:
    """v1.20.2 -> 1.20.2-1.1"""
    return f"{version.removeprefix('v')}-{REVISION}"


def kubernetes_packages() -> Path:
    """The root of the finished repository, with all of VERSIONS. Raises CannotBuild."""
    built = {version: binaries(version) for version in VERSIONS}
    plugins = cni_plugins()

    def make(path: Path) -> None:
        with step("Debian repository of Kubernetes packages", about=25):
            make_repository(path, built, plugins)

    recipe = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (Path(__file__), *sorted(FILES.iterdir()))]
    inputs: dict[str, object] = {
        "recipe": recipe,
        "binaries": [each.parent.name for each in built.values()],
        "cni": plugins.name,
    }
    return artifact("repository", inputs, make, suffix="")


def make_repository(root: Path, built: Mapping[str, Path], plugins: Path) -> None:
    """Package the binaries of each version (version -> folder) and the CNI plugins, and sign. Raises CannotBuild."""
    if lacking := [package for package in missing() if package in TOOLS]:
        raise CannotBuild(advice(lacking))
    folders = set()
    for version, binary in built.items():
        place = root / folder(version)
        folders.add(place)
        for name, depends, files in contents(binary):
            make_package(place, name, package_version(version), depends, files)
    for place in folders:
        cni = {f"opt/cni/bin/{plugin.name}": plugin for plugin in plugins.iterdir()}
        make_package(place, "kubernetes-cni", f"1.1.1-{REVISION}", "", cni)
        make_package(place, "cri-tools", f"1.20.0-{REVISION}", "", {"usr/bin/crictl": CRICTL})
        index(place)
        sign(place)


def contents(binary: Path) -> list[tuple[str, str, dict[str, Path]]]:
    """name, depends and files of the packages that have the version of Kubernetes, where the community's have them."""
    units = "usr/lib/systemd/system"
    kubelet = {"usr/bin/kubelet": binary / "kubelet", f"{units}/kubelet.service": FILES / "kubelet.service"}
    kubeadm = {
        "usr/bin/kubeadm": binary / "kubeadm",
        f"{units}/kubelet.service.d/10-kubeadm.conf": FILES / "10-kubeadm.conf",
    }
    return [
        ("kubectl", "", {"usr/bin/kubectl": binary / "kubectl"}),
        ("kubelet", "iptables, kubernetes-cni, iproute2, mount, util-linux", kubelet),
        ("kubeadm", "kubelet, kubectl, kubernetes-cni, cri-tools", kubeadm),
    ]


def make_package(place: Path, name: str, version: str, depends: str, files: Mapping[str, Path]) -> None:
    """amd64/kubelet_1.20.2-1.1_amd64.deb, with files by their path on the machine. No maintainer scripts."""
    arch = architecture()
    (place / arch).mkdir(parents=True, exist_ok=True)
    control = {
        "Package": name,
        "Version": version,
        "Architecture": arch,
        "Maintainer": SIGNER,
        "Section": "admin",
        "Priority": "optional",
        "Depends": depends,
        "Description": f"{name} as the tests of kubeup need it",
    }
    with tempfile.TemporaryDirectory(dir=place, prefix=".package-") as tree:
        for target, file in files.items():
            inside = Path(tree, target)
            inside.parent.mkdir(parents=True, exist_ok=True)
            inside.write_bytes(file.read_bytes())
            inside.chmod(0o755 if os.access(file, os.X_OK) else 0o644)
        Path(tree, "DEBIAN").mkdir()
        Path(tree, "DEBIAN", "control").write_text("".join(f"{key}: {value}\n" for key, value in control.items() if value))
        Path(tree).chmod(0o755)
        package = place / arch / f"{name}_{version}_{arch}.deb"
        run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, str(package)])


def index(place: Path) -> None:
    """Packages and Release."""
    (place / "Packages").write_text(run(["apt-ftparchive", "packages", architecture()], cwd=place))
    release = [f"-o=APT::FTPArchive::Release::{field}=kubeup tests" for field in ("Origin", "Label")]
    release.append(f"-o=APT::FTPArchive::Release::Architectures={architecture()}")
    written = run(["apt-ftparchive", *release, "release", "."], cwd=place)
    (place / "Release").write_text(written)


def sign(place: Path) -> None:
    """InRelease, Release.gpg and Release.key, by a key that nobody has afterwards."""
    with tempfile.TemporaryDirectory(prefix="kubeup-key-") as home:  # short: gpg's agent makes a socket in it
        gpg = ["gpg", "--homedir", home, "--batch", "--quiet", "--yes", "--pinentry-mode", "loopback", "--passphrase", ""]
        try:
            run([*gpg, "--quick-generate-key", SIGNER, "ed25519", "sign", "never"])
            (place / "Release.key").write_text(run([*gpg, "--armor", "--export"]))
            run([*gpg, "--clearsign", "--output", str(place / "InRelease"), str(place / "Release")])
            run([*gpg, "--armor", "--detach-sign", "--output", str(place / "Release.gpg"), str(place / "Release")])
        finally:
            run(["gpgconf", "--homedir", home, "--kill", "all"])


@contextmanager
def repository(root: Path, address: str = EVERY_ADDRESS, port: int = 0) -> Iterator[Served]:
    """The files below `root` over HTTP for as long as the context lasts."""

    class Answers(Handler):
        def do_GET(self) -> None:  # noqa: N802 (the name is the base class's)
            file = (root / unquote(self.path.partition("?")[0]).lstrip("/")).resolve()
            if file.is_relative_to(root.resolve()) and file.is_file():
                self.answer(200, file.read_bytes(), "application/octet-stream")
            else:
                self.answer(404, b"not here\n", "text/plain")

        do_HEAD = do_GET  # noqa: N815

    with serving(Answers, address, port) as served:
        yield served


def source_line(version: str, url: str, key: Path | str) -> str:
    """The line of a sources list for the minor of this version, with the server's URL and the path of its key."""
    return f"deb [signed-by={key}] {url}/{folder(version)}/ /\n"
