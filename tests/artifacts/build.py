"""The cache of the artifacts that tests use, and the root of their machines: a function returns the path of a finished file.

Artifacts lie in a cache ($KUBEUP_TEST_CACHE, else the XDG cache folder's kubeup/artifacts) under a name with the hash of their
inputs: a changed recipe is another file. A file appears whole or not at all, and one builder at a time makes it, also
with several test processes. Getting a file into an engine is `engine.py`'s.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from .progress import say
from .system import advice, find, missing

SUITE = "bookworm"


class CannotBuild(Exception):
    """Something that the build needs is missing, or it failed. The message is for people."""


def machine_image() -> Path:
    """The root file system of the machines in tests: a static busybox with all its commands, 2 MB, as a tar.

    Enough for all that kubeup does with a plain machine (a shell, a host name, files), and made in seconds.
    """
    hook = """
        set -e; cd "$1"
        mkdir -p bin etc proc sys dev run root tmp var/log; chmod 1777 tmp
        for name in $(bin/busybox --list); do [ $name = busybox ] || ln -sf busybox bin/$name; done
        echo root:x:0:0:root:/root:/bin/sh > etc/passwd; echo root:x:0: > etc/group
    """
    command = [
        "mmdebstrap",
        "--quiet",
        "--variant=extract",
        "--format=tar",
        "--include=busybox-static",
        f"--extract-hook={hook}",
    ]
    return artifact("machine", {"command": command, "suite": SUITE}, lambda path: mmdebstrap(command, path))


def artifact(name: str, inputs: dict[str, object], make: Callable[[Path], None], suffix: str = ".tar") -> Path:
    """The cached file of these inputs, or folder (suffix ""); `make(path)` writes it when it is not there yet."""
    key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:12]
    path = cache() / f"{name}-{key}{suffix}"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{name}-{key}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process, which makes {path.name}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            for left in path.parent.glob(f".{name}-{key}-*"):  # by a builder that was killed
                shutil.rmtree(left)
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{name}-{key}-") as folder:
                unfinished = Path(folder, path.name)
                make(unfinished)
                unfinished.rename(path)
    return path


def cache() -> Path:
    if folder := os.environ.get("KUBEUP_TEST_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kubeup" / "artifacts"


def mmdebstrap(command: list[str], path: Path) -> None:
    """Run an mmdebstrap command line for SUITE into `path`, with the machine's own package sources."""
    if find("mmdebstrap") is None:
        raise CannotBuild(advice([p for p in missing() if p == "mmdebstrap"]))
    done = subprocess.run([*command, SUITE, str(path)], capture_output=True, text=True)
    if done.returncode != 0:
        raise CannotBuild(f"mmdebstrap failed ({done.returncode}): {done.stderr.strip()[-2000:]}")
