"""A job: the steps of one task, packed for one machine. Pure, but that it asks for the size of large files.

A step's digest, which its marker on the machine carries, covers all but the contents of secret files: a bootstrap token is another
one every few minutes, and a machine that has joined has still joined. A job's name covers those too, so that the files that were
sent are always those that are meant.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import os
import re
import shlex
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from ..bootstrapper import File, Step
from ..errors import InvalidSpec
from ..supplier import STEPS_FOLDER

ROOT = STEPS_FOLDER
"""The runner's folder on a machine."""

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Blob:
    """A large file that is sent in pieces. path: on kubeup's own machine. size: bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Job:
    """name: of its folder on the machine. archive: a tar.gz of steps and runner; secrets may be in it. public: the same for jobs
    that differ in nothing but secrets."""

    name: str
    public: str
    steps: tuple[Step, ...]
    blobs: tuple[Blob, ...]
    archive: bytes = field(repr=False)

    def title(self, step: str) -> str:
        return next((s.title for s in self.steps if s.name == step), step)

    def remedy(self, step: str) -> str:
        return next((s.remedy for s in self.steps if s.name == step), "")


def pack(steps: Sequence[Step], salt: str = "") -> Job:
    """Raises InvalidSpec for steps that cannot be sent.

    salt  what else a step's marker depends on: steps that are to be done again each time (a snapshot) are given another one
    """
    names = [step.name for step in steps]
    for name in names:
        if not _NAME.fullmatch(name) or names.count(name) > 1:
            raise InvalidSpec(
                f"the step name {name!r} is no DNS label, or is there twice", remedy="tell the bootstrapper's author"
            )
    digests = [digest(step, salt) for step in steps]
    public = _hash(digests)
    secrets = [hashlib.sha256(f.content).hexdigest() for step in steps for f in step.files if f.secret]
    name = _hash([public, *secrets, runner()])[:20]
    blobs = {f.sha256: _blob(f) for step in steps for f in step.files if f.source}
    return Job(name, public, tuple(steps), tuple(blobs.values()), _archive(steps, digests))


def digest(step: Step, salt: str = "") -> str:
    """32 hex digits: of the step's marker."""
    parts = [step.name, step.script, step.check, salt]
    for f in step.files:
        content = "" if f.secret else f.sha256 or hashlib.sha256(f.content).hexdigest()
        parts += [f.path, f"{_mode(f):o}", content]
    return _hash(parts)[:32]


@cache
def runner() -> str:
    """The text of the runner."""
    return files(__package__).joinpath("runner.sh").read_text()


def unpack_script(job: str, now: float, root: str = ROOT) -> str:
    """Shell that puts the archive, its stdin, into the job's folder. Once: a second one finds it there.

    now  kubeup's wall clock: a step may compare it with the machine's of the same moment (`bootstrapper.CLOCK_PATH`)
    """
    return f"""set -eu
umask 077
jobs={shlex.quote(root)}/jobs
mkdir -p "$jobs/{job}"
echo "{now:.0f} $(date -u +%s)" >{shlex.quote(root)}/clock
if [ -d "$jobs/{job}/steps" ]; then exit 0; fi
new=$(mktemp -d "$jobs/.new-XXXXXX")
trap 'rm -rf "$new"' EXIT
tar -xzf - -C "$new"
exec 8>>"$jobs.lock"
flock 8
if [ -d "$jobs/{job}/steps" ]; then exit 0; fi
mv -f "$new/runner" "$new/blobs" "$jobs/{job}/"
mv "$new/steps" "$jobs/{job}/steps"
"""


def poll_script(job: str, attempt: int, offset: int, root: str = ROOT) -> str:
    """Shell that starts the job where it has to be started, and says how far it is: see `results.read`."""
    return _command(root, job, f"poll {job} {attempt} {offset}")


def begin_script(job: str, now: float, attempt: int, offset: int, root: str = ROOT) -> str:
    """unpack_script and then poll_script, in one call. No `&&` between them: a shell goes on after errors in what stands before one."""
    return f"set -e\n({unpack_script(job, now, root)})\nset +e\n{poll_script(job, attempt, offset, root)}"


def put_script(job: str, blob: Blob, offset: int, root: str = ROOT) -> str:
    """Shell that appends its stdin to a large file, and prints how many bytes of it are there."""
    return _command(root, job, f"put {blob.sha256} {offset} {blob.size}")


def forget_script(root: str = ROOT) -> str:
    """Shell after which no step counts as done: the machine's membership is over."""
    return f"rm -rf {shlex.quote(root)}/done {shlex.quote(root)}/blobs\n"


# -- below ---------------------------------------------------------------------------------------------------------------


def _command(root: str, job: str, command: str) -> str:
    folder = shlex.quote(root)
    return f"""runner={folder}/jobs/{job}/runner
if [ -f "$runner" ]; then exec sh "$runner" {folder} {command}; fi
echo "kubeup-runner 1 missing"
"""


def _archive(steps: Sequence[Step], digests: Sequence[str]) -> bytes:
    """The same bytes for the same steps."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        _add(tar, "runner", runner().encode())
        needed = [f"{f.sha256} {s.name}-{d}\n" for s, d in zip(steps, digests, strict=True) for f in s.files if f.source]
        _add(tar, "blobs", "".join(needed).encode())
        _folder(tar, "steps")
        for number, (step, step_digest) in enumerate(zip(steps, digests, strict=True), 1):
            folder = f"steps/{number:03}"
            _folder(tar, folder)
            _add(tar, f"{folder}/about", f"{step.name} {step_digest} {max(1, math.ceil(step.timeout))}\n".encode())
            _add(tar, f"{folder}/check", step.check.encode())
            _add(tar, f"{folder}/script", step.script.encode())
            lines = []
            for index, f in enumerate(step.files):
                kind, bytes_ = ("blob", f.sha256) if f.source else ("content", f"file{index}")
                lines.append(f"{_mode(f):o} {kind} {'secret' if f.secret else 'public'} {bytes_} {_path(f)}\n")
                if not f.source:
                    _add(tar, f"{folder}/{bytes_}", f.content)
            _add(tar, f"{folder}/files", "".join(lines).encode())
    return gzip.compress(raw.getvalue(), compresslevel=6, mtime=0)


def _folder(tar: tarfile.TarFile, name: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, 0o700
    tar.addfile(info)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o600
    tar.addfile(info, io.BytesIO(content))


def _mode(f: File) -> int:
    """What is secret is for its owner alone."""
    return f.mode & (0o700 if f.secret else 0o7777)


def _path(f: File) -> str:
    if (
        not f.path.startswith("/")
        or f.path.endswith("/")
        or f.path != f.path.strip()
        or "\\" in f.path
        or not f.path.isprintable()
    ):
        raise InvalidSpec(f"{f.path!r} is not an absolute path of a file in plain characters", remedy="choose another path")
    return f.path


def _blob(f: File) -> Blob:
    if not _SHA256.fullmatch(f.sha256):
        raise InvalidSpec(f"{f.source} comes without its sha256, so it is not sent", remedy="tell the bootstrapper's author")
    try:
        return Blob(f.source, f.sha256, os.stat(f.source).st_size)
    except OSError as error:
        raise InvalidSpec(f"{f.source} cannot be read: {error.strerror}", remedy="put it there, or change the spec") from error


def _hash(parts: Iterable[str]) -> str:
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()
