"""What an executor is: the contract between the core and a plugin that runs things on machines it reaches over a network.

Only for places whose machines carry an `Access` of the executor's kind ("ssh"); a supplier with an `execute` of its own needs none.
One executor is built for each key pair, which is one per Cluster, and used from many threads. Whom to trust is the core's decision
(`controllers/access.py`): an executor accepts only host keys that it is given, and can say which one a host presents.
Standard library only; secrets print masked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from .errors import Denied
from .supplier import Access


@dataclass(frozen=True, kw_only=True)
class Keys:
    """private_key  PEM as OpenSSH writes it, without a passphrase
    known_hosts  lines as in OpenSSH's file of that name (`host ssh-ed25519 AAAA...`, `[host]:port ...`), for hosts and jump hosts
                 whose Access names no key
    """

    private_key: str = field(repr=False)
    known_hosts: tuple[str, ...] = ()


class HostKeyRefused(Denied):
    """The host is not who it should be, or nobody knows who it should be. Nothing was sent to it, not the login either."""

    @property
    def decision(self) -> str:
        return Denied.__name__


class HostKeyChanged(HostKeyRefused):
    """It presents another key than the pinned one: it was reinstalled, or another host answers in its place."""


class HostKeyUnknown(HostKeyRefused):
    """No key is pinned for it."""


class Executor(Protocol):
    """Thread-safe. Raises the errors of `errors.py`:

    HostKeyRefused  see above
    Denied          the login, or becoming root, is refused
    NotReady        refused, no route, no answer: nothing was run, and it may be up in a moment
    Unknown         lost after the command was sent: nobody can say how far it came
    InvalidSpec     it will never work (a key that cannot be read, a jump host that cannot be parsed)
    """

    def execute(self, access: Access, script: str, stdin: bytes, timeout: float) -> Iterator[bytes | int]:
        """Run a POSIX shell script as root, with `stdin` as its input, for at most `timeout` seconds, connecting included.

        Yields stdout and stderr as they come, in one stream, then the exit code, which ends it. A stream that ends without an exit
        code is an unknown outcome; after a time-out the script may still run."""
        ...

    def upload(self, access: Access, path: str, content: Iterable[bytes], mode: int, timeout: float) -> None:
        """Write a file as root: to a temporary one beside it, synced to disk, then renamed over `path`. Its folder is there already.
        Whatever happens, `path` is the old file or the whole new one."""
        ...

    def host_key(self, access: Access, timeout: float) -> str:
        """The key that the host presents now, as `type base64`. Nothing is sent but the handshake. Its jump host must be known."""
        ...

    def close(self) -> None:
        """End all connections."""
        ...
