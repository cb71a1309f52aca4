"""The seed of a machine: a small disk with label `cidata`, on which cloud-init finds user-data (its datasource NoCloud). Pure.

The disk is ISO 9660 of the plainest sort, written here: three files in one folder. Linux shows their names in small letters.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping

SECTOR = 2048
NO_DATE = b"0" * 16 + b"\0"


def seed(hostname: str, instance: str, user_data: bytes, mac: str, static: tuple[str, str] | None) -> bytes:
    """static: address with prefix length, and gateway; None leaves it to DHCP. The card is named by its MAC address."""
    card: dict[str, object] = {"match": {"macaddress": mac}}
    if static:
        address, gateway = static
        card |= {"addresses": [address], "gateway4": gateway, "nameservers": {"addresses": [gateway]}}
    else:
        card["dhcp4"] = True
    files = {
        "META-DATA": json.dumps({"instance-id": instance, "local-hostname": hostname}).encode(),
        "USER-DATA": user_data or b"#cloud-config\n{}\n",
        "NETWORK-CONFIG": json.dumps({"version": 2, "ethernets": {"primary": card}}).encode(),
    }
    return iso("cidata", files)


def iso(label: str, files: Mapping[str, bytes]) -> bytes:
    """An image with these files. Names: capitals, digits and dashes."""
    root, first = 20, 21  # sectors: 16 volume descriptor, 17 its end, 18 and 19 path tables, 20 the folder, 21 on the files
    entries, contents, at = [], b"", first
    for name, content in sorted(files.items()):
        entries.append(_record(f"{name}.;1".encode(), at, len(content), folder=False))
        padded = content + b"\0" * (-len(content) % SECTOR)
        contents += padded
        at += len(padded) // SECTOR
    folder = b"".join([_record(b"\0", root, SECTOR, folder=True), _record(b"\1", root, SECTOR, folder=True), *entries])
    table = [struct.pack(f"{order}BBIHB", 1, 0, root, 1, 0) + b"\0" for order in "<>"]
    volume = b"".join(
        [
            b"\1CD001\1\0", b" " * 32, label.encode().ljust(32), b"\0" * 8, _both32(at), b"\0" * 32, _both16(1), _both16(1),
            _both16(SECTOR), _both32(10), struct.pack("<II", 18, 0), struct.pack(">II", 19, 0),
            _record(b"\0", root, SECTOR, folder=True), b" " * 623, NO_DATE * 4, b"\1\0",
        ]
    )  # fmt: skip
    sectors = [volume, b"\xffCD001\1", table[0], table[1], folder]
    return b"\0" * 16 * SECTOR + b"".join(sector.ljust(SECTOR, b"\0") for sector in sectors) + contents


def _record(name: bytes, sector: int, size: int, *, folder: bool) -> bytes:
    body = b"".join(
        [
            b"\0",
            _both32(sector),
            _both32(size),
            b"\0" * 7,
            b"\2" if folder else b"\0",
            b"\0\0",
            _both16(1),
            bytes([len(name)]),
            name,
        ]
    )
    body += b"\0" * ((len(body) + 1) % 2)
    return bytes([len(body) + 1]) + body


def _both16(number: int) -> bytes:
    return struct.pack("<H", number) + struct.pack(">H", number)


def _both32(number: int) -> bytes:
    return struct.pack("<I", number) + struct.pack(">I", number)
