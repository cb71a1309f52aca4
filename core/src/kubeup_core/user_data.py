"""User-data: what a machine is told at its first boot, as cloud-config. Pure; called by `controllers/user_data.py` for each Launch.

For what has to be there before anybody reaches the machine, or where nobody ever does: public keys, files, and jobs of steps that it
runs by itself. A rendering is stored with its Launch and may be read by whoever is on the machine, or may read the place's API: it
never holds a private key. The one thing in it that opens a door is the bootstrap token of a worker that nobody reaches, for minutes.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass

from .bootstrapper import Step
from .bootstrapping.job import Job, pack
from .bootstrapping.seed import AT_BOOT, PATH, at_boot, seed
from .errors import InvalidSpec

SECRETS = ("PRIVATE KEY", "BEGIN CERTIFICATE REQUEST")
"""What no rendering may have in it, in whatever encoding a file's content comes."""


@dataclass(frozen=True, kw_only=True)
class BootFile:
    """path: absolute. mode: octal, as in "0644"."""

    path: str
    content: str
    mode: str = "0644"


@dataclass(frozen=True, kw_only=True)
class BootJobs:
    """Jobs of steps that each member of a launch runs by itself, by its index.

    members  (name, steps of each of its jobs, in order); without files that somebody would have to send
    whoami   shell that prints, on the machine, its member's name or index
    alone    nobody else will ever run them: they are tried for ever, and a token may be in them
    """

    members: Sequence[tuple[str, Sequence[Sequence[Step]]]]
    whoami: str
    alone: bool = False


class TooLong(InvalidSpec):
    """The place does not take that much; with fewer members it may."""


def render(
    keys: Sequence[str] = (), files: Sequence[BootFile] = (), jobs: BootJobs | None = None, *, limit: int, what: str = ""
) -> bytes:
    """The same bytes for the same input; b"" when there is nothing to tell.

    keys   public keys, for the image's own user and for root
    limit  bytes that the place takes; where the text is longer, it is compressed, which cloud-init reads as well
    what   can be made smaller: a path in the spec, spec.machine.files when absent
    Raises TooLong when it is too long even so, and InvalidSpec for what is no public key, or is private.
    """
    keys = [key.strip() for key in keys if key.strip()]
    if not keys and not files and jobs is None:
        return b""
    for key in keys:
        if "\n" in key or len(key.split()) < 2 or any(secret in key for secret in SECRETS):
            raise InvalidSpec(
                "what is given as an SSH key is none", path="spec.machine.sshKeys", remedy="write the line of a .pub file"
            )
    for file in files:
        if any(secret in file.content for secret in SECRETS):
            raise InvalidSpec(
                f"the file {file.path} holds a private key, and user-data is no place for one",
                path="spec.machine.files",
                remedy="use a Provider whose machines are reached (ssh, execute), and secretRef in the file",
            )
    config: dict[str, object] = {}
    if keys:
        config |= {"ssh_authorized_keys": keys, "disable_root": False}
    written = [_file(file.path, file.mode, file.content.encode()) for file in files]
    if jobs is not None:
        made: dict[tuple[Step, ...], Job] = {}  # PREPARE is the same on all
        packed = [(name, [_packed(tuple(steps), made) for steps in theirs]) for name, theirs in jobs.members]
        written.append(_file(PATH, "0600", seed(packed, jobs.whoami)))
        written.append(_file(AT_BOOT, "0700", at_boot(0 if jobs.alone else 1).encode()))
    if written:
        config["write_files"] = written
    # JSON is YAML, and has no two ways to write a thing.
    text = b"#cloud-config\n" + json.dumps(config, indent=1).encode() + b"\n"
    if len(text) <= limit:
        return text
    packed_text = gzip.compress(text, mtime=0)
    if len(packed_text) <= limit:
        return packed_text
    raise TooLong(
        f"the user-data of its machines has {len(packed_text)} bytes, and the place takes {limit}",
        path=what or "spec.machine.files",
        remedy="take files out of the template, or put them into the image",
    )


def _file(path: str, mode: str, content: bytes) -> dict[str, str]:
    encoded = base64.b64encode(content).decode()
    return {"path": path, "permissions": mode, "owner": "root:root", "encoding": "b64", "content": encoded}


def _packed(steps: tuple[Step, ...], made: dict[tuple[Step, ...], Job]) -> Job:
    """Raises InvalidSpec where a private key is in one."""
    if steps in made:
        return made[steps]
    for step in steps:
        texts = [step.script, step.check, *(file.content.decode(errors="replace") for file in step.files)]
        if any(secret in text for secret in SECRETS for text in texts):
            raise InvalidSpec(
                f"the step {step.name} holds a private key, and user-data is no place for one",
                remedy="use a Provider whose machines are reached (ssh, execute)",
            )
    made[steps] = pack(steps)
    return made[steps]
