"""One SSH connection: handshake, host key, login, channels; and paramiko's errors as kubeup's.

Used by pool.py, which decides when to connect, and by executor.py. Before a command is sent every failure means that nothing was
run; what becomes of a failure afterwards is decided in streams.py. Logins are by key; whether an agent's is the caller's choice.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import logging
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, cast

import paramiko
from kubeup_core.errors import Denied, InvalidSpec, NotFound, NotReady, SupplierError, Unknown
from kubeup_core.executor import HostKeyChanged

from .targets import HostKey, Target

CONNECT, BANNER, AUTH, CHANNEL = 10.0, 15.0, 15.0, 15.0
"""Seconds at most for the TCP connection, for the host's first line, for the login, and for a channel."""

KEEPALIVE = 15
"""Seconds between signs of life, so that a NAT on the way does not forget the connection."""

LOG = "kubeup_ssh_executor.paramiko"
logging.getLogger(LOG).setLevel(logging.CRITICAL)  # it logs with a traceback what it raises as well, and that is told by us

AGAIN = 5.0


class Lost(Exception):
    """The connection is dead, and was before anything was sent over it."""


class Full(Exception):
    """The host takes no further session on this connection (sshd's MaxSessions)."""


def load_key(private: str) -> paramiko.PKey:
    """Raises InvalidSpec; its text holds nothing of the key."""
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            found: paramiko.PKey = kind.from_private_key(io.StringIO(private))
        except paramiko.PasswordRequiredException as error:
            raise InvalidSpec(
                "the private key has a passphrase", remedy="give one without: ssh-keygen -p -N '' -f KEY"
            ) from error
        except (paramiko.SSHException, ValueError, IndexError):
            continue
        return found
    raise InvalidSpec("the private key cannot be read", remedy="make one with ssh-keygen -t ed25519 -N ''")


Identities = Callable[[], AbstractContextManager[Sequence[paramiko.PKey]]]
"""The keys to log in with, in the order in which they are tried, for the time of one login. Raises SupplierError."""


@contextmanager
def agent_keys() -> Iterator[Sequence[paramiko.PKey]]:
    """Those that the ssh-agent of SSH_AUTH_SOCK holds now. Raises NotReady."""
    agent = paramiko.Agent()
    try:
        found: Sequence[paramiko.PKey] = agent.get_keys()
        if not found:
            raise NotReady(
                "the ssh-agent is not there, or holds no key",
                retry_after=30,
                code="NoAgent",
                remedy="run kubeup where SSH_AUTH_SOCK leads to an agent, and ssh-add the key; or name a key",
            )
        yield found
    finally:
        agent.close()


class Connection:
    """A login that is alive. sessions, capacity, tunnels, retired and used belong to the pool; root_lock, is_root and asked (sudo wants
    the password) to the executor."""

    def __init__(self, target: Target, transport: paramiko.Transport, over: Connection | None) -> None:
        self.target = target
        self.over = over
        self.sessions = 0
        self.tunnels = 0
        self.capacity = 0
        self.retired = False
        self.used = 0.0
        self.root_lock = threading.Lock()
        self.is_root = False
        self.asked = False
        self._transport = transport

    @property
    def alive(self) -> bool:
        return bool(self._transport.is_active()) and (self.over is None or self.over.alive)

    def session(self, timeout: float) -> Any:
        """A channel for one command. Raises Full, Lost."""
        try:
            return self._transport.open_session(timeout=min(CHANNEL, timeout))
        except (paramiko.SSHException, EOFError, OSError) as error:
            # Of two refusals at once paramiko gives one caller the other's as well, and the other a plain SSHException
            if self._transport.is_active() and not _late(error):
                raise Full from error
            raise Lost(_said(error)) from error

    def tunnel(self, address: str, port: int, timeout: float) -> Any:
        """A channel that is a connection from this host to another one. Raises Denied, NotReady, Lost."""
        try:
            return self._transport.open_channel(
                "direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=min(CHANNEL, timeout)
            )
        except paramiko.ChannelException as error:
            if error.code == 1:  # administratively prohibited (RFC 4254, 5.1)
                raise Denied(
                    f"jump host {self.target} does not let connections through",
                    code="TunnelRefused",
                    remedy="set AllowTcpForwarding local (and PermitOpen any) in its sshd_config",
                ) from error
            raise self._no_tunnel(address, port) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            if self._transport.is_active():
                raise self._no_tunnel(address, port) from error
            raise Lost(_said(error)) from error

    def _no_tunnel(self, address: str, port: int) -> NotReady:
        return NotReady(
            f"jump host {self.target} cannot connect to {address} port {port}", retry_after=AGAIN, code="TunnelFailed"
        )

    def start(self, channel: Any, command: str) -> None:
        """Send the command. Raises Unknown: it may have arrived."""
        try:
            channel.set_combine_stderr(True)
            channel.exec_command(command)
        except (paramiko.SSHException, EOFError, OSError) as error:
            if self._transport.is_active():
                raise Denied(
                    f"{self.target} runs no commands",
                    code="CommandRefused",
                    remedy="give the user a shell, and no ForceCommand",
                ) from error
            raise Unknown(f"the connection to {self.target} was lost while a command was sent: {_said(error)}") from error

    def files(self, channel: Any) -> Files:
        try:
            return Files(self.target, paramiko.SFTPClient(channel))
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise InvalidSpec(f"{self.target} offers no sftp", remedy="install openssh-sftp-server") from error

    def close(self) -> None:
        with suppress(OSError, EOFError, paramiko.SSHException):  # a tunnel says goodbye through a jump host that may be gone
            self._transport.close()


