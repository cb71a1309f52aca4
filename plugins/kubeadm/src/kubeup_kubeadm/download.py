"""Fetches the parts of a bundle from the official places: binaries, CNI plugins, crictl and images, each proven by its published hash.

Used by `kubeup bundle create` without --from. Which images a version needs, its own kubeadm says: so this runs on the architecture that
the bundle is for, or the images are named by hand.
"""

from __future__ import annotations

import hashlib
import io
import platform
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from kubeup_core import InvalidSpec, NotReady

from . import versions
from .registry import Image, pull

CNI_PLUGINS = "v1.6.2"
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the parts are. images: a registry and a folder in it, with http:// before it when it is not encrypted."""

    release: str = "https://dl.k8s.io/release"
    cni: str = "https://github.com/containernetworking/plugins/releases/download"
    crictl: str = "https://github.com/kubernetes-sigs/cri-tools/releases/download"
    images: str = "registry.k8s.io"


def download(
    folder: Path,
    version: str,
    arch: str,
    places: Places,
    client: httpx.Client,
    images: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Fills folder/bin, cni and images. What is there already with the right hash is kept, so that it can be run again.

    images  whole names, instead of those that kubeadm lists
    Raises NotReady when a place does not answer, InvalidSpec when something is not there or is not what its hash says.
    """
    known = versions.release(version, "--version")
    for name in ("bin", "cni", "images"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for binary in ("kubeadm", "kubelet", "kubectl"):
        say(binary)
        fetch(client, f"{places.release}/{version}/bin/linux/{arch}/{binary}", folder / "bin" / binary).chmod(0o755)
    say("CNI plugins")
    plugins = f"cni-plugins-linux-{arch}-{CNI_PLUGINS}.tgz"
    unpack(fetch(client, f"{places.cni}/{CNI_PLUGINS}/{plugins}", folder / plugins), folder / "cni")
    if known.crictl:
        say("crictl")
        tools = f"v1.{known.minor}.0"
        name = f"crictl-{tools}-linux-{arch}.tar.gz"
        unpack(fetch(client, f"{places.crictl}/{tools}/{name}", folder / name), folder / "bin")
    for image in images or listed(folder / "bin" / "kubeadm", version, arch, places):
        target = folder / "images" / (Image.parse(image).name.replace("/", "_").replace(":", "_") + ".tar")
        if not target.exists():
            say(image)
            pull(client, Image.parse(image), arch, target)


def fetch(client: httpx.Client, url: str, target: Path) -> Path:
    """Downloads a file and compares it with what is published beside it as URL.sha256."""
    wanted = _get(client, f"{url}.sha256").text.split()[:1]
    if not wanted:
        raise InvalidSpec(f"{url}.sha256 is empty", remedy="choose another place")
    if target.exists() and hashlib.sha256(target.read_bytes()).hexdigest() == wanted[0]:
        return target
    part = target.with_name(target.name + ".part")
    seen = hashlib.sha256()
    try:
        with client.stream("GET", url, follow_redirects=True) as answer, part.open("wb") as file:
            _expect(url, answer)
            for chunk in answer.iter_bytes():
                seen.update(chunk)
                file.write(chunk)
        if seen.hexdigest() != wanted[0]:
            raise InvalidSpec(f"{url} does not have the hash that is published beside it", remedy="try again")
        return part.replace(target)
    except httpx.HTTPError as error:
        raise _unreachable(url, error) from error
    finally:
        part.unlink(missing_ok=True)


def unpack(archive: Path, folder: Path) -> None:
    """The files of a small tar.gz, without their folders; the archive is taken away."""
    with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file is not None and not member.name.endswith((".md", "LICENSE")):
                target = folder / Path(member.name).name
                target.write_bytes(file.read())
                target.chmod(0o755)
    archive.unlink()


def listed(kubeadm: Path, version: str, arch: str, places: Places) -> list[str]:
    """The images that kubeadm wants for a version. Raises InvalidSpec when it cannot be run here."""
    repository = places.images.partition("://")[2] or places.images
    scheme = places.images.removesuffix(repository)
    here = MACHINES.get(platform.machine()) if platform.system() == "Linux" else None
    if here != arch:
        raise InvalidSpec(
            f"kubeadm for linux/{arch} does not run here, so nobody says which images {version} needs",
            remedy="run this on such a machine, or name each image with --image",
        )
    command = [str(kubeadm), "config", "images", "list", "--kubernetes-version", version, "--image-repository", repository]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise InvalidSpec(f"{kubeadm} does not list its images: {done.stderr.strip()[-300:]}")
    return [scheme + line for line in done.stdout.split()]


def _get(client: httpx.Client, url: str) -> httpx.Response:
    try:
        answer = client.get(url, follow_redirects=True)
    except httpx.HTTPError as error:
        raise _unreachable(url, error) from error
    _expect(url, answer)
    return answer


def _expect(url: str, answer: httpx.Response) -> None:
    if answer.status_code >= 500 or answer.status_code == 429:
        raise NotReady(f"{url} answers with {answer.status_code}", remedy="try again later")
    if answer.status_code != 200:
        raise InvalidSpec(
            f"{url} is not there ({answer.status_code})", remedy="see that this version exists for this architecture"
        )


def _unreachable(url: str, error: Exception) -> NotReady:
    return NotReady(f"{url} cannot be reached ({error})", remedy="try again, or collect the parts yourself and use --from")
