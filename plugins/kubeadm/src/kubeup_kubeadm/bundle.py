"""Offline bundles: one tar archive with the binaries, images, CNI plugins and packages of a Kubernetes version for an architecture.

    manifest.json   {"format": 1, "kubernetes", "arch", "files": [{path, size, sha256}], "images": [names]}; the first in the archive
    SHA256SUMS      the same hashes, for `sha256sum -c` on the machine
    bin/ images/ cni/ debs/
    manifests/      YAML that is applied to the cluster, in the order of its names

`bundle_command.py` is the command, `download.py` gets the official parts. The same files give the same archive, byte for byte.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from kubeup_core import InvalidSpec
from kubeup_core.bootstrapper import Archive

from . import versions

FORMAT = 1
FOLDERS = ("bin", "images", "cni", "debs", "manifests")
NEEDED = ("bin/kubeadm", "bin/kubelet", "bin/kubectl")
_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Part:
    """A file of a bundle. size in bytes, sha256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a bundle says of itself."""

    kubernetes: str
    arch: str
    files: tuple[Part, ...]
    images: tuple[str, ...]

    def to_json(self) -> bytes:
        files = [{"path": part.path, "size": part.size, "sha256": part.sha256} for part in self.files]
        whole = {
            "format": FORMAT,
            "kubernetes": self.kubernetes,
            "arch": self.arch,
            "files": files,
            "images": list(self.images),
        }
        return json.dumps(whole, indent=1).encode() + b"\n"


def create(folder: Path, version: str, arch: str, out: Path) -> str:
    """Packs what lies in the folder's FOLDERS. Returns the archive's sha256. Raises InvalidSpec when something needed is not there."""
    known = versions.release(version, "--version")
    parts = tuple(_part(folder, path) for name in FOLDERS for path in sorted((folder / name).glob("*")) if path.is_file())
    have = {part.path for part in parts}
    missing = [path for path in NEEDED if path not in have]
    if known.crictl and "bin/crictl" not in have:
        missing.append("bin/crictl")
    if missing:
        raise InvalidSpec(
            f"{folder} has no {', '.join(missing)}",
            remedy=f"kubeadm {version} does not work without; put what is missing there",
        )
    images = tuple(
        sorted({name for part in parts if part.path.startswith("images/") for name in _image_names(folder / part.path)})
    )
    manifest = Manifest(kubernetes=version, arch=arch, files=parts, images=images)
    part_file = out.with_name(out.name + ".part")
    try:
        with tarfile.open(part_file, "w", format=tarfile.PAX_FORMAT) as archive:
            _add(archive, "manifest.json", manifest.to_json())
            _add(archive, "SHA256SUMS", "".join(f"{part.sha256}  {part.path}\n" for part in parts).encode())
            for part in parts:
                with (folder / part.path).open("rb") as file:
                    archive.addfile(
                        _info(part.path, part.size, 0o755 if part.path.startswith(("bin/", "cni/")) else 0o644), file
                    )
        digest = file_hash(part_file)
        os.replace(part_file, out)
    finally:
        part_file.unlink(missing_ok=True)
    return digest


def inspect(path: Path) -> Manifest:
    """Reads the whole archive and proves every file. Raises InvalidSpec, naming the first thing that is wrong."""
    with _opened(path) as archive:
        manifest = _manifest(archive, path)
        expected = {part.path: part for part in manifest.files}
        try:
            for member in archive:
                if not member.isfile() or member.name in ("manifest.json", "SHA256SUMS"):
                    continue
                part = expected.pop(member.name, None)
                if part is None:
                    raise _bad(path, f"has {member.name}, which its manifest does not name")
                file = archive.extractfile(member)
                if file is None or _hash(file) != part.sha256:
                    raise _bad(path, f"is damaged: {member.name} does not have the hash that its manifest gives")
        except (tarfile.TarError, OSError, EOFError) as error:
            raise _bad(path, f"is truncated or damaged ({error})") from error
    if expected:
        raise _bad(path, f"is truncated: {next(iter(expected))} is missing")
    return manifest


def faults(archive: Archive, version: str) -> Sequence[InvalidSpec]:
    """Why this bundle cannot be used for a version: it is not there, is another one than declared, or is of another version."""
    path = Path(archive.path)
    try:
        stat = path.stat()
        have, manifest = _known(str(path), stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        return (
            InvalidSpec(
                f"the bundle {path} cannot be read: {error.strerror}",
                path="spec.kubernetes.bundle.path",
                remedy="put it there, on the machine where kubeup's server runs",
            ),
        )
    except InvalidSpec as error:
        return (error,)
    if have != archive.sha256:
        return (
            InvalidSpec(
                f"the bundle {path} has the hash {have}, not {archive.sha256}: it is another file, or was damaged on its way",
                path="spec.kubernetes.bundle.sha256",
                remedy="copy it again, or set sha256 to what `kubeup bundle inspect` prints if you trust it",
            ),
        )
    if manifest.kubernetes != version:
        return (
            InvalidSpec(
                f"the bundle {path} is of {manifest.kubernetes}, but {version} was asked for",
                path="spec.kubernetes.bundle.path",
                remedy=f"make one with `kubeup bundle create --version {version}`",
            ),
        )
    return ()


def check_arch(archive: Archive, arch: str) -> None:
    """Raises InvalidSpec when it is known to be for another architecture than a machine's."""
    path = Path(archive.path)
    try:
        stat = path.stat()
        _, manifest = _known(str(path), stat.st_size, stat.st_mtime_ns)
    except (OSError, InvalidSpec):
        return  # told by `faults`
    if manifest.arch != arch:
        raise InvalidSpec(
            f"the bundle {path} is for {manifest.arch}, and the machine is {arch}",
            path="spec.kubernetes.bundle.path",
            remedy=f"make one with `kubeup bundle create --arch {arch}`, or set arch: {manifest.arch} in the machine template",
        )


