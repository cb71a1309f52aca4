"""What people write for this provider: `Provider.spec.config`, and `overrides.libvirt` in clusters, pools and machines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from kubeup_core import Problem
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

PATH = "spec.overrides.libvirt"

Firmware = Literal["bios", "efi"]


def _uri(value: str) -> str:
    if not re.fullmatch(r"[a-z]+(\+[a-z0-9]+)?://[^\s]*", value):
        raise ValueError("a libvirt URI looks like qemu:///system or qemu+ssh://root@host/system")
    return value


def _range(value: str) -> str:
    if not re.fullmatch(r"[0-9.]+-[0-9.]+", value):
        raise ValueError("a range of addresses looks like 192.168.122.10-192.168.122.99")
    return value


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_camel, populate_by_name=True)


class LibvirtConfig(_Model):
    """One libvirt."""

    uri: Annotated[str, AfterValidator(_uri)] = Field(
        default="qemu:///system", description="Any URI of libvirt: qemu:///session, qemu+ssh://root@host/system, qemu+tls://..."
    )
    pool: str = Field(
        default="default", min_length=1, description="Storage pool for disks and volumes; of files (dir, fs, netfs)"
    )
    image: str | None = Field(
        default=None,
        min_length=1,
        description="Image of machines whose family Provider.spec.images does not name: a path on the host, POOL/VOLUME, "
        "or URL#sha256=DIGEST",
    )
    acceleration: Literal["auto", "kvm", "tcg"] = Field(default="auto", description="auto: KVM where it works, else emulation")
    addresses: Literal["lease", "agent", "arp"] = Field(
        default="lease", description="Who knows the address of a machine that kubeup has not given one"
    )
    firmware: Firmware = Field(default="bios", description="efi needs the host's OVMF")
    cpu_mode: str | None = Field(
        default=None,
        pattern=r"^[a-zA-Z0-9_.-]+$",
        description="host-passthrough, host-model, maximum, or a model's name; null: host-passthrough, under emulation maximum",
    )
    autostart: bool = Field(default=True, description="Machines start with the host")


class LibvirtOverrides(_Model):
    """What only this provider knows. `network` and `addresses` belong to a Cluster, the others to machines."""

    image: str | None = Field(default=None, min_length=1, description="Image to use, whatever the family")
    firmware: Firmware | None = Field(default=None, description="bios or efi")
    cpu_mode: str | None = Field(default=None, pattern=r"^[a-zA-Z0-9_.-]+$", description="As in the config")
    kernel: str | None = Field(
        default=None, pattern=r"^/", description="Kernel to boot instead of a boot loader: a path on the host"
    )
    initrd: str | None = Field(default=None, pattern=r"^/", description="Its initrd")
    cmdline: str | None = Field(default=None, description="Its command line, such as root=/dev/vda console=ttyS0")
    network: str | None = Field(
        default=None, min_length=1, description="An existing libvirt network to use instead of making one"
    )
    addresses: Annotated[str, AfterValidator(_range)] | None = Field(
        default=None, description="Of that network, which kubeup gives to machines; null: they lease theirs"
    )


def overrides(value: Mapping[str, object]) -> LibvirtOverrides | list[Problem]:
    """The overrides, or what is wrong with them."""
    try:
        return LibvirtOverrides.model_validate(dict(value))
    except ValidationError as error:
        return [
            Problem(
                path=".".join([PATH, *(str(part) for part in detail["loc"])]),
                message=detail["msg"],
                remedy=f"known fields: {', '.join(f.alias or n for n, f in LibvirtOverrides.model_fields.items())}",
            )
            for detail in error.errors(include_url=False, include_context=False, include_input=False)
        ]
