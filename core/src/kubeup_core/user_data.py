"""User-data: what a machine is told at its first boot, as cloud-config. Pure; called by `controllers/placement.py` for each Launch.

For what has to be there before anybody reaches the machine: public keys and files. Bootstrap steps go over the machine's access. A
rendering is stored with its Launch and may be read by whoever is on the machine, or may read the place's API: it never holds a secret.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import InvalidSpec

SECRETS = ("PRIVATE KEY", "BEGIN CERTIFICATE REQUEST")
"""What no rendering may have in it, in whatever encoding a file's content comes."""


@dataclass(frozen=True, kw_only=True)
class BootFile:
    """path: absolute. mode: octal, as in "0644"."""

    path: str
    content: str
    mode: str = "0644"


def render(keys: Sequence[str] = (), files: Sequence[BootFile] = (), *, limit: int) -> bytes:
    """The same bytes for the same input; b"" when there is nothing to tell.

    keys   public keys, for the image's own user and for root
    limit  bytes that the place takes; where the text is longer, it is compressed, which cloud-init reads as well
    Raises InvalidSpec when it is too long even so, and for what is no public key.
    """
    keys = [key.strip() for key in keys if key.strip()]
    if not keys and not files:
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
    if files:
        config["write_files"] = [
            {
                "path": file.path,
                "permissions": file.mode,
                "owner": "root:root",
                "encoding": "b64",
                "content": base64.b64encode(file.content.encode()).decode(),
            }
            for file in files
        ]
    # JSON is YAML, and has no two ways to write a thing.
    text = b"#cloud-config\n" + json.dumps(config, indent=1).encode() + b"\n"
    if len(text) <= limit:
        return text
    packed = gzip.compress(text, mtime=0)
    if len(packed) <= limit:
        return packed
    raise InvalidSpec(
        f"the user-data of its machines has {len(packed)} bytes, and the place takes {limit}",
        path="spec.machine.files",
        remedy="take files out of the template, or put them into the image",
    )
