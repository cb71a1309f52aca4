"""The executor: scripts as root, files, host keys, over connections that are kept (pool.py).

Built by the core with one key pair, called from many threads. Root is reached by logging in as root, or by `sudo -n`: one that asks
for a password is refused with what to do, once per connection, before any script is sent.
"""

from __future__ import annotations

import posixpath
import secrets
import shlex
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from kubeup_core.errors import Denied, InvalidSpec, NotReady, Unknown
from kubeup_core.executor import Keys
from kubeup_core.supplier import Access

from .client import Files, connect, load_key, presented
from .pool import Pool, Session
from .streams import talk
from .targets import Target, target

COMMAND_BYTES = 128 * 1024 - 1
"""Linux takes no longer single argument (MAX_ARG_STRLEN), and the login's shell is handed the command as one."""

_WRAP = 'sh -c "$1"; exit $?'
"""The shell that sshd sees ends in order even when the script's is killed, so a lost connection alone comes without an exit code."""

_SFTP = (
    "for p in /usr/lib/openssh /usr/libexec/openssh /usr/lib/ssh /usr/libexec /usr/lib/misc; do "
    "[ -x $p/sftp-server ] && exec $p/sftp-server; done; exit 127"
)


class SshExecutor:
    """See `kubeup_core.executor.Executor` for the contract."""

    def __init__(self, keys: Keys) -> None:
        self._key = load_key(keys.private_key)
        self._known_hosts = keys.known_hosts
        self._pool = Pool(lambda target, deadline, over: connect(target, self._key, deadline, over))

    def execute(self, access: Access, script: str, stdin: bytes, timeout: float) -> Iterator[bytes | int]:
        deadline = time.monotonic() + timeout
        who = target(access, self._known_hosts)
        command = _as_root(who, f"sh -c {shlex.quote(_WRAP)} kubeup {shlex.quote(script)}")
        if len(command.encode()) > COMMAND_BYTES:
            raise InvalidSpec(f"a script of more than {COMMAND_BYTES} bytes", remedy="hand the bulk over as stdin")
        session = self._session(who, deadline)
        try:
            session.connection.start(session.channel, command)
            yield from talk(session.channel, stdin, deadline, str(who))
        finally:
            self._pool.done(session, abandoned=session.channel.exit_status < 0)

    def upload(self, access: Access, path: str, content: Iterable[bytes], mode: int, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        who = target(access, self._known_hosts)
        if not posixpath.isabs(path) or path.endswith("/"):
            raise InvalidSpec(f"{path!r} is not the path of a file", remedy="give it from the root")
        session = self._session(who, deadline)
        try:
            files = self._files(who, session)
            try:
                _put(files, path, content, mode, deadline)
            finally:
                files.close()
        finally:
            self._pool.done(session)

    def host_key(self, access: Access, timeout: float) -> str:
        deadline = time.monotonic() + timeout
        who = target(access, self._known_hosts, trusted=False)
        if who.via is None:
            return str(presented(who, deadline))
        return str(self._pool.over(who.via, lambda jump: presented(who, deadline, jump), deadline))

    def close(self) -> None:
        self._pool.close()

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _session(self, who: Target, deadline: float) -> Session:
        """A channel for one command, on a connection that was proven to be root's: once, with a channel of its own."""
        while True:
            session = self._pool.session(who, deadline)
            connection = session.connection
            try:
                with connection.root_lock:
                    if connection.is_root:
                        return session
                    _prove_root(session, deadline)
                    connection.is_root = True
            except BaseException:
                self._pool.done(session)
                raise
            self._pool.done(session)

    def _files(self, who: Target, session: Session) -> Files:
        """root's own sftp subsystem; for others sftp's server run by sudo, so that both write as root."""
        if who.user == "root":
            session.channel.invoke_subsystem("sftp")
        else:
            session.connection.start(session.channel, _as_root(who, f"sh -c {shlex.quote(_SFTP)}"))
        return session.connection.files(session.channel)


def _as_root(who: Target, command: str) -> str:
    """`exec`: no shell of the login's stays in between, whichever it is."""
    return f"exec {command}" if who.user == "root" else f"exec sudo -n {command}"


def _prove_root(session: Session, deadline: float) -> None:
    """That the login has a shell, and that it is root's or may become so without being asked."""
    who = session.connection.target
    try:
        session.connection.start(session.channel, _as_root(who, "sh -c 'echo uid=$(id -u)'"))
        output, code = _collected(talk(session.channel, b"", deadline, str(who)))
    except Unknown as error:
        raise NotReady(f"{error.message}; it only asked who it is", retry_after=5, code=error.code) from error
    if code == 0 and "uid=0" in output.split():
        return
    said = " ".join(output.split())[-300:] or f"exit code {code}"
    if who.user == "root":
        raise Denied(f"{who} gives no shell: {said}", code="NoShell", remedy="give root a shell there")
    raise Denied(
        f"{who} may not become root without a password: {said}",
        code="SudoRefused",
        remedy=f"put `{who.user} ALL=(ALL) NOPASSWD: ALL` into /etc/sudoers.d/kubeup there, or log in as root (spec.access.user)",
    )


def _collected(stream: Iterator[bytes | int]) -> tuple[str, int]:
    output, code = b"", -1
    for part in stream:
        if isinstance(part, int):
            code = part
        else:
            output += part
    return output.decode(errors="replace"), code


def _put(files: Files, path: str, content: Iterable[bytes], mode: int, deadline: float) -> None:
    folder, name = posixpath.split(path)
    beside = posixpath.join(folder, f".{name}.{secrets.token_hex(4)}")
    files.limit(max(0.1, deadline - time.monotonic()))
    file: Any = files.create(beside)
    try:
        for chunk in content:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Unknown(f"{path} was not written in time; it is as it was", code="Timeout")
            files.limit(left)
            files.write(path, file, chunk)
        files.finish(path, file, mode)
        files.replace(beside, path)
    except BaseException:
        with suppress(Exception):
            files.limit(5.0)
            files.remove(beside)
        raise
