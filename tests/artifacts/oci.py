"""Writes container images as OCI layouts in one tar file: no Docker, no registry, and the same bytes for the same content.

Used by `images.py`, which knows what goes into which image. `ctr images import` reads these tars, `registry.py` serves them.
Format: the OCI image layout and image specifications, version 1.0.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
SEARCH_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Link:
    """A symbolic link in a layer."""

    target: str


def write_image(
    path: Path,
    name: str,
    layers: Sequence[bytes],
    architecture: str,
    entrypoint: Sequence[str] = (),
    command: Sequence[str] = (),
) -> None:
    """Write the image `name` (repository:tag, with its registry) of uncompressed layer tars, the lowest first."""
    blobs: dict[str, bytes] = {}

    def blob(content: bytes, media_type: str) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        blobs[digest] = content
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    config = {
        "architecture": architecture,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {"Env": [SEARCH_PATH]}
        | ({"Entrypoint": list(entrypoint)} if entrypoint else {})
        | ({"Cmd": list(command)} if command else {}),
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(raw).hexdigest()}" for raw in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": blob(encode(config), CONFIG),
        "layers": [blob(gzip.compress(raw, compresslevel=1, mtime=0), LAYER) for raw in layers],
    }
    entry = blob(encode(manifest), MANIFEST) | {
        "platform": {"architecture": architecture, "os": "linux"},
        "annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]},
    }
    index = encode({"schemaVersion": 2, "manifests": [entry]})
    files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": index}
    files |= {f"blobs/{digest.replace(':', '/')}": content for digest, content in blobs.items()}
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as out:
        for file, content in files.items():
            add(out, file, content, mode=0o644)


def layer(files: Mapping[str, Path | bytes | Link]) -> bytes:
    """A layer of these files, all executable, by their path in the image. Folders on the way are made, but for those of
    `/usr`, `/bin` and the like: where a lower layer has a link of that name, a folder would hide what is behind it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as out:
        for name, content in files.items():
            if isinstance(content, Link):
                link = tarfile.TarInfo(name.lstrip("/"))
                link.type, link.linkname = tarfile.SYMTYPE, content.target
                out.addfile(link)
            else:
                add(out, name.lstrip("/"), content if isinstance(content, bytes) else content.read_bytes(), mode=0o755)
    return buffer.getvalue()


def part(root: Path, wanted: Callable[[str], bool]) -> bytes:
    """A layer of those entries of the tar `root` whose path (without a leading ./) is `wanted`; times are dropped."""
    buffer = io.BytesIO()
    with (
        tarfile.open(root) as source,
        tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as out,
    ):
        for member in sorted(source.getmembers(), key=lambda m: m.name):
            name = member.name.removeprefix(".").lstrip("/")
            if not name or not wanted(name):
                continue
            member.name, member.mtime, member.uname, member.gname, member.pax_headers = name, 0, "", "", {}
            if member.islnk():
                member.linkname = member.linkname.removeprefix("./")
            out.addfile(member, source.extractfile(member) if member.isreg() else None)
    return buffer.getvalue()


def add(out: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    out.addfile(info, io.BytesIO(content))


def encode(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True).encode()
