"""Who is talked to, and who is not: host keys, logins, jump hosts, and hosts that do not answer."""

import socket
import time

import pytest
from kubeup_core.errors import Denied, InvalidSpec, NotReady
from kubeup_core.executor import Executor, HostKeyChanged, HostKeyUnknown, Keys
from kubeup_core.supplier import Access
from kubeup_ssh_executor import SshExecutor, kubeup_register_executors
from kubeup_ssh_executor.client import load_key


def test_the_plugin_registers_the_kind_ssh():
    seen = {}

    class Register:
        def executor(self, *, kind, build):
            seen[kind] = build

    kubeup_register_executors(Register())
    assert seen == {"ssh": SshExecutor}


def test_the_executor_is_what_the_core_calls(executor):
    for name in ("execute", "upload", "host_key", "close"):
        assert getattr(executor, name).__code__.co_varnames[: getattr(executor, name).__code__.co_argcount] == (
            getattr(Executor, name).__code__.co_varnames
        )


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_host_is_known_by_its_pinned_key_of_each_kind(sshd, run, kind):
    host = sshd(host_key_kinds=(kind,))
    assert run(host.access(), "echo hello") == (0, b"hello\n")


def test_the_pinned_kind_of_key_is_asked_for_where_a_host_has_several(sshd, run):
    host = sshd(host_key_kinds=("ed25519", "ecdsa", "rsa"))
    for key in host.host_keys:
        assert run(host.access(host_key=key), "true") == (0, b"")


def test_any_of_several_pinned_keys_is_enough(sshd, run, sshd_key):
    host = sshd()
    assert run(host.access(host_key=f"{sshd_key}\n{host.host_key} root@here\n"), "true") == (0, b"")


def test_a_changed_host_key_is_refused_and_nothing_is_sent(sshd, run, sshd_key):
    host = sshd()
    with pytest.raises(HostKeyChanged, match=r"presents the host key ssh-ed25519 SHA256:\S+, and not the pinned one") as caught:
        run(host.access(host_key=sshd_key), "true")
    assert caught.value.decision == "Denied"
    assert caught.value.code == "HostKeyChanged"


def test_a_host_that_was_reinstalled_is_refused_also_on_a_kept_connection(sshd, run):
    host = sshd()
    access = host.access()
    run(access, "true")
    host.stop()
    host.new_host_keys()
    host.start()
    with pytest.raises(HostKeyChanged):
        run(access, "true")


def test_a_host_whose_key_nobody_told_is_refused_before_anything_is_sent(sshd, run):
    with pytest.raises(HostKeyUnknown, match="no host key is known") as caught:
        run(sshd().access(host_key=""), "true")
    assert caught.value.remedy


def test_a_host_of_another_kind_of_key_than_the_pinned_counts_as_changed(sshd, run, sshd_key):
    with pytest.raises(HostKeyChanged):
        run(sshd(host_key_kinds=("rsa",)).access(host_key=sshd_key), "true")


def test_known_hosts_are_read_where_the_access_names_no_key(sshd, login):
    host = sshd()
    lines = ("# comment", f"other,[127.0.0.1]:{host.port} {host.host_key} comment")
    one = SshExecutor(Keys(private_key=login[0], known_hosts=lines))
    assert list(one.execute(host.access(host_key=""), "true", b"", 10)) == [0]
    one.close()


def test_the_presented_key_can_be_asked_for_without_logging_in(sshd, executor, key_pair_of_nobody):
    host = sshd(authorized=key_pair_of_nobody[1])
    assert executor.host_key(host.access(host_key=""), 10) == host.host_key


def test_a_login_that_is_not_accepted_is_denied_with_the_remedy(sshd, run, key_pair_of_nobody):
    with pytest.raises(Denied, match=r"does not let \w+ in with the key ssh-ed25519 SHA256:") as caught:
        run(sshd(authorized=key_pair_of_nobody[1]).access(), "true")
    assert "authorized_keys" in caught.value.remedy


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_private_key_of_each_kind_logs_in(sshd, make_key_pair, kind):
    private, public = make_key_pair(kind)
    one = SshExecutor(Keys(private_key=private))
    assert list(one.execute(sshd(authorized=public).access(), "true", b"", 10)) == [0]
    one.close()


def test_keys_do_not_show_in_their_repr_nor_in_errors(login):
    assert "PRIVATE" not in repr(Keys(private_key=login[0]))
    with pytest.raises(InvalidSpec) as caught:
        load_key(login[0][:200])
    assert "AAAA" not in str(caught.value)


