"""Jobs that a machine runs by itself, packed for user-data: one archive for all members of a launch. Pure.

Called by `controllers/user_data.py`; `boot.sh` is what uses it on the machine. The jobs, their runner and its markers are those that
would be sent over access, so whatever comes over access later finds done what is done. In the archive, beside them: `start` (boot.sh),
`whoami` (shell that prints which member this is), and `members`, with a line `INDEX NAME JOB...` for each.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from .job import ROOT, Job, runner

FOLDER = f"{ROOT}/boot"
PATH = f"{FOLDER}/seed"
"""Where user-data puts the archive."""

AT_BOOT = "/var/lib/cloud/scripts/per-boot/kubeup"
"""What cloud-init runs there, it runs at every boot."""


def seed(members: Sequence[tuple[str, Sequence[Job]]], whoami: str) -> bytes:
    """A tar.gz; the same bytes for the same input. members: (name, its jobs in order), by index; jobs without large files only."""
    jobs = {job.name: job for _, theirs in members for job in theirs}
    assert not any(job.blobs for job in jobs.values()), "nobody could send them"
    lines = [f"{index} {name} {' '.join(j.name for j in theirs)}\n" for index, (name, theirs) in enumerate(members)]
    found = {"start": boot().encode(), "runner": runner().encode(), "whoami": f"{whoami}\n".encode()}
    found["members"] = "".join(lines).encode()
    parts = [(path, name, content) for name, job in jobs.items() for path, content in _files(job)]
    # What different members have of the same file stands together, where compression sees it.
    found |= {f"jobs/{name}/{path}": content for path, name, content in sorted(parts)}
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in found.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o600
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), compresslevel=9, mtime=0)


def at_boot(tries: int) -> str:
    """The script at AT_BOOT. tries: of each job; 0 for ever, where nobody else could try again."""
    return f"""#!/bin/sh
cd {FOLDER} 2>/dev/null && [ -f seed ] || exit 0
tar -xzf seed start whoami members && exec sh ./start {ROOT} {tries}
"""


@cache
def boot() -> str:
    """The text of boot.sh."""
    return files(__package__).joinpath("boot.sh").read_text()


def _files(job: Job) -> list[tuple[str, bytes]]:
    """(path in the job's folder, content), but for the runner, which all have."""
    found = []
    with tarfile.open(fileobj=io.BytesIO(job.archive), mode="r:gz") as tar:
        for info in tar.getmembers():
            content = tar.extractfile(info) if info.isfile() and info.name != "runner" else None
            if content is not None:
                found.append((info.name, content.read()))
    return found
