"""The image that machines are made from: which one it is, and making it with mmdebstrap from the machine's own package sources.

Used by `python -m kubeup_docker image` (`__main__.py`) and by the tests. What goes in lies in the folder node/: `packages`, the
files of `root/`, and `setup.sh`, which runs inside. The image's tag is a hash of these, so a changed recipe is another image.
Getting it onto an engine is client.py's; which image a machine gets is decided in images.py.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

FOLDER = Path(__file__).parent / "node"
SUITE = "bookworm"
REPOSITORY = "kubeup-node"

INIT_LABEL = "dev.kubeup.init"
"""On an image whose process number 1 is a service manager: `systemd`. Everything else runs a shell that waits."""
USER_DATA_LABEL = "dev.kubeup.user-data"
"""On an image that runs user-data, with the name of what runs it: `cloud-init`."""

CHANGES = (
    'ENTRYPOINT ["/usr/local/lib/kubeup/machine-init"]',
    "ENV container=docker",
    f"LABEL {INIT_LABEL}=systemd",
    f"LABEL {USER_DATA_LABEL}=cloud-init",
)
"""What the image says beside its files, in the words of a Dockerfile."""

LEFT_OUT = ("doc", "info", "locale", "man", "i18n")
OPTIONS = (
    "--variant=apt",
    "--format=tar",
    '--aptopt=APT::Install-Recommends "false"',
    '--aptopt=Acquire::Languages "none"',
    "--dpkgopt=force-unsafe-io",
    *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in LEFT_OUT),
)
STAGES = {
    "running apt-get update": "reading the package lists",
    "downloading packages": "downloading packages",
    "extracting archives": "unpacking the essential packages",
    "installing essential packages": "installing the essential packages",
    "installing remaining packages": "installing systemd, containerd and the other packages",
    "running --customize-hook": "adding the files of a machine",
    "creating tarball": "packing",
}
"""What mmdebstrap says -> what people are told."""


def packages() -> list[str]:
    lines = (FOLDER / "packages").read_text().splitlines()
    return [name for line in lines if not line.startswith("#") for name in line.split()]


def tag() -> str:
    """12 hex digits over everything that decides what is in the image, but for the versions that Debian has at the time."""
    digest = hashlib.sha256(repr((SUITE, OPTIONS, CHANGES)).encode())
    for path in sorted(p for p in FOLDER.rglob("*") if p.is_file()):
        digest.update(f"\0{path.relative_to(FOLDER)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def name() -> str:
    """The image of this version of the recipe."""
    return f"{REPOSITORY}:{SUITE}-{tag()}"


def make(tar: Path, tell: Callable[[str], None]) -> None:
    """Write the root file system to `tar`; `tell` gets what is being done, in words.

    Raises FileNotFoundError without mmdebstrap, CalledProcessError (its output in `stderr`) when that fails.
    """
    command = shutil.which("mmdebstrap")
    if command is None:
        raise FileNotFoundError("mmdebstrap")
    hooks = [f"--customize-hook={hook}" for hook in _hooks()]
    arguments = [command, *OPTIONS, f"--include={','.join(packages())}", *hooks, SUITE, str(tar)]
    process = subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    said = []
    assert process.stderr is not None
    with process:
        for line in process.stderr:
            said.append(line)
            for stage in _stages(line):
                tell(stage)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, arguments[0], stderr="".join(said[-20:]))


def _hooks() -> Iterator[str]:
    """Shell, with the root's path as $1. Owners and modes are set here: an installed package may not have kept them."""
    root, setup = shlex.quote(str(FOLDER / "root")), shlex.quote(str(FOLDER / "setup.sh"))
    yield f'tar -C {root} --owner=root:0 --group=root:0 --mode=u=rwX,go=rX -c . | tar -C "$1" --no-overwrite-dir -x'
    yield 'chmod 755 "$1"/usr/local/lib/kubeup/*'
    yield f'chroot "$1" /bin/sh -eu < {setup}'


def _stages(line: str) -> Iterator[str]:
    for said, told in STAGES.items():
        if said in line:
            yield told
