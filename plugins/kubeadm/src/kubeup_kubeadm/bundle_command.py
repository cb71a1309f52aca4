"""`kubeup bundle create` and `kubeup bundle inspect`: offline archives for `spec.kubernetes.bundle`; `bundle.py` does the work."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
from kubeup_core import InvalidSpec, SupplierError

from . import bundle, versions

ARCHITECTURES = ("amd64", "arm64")


class _Fault(click.ClickException):
    """An error with its remedy, as one line each."""

    def __init__(self, error: SupplierError) -> None:
        super().__init__(error.message + (f"\n  → {error.remedy}" if error.remedy else ""))


@click.group("bundle")
def command() -> None:
    """Offline bundles of Kubernetes: binaries, images, CNI plugins and packages in one archive."""


@command.command()
@click.option("--version", required=True, metavar="vX.Y.Z", help="Of Kubernetes.")
@click.option("--arch", type=click.Choice(ARCHITECTURES), default="amd64", show_default=True, help="Of the machines.")
@click.option(
    "--from", "source", type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="A folder with bin, images, cni, debs and manifests. Without it, all is downloaded from the official places.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="The archive (kubernetes-VERSION-ARCH.tar)."
)
@click.option("--release-url", default="", metavar="URL", help="Instead of https://dl.k8s.io/release.")
@click.option("--cni-url", default="", metavar="URL", help="Instead of the releases of containernetworking/plugins.")
@click.option("--crictl-url", default="", metavar="URL", help="Instead of the releases of kubernetes-sigs/cri-tools.")
@click.option("--image-repository", default="", metavar="NAME", help="Instead of registry.k8s.io; http://NAME for a plain one.")
@click.option(
    "--image", "images", multiple=True, metavar="NAME", help="An image, instead of those that kubeadm lists; repeatable."
)
@click.option(
    "--packages", "suite", default="", metavar="SUITE",
    help="Also the Debian packages (containerd and what else is needed) for machines of this suite, as in bookworm: from the package "
    "sources of this machine.",
)  # fmt: skip
def create(
    version: str,
    arch: str,
    source: Path | None,
    output: Path | None,
    release_url: str,
    cni_url: str,
    crictl_url: str,
    image_repository: str,
    images: tuple[str, ...],
    suite: str,
) -> None:
    """Make a bundle, and print what to write into spec.kubernetes."""
    out = output or Path(f"kubernetes-{version}-{arch}.tar")
    try:
        versions.release(version, "--version")
        if source is not None and suite:
            raise InvalidSpec("--packages is for what is downloaded", remedy=f"put the packages of {suite} into {source}/debs")
        if source is not None:
            digest = bundle.create(source, version, arch, out)
        else:
            import httpx

            from .download import Places, download
            from .packages import download_packages

            given = {"release": release_url, "cni": cni_url, "crictl": crictl_url, "images": image_repository}
            places = Places(**{name: url.rstrip("/") for name, url in given.items() if url})
            with tempfile.TemporaryDirectory(prefix="kubeup-bundle-") as folder, httpx.Client(timeout=60) as client:
                say = lambda line: click.echo(f"  {line}", err=True)  # noqa: E731
                download(Path(folder), version, arch, places, client, images, say)
                if suite:
                    download_packages(Path(folder), suite, arch, say)
                digest = bundle.create(Path(folder), version, arch, out)
    except SupplierError as error:
        raise _Fault(error) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename or out}: {error.strerror or error}") from error
    click.echo(f"{out}: Kubernetes {version} for {arch}, {out.stat().st_size / 2**20:.0f} MiB", err=True)
    click.echo(f"bundle: {{path: {out.resolve()}, sha256: {digest}}}")


@command.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def inspect(file: Path) -> None:
    """Prove every file of a bundle, and list what is in it."""
    try:
        manifest = bundle.inspect(file)
        digest = bundle.file_hash(file)
    except SupplierError as error:
        raise _Fault(error) from error
    click.echo(f"Kubernetes {manifest.kubernetes} for {manifest.arch}\nsha256 {digest}\n")
    for part in manifest.files:
        click.echo(f"{part.size / 2**20:8.1f} MiB  {part.path}")
    if manifest.images:
        click.echo("\nimages:")
    for image in manifest.images:
        click.echo(f"  {image}")