class Files:
    """sftp over one channel. Any error is mapped; the caller says when an outcome is unknown."""

    def __init__(self, target: Target, sftp: Any) -> None:
        self._target = target
        self._sftp = sftp

    def create(self, path: str) -> Any:
        """A new file that nobody else can read before `finish` sets its mode."""
        file = self._do(path, lambda: self._sftp.open(path, "wbx"))
        self._do(path, lambda: file.chmod(0o600))
        file.set_pipelined(True)
        return file

    def write(self, path: str, file: Any, data: bytes) -> None:
        self._do(path, lambda: file.write(data))

    def finish(self, path: str, file: Any, mode: int) -> None:
        """On disk, or an error."""
        self._do(path, file.flush)
        self._do(path, lambda: self._settle(file))
        self._do(path, lambda: file.chmod(mode))
        self._do(path, lambda: self._sftp._request(paramiko.sftp.CMD_EXTENDED, "fsync@openssh.com", file.handle))
        self._do(path, file.close)

    def _settle(self, file: Any) -> None:
        """Read the answers to all writes that were sent ahead. paramiko itself drops those that it does not wait for, and a write
        that failed on a full disk with them; like fsync, that is not in its public interface."""
        while file._reqs:
            self._sftp._read_response(file._reqs.popleft())

    def replace(self, old: str, new: str) -> None:
        self._do(new, lambda: self._sftp.posix_rename(old, new))

    def remove(self, path: str) -> None:
        self._sftp.remove(path)

    def limit(self, seconds: float) -> None:
        self._sftp.get_channel().settimeout(seconds)

    def close(self) -> None:
        with suppress(OSError, EOFError):
            self._sftp.close()

    def _do(self, path: str, act: Any) -> Any:
        where = f"{path} at {self._target}"
        try:
            return act()
        except TimeoutError as error:
            raise Unknown(f"{where} was not written in time") from error
        except (paramiko.SSHException, EOFError) as error:
            raise Unknown(f"the connection was lost while {where} was written") from error
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise NotFound(f"the folder of {where} is not there") from error
            if error.errno == errno.EACCES:
                raise Denied(f"{where} may not be written") from error
            if "closed" in str(error).lower():
                raise Unknown(f"the connection was lost while {where} was written") from error
            raise NotReady(f"{where} was not written: {_said(error)}", remedy="look whether its disk is full") from error


def connect(target: Target, keys: Identities, deadline: float, over: Connection | None = None) -> Connection:
    """Handshake, host key, login. deadline: monotonic seconds. Raises HostKeyChanged, Denied, NotReady, InvalidSpec; Lost of `over`."""
    transport = _handshake(target, deadline, over)
    try:
        _check_key(target, transport)
        with keys() as mine:
            _login(target, transport, mine)
    except BaseException:
        transport.close()
        raise
    transport.set_keepalive(KEEPALIVE)
    return Connection(target, transport, over)


def presented(target: Target, deadline: float, over: Connection | None = None) -> HostKey:
    """The key that the host shows in the handshake, which proves that it has it. Raises NotReady, InvalidSpec; Lost of `over`."""
    transport = _handshake(target, deadline, over)
    try:
        return _shown(transport)
    finally:
        transport.close()


def _handshake(target: Target, deadline: float, over: Connection | None) -> paramiko.Transport:
    sock = _dial(target, deadline, over)
    try:
        transport = paramiko.Transport(sock)
        transport.set_log_channel(LOG)
        left = _left(deadline)
        transport.banner_timeout = min(BANNER, left)
        transport.handshake_timeout = transport.banner_timeout
        transport.auth_timeout = min(AUTH, left)
        _prefer(transport, target)
        transport.start_client(timeout=min(BANNER, left))
        transport.get_remote_server_key()
    except paramiko.ssh_exception.IncompatiblePeer as error:
        sock.close()
        raise InvalidSpec(
            f"{target.host} speaks no common kind of SSH: {_said(error)}", code="IncompatiblePeer", remedy="upgrade its sshd"
        ) from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        sock.close()
        raise NotReady(
            f"{target.host} answers, but not (yet) as an SSH server: {_said(error)}", retry_after=AGAIN, code="NoHandshake"
        ) from error
    return transport


