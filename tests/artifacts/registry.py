"""A read-only container registry for tests: it serves the OCI tars of `images.py` over HTTP, as a machine would pull them.

Speaks the pulling half of the OCI distribution specification 1.0 (`/v2/`, manifests, blobs, tags). containerd reaches it as a
mirror: a hosts.toml under /etc/containerd/certs.d/kubeup.local/ that names it, or its own address as the image repository.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .web import EVERY_ADDRESS, Handler, Served, serving

REQUEST = re.compile(r"/v2/(?P<name>[a-z0-9._/-]+)/(?P<what>manifests|blobs|tags)/(?P<reference>[A-Za-z0-9._:-]+)(?:\?.*)?")


@dataclass(frozen=True)
class Blob:
    """Where content lies: in the tar `file`, from byte `offset` on."""

    file: Path
    offset: int
    size: int
    media_type: str


class Contents:
    """What a registry has: blobs by digest, and the digests of tags by the image's name without its registry."""

    def __init__(self, tars: Mapping[str, Path]) -> None:
        self.blobs: dict[str, Blob] = {}
        self.tags: dict[str, dict[str, str]] = {}
        for image, file in tars.items():
            name, _, tag = image.partition("/")[2].rpartition(":")
            self.tags.setdefault(name, {})[tag] = self._read(file)

    def _read(self, path: Path) -> str:
        """Take up an OCI tar of one image, and return the digest of its manifest."""
        with tarfile.open(path) as tar:
            members = {member.name: member for member in tar.getmembers()}

            def document(name: str) -> Any:
                file = tar.extractfile(members[name])
                assert file is not None
                return json.load(file)

            [entry] = document("index.json")["manifests"]
            manifest = document(f"blobs/{entry['digest'].replace(':', '/')}")
            for part in (entry, manifest["config"], *manifest["layers"]):
                member = members[f"blobs/{part['digest'].replace(':', '/')}"]
                self.blobs[part["digest"]] = Blob(path, member.offset_data, member.size, part["mediaType"])
        return str(entry["digest"])


@contextmanager
def registry(tars: Mapping[str, Path], address: str = EVERY_ADDRESS, port: int = 0) -> Iterator[Served]:
    """A registry with these images (name with registry and tag -> OCI tar) for as long as the context lasts."""
    contents = Contents(tars)

    class Answers(Handler):
        def do_GET(self) -> None:  # noqa: N802 (the name is the base class's)
            if self.path.rstrip("/") == "/v2":
                self.answer(200, b"{}", "application/json", Docker_Distribution_API_Version="registry/2.0")
                return
            asked = REQUEST.fullmatch(self.path)
            tags = contents.tags.get(asked["name"]) if asked else None
            if asked is None or tags is None:
                self.refuse("NAME_UNKNOWN")
            elif asked["what"] == "tags":
                listing = {"name": asked["name"], "tags": sorted(tags)}
                self.answer(200, json.dumps(listing).encode(), "application/json")
            else:
                digest = (
                    tags.get(asked["reference"], asked["reference"]) if asked["what"] == "manifests" else asked["reference"]
                )
                self.send_blob(digest, "MANIFEST_UNKNOWN" if asked["what"] == "manifests" else "BLOB_UNKNOWN")

        do_HEAD = do_GET  # noqa: N815

        def send_blob(self, digest: str, otherwise: str) -> None:
            blob = contents.blobs.get(digest)
            if blob is None:
                self.refuse(otherwise)
                return
            self.send_response(200)
            self.send_header("Content-Type", blob.media_type)
            self.send_header("Content-Length", str(blob.size))
            self.send_header("Docker-Content-Digest", digest)
            self.end_headers()
            if self.command != "HEAD":
                with blob.file.open("rb") as file:
                    self.connection.sendfile(file, blob.offset, blob.size)

        def refuse(self, code: str) -> None:
            error = {"errors": [{"code": code, "message": f"not in this registry: {self.path}"}]}
            self.answer(404, json.dumps(error).encode(), "application/json")

    with serving(Answers, address, port) as served:
        yield served
