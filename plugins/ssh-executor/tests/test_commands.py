"""Running scripts: output as it comes, input of any size, root, time limits, and what a lost connection means."""

import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from kubeup_core.errors import Denied, InvalidSpec, NotReady, Unknown
from kubeup_core.executor import Keys
from kubeup_ssh_executor import SshExecutor


def test_output_and_errors_come_in_one_stream_and_the_exit_code_ends_it(sshd, run):
    assert run(sshd().access(), "echo out; echo err >&2; exit 7") == (7, b"out\nerr\n")


def test_a_script_runs_in_a_posix_shell_as_root_with_quotes_and_lines_as_written(sshd, run):
    script = "id -u\nprintf '%s\\n' \"it's \\\"so\\\"\" 'a $HOME `b`'\n"
    code, output = run(sshd().access(), script)
    assert (code, output) == (0, b'0\nit\'s "so"\na $HOME `b`\n')


def test_output_is_given_while_the_script_still_runs(sshd, executor, tmp_path):
    gate = tmp_path / "gate"
    stream = executor.execute(sshd().access(), f"echo first; while [ ! -e {gate} ]; do sleep 0.05; done; echo last", b"", 20)
    assert next(stream) == b"first\n"
    gate.touch()
    assert list(stream) == [b"last\n", 0]


def test_a_large_input_that_is_echoed_back_blocks_nothing(sshd, run):
    data = bytes(range(256)) * 40_000
    code, output = run(sshd().access(), "cat; cat /dev/null >&2", data)
    assert (code, len(output)) == (0, len(data))
    assert output == data


def test_input_that_the_script_does_not_read_is_no_error(sshd, run):
    assert run(sshd().access(), "echo done", b"x" * 8_000_000) == (0, b"done\n")


def test_a_script_without_input_reads_its_end_at_once(sshd, run):
    assert run(sshd().access(), "wc -c") == (0, b"0\n")


def test_a_script_too_long_for_one_argument_is_refused_with_the_remedy(sshd, run):
    with pytest.raises(InvalidSpec, match="131071") as caught:
        run(sshd().access(), "#" * 140_000)
    assert "stdin" in caught.value.remedy


def test_a_script_over_its_time_is_an_unknown_outcome(sshd, run):
    access = sshd().access()
    run(access, "true")
    began = time.monotonic()
    with pytest.raises(Unknown, match="may still run"):
        run(access, "exec sleep 60", timeout=0.5)
    assert time.monotonic() - began < 10
    assert run(access, "echo next") == (0, b"next\n")


def test_a_script_that_talks_all_the_time_is_over_in_time_too(sshd, run):
    with pytest.raises(Unknown):
        run(sshd().access(), "while :; do echo on and on; done", timeout=1)


def test_what_a_script_leaves_running_does_not_keep_the_stream_open(sshd, run):
    began = time.monotonic()
    assert run(sshd().access(), "sleep 60 & echo started") == (0, b"started\n")
    assert time.monotonic() - began < 20


def test_a_script_that_is_killed_has_an_exit_code(sshd, run):
    code, _ = run(sshd().access(), "kill -9 $$")
    assert code == 137


def test_a_host_that_dies_in_the_middle_is_an_unknown_outcome_and_used_again_when_it_is_back(sshd, executor, run):
    host = sshd()
    stream = executor.execute(host.access(), "echo up; sleep 60", b"", 30)
    assert next(stream) == b"up\n"
    host.stop()
    with pytest.raises(Unknown, match="nobody knows"):
        list(stream)
    with pytest.raises(NotReady, match="refuses connections"):
        run(host.access(), "true")
    host.start()
    assert run(host.access(), "echo back") == (0, b"back\n")


def test_a_connection_that_died_meanwhile_is_replaced_before_anything_is_sent(sshd, run):
    host = sshd()
    run(host.access(), "true")
    host.stop()
    host.start()
    assert run(host.access(), "echo again") == (0, b"again\n")


def test_a_stream_that_nobody_reads_to_its_end_is_given_back(sshd, executor, run):
    host = sshd(MaxSessions="2")
    for _ in range(5):
        stream = executor.execute(host.access(), "echo one; sleep 60", b"", 30)
        assert next(stream) == b"one\n"
        stream.close()
    assert run(host.access(), "echo free") == (0, b"free\n")


# -- many at once --------------------------------------------------------------------------------------------------------