def _dial(target: Target, deadline: float, over: Connection | None) -> Any:
    if over is not None:
        return over.tunnel(target.address, target.port, _left(deadline))
    try:
        sock = _connected(target, deadline)
    except socket.gaierror as error:
        raise NotReady(
            f"the name {target.address} is not known: {_said(error)}", retry_after=AGAIN, code="NameUnknown"
        ) from error
    except TimeoutError as error:
        raise NotReady(f"{target.host} does not answer", retry_after=AGAIN, code="Timeout", remedy=_firewall(target)) from error
    except ConnectionRefusedError as error:
        raise NotReady(f"{target.host} refuses connections: no sshd is up", retry_after=AGAIN, code="Refused") from error
    except OSError as error:
        raise NotReady(f"{target.host} cannot be reached: {_said(error)}", retry_after=AGAIN, code="NoRoute") from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a command is a few small packets; else each waits 40 ms
    return sock


def _connected(target: Target, deadline: float) -> socket.socket:
    """To the first of its addresses that answers. Raises OSError, NotReady."""
    last: OSError | None = None
    for family, kind, protocol, _, where in _resolved(target, min(CONNECT, _left(deadline))):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(min(CONNECT, _left(deadline)))
            sock.connect(where)
        except OSError as error:
            sock.close()
            last = error
        else:
            return sock
    raise last or OSError("it has no address")


def _resolved(target: Target, seconds: float) -> Sequence[Any]:
    """getaddrinfo knows no time limit, so it is left behind in its thread when it takes too long."""
    answer: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(socket.getaddrinfo(target.address, target.port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:  # a label that is too long is a UnicodeError
            answer.put(error if isinstance(error, OSError) else socket.gaierror(str(error)))

    threading.Thread(target=ask, name=f"resolve-{target.address}", daemon=True).start()
    try:
        found = answer.get(timeout=seconds)
    except queue.Empty:
        message = f"the name {target.address} was not resolved within {seconds:.0f} s"
        raise NotReady(message, retry_after=AGAIN, code="NameUnknown", remedy="look at this machine's DNS") from None
    if isinstance(found, OSError):
        raise found
    return cast(Sequence[Any], found)


def _firewall(target: Target) -> str:
    return f"wait while it boots; else look whether port {target.port} is open to this machine, or name a jump host (spec.access.via)"


def _prefer(transport: paramiko.Transport, target: Target) -> None:
    """Ask for a key of the pinned kinds first: a host has several, and shows one."""
    names: list[str] = []
    for key in target.host_keys:
        names += ["rsa-sha2-512", "rsa-sha2-256"] if key.type == "ssh-rsa" else [key.type]
    options = transport.get_security_options()
    offered = list(options.key_types)
    options.key_types = sorted(offered, key=lambda name: (name not in names, offered.index(name)))


def _shown(transport: paramiko.Transport) -> HostKey:
    key = transport.get_remote_server_key()
    return HostKey(key.get_name(), key.asbytes())


def _check_key(target: Target, transport: paramiko.Transport) -> None:
    found = _shown(transport)
    if found not in target.host_keys:
        raise HostKeyChanged(
            f"{target.host} presents the host key {_fingerprint(found)}, and not the pinned one "
            f"({', '.join(_fingerprint(key) for key in target.host_keys)})",
            code="HostKeyChanged",
        )


def _login(target: Target, transport: paramiko.Transport, keys: Sequence[paramiko.PKey]) -> None:
    for key in keys:
        try:
            more = transport.auth_publickey(target.user, key)
        except paramiko.AuthenticationException as error:
            if transport.is_active() and not _late(error):
                continue
            raise NotReady(
                f"{target.host} broke off the login: {_said(error)}", retry_after=AGAIN, code="LoginBroken"
            ) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise NotReady(
                f"{target.host} broke off the login: {_said(error)}", retry_after=AGAIN, code="LoginBroken"
            ) from error
        if more:
            raise Denied(
                f"{target} wants more than a key: {', '.join(more)}", code="LoginRefused", remedy="let the key be enough there"
            )
        return
    raise _refused(target, [_fingerprint(HostKey(key.get_name(), key.asbytes())) for key in keys])


def _refused(target: Target, mine: Sequence[str]) -> SupplierError:
    return Denied(
        f"{target.host} does not let {target.user} in with the key {' or '.join(mine)}",
        code="LoginRefused",
        remedy=f"put the cluster's public key into ~{target.user}/.ssh/authorized_keys there, or name another user",
    )


def _fingerprint(key: HostKey) -> str:
    """As ssh-keygen -l shows it."""
    digest = base64.b64encode(hashlib.sha256(key.blob).digest()).decode().rstrip("=")
    return f"{key.type} SHA256:{digest}"


def _left(deadline: float) -> float:
    """Seconds, never so few that the answer is a time-out before anything was tried."""
    return max(0.1, deadline - time.monotonic())


def _late(error: BaseException) -> bool:
    return isinstance(error, TimeoutError) or "timeout" in str(error).lower()


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
