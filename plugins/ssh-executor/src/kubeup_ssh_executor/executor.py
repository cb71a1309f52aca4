"""The executor: scripts as root, files, host keys, over connections that are kept (pool.py).

Built by the core with one key pair, by a provider also with an agent's keys or a password for sudo; called from many threads. Root is
reached by logging in as root, or by sudo: one that asks for a password that nobody gave is refused with what to do, once per
connection, before any script is sent.
"""

from __future__ import annotations

import posixpath
import secrets
import shlex
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress
from typing import Any

from kubeup_core.errors import Denied, InvalidSpec, NotReady, Unknown
from kubeup_core.executor import Keys
from kubeup_core.supplier import Access

from .client import Files, Identities, agent_keys, connect, load_key, presented
from .pool import TOTAL, Pool, Session
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

    def __init__(self, keys: Keys, *, agent: bool = False, sudo_password: str = "", connections: int = TOTAL) -> None:
        """agent: log in with what the ssh-agent holds, `keys` needs no private key then. connections: how many are kept.
        Raises InvalidSpec."""
        self._keys: Identities = agent_keys if agent else _only(load_key(keys.private_key))
        self._known_hosts = keys.known_hosts
        self._password = sudo_password
        self._pool = Pool(lambda target, deadline, over: connect(target, self._keys, deadline, over), connections)

    def execute(self, access: Access, script: str, stdin: bytes, timeout: float) -> Iterator[bytes | int]:
        deadline = time.monotonic() + timeout
        who = target(access, self._known_hosts)
        command = f"sh -c {shlex.quote(_WRAP)} kubeup {shlex.quote(script)}"
        if len(_as_root(who, command, asked=True).encode()) > COMMAND_BYTES:
            raise InvalidSpec(f"a script of more than {COMMAND_BYTES} bytes", remedy="hand the bulk over as stdin")
        session = self._session(who, deadline)
        try:
            asked = session.connection.asked
            session.connection.start(session.channel, _as_root(who, command, asked=asked))
            yield from talk(session.channel, self._answer(asked) + stdin, deadline, str(who))
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
                    connection.asked = self._prove_root(session, deadline)
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
            asked = session.connection.asked
            session.connection.start(session.channel, _as_root(who, f"sh -c {shlex.quote(_SFTP)}", asked=asked))
            session.channel.sendall(self._answer(asked))
        return session.connection.files(session.channel)

    def _answer(self, asked: bool) -> bytes:
        """What sudo reads before the command does."""
        return f"{self._password}\n".encode() if asked else b""

    def _prove_root(self, session: Session, deadline: float) -> bool:
        """That the login has a shell, and that it is root's or may become so. -> whether sudo has to be told the password."""
        who = session.connection.target
        said, refusal = "", ""
        for asked in (False, True) if self._password and who.user != "root" else (False,):
            channel = session.channel if not asked else session.connection.session(max(0.1, deadline - time.monotonic()))
            try:
                session.connection.start(channel, _as_root(who, "sh -c 'echo uid=$(id -u)'", asked=asked))
                output, code = _collected(talk(channel, self._answer(asked), deadline, str(who)))
            except Unknown as error:
                raise NotReady(f"{error.message}; it only asked who it is", retry_after=5, code=error.code) from error
            if code == 0 and "uid=0" in output.split():
                return asked
            said = " ".join(output.split())[-300:] or f"exit code {code}"
            refusal = (
                "may not become root with the password that was given" if asked else "may not become root without a password"
            )
        if who.user == "root":
            raise Denied(f"{who} gives no shell: {said}", code="NoShell", remedy="give root a shell there")
        raise Denied(f"{who} {refusal}: {said}", code="SudoRefused", remedy=_SUDO.format(user=who.user))


_SUDO = (
    "put `{user} ALL=(ALL) NOPASSWD: ALL` into /etc/sudoers.d/kubeup there, log in as root (spec.access.user), or, where the Provider "
    "takes one, give the password for sudo"
)


def _only(key: Any) -> Identities:
    return lambda: nullcontext((key,))


def _as_root(who: Target, command: str, *, asked: bool) -> str:
    """`exec`: no shell of the login's stays in between, whichever it is. -k: the password is asked for each time, never remembered,
    so that it is never left over for the command to read."""
    if who.user == "root":
        return f"exec {command}"
    return f"exec sudo -k -S -p '' {command}" if asked else f"exec sudo -n {command}"


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