def manifests(archive: Archive) -> Sequence[tuple[str, str]]:
    """Name and text of what is to be applied to the cluster. Raises InvalidSpec when the bundle cannot be read, or is damaged."""
    path = Path(archive.path)
    try:
        stat = path.stat()
    except OSError as error:
        raise _bad(path, f"cannot be read: {error.strerror}") from error
    return _manifests(str(path), stat.st_size, stat.st_mtime_ns)


def file_hash(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as file:
        return _hash(file)


@lru_cache(maxsize=32)
def _known(path: str, size: int, changed: int) -> tuple[str, Manifest]:
    """Hash and manifest, read once for each state of the file."""
    with _opened(Path(path)) as archive:
        manifest = _manifest(archive, Path(path))
    return file_hash(Path(path)), manifest


@lru_cache(maxsize=32)
def _manifests(path: str, size: int, changed: int) -> tuple[tuple[str, str], ...]:
    """Read once for each state of the file."""
    found = []
    with _opened(Path(path)) as archive:
        for part in _manifest(archive, Path(path)).files:
            if not part.path.startswith("manifests/"):
                continue
            try:
                file = archive.extractfile(part.path)
                content = file.read() if file is not None else b""
            except (KeyError, tarfile.TarError, OSError, EOFError) as error:
                raise _bad(Path(path), f"is truncated or damaged ({error})") from error
            if hashlib.sha256(content).hexdigest() != part.sha256:
                raise _bad(Path(path), f"is damaged: {part.path} does not have the hash that its manifest gives")
            found.append((part.path.rpartition("/")[2], content.decode(errors="replace")))
    return tuple(sorted(found))


def _opened(path: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(path, "r:*")
    except FileNotFoundError as error:
        raise _bad(path, "is not there") from error
    except (tarfile.TarError, OSError, EOFError) as error:
        raise _bad(path, f"is not a tar archive, or is truncated ({error})") from error


def _manifest(archive: tarfile.TarFile, path: Path) -> Manifest:
    try:
        member = archive.next()
        file = archive.extractfile(member) if member is not None and member.name == "manifest.json" else None
        if file is None:
            raise _bad(path, "was not made by `kubeup bundle create`: it does not begin with a manifest.json")
        whole: dict[str, Any] = json.loads(file.read())
        if whole["format"] != FORMAT:
            raise _bad(path, f"has format {whole['format']}; this kubeup reads {FORMAT}")
        return Manifest(
            kubernetes=whole["kubernetes"],
            arch=whole["arch"],
            files=tuple(Part(path=f["path"], size=f["size"], sha256=f["sha256"]) for f in whole["files"]),
            images=tuple(whole["images"]),
        )
    except (ValueError, KeyError, TypeError, tarfile.TarError, OSError, EOFError) as error:
        raise _bad(path, f"has a manifest.json that cannot be read ({error})") from error


def _image_names(archive: Path) -> Iterator[str]:
    """The names in an image archive: of OCI's index.json, else of docker's manifest.json."""
    try:
        with tarfile.open(archive) as tar:
            names = tar.getnames()
            if "index.json" in names:
                index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
                for entry in index.get("manifests", ()):
                    if name := entry.get("annotations", {}).get("io.containerd.image.name"):
                        yield name
            elif "manifest.json" in names:
                for entry in json.load(tar.extractfile("manifest.json")):  # type: ignore[arg-type]
                    yield from entry.get("RepoTags") or ()
            else:
                raise ValueError("neither index.json nor manifest.json")
    except (tarfile.TarError, ValueError, OSError, EOFError) as error:
        raise InvalidSpec(
            f"{archive} is not an image archive ({error})", remedy="save it again with `docker save` or `skopeo copy`"
        ) from error


def _part(folder: Path, path: Path) -> Part:
    return Part(path=path.relative_to(folder).as_posix(), size=path.stat().st_size, sha256=file_hash(path))


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    archive.addfile(_info(name, len(content), 0o644), io.BytesIO(content))


def _info(name: str, size: int, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, mode
    return info


def _hash(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _bad(path: Path, why: str) -> InvalidSpec:
    return InvalidSpec(
        f"the bundle {path} {why}", path="spec.kubernetes.bundle.path", remedy="make it again with `kubeup bundle create`"
    )
