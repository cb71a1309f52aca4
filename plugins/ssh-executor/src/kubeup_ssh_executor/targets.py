"""From an Access to a Target: who is called, as whom, and which host keys count. Pure; used by executor.py.

Host keys are read as OpenSSH writes them: `type base64`, in known_hosts with the host's name before it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass

from kubeup_core.errors import InvalidSpec
from kubeup_core.executor import HostKeyUnknown
from kubeup_core.supplier import Access

PORT = 22


@dataclass(frozen=True)
class HostKey:
    """type: as in a .pub file (`ssh-ed25519`). blob: the key itself, as it is sent."""

    type: str
    blob: bytes

    def __str__(self) -> str:
        return f"{self.type} {base64.b64encode(self.blob).decode()}"


@dataclass(frozen=True)
class Target:
    """One login. host_keys: any of these is the host; via: through which login."""

    address: str
    port: int
    user: str
    host_keys: tuple[HostKey, ...]
    via: Target | None = None

    @property
    def host(self) -> str:
        """For people, and as OpenSSH names it in known_hosts."""
        return self.address if self.port == PORT and ":" not in self.address else f"[{self.address}]:{self.port}"

    def __str__(self) -> str:
        return f"{self.user}@{self.host}"


def target(access: Access, known_hosts: Iterable[str], *, trusted: bool = True) -> Target:
    """trusted False: the host's own key is what is asked for. Raises HostKeyUnknown, InvalidSpec."""
    lines = tuple(known_hosts)
    if not access.address:
        raise InvalidSpec("there is no address to connect to")
    user = access.user or "root"
    via = _jump(access, user, lines) if access.via else None
    plain = Target(access.address, access.port, user, (), via)
    return Target(plain.address, plain.port, user, _keys(plain, access.host_key, lines), via) if trusted else plain


def _jump(access: Access, user: str, lines: tuple[str, ...]) -> Target:
    name, host, port = jump_host(access.via)
    plain = Target(host, port, name or user, ())
    return Target(plain.address, plain.port, plain.user, _keys(plain, access.via_host_key, lines))


def jump_host(via: str) -> tuple[str, str, int]:
    """`user@host:port` -> its parts; the user is "" where none is named. Raises InvalidSpec."""
    name, _, where = via.rpartition("@")
    host, port = where, ""
    if where.startswith("["):
        host, _, port = where[1:].partition("]")
        port = port.removeprefix(":")
    elif where.count(":") == 1:
        host, _, port = where.partition(":")
    if not host or (port and not port.isdigit()):
        raise InvalidSpec(f"the jump host {via!r} cannot be understood", remedy="write user@host:port")
    return name, host, int(port or PORT)


def check_key(text: str) -> None:
    """Of a host, as in a .pub file. Raises InvalidSpec."""
    for line in text.splitlines() or [text]:
        found = _key(line, "the host key")
        if not found.blob.startswith(len(found.type).to_bytes(4, "big") + found.type.encode()):
            raise InvalidSpec("the host key cannot be read", remedy="write it as in a .pub file: ssh-ed25519 AAAA...")


def _keys(target: Target, pinned: str, lines: tuple[str, ...]) -> tuple[HostKey, ...]:
    if pinned:
        return tuple(_key(line, f"the host key of {target.host}") for line in pinned.splitlines() if line.strip())
    found = [line.split(None, 1) for line in lines if not line.startswith(("#", "@"))]
    keys = tuple(_key(w[1], f"known_hosts of {target.host}") for w in found if len(w) == 2 and target.host in w[0].split(","))
    if not keys:
        raise HostKeyUnknown(
            f"no host key is known for {target.host}, so it is not talked to",
            code="HostKeyUnknown",
            remedy="pin its key: on the host, it is in /etc/ssh/ssh_host_ed25519_key.pub",
        )
    return keys


def _key(line: str, what: str) -> HostKey:
    words = line.split()
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (IndexError, binascii.Error) as error:
        raise InvalidSpec(f"{what} cannot be read", remedy="write it as in a .pub file: ssh-ed25519 AAAA...") from error
    return HostKey(words[0], blob)
