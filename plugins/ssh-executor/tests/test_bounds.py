"""What is kept and for how long: idle connections, too many connections, connections whose command was given up."""

import threading
import time
from types import SimpleNamespace

import pytest
from kubeup_core.errors import Denied, NotReady, Unknown
from kubeup_core.supplier import Access
from kubeup_ssh_executor import client, pool
from kubeup_ssh_executor.client import Lost
from kubeup_ssh_executor.targets import Target


def long_ago(executor) -> None:
    for connection in executor._pool.connections():
        connection.used -= 2 * pool.IDLE


def test_a_connection_that_nobody_used_for_long_is_closed(sshd, run, executor):
    first, second = sshd(), sshd()
    run(first.access(), "true")
    long_ago(executor)
    run(second.access(), "true")
    assert [c.target.port for c in executor._pool.connections()] == [second.port]


def test_a_jump_host_is_not_idle_while_something_goes_through_it(sshd, run, executor):
    jump, host, other = sshd(), sshd(), sshd()
    access = host.access(via=f"127.0.0.1:{jump.port}", via_host_key=jump.host_key)
    run(access, "true")
    stream = executor.execute(access, "echo up; cat", b"", 20)
    assert next(stream) == b"up\n"
    long_ago(executor)
    run(other.access(), "true")
    assert list(stream) == [0]


def test_the_oldest_unused_connection_makes_room_for_a_new_one(sshd, run, executor):
    executor._pool._total = 2
    hosts = [sshd() for _ in range(3)]
    for host in hosts:
        run(host.access(), "true")
    assert [c.target.port for c in executor._pool.connections()] == [hosts[1].port, hosts[2].port]


def test_when_all_connections_are_busy_the_next_one_is_put_off(sshd, run, executor):
    executor._pool._total = 1
    first, second = sshd(), sshd()
    stream = executor.execute(first.access(), "echo up; sleep 20", b"", 30)
    assert next(stream) == b"up\n"
    with pytest.raises(NotReady, match="in use"):
        run(second.access(), "true")
    stream.close()


def test_who_waits_for_a_busy_host_is_put_off_when_the_time_is_over(sshd, run, executor, monkeypatch):
    monkeypatch.setattr(pool, "PER_TARGET", 1)
    monkeypatch.setattr(pool, "SESSIONS", 1)
    host = sshd()
    stream = executor.execute(host.access(), "echo up; sleep 20", b"", 30)
    assert next(stream) == b"up\n"
    with pytest.raises(NotReady, match="busy"):
        run(host.access(), "true", timeout=0.5)
    stream.close()


def test_after_a_command_that_was_given_up_the_next_one_takes_another_connection(sshd, run, executor):
    host = sshd()
    run(host.access(), "true")  # connected, so that what takes too long is the command
    with pytest.raises(Unknown):
        run(host.access(), "sleep 20", timeout=0.5)
    before = executor._pool.connections()
    run(host.access(), "true")
    after = executor._pool.connections()
    assert len(after) == 1
    assert after != before


def test_what_runs_beside_a_session_that_did_not_open_in_time_comes_to_its_end(sshd, run, executor, monkeypatch, tmp_path):
    """Somebody's connection is nobody else's to cut: it is closed when nobody uses it any more."""
    host = sshd()
    waiting = f"echo up; until [ -e {tmp_path}/go ]; do sleep 0.05; done; echo to the end"
    stream = executor.execute(host.access(), waiting, b"", 30)
    assert next(stream) == b"up\n"
    (busy,) = executor._pool.connections()

    def late(timeout):
        raise Lost("Timeout opening channel.")

    monkeypatch.setattr(busy, "session", late)
    assert run(host.access(), "echo another") == (0, b"another\n")
    assert busy in executor._pool.connections()
    (tmp_path / "go").touch()
    assert list(stream) == [b"to the end\n", 0]
    run(host.access(), "true")
    assert busy not in executor._pool.connections()


def test_a_host_that_allows_no_sessions_is_told_with_the_remedy(sshd, run):
    with pytest.raises(Denied, match="allows no sessions") as caught:
        run(sshd(MaxSessions="0").access(), "true")
    assert "MaxSessions" in caught.value.remedy


class Idle:
    """A connection that does nothing."""

    def __init__(self, target):
        self.target, self.over, self.alive, self.retired = target, None, True, False
        self.sessions = self.tunnels = self.capacity = 0
        self.used = 0.0

    def session(self, timeout):
        return SimpleNamespace(close=self.close)

    def close(self):
        pass


@pytest.mark.parametrize(("total", "connected"), [(300, 200), (100, 600)])
def test_what_is_used_each_round_keeps_its_connection_when_the_pool_knows_how_many_there_are(total, connected):
    made = []

    def connect(target, deadline, over):
        made.append(target)
        return Idle(target)

    kept = pool.Pool(connect, total)
    targets = [Target(f"h{n}", 22, "root", ()) for n in range(200)]
    for _ in range(3):
        for target in targets:
            kept.done(kept.session(target, time.monotonic() + 20))
    assert len(made) == connected


def test_a_connection_is_kept_alive(sshd, run, executor):
    run(sshd().access(), "true")
    (connection,) = executor._pool.connections()
    assert connection._transport.packetizer._Packetizer__keepalive_interval == client.KEEPALIVE


def test_a_name_that_does_not_resolve_in_time_is_given_up(run, sshd_key, monkeypatch):
    never = threading.Event()
    monkeypatch.setattr(client, "CONNECT", 0.1)
    monkeypatch.setattr(client.socket, "getaddrinfo", lambda *args, **more: never.wait(20))
    try:
        with pytest.raises(NotReady, match="was not resolved") as caught:
            run(Access(kind="ssh", address="slow.example.org", host_key=sshd_key), "true")
        assert caught.value.code == "NameUnknown"
    finally:
        never.set()
