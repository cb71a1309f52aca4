"""Marks at libvirt: an element in the metadata of domains and networks, and the names of storage volumes, which have no metadata.

Also the ids that follow from a mark (uuid, MAC address, serial number), so that making something twice makes it once. Pure.
"""

from __future__ import annotations

import hashlib
import uuid
from urllib.parse import quote, unquote
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from kubeup_core import Mark

NAMESPACE = "https://kubeup.dev/libvirt/mark"
STARTED = "https://kubeup.dev/libvirt/started"
"""Namespace of the element that a machine gets once it was started."""

FOREIGN = "foreign mark"
"""Code of the NotFound for what is there and carries another mark."""

DISK, SEED, CONSOLE, DATA, KEEP = "disk.qcow2", "seed.iso", "console.log", "data.qcow2", "keep"
"""Parts: what the name of a volume ends in. KEEP is an empty volume beside one that is never swept."""

FIELDS = ("installation", "cluster", "cluster_name", "kind", "maker", "index")


def element(mark: Mark, **more: str) -> str:
    """The element of the mark. more: what else is to be known of a machine or a network."""
    said = {f: str(getattr(mark, f)) for f in FIELDS} | {"keep": "true" if mark.keep else "false"} | more
    return f'<kubeup:mark xmlns:kubeup="{NAMESPACE}" {" ".join(f"{k}={quoteattr(v)}" for k, v in said.items())}/>'


def said(root: ElementTree.Element) -> dict[str, str]:
    """What the element of the mark says in a domain or network; empty when there is none."""
    found = root.find(f"metadata/{{{NAMESPACE}}}mark")
    return dict(found.attrib) if found is not None else {}


def mark_of(said: dict[str, str]) -> Mark | None:
    """None when this is not kubeup's, or was tampered with."""
    try:
        return Mark(
            installation=said["installation"],
            cluster=said["cluster"],
            cluster_name=said["cluster_name"],
            kind=said["kind"],
            maker=said["maker"],
            index=int(said["index"]),
            keep=said.get("keep") == "true",
        )
    except (KeyError, ValueError):
        return None


def volume_name(mark: Mark, part: str) -> str:
    """kubeup.INSTALLATION.CLUSTER.NAME.KIND.MAKER.INDEX.PART"""
    return ".".join(["kubeup", *(quote(str(getattr(mark, f)), safe="").replace(".", "%2E") for f in FIELDS), part])


def of_volume(name: str) -> tuple[Mark, str] | None:
    """The mark and the part in the name of a storage volume; None when it is not kubeup's."""
    parts = name.split(".", len(FIELDS) + 1)
    if len(parts) != len(FIELDS) + 2 or parts[0] != "kubeup":
        return None
    mark = mark_of({field: unquote(value) for field, value in zip(FIELDS, parts[1:-1], strict=True)})
    return (mark, parts[-1]) if mark else None


def uuid_of(mark: Mark) -> str:
    """The id of the domain or network with this mark."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{NAMESPACE}/{_text(mark)}"))


def mac_of(mark: Mark) -> str:
    """In the range of virtual machines that qemu owns."""
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in _digest(mark)[:3])


def serial_of(mark: Mark) -> str:
    """Of a data disk; 20 characters, as many as every bus shows."""
    return _digest(mark).hex()[:20]


def name_of(wanted: str, mark: Mark) -> str:
    """The name at libvirt: what people chose, and 5 characters of the mark, so that a namesake never blocks it."""
    return f"{wanted}-{_digest(mark).hex()[:5]}"


def owner(mark: Mark | None) -> str:
    """For people: whose something is."""
    if mark is None:
        return "somebody else, not kubeup"
    return f"cluster {mark.cluster_name or '-'} of installation {mark.installation}, made by {mark.maker}"


def _text(mark: Mark) -> str:
    return "\0".join((mark.installation, mark.kind, mark.maker, str(mark.index)))


def _digest(mark: Mark) -> bytes:
    return hashlib.sha256(_text(mark).encode()).digest()
