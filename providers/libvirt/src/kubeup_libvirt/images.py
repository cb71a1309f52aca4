"""Which image a machine starts from, and bringing one here from a URL without anybody waiting. Used by machines.py and launching.py.

An image is a path on libvirt's host, POOL/VOLUME, or URL#sha256=DIGEST. From a URL it is fetched by a thread of its own, once per
digest, checked, and put into the storage pool; only then an empty volume beside it says that it is whole. It stays as the
file under the disks of machines and is shared by all installations.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import threading
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from kubeup_core import InvalidSpec, NotFound, NotReady, SupplierError, Taken

from . import xml
from .client import Hypervisor

FETCH_SECONDS = 60.0
"""Without a byte."""
CHUNK = 1 << 20
FORGET_SECONDS = 60.0
QCOW2 = b"QFI\xfb"
"""What such a file begins with; the size of its disk is in bytes 24 to 31."""
HELP = "a path on the host, POOL/VOLUME, or URL#sha256=DIGEST"

_URL = re.compile(r"(https?://[^#\s]+)#sha256=([0-9a-f]{64})")


@dataclass(frozen=True, kw_only=True)
class Base:
    """What disks are made over. size: bytes that it appears to have, 0 when nobody knows."""

    path: str
    format: str
    size: int


def problem(image: str) -> str:
    """What is wrong with the way an image is named, "" for nothing."""
    if image.startswith(("http://", "https://")):
        return "" if _URL.fullmatch(image) else "an image from a URL needs its checksum: URL#sha256=DIGEST"
    return "" if image.startswith("/") or "/" in image else f"{image} is no image: {HELP}"


class Images:
    """Of one libvirt. Thread-safe. close() lets a download end by itself."""

    def __init__(self, hypervisor: Hypervisor, default: str | None, families: Mapping[str, str]) -> None:
        self._hypervisor = hypervisor
        self._default = default
        self._families = families
        self._lock = threading.Lock()
        self._fetching: dict[str, threading.Thread] = {}
        self._failed: dict[str, SupplierError] = {}
        self._closed = threading.Event()

    def close(self) -> None:
        self._closed.set()

    def named(self, family: str, image: str | None) -> str:
        """The image of a machine, "" when nobody named one."""
        return image or self._families.get(family) or self._default or ""

    def base(self, image: str) -> Base:
        """NotReady while it is on its way. InvalidSpec when there is none, or its checksum is wrong."""
        if said := problem(image):
            raise InvalidSpec(said, remedy=f"name {HELP}")
        try:
            if image.startswith(("http://", "https://")):
                return self._fetched(image)
            if not image.startswith("/"):
                pool, name = image.split("/", 1)
                found = self._hypervisor.volume(name, pool)
            else:
                found = self._hypervisor.volume_at(image)
        except NotFound as error:
            if not image.startswith("/"):
                raise InvalidSpec(
                    f"there is no image {image}: {error.message}", code=error.code, remedy=f"name {HELP}"
                ) from error
            return self._outside(image)
        return Base(path=found.path, format=_format(found.format), size=found.size)

    def _outside(self, image: str) -> Base:
        """One that is in no storage pool: it is read where libvirt's host is this one; elsewhere its name has to say what it is."""
        try:
            if urlsplit(self._hypervisor.uri).hostname is not None:
                raise FileNotFoundError
            with Path(image).open("rb") as file:
                head, length = file.read(32), file.seek(0, os.SEEK_END)
        except OSError:
            kind = Path(image).suffix[1:]
            if kind not in ("qcow2", "raw"):
                raise InvalidSpec(
                    f"nobody here can tell whether image {image} is qcow2 or raw",
                    remedy="give it a name that ends in .qcow2 or .raw, or put it into a storage pool and name POOL/VOLUME",
                ) from None
            return Base(path=image, format=kind, size=0)
        if head.startswith(QCOW2):
            return Base(path=image, format="qcow2", size=int.from_bytes(head[24:32], "big"))
        return Base(path=image, format="raw", size=length)

    def _fetched(self, image: str) -> Base:
        match = _URL.fullmatch(image)
        assert match is not None
        url, digest = match.groups()
        name = f"kubeup-image-{digest[:32]}"
        if f"{name}.whole" in self._hypervisor.volume_names():
            found = self._hypervisor.volume(name)
            self._failed.pop(image, None)
            return Base(path=found.path, format=_format(found.format), size=found.size)
        with self._lock:
            thread = self._fetching.get(image)
            if thread is None or not thread.is_alive():
                if failed := self._failed.pop(image, None):
                    raise failed
                thread = threading.Thread(
                    target=self._fetch, args=(image, url, digest, name), name="libvirt-image", daemon=True
                )
                self._fetching[image] = thread
                thread.start()
        raise NotReady(f"image {url} is being fetched", retry_after=5)

    def _fetch(self, image: str, url: str, digest: str, name: str) -> None:
        try:
            with tempfile.TemporaryFile() as file:
                size = self._download(url, digest, file)
                file.seek(0)
                head = file.read(4)
                file.seek(0)
                kind = "qcow2" if head == QCOW2 else "raw"
                with suppress(Taken):  # half of it, by a process that died
                    self._hypervisor.create_volume(xml.volume(name, size, "raw"))
                self._hypervisor.upload(name, file.read, size)
                self._hypervisor.refresh()
                if self._hypervisor.volume(name).format != kind:
                    raise NotReady(f"the storage pool does not take image {url} for {kind}")
                self._hypervisor.create_volume(xml.volume(f"{name}.whole", 0, "raw"))
        except SupplierError as error:
            self._failed[image] = error
        except Exception as error:  # whatever it was: a thread that ended without a word would begin again at once, for ever
            said = str(error) or type(error).__name__
            self._failed[image] = NotReady(f"image {url} cannot be fetched: {said}", retry_after=FORGET_SECONDS)

    def _download(self, url: str, digest: str, file: IO[bytes]) -> int:
        found, size = hashlib.sha256(), 0
        with urllib.request.urlopen(url, timeout=FETCH_SECONDS) as answer:
            length = answer.headers["Content-Length"]
            while chunk := answer.read(CHUNK):
                if self._closed.is_set():
                    raise NotReady(f"fetching image {url} was given up")
                found.update(chunk)
                size += file.write(chunk)
        if length is not None and size < int(length):
            raise NotReady(f"image {url} broke off after {size} of {length} bytes", retry_after=FORGET_SECONDS)
        if found.hexdigest() != digest:
            raise InvalidSpec(
                f"image {url} has the checksum {found.hexdigest()}, not {digest}",
                remedy="put the right checksum behind #sha256=, if the image is the one that you mean",
            )
        return size


def _format(found: str) -> str:
    return found if found == "qcow2" else "raw"
