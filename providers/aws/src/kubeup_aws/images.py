"""Which image a family is: by a public parameter of SSM, or by id. And what an image says about its root disk. Kept for an hour.

Called for offers (family -> id) and for launches (id -> root disk).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kubeup_core import InvalidSpec, NotFound

from .catalog import Catalog
from .client import Aws

UBUNTU = "/aws/service/canonical/ubuntu/server/{}/stable/current/{}/hvm/ebs-{}/ami-id"
FAMILIES: dict[str, dict[str, str]] = {
    "debian-12": {arch: f"/aws/service/debian/release/12/latest/{arch}" for arch in ("amd64", "arm64")},
    "debian-13": {arch: f"/aws/service/debian/release/13/latest/{arch}" for arch in ("amd64", "arm64")},
    "ubuntu-22.04": {arch: UBUNTU.format("22.04", arch, "gp2") for arch in ("amd64", "arm64")},
    "ubuntu-24.04": {arch: UBUNTU.format("24.04", arch, "gp3") for arch in ("amd64", "arm64")},
    "amazon-linux-2023": {
        "amd64": "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
        "arm64": "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64",
    },
}
"""family -> architecture -> the parameter that its maker keeps up to date."""


class Root(NamedTuple):
    """device: its name in block device mappings. size: GiB of the image's own disk."""

    device: str
    size: int


class Images:
    """Thread-safe."""

    def __init__(self, aws: Aws, catalog: Catalog, own: Mapping[str, str]) -> None:
        self._aws = aws
        self._catalog = catalog
        self._own = dict(own)

    def known(self, family: str) -> bool:
        return family in self._own or family in FAMILIES or family.startswith("ami-")

    def archs(self, family: str) -> frozenset[str]:
        """Architectures that the family is there for; empty where only the image itself knows."""
        return frozenset(FAMILIES[family]) if family in FAMILIES and family not in self._own else frozenset()

    def id(self, family: str, arch: str) -> str:
        """Raises InvalidSpec for a family that nobody knows."""
        wanted = self._own.get(family) or FAMILIES.get(family, {}).get(arch) or family
        if wanted.startswith("ami-"):
            return wanted
        if not wanted.startswith("/"):
            raise unknown(family)
        return self._catalog.kept(("image", wanted), lambda: self._parameter(wanted))

    def root(self, id: str) -> Root:
        """Raises InvalidSpec when there is no such image."""
        return self._catalog.kept(("root", id), lambda: self._root(id))

    def _parameter(self, name: str) -> str:
        try:
            return str(self._aws.read("ssm", "get_parameter", Name=name)["Parameter"]["Value"])
        except NotFound as error:
            raise InvalidSpec(
                f"region {self._aws.region} has no public parameter {name}",
                path="spec.images",
                remedy="put the family and an image's id into Provider.spec.images",
                code=error.code,
            ) from error

    def _root(self, id: str) -> Root:
        try:
            found = self._aws.read("ec2", "describe_images", ImageIds=[id])["Images"]
        except NotFound as error:
            raise InvalidSpec(
                f"there is no image {id}", path="spec.images", remedy="correct the id", code=error.code
            ) from error
        if not found:
            raise InvalidSpec(f"there is no image {id}", path="spec.images", remedy="correct the id")
        device = found[0].get("RootDeviceName") or "/dev/xvda"
        disks = {m.get("DeviceName"): m.get("Ebs", {}) for m in found[0].get("BlockDeviceMappings", ())}
        return Root(device, int(disks.get(device, {}).get("VolumeSize", 0)))


def unknown(family: str) -> InvalidSpec:
    return InvalidSpec(
        f"nobody knows the image family {family}",
        path="spec.machine.image",
        remedy=f"use one of {', '.join(FAMILIES)}, or name an image's id in Provider.spec.images",
    )