def test_fifty_scripts_at_once_share_few_connections(sshd, run):
    host = sshd()
    most = []

    def one(n: int) -> tuple[int, bytes]:
        answer = run(host.access(), f"echo {n}; sleep 0.05", timeout=30)
        most.append(host.connections())
        return answer

    with ThreadPoolExecutor(50) as threads:
        assert list(threads.map(one, range(50))) == [(0, f"{n}\n".encode()) for n in range(50)]
    assert 1 <= max(most) <= 4


def test_a_host_that_allows_fewer_sessions_is_asked_for_no_more(sshd, run):
    host = sshd(MaxSessions="2")
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda n: run(host.access(), f"echo {n}; sleep 0.1", timeout=30), range(12)))
    assert answers == [(0, f"{n}\n".encode()) for n in range(12)]


def test_one_connection_is_kept_and_used_again(sshd, run, executor):
    host = sshd()
    for _ in range(5):
        run(host.access(), "true")
    assert host.connections() == 1
    executor.close()
    with pytest.raises(NotReady, match="stopping"):
        run(host.access(), "true")


def test_those_that_wait_for_a_connection_that_fails_share_its_error(run):
    import socket

    from kubeup_core.supplier import Access

    with socket.socket() as silent:  # takes connections and never says a word
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        access = Access(kind="ssh", address="127.0.0.1", port=silent.getsockname()[1], user="root", host_key="ssh-ed25519 AAAA")
        began = time.monotonic()

        def one(_: int) -> type[BaseException]:
            with pytest.raises(NotReady) as caught:
                run(access, "true", timeout=1)
            return caught.type

        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(one, range(8))) == {NotReady}
        assert time.monotonic() - began < 15


# -- root ----------------------------------------------------------------------------------------------------------------


def test_another_user_becomes_root_by_sudo(sshd, run, users):
    assert run(sshd().access(user="kubeup"), "id -u; cat; exit 3", b"in") == (3, b"0\nin")


def test_sudo_that_asks_for_a_password_is_told_with_the_remedy(sshd, run, users):
    with pytest.raises(Denied, match=r"may not become root without a password: .*password is required") as caught:
        run(sshd().access(user="asks"), "touch /var/never")
    assert "asks ALL=(ALL) NOPASSWD: ALL" in caught.value.remedy


def test_the_password_that_sudo_asks_for_is_given_and_never_reaches_the_script(sshd, login, password, users):
    executor = SshExecutor(Keys(private_key=login[0]), sudo_password=password)
    try:
        access = sshd().access(user="asks")
        for _ in range(2):
            parts = list(executor.execute(access, "id -u; cat", b"in", 20))
            assert (b"".join(parts[:-1]), parts[-1]) == (b"0\nin", 0)
        access = sshd().access(user="kubeup")
        parts = list(executor.execute(access, "id -u; cat", b"in", 20))
        assert (b"".join(parts[:-1]), parts[-1]) == (b"0\nin", 0), "where sudo does not ask it is not told"
    finally:
        executor.close()


def test_a_wrong_password_for_sudo_is_told(sshd, login, users):
    executor = SshExecutor(Keys(private_key=login[0]), sudo_password="wrong")
    try:
        with pytest.raises(Denied, match="may not become root with the password that was given"):
            list(executor.execute(sshd().access(user="asks"), "touch /var/never", b"", 30))
    finally:
        executor.close()


def test_keys_of_an_agent_log_in(sshd, login, tmp_path, monkeypatch):
    socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while not socket.exists():
            assert time.monotonic() < until
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        executor = SshExecutor(Keys(private_key=""), agent=True)
        host = sshd()
        with pytest.raises(NotReady, match="holds no key"):
            list(executor.execute(host.access(), "true", b"", 20))
        subprocess.run(["ssh-add", "-q", "-"], input=login[0].encode(), check=True)
        assert list(executor.execute(host.access(), "true", b"", 20)) == [0]
        executor.close()
    finally:
        agent.terminate()
        agent.wait()


def test_a_login_without_a_shell_is_told(sshd, run, users):
    with pytest.raises(Denied, match="not available"):
        run(sshd().access(user="noshell"), "true")


def test_nothing_waits_for_ever_while_threads_come_and_go(sshd, run):
    before = threading.active_count()
    host = sshd()
    for _ in range(5):
        run(host.access(), "true", b"x" * 100_000)
    assert threading.active_count() <= before + 3
