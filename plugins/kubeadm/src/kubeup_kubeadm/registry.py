"""Pulls an image from a registry into an OCI archive, as `ctr images import` takes it: the reading half of the distribution API.

Used by `download.py` for bundles. Every blob is proven by its digest. No Docker, no skopeo; anonymous tokens, no logins.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
from kubeup_core import InvalidSpec, NotReady, SupplierError

_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")


@dataclass(frozen=True)
class Image:
    """registry.k8s.io/coredns/coredns:v1.11.1, in parts. scheme: https, or http when the name was written with it."""

    scheme: str
    registry: str
    repository: str
    tag: str

    @classmethod
    def parse(cls, name: str) -> Image:
        """Raises InvalidSpec for what is no image's whole name."""
        found = re.fullmatch(r"(?:(https?)://)?([^/]+)/([a-z0-9._/-]+):([A-Za-z0-9_][A-Za-z0-9._-]*)", name)
        if found is None:
            raise InvalidSpec(f"{name!r} is not the name of an image", remedy="write it as registry/repository:tag")
        return cls(found[1] or "https", found[2], found[3], found[4])

    @property
    def name(self) -> str:
        return f"{self.registry}/{self.repository}:{self.tag}"


def pull(client: httpx.Client, image: Image, arch: str, target: Path, name: str = "") -> None:
    """Writes the image for linux/`arch` into `target`, an archive that names it `name` (its own when empty).

    Raises NotReady when the registry does not answer, InvalidSpec for an image it does not have or that is not what it says.
    """
    session = _Session(client, image)
    kind, digest, content = session.manifest(image.tag)
    if kind in _INDEXES:
        wanted = [m["digest"] for m in json.loads(content)["manifests"] if _fits(m.get("platform", {}), arch)]
        if not wanted:
            raise InvalidSpec(f"{image.name} is not there for linux/{arch}", remedy="choose another image or architecture")
        kind, digest, content = session.manifest(wanted[0])
    manifest = json.loads(content)
    entry = {
        "mediaType": kind,
        "digest": digest,
        "size": len(content),
        "platform": {"architecture": arch, "os": "linux"},
        "annotations": {"io.containerd.image.name": name or image.name, "org.opencontainers.image.ref.name": image.tag},
    }
    part = target.with_name(target.name + ".part")
    try:
        with tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as tar:
            _add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            _add(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())
            _add(tar, f"blobs/sha256/{_hex(digest)}", content)
            for blob in {b["digest"]: b for b in (manifest["config"], *manifest["layers"])}.values():
                with tempfile.TemporaryFile() as file:
                    size = session.blob(blob["digest"], file)
                    file.seek(0)
                    info = tarfile.TarInfo(f"blobs/sha256/{_hex(blob['digest'])}")
                    info.size = size
                    tar.addfile(info, file)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


class _Session:
    """One image's repository, with the token that its registry gives to anybody."""

    def __init__(self, client: httpx.Client, image: Image) -> None:
        self.client, self.image = client, image
        self.url = f"{image.scheme}://{image.registry}/v2/{image.repository}"
        self.headers: dict[str, str] = {}

    def manifest(self, reference: str) -> tuple[str, str, bytes]:
        """(media type, digest, content) of a tag or a digest."""
        accept = ", ".join((*_INDEXES, *_MANIFESTS))
        answer = self._get(f"{self.url}/manifests/{reference}", {"Accept": accept})
        digest = "sha256:" + hashlib.sha256(answer.content).hexdigest()
        if reference.startswith("sha256:") and digest != reference:
            raise _altered(self.image, reference)
        kind = answer.headers.get("content-type", "").partition(";")[0]
        if kind not in (*_INDEXES, *_MANIFESTS):
            raise InvalidSpec(f"{self.image.name}: its registry answers with {kind or 'nothing'}, not with a manifest")
        return kind, digest, answer.content

    def blob(self, digest: str, file: IO[bytes]) -> int:
        """Writes a blob into the file; its size."""
        size, seen = 0, hashlib.sha256()
        try:
            with self.client.stream("GET", f"{self.url}/blobs/{digest}", headers=self.headers, follow_redirects=True) as answer:
                if answer.status_code != 200:
                    raise _refused(self.image, answer)
                for chunk in answer.iter_bytes():
                    seen.update(chunk)
                    size += file.write(chunk)
        except httpx.HTTPError as error:
            raise _unreachable(self.image, error) from error
        if seen.hexdigest() != _hex(digest):
            raise _altered(self.image, digest)
        return size

    def _get(self, url: str, headers: dict[str, str]) -> httpx.Response:
        try:
            answer = self.client.get(url, headers={**headers, **self.headers}, follow_redirects=True)
            if answer.status_code == 401 and not self.headers:
                self.headers = {"Authorization": f"Bearer {self._token(answer)}"}
                answer = self.client.get(url, headers={**headers, **self.headers}, follow_redirects=True)
        except httpx.HTTPError as error:
            raise _unreachable(self.image, error) from error
        if answer.status_code != 200:
            raise _refused(self.image, answer)
        return answer

    def _token(self, answer: httpx.Response) -> str:
        challenge = answer.headers.get("www-authenticate", "")
        asked: dict[str, str] = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        if not challenge.lower().startswith("bearer ") or "realm" not in asked:
            raise _refused(self.image, answer)
        query: dict[str, str] = {key: asked[key] for key in ("service", "scope") if key in asked}
        given: dict[str, Any] = self.client.get(asked["realm"], params=dict(query)).raise_for_status().json()
        return str(given.get("token") or given.get("access_token") or "")


def _fits(platform: dict[str, Any], arch: str) -> bool:
    return platform.get("os") == "linux" and platform.get("architecture") == arch


def _hex(digest: str) -> str:
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise InvalidSpec(f"the registry names a blob {digest!r}, which is not a sha256")
    return digest.partition(":")[2]


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def _unreachable(image: Image, error: Exception) -> SupplierError:
    return NotReady(
        f"the registry {image.registry} does not answer ({error})",
        remedy="try again, or name another one with --image-repository",
    )


def _refused(image: Image, answer: httpx.Response) -> SupplierError:
    if answer.status_code >= 500 or answer.status_code == 429:
        return NotReady(f"the registry {image.registry} answers with {answer.status_code}", remedy="try again later")
    return InvalidSpec(
        f"the registry {image.registry} does not give {image.name} to anybody ({answer.status_code})",
        remedy="see that the image exists; kubeup does not log in to registries",
    )


def _altered(image: Image, digest: str) -> SupplierError:
    return InvalidSpec(f"{image.name}: what the registry sent does not have the digest {digest}", remedy="try again")
