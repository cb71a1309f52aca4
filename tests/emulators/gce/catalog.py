"""What an emulated project finds at the place: regions, zones, machine types, images. Names and sizes as Google documents them."""

from __future__ import annotations

from typing import Any

REGIONS = {"us-central1": "abc", "europe-west1": "bcd"}

# name -> (cores, MiB, architecture, shared core, persistent disks)
MACHINE_TYPES = {
    "e2-small": (2, 2048, "X86_64", True, 16),
    "e2-medium": (2, 4096, "X86_64", True, 16),
    "e2-standard-2": (2, 8192, "X86_64", False, 128),
    "e2-standard-4": (4, 16384, "X86_64", False, 128),
    "e2-standard-8": (8, 32768, "X86_64", False, 128),
    "n2-standard-2": (2, 8192, "X86_64", False, 128),
    "n2-standard-4": (4, 16384, "X86_64", False, 128),
    "t2a-standard-2": (2, 8192, "ARM64", False, 128),
    "t2a-standard-4": (4, 16384, "ARM64", False, 128),
}

# project/family -> image
IMAGES = {
    "debian-cloud/debian-12": "debian-12-bookworm-v20261110",
    "debian-cloud/debian-12-arm64": "debian-12-bookworm-arm64-v20261110",
    "ubuntu-os-cloud/ubuntu-2404-lts-amd64": "ubuntu-2404-noble-amd64-v20261103",
    "ubuntu-os-cloud/ubuntu-2204-lts": "ubuntu-2204-jammy-v20261030",
}


def zones(region: str) -> list[str]:
    return [f"{region}-{letter}" for letter in REGIONS[region]]


def machine_type(name: str, zone: str, disks: int | None = None) -> dict[str, Any]:
    """disks: persistent disks per machine, boot disk included, where a test wants few of them."""
    if "-custom-" in name:
        cores, memory = (int(part) for part in name.rsplit("-", 2)[1:])
        architecture, shared, most = "X86_64", False, 128
    else:
        cores, memory, architecture, shared, most = MACHINE_TYPES[name]
    return {
        "kind": "compute#machineType",
        "id": str(abs(hash((name, zone))) % 10**12),
        "name": name,
        "zone": zone,
        "guestCpus": cores,
        "memoryMb": memory,
        "architecture": architecture,
        "isSharedCpu": shared,
        "maximumPersistentDisks": disks or most,
    }
