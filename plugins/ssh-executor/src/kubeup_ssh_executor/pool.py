"""Connections that are kept: a few per login, many commands on each, all of them bounded. Thread-safe; used by executor.py.

sshd allows ten sessions on a connection by default (MaxSessions), and drops logins when many come at once (MaxStartups). So one
connection is opened first and filled, and the next only when it is full; who waits for a connection that fails shares its error.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from kubeup_core.errors import Denied, NotReady, SupplierError

from .client import Connection, Full, Lost
from .targets import Target

SESSIONS = 8
"""On one connection, unless the host allows fewer."""

PER_TARGET = 4
ROUNDS = 3
"""Connections that must take no session at all before it is said that the host allows none."""

TOTAL = 128
"""Connections, unless the caller knows how many hosts it goes round: one that is closed before its next turn is made anew each time."""

IDLE = 600.0
"""Seconds after which an unused connection is closed."""

Connect = Callable[[Target, float, Connection | None], Connection]
"""connect(target, deadline, over)."""


@dataclass(eq=False)
class Session:
    """A channel, and the connection that it counts on until `Pool.done`."""

    connection: Connection
    channel: Any


@dataclass
class _Host:
    """attempts: connections tried so far; error: how the last one failed."""

    connections: list[Connection] = field(default_factory=list)
    opening: bool = False
    attempts: int = 0
    error: SupplierError | None = None


class Pool:
    def __init__(self, connect: Connect, total: int = TOTAL) -> None:
        self._total = total
        self._connect = connect
        self._hosts: dict[Target, _Host] = {}
        self._changed = threading.Condition()
        self._closed = False

    def session(self, target: Target, deadline: float) -> Session:
        """A channel for one command. A connection that turns out to be dead is replaced, once. Raises what connecting raises."""
        lost, full = False, 0
        while True:
            connection = self._take(target, deadline)
            try:
                return Session(connection, connection.session(max(0.1, deadline - time.monotonic())))
            except Full as error:
                full += not self._filled(connection)
                if full >= ROUNDS:
                    remedy = "raise MaxSessions in its sshd_config"
                    raise Denied(f"{target} allows no sessions", code="NoSessions", remedy=remedy) from error
            except Lost as error:
                self._give_up(connection)
                self._give_back(connection)
                if lost:
                    raise NotReady(f"the connection to {target} breaks again and again: {error}", retry_after=5) from error
                lost = True
            except BaseException:
                self._give_back(connection)
                raise

    def done(self, session: Session, *, abandoned: bool = False) -> None:
        """With a command that was abandoned its connection retires: sshd counts the session until the command ends, and it may
        have been the connection that went silent."""
        if abandoned:
            session.connection.retired = True
        with suppress(OSError, EOFError):
            session.channel.close()
        self._give_back(session.connection)

    def over(self, target: Target, use: Callable[[Connection], Any], deadline: float) -> Any:
        """Make something that runs through a jump host. The result's connection counts as a tunnel until it is closed."""
        lost = False
        while True:
            connection = self._take(target, deadline)
            try:
                return use(connection)
            except Lost as error:
                self._give_up(connection)
                if lost:
                    raise NotReady(
                        f"the connection to jump host {target} breaks again and again: {error}", retry_after=5
                    ) from error
                lost = True
            finally:
                self._give_back(connection)

    def connections(self) -> list[Connection]:
        """Those that are open."""
        with self._changed:
            return [c for host in self._hosts.values() for c in host.connections]

    def close(self) -> None:
        """Commands that run are lost; nothing can be started any more."""
        with self._changed:
            self._closed = True
            found = [c for host in self._hosts.values() for c in host.connections]
            self._hosts.clear()
            self._changed.notify_all()
        for connection in found:
            connection.close()

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _take(self, target: Target, deadline: float) -> Connection:
        """With one session counted on it."""
        waited: int | None = None
        while True:
            over: list[Connection] = []
            try:
                with self._changed:
                    over = self._tidy()
                    host = self._hosts.setdefault(target, _Host())
                    if waited is not None and host.attempts > waited and host.error is not None:
                        raise copy.copy(host.error) from host.error
                    working = [c for c in host.connections if not c.retired]
                    free = [c for c in working if c.sessions < c.capacity]
                    if free:
                        best = min(free, key=lambda c: c.sessions)
                        best.sessions += 1
                        best.used = time.monotonic()
                        return best
                    if not host.opening and len(working) < PER_TARGET:
                        over += self._make_room()
                        host.opening = True
                        break
                    waited = host.attempts if host.opening else None
                    if not self._changed.wait(max(0.0, deadline - time.monotonic())) or time.monotonic() >= deadline:
                        raise NotReady(f"all connections to {target} are busy", retry_after=2, code="Busy")
            finally:
                for connection in over:
                    connection.close()
        return self._open(target, host, deadline)

    def _open(self, target: Target, host: _Host, deadline: float) -> Connection:
        try:
            if target.via is None:
                connection = self._connect(target, deadline, None)
            else:
                connection = self.over(target.via, lambda jump: self._connect(target, deadline, jump), deadline)
        except BaseException as error:
            with self._changed:
                host.opening, host.attempts = False, host.attempts + 1
                host.error = error if isinstance(error, SupplierError) else None
                self._changed.notify_all()
            raise
        with self._changed:
            host.opening, host.attempts, host.error = False, host.attempts + 1, None
            if connection.over is not None:
                connection.over.tunnels += 1
            connection.sessions, connection.capacity, connection.used = 1, SESSIONS, time.monotonic()
            if not self._closed:
                host.connections.append(connection)
                self._hosts[target] = host
            self._changed.notify_all()
        return connection

    def _filled(self, connection: Connection) -> bool:
        """Ask it for no more than it has. False when it has none, and yet is full: sshd still counts what was abandoned on it, or
        allows none at all; another connection will tell."""
        with self._changed:
            connection.sessions -= 1
            connection.capacity = min(connection.capacity, connection.sessions)
            connection.retired = connection.retired or not connection.sessions
            self._changed.notify_all()
            return connection.sessions > 0

    def _give_back(self, connection: Connection) -> None:
        with self._changed:
            connection.sessions = max(0, connection.sessions - 1)
            connection.used = time.monotonic()
            self._changed.notify_all()

    def _give_up(self, connection: Connection) -> None:
        """Nothing more is started on it. One that only did not answer in time is closed when nobody uses it any more: what others run
        on it may still come to its end."""
        with self._changed:
            if connection.alive:
                connection.retired = True
                self._changed.notify_all()
                return
            host = self._hosts.get(connection.target)
            if host is not None and connection in host.connections:
                self._remove(host, connection)
            self._changed.notify_all()
        connection.close()

    def _remove(self, host: _Host, connection: Connection) -> None:
        host.connections.remove(connection)
        if connection.over is not None:
            connection.over.tunnels -= 1

    def _tidy(self) -> list[Connection]:
        """Dead and idle ones, taken out: to be closed without the lock."""
        if self._closed:
            raise NotReady("kubeup is stopping")
        now, over = time.monotonic(), []
        for target, host in list(self._hosts.items()):
            for connection in list(host.connections):
                unused = not connection.sessions and not connection.tunnels
                idle = unused and (connection.retired or now - connection.used > IDLE)
                if idle or not connection.alive:
                    self._remove(host, connection)
                    over.append(connection)
            if not host.connections and not host.opening:
                del self._hosts[target]
        return over

    def _make_room(self) -> list[Connection]:
        found = [(host, c) for host in self._hosts.values() for c in host.connections]
        if len(found) < self._total:
            return []
        idle = [(host, c) for host, c in found if not c.sessions and not c.tunnels]
        if not idle:
            raise NotReady(f"all of {self._total} SSH connections are in use", retry_after=5, code="Busy")
        host, oldest = min(idle, key=lambda one: one[1].used)
        self._remove(host, oldest)
        return [oldest]
