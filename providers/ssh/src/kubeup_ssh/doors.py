"""How a host is reached: as whom, with which key, and whom to trust. Used by `fleet.py` and `machines.py`; the rest is ssh-executor's.

One executor for each way to log in, so hosts that are alike share it; each keeps its connections. Secrets come resolved in the Context.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from kubeup_core import InvalidSpec, Unknown
from kubeup_core.executor import HostKeyUnknown, Keys
from kubeup_core.supplier import Access
from kubeup_ssh_executor import KnownHosts, SshExecutor, jump_host

from .config import KeyFrom, SshConfig
from .inventory import Host

USUAL = ("id_ed25519", "id_ecdsa", "id_rsa")
"""Files in ~/.ssh, when nobody names a key."""

FIRST = 20.0
"""Seconds in which a host has to show its key."""


class Doors:
    """Thread-safe."""

    def __init__(self, config: SshConfig, secrets: Mapping[str, str], hosts: int = 0) -> None:
        """hosts: how many are gone round; each keeps its connection, and jump hosts theirs."""
        self._connections = max(128, 2 * hosts)
        self._secrets = secrets
        self._known = KnownHosts(config.known_hosts)
        self._first_use = config.host_keys == "firstUse"
        self._lock = threading.Lock()
        self._executors: dict[tuple[KeyFrom | None, str], SshExecutor] = {}

    def run(self, host: Host, script: str, stdin: bytes = b"", timeout: float = 30.0) -> tuple[int, bytes]:
        """Run a POSIX shell script as root. -> exit code, and stdout and stderr. Raises SupplierError."""
        output, code = bytearray(), -1
        for part in self.stream(host, script, stdin, timeout):
            if isinstance(part, int):
                code = part
            else:
                output += part
        if code < 0:
            raise Unknown(f"the connection to {host.name} ended before the script did")
        return code, bytes(output)

    def stream(self, host: Host, script: str, stdin: bytes, timeout: float) -> Iterator[bytes | int]:
        """As it comes, then the exit code."""
        executor = self._executor(host)
        yield from executor.execute(self._access(host, executor), script, stdin, timeout)

    def prepare(self, host: Host) -> None:
        """Read the host's key and secrets, without a connection. Raises InvalidSpec."""
        self._executor(host)

    def close(self) -> None:
        with self._lock:
            for executor in self._executors.values():
                executor.close()
            self._executors.clear()

    # -- below -----------------------------------------------------------------------------------------------------------

    def _executor(self, host: Host) -> SshExecutor:
        name = (host.key, host.sudo_password)
        with self._lock:
            if name not in self._executors:
                agent = host.key is not None and host.key.agent
                private = "" if agent else self._private(host.key)
                password = self._secret(host.sudo_password) if host.sudo_password else ""
                self._executors[name] = SshExecutor(
                    Keys(private_key=private), agent=agent, sudo_password=password, connections=self._connections
                )
            return self._executors[name]

    def _private(self, key: KeyFrom | None) -> str:
        if key is not None and key.secret_ref is not None:
            return self._secret(key.secret_ref.path)
        paths = [Path(key.path)] if key is not None and key.path else [Path("~/.ssh") / name for name in USUAL]
        for path in paths:
            try:
                return path.expanduser().read_text()
            except FileNotFoundError:
                continue
            except (OSError, UnicodeDecodeError) as error:
                raise InvalidSpec(
                    f"the key {path} cannot be read: {error}", path="spec.config.key.path", remedy="correct the path"
                ) from error
        raise InvalidSpec(
            f"there is no key at {' or '.join(map(str, paths))}",
            path="spec.config.key",
            remedy="name one, or make one with ssh-keygen and put it on the hosts with ssh-copy-id",
        )

    def _secret(self, path: str) -> str:
        value = self._secrets.get(path, "")
        if not value:
            namespace, name, key = path.split("/", 2)
            raise InvalidSpec(
                f"Secret {namespace}/{name} has no key {key}",
                path="spec.config",
                remedy=f"kubectl create secret generic {name} -n {namespace} --from-file={key}=FILE",
            )
        return value

    # -- whom to trust ---------------------------------------------------------------------------------------------------

    def _access(self, host: Host, executor: SshExecutor) -> Access:
        via_key = self._via_key(host, executor) if host.via else ""
        access = Access(
            kind="ssh",
            address=host.address,
            port=host.port,
            user=host.user,
            via=host.via,
            via_host_key=via_key,
            host_key=host.host_key,
        )
        if access.host_key:
            return access
        return replace(access, host_key=self._key(access, executor, host.name))

    def _via_key(self, host: Host, executor: SshExecutor) -> str:
        if host.via_host_key:
            return host.via_host_key
        _, address, port = jump_host(host.via)
        jump = Access(kind="ssh", address=address, port=port)
        return self._key(jump, executor, f"jump host {address}")

    def _key(self, access: Access, executor: SshExecutor, what: str) -> str:
        """From the file, or believed now and written there."""
        if known := self._known.keys(access.address, access.port):
            return known
        if not self._first_use:
            raise HostKeyUnknown(
                f"nobody has told the host key of {what}, so it is not talked to",
                code="HostKeyUnknown",
                remedy=(
                    f"put it into {self._known.path} (ssh-keyscan, and compare), write hostKey in the inventory, or set "
                    "hostKeys: firstUse to believe the first one"
                ),
            )
        shown = executor.host_key(access, FIRST)
        self._known.add(access.address, access.port, shown)
        return shown