def test_a_private_key_with_a_passphrase_is_refused_when_the_executor_is_built():
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    secret = form.BestAvailableEncryption(b"secret")
    pem = Ed25519PrivateKey.generate().private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, secret)
    with pytest.raises(InvalidSpec, match="passphrase"):
        SshExecutor(Keys(private_key=pem.decode()))


# -- jump hosts ----------------------------------------------------------------------------------------------------------


def test_a_host_is_reached_through_a_jump_host_with_its_own_pinned_key(sshd, run):
    jump, host = sshd(), sshd()
    access = host.access(via=f"127.0.0.1:{jump.port}", via_host_key=jump.host_key)
    assert run(access, "echo $SSH_CONNECTION | cut -d' ' -f4") == (0, f"{host.port}\n".encode())
    assert (jump.connections(), host.connections()) == (1, 1)


def test_many_hosts_share_one_connection_to_their_jump_host(sshd, run):
    jump = sshd()
    for _ in range(3):
        host = sshd()
        assert run(host.access(via=f"127.0.0.1:{jump.port}", via_host_key=jump.host_key), "true") == (0, b"")
    assert jump.connections() == 1


def test_a_jump_host_that_came_back_is_used_again(sshd, run):
    jump, host = sshd(), sshd()
    access = host.access(via=f"127.0.0.1:{jump.port}", via_host_key=jump.host_key)
    run(access, "true")
    jump.stop()
    jump.start()
    assert run(access, "echo through") == (0, b"through\n")


def test_a_jump_host_with_a_changed_or_unknown_key_is_refused(sshd, run, sshd_key):
    jump, host = sshd(), sshd()
    with pytest.raises(HostKeyChanged, match=str(jump.port)):
        run(host.access(via=f"127.0.0.1:{jump.port}", via_host_key=sshd_key), "true")
    with pytest.raises(HostKeyUnknown, match=str(jump.port)):
        run(host.access(via=f"127.0.0.1:{jump.port}"), "true")


def test_the_key_behind_a_jump_host_can_be_asked_for(sshd, executor):
    jump, host = sshd(), sshd()
    access = host.access(host_key="", via=f"127.0.0.1:{jump.port}", via_host_key=jump.host_key)
    assert executor.host_key(access, 10) == host.host_key


def test_a_jump_host_that_forwards_nothing_is_told_with_the_remedy(sshd, run):
    jump, host = sshd(AllowTcpForwarding="no"), sshd()
    with pytest.raises(Denied, match="does not let connections through") as caught:
        run(host.access(via=f"127.0.0.1:{jump.port}", via_host_key=jump.host_key), "true")
    assert "AllowTcpForwarding" in caught.value.remedy


def test_a_host_that_is_down_behind_its_jump_host_is_not_ready(sshd, run, unused_port):
    jump = sshd()
    access = jump.access(port=unused_port, via=f"127.0.0.1:{jump.port}", via_host_key=jump.host_key)
    with pytest.raises(NotReady, match="cannot connect to 127"):
        run(access, "true")


@pytest.mark.parametrize("via", ["user@", "host:port", "[::1"])
def test_a_jump_host_that_cannot_be_understood_is_refused(run, via):
    with pytest.raises(InvalidSpec, match="jump host"):
        run(Access(kind="ssh", address="127.0.0.1", host_key="ssh-ed25519 AAAA", via=via if via != "[::1" else "[]:22"), "true")


# -- hosts that do not answer --------------------------------------------------------------------------------------------


def test_a_refused_connection_is_not_ready(run, unused_port):
    with pytest.raises(NotReady, match="refuses connections"):
        run(Access(kind="ssh", address="127.0.0.1", port=unused_port, host_key="ssh-ed25519 AAAA"), "true")


def test_a_host_that_says_nothing_is_not_ready_within_the_time(run):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        with pytest.raises(NotReady, match="not \\(yet\\) as an SSH server"):
            run(
                Access(kind="ssh", address="127.0.0.1", port=silent.getsockname()[1], host_key="ssh-ed25519 AAAA"),
                "true",
                timeout=1,
            )
        assert time.monotonic() - began < 10


def test_a_name_that_is_not_known_is_not_ready(run):
    with pytest.raises(NotReady, match="not known"):
        run(Access(kind="ssh", address="no-such-host.invalid", host_key="ssh-ed25519 AAAA"), "true")
