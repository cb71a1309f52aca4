"""Reach: whoever can runs something on a machine, and nobody is believed who was not vouched for."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from kubeup_core import errors
from kubeup_core.controllers import ssh_keys
from kubeup_core.controllers.access import OUTPUT, Executors, Finished, Reach, not_reached
from kubeup_core.controllers.ssh_keys import ensure_ssh_keys, on_console, public_key, values
from kubeup_core.executor import HostKeyChanged, HostKeyUnknown, Keys
from kubeup_core.kinds import Cluster, Machine, Provider, Secret
from kubeup_core.kinds.builtins import Event
from kubeup_core.kinds.machine import AccessStatus, Address
from kubeup_core.plugins import ExecutorType, discover
from kubeup_core.runtime.calls import Calls, InProgress
from kubeup_core.runtime.controller import Key
from kubeup_core.supplier import Access
from kubeup_core.testing.harness import Harness


def host_key(n: int = 1) -> str:
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes([n]) * 32
    return f"ssh-ed25519 {base64.b64encode(blob).decode()}"


@dataclass
class Remote:
    """An executor, and what was asked of all that were built."""

    presents: dict[str, str] = field(default_factory=dict)  # address -> host key
    ran: list[tuple[Access, str, bytes, float]] = field(default_factory=list)
    answer: list[bytes | int] | BaseException = field(default_factory=lambda: [b"done\n", 0])
    built: list[Keys] = field(default_factory=list)
    closed: int = 0
    gate: threading.Event | None = None

    def build(self, keys: Keys) -> Remote:
        self.built.append(keys)
        return self

    def execute(self, access: Access, script: str, stdin: bytes, timeout: float) -> Iterator[bytes | int]:
        if self.gate is not None:
            self.gate.wait(10)
        self.ran.append((access, script, stdin, timeout))
        if isinstance(self.answer, BaseException):
            raise self.answer
        yield from self.answer

    def upload(self, access: Access, path: str, content: Iterable[bytes], mode: int, timeout: float) -> None:
        raise NotImplementedError

    def host_key(self, access: Access, timeout: float) -> str:
        return self.presents[access.address]

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def remote() -> Remote:
    return Remote()


@pytest.fixture
def h(tmp_path: Path, remote: Remote) -> Iterator[Harness]:
    """Two Ready machines of Cluster demo, whose key pair is there."""
    kind = ExecutorType(kind="ssh", build=remote.build, distribution="kubeup-ssh-executor", version="1")
    plugins = replace(discover(), executors={"ssh": kind})
    with Harness(tmp_path, cloud={"boot_seconds": (1, 1)}, plugins=plugins) as harness:
        harness.demo(2)
        harness.ready(2)
        ensure_ssh_keys(harness.manager.env, harness.get(Cluster, "demo"))
        yield harness


def reach(h: Harness) -> Reach:
    return Reach(h.manager.env, "machine")


def by_ssh(h: Harness, index: int = 0, **access: Any) -> Machine:
    """A machine as a supplier describes it that reaches its machines over SSH."""
    machine = h.machines()[index].model_copy(deep=True)
    machine.status.access = AccessStatus(**{"kind": "ssh", "address": "192.0.2.1", "host_key": host_key(), **access})
    return machine


def allow(h: Harness, **access: Any) -> None:
    h.edit(Provider, "sim", spec={"access": access})
    h.settle()


def secret(h: Harness) -> dict[str, str]:
    return values(h.get(Secret, "demo-ssh"))


# -- whoever can ---------------------------------------------------------------------------------------------------------


def test_a_place_that_runs_scripts_itself_is_asked_with_the_machines_mark(h: Harness, remote: Remote) -> None:
    machine = h.machines()[0]
    assert reach(h).run(machine, "echo hello; exit 3") == Finished(3, b"hello\n")
    assert reach(h).run(machine, "cat", b"input") == Finished(0, b"input")
    assert remote.ran == []


def test_a_machine_over_ssh_is_reached_by_the_executor_with_the_clusters_key(h: Harness, remote: Remote) -> None:
    assert reach(h).run(by_ssh(h), "true", b"in", 12.0) == Finished(0, b"done\n")
    access, script, stdin, timeout = remote.ran[0]
    assert (access.address, access.port, access.user, access.host_key) == ("192.0.2.1", 22, "kubeup", host_key())
    assert (script, stdin, timeout) == ("true", b"in", 12.0)
    assert remote.built == [Keys(private_key=secret(h)["ssh-privatekey"])]


def test_one_executor_serves_a_cluster_until_its_key_changes(h: Harness, remote: Remote) -> None:
    for _ in range(2):
        reach(h).run(by_ssh(h), "true")
    assert (len(remote.built), remote.closed) == (1, 0)
    changed = h.get(Secret, "demo-ssh")
    changed.data = {**(changed.data or {}), "ssh-privatekey": base64.b64encode(ssh_keys._made().encode()).decode()}
    h.client.update(changed)
    reach(h).run(by_ssh(h), "true")
    assert (len(remote.built), remote.closed) == (2, 1)


def test_executors_are_closed_when_the_process_ends(h: Harness, remote: Remote) -> None:
    reach(h).run(by_ssh(h), "true")
    h.stop()
    assert remote.closed == 1
    h.start()


def test_a_reconcile_is_never_held_up(h: Harness, remote: Remote) -> None:
    env = h.manager.env
    woken = threading.Event()
    seen: list[tuple[str, Key]] = []

    def wake(controller: str, key: Key, after: float = 0.0) -> None:
        seen.append((controller, key))
        woken.set()

    calls = Calls(env.clock, env.places, wake)
    one = Reach(replace(env, calls=calls), "machine")
    remote.gate = threading.Event()
    machine = by_ssh(h)
    with pytest.raises(InProgress):
        one.run(machine, "long")
    with pytest.raises(InProgress):
        one.run(machine, "long")
    remote.gate.set()
    assert woken.wait(10)
    assert seen[0] == ("machine", Key("default", machine.name))
    assert one.run(machine, "long") == Finished(0, b"done\n")
    assert len(remote.ran) == 1
    calls.close()


def test_what_one_machine_refuses_is_no_word_about_its_provider(h: Harness, remote: Remote) -> None:
    place = h.manager.env.places.get("sim")
    assert place is not None
    for error in (errors.Denied("no"), errors.Unknown("lost")):
        remote.answer = error
        with pytest.raises(type(error)):
            reach(h).run(by_ssh(h), "true")
    assert (place.denied, place.last_unknown) == ("", None)


def test_a_stream_without_an_exit_code_is_an_unknown_outcome(h: Harness, remote: Remote) -> None:
    remote.answer = [b"half"]
    with pytest.raises(errors.Unknown, match="nobody knows"):
        reach(h).run(by_ssh(h), "true")


def test_an_executor_that_fails_in_its_own_code_is_an_unknown_outcome(h: Harness, remote: Remote) -> None:
    remote.answer = AttributeError("x")
    with pytest.raises(errors.Unknown, match="AttributeError"):
        reach(h).run(by_ssh(h), "true")


def test_more_output_than_fits_is_refused(h: Harness, remote: Remote) -> None:
    remote.answer = [b"x" * (OUTPUT // 2 + 1), b"x" * (OUTPUT // 2 + 1), 0]
    with pytest.raises(errors.InvalidSpec, match="printed more"):
        reach(h).run(by_ssh(h), "true")


def test_a_place_without_any_way_in_says_so(h: Harness) -> None:
    machine = by_ssh(h, kind="none")
    with pytest.raises(errors.InvalidSpec, match="no way into its machines") as caught:
        reach(h).run(machine, "true")
    found = not_reached(caught.value, machine)
    assert (found.reason, found.stalled) == ("NoAccess", True)


def test_a_kind_that_no_plugin_serves_names_what_to_install(h: Harness) -> None:
    with pytest.raises(errors.InvalidSpec, match="reached by telnet") as caught:
        reach(h).run(by_ssh(h, kind="telnet"), "true")
    assert "pip install kubeup-telnet-executor" in caught.value.remedy


def test_a_machine_that_is_not_known_yet_is_waited_for(h: Harness) -> None:
    machine = h.machines()[0].model_copy(deep=True)
    machine.status.access = None
    with pytest.raises(errors.NotReady):
        reach(h).run(machine, "true")
    machine.status.resolved = None
    with pytest.raises(errors.NotReady, match="cannot be used"):
        reach(h).run(machine, "true")


def test_without_the_clusters_key_nothing_is_tried(h: Harness, remote: Remote) -> None:
    h.delete(Secret, "demo-ssh")
    h.settle()
    with pytest.raises(errors.NotReady, match="default/demo-ssh"):
        reach(h).run(by_ssh(h), "true")
    assert remote.ran == []


# -- Provider.spec.access ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "said", "used"),
    [
        ("auto", "", "203.0.113.5"),
        ("auto", "192.0.2.1", "192.0.2.1"),
        ("public", "192.0.2.1", "203.0.113.5"),
        ("private", "192.0.2.1", "10.0.0.5"),
    ],
)
def test_the_provider_says_which_address_is_used(h: Harness, remote: Remote, address: str, said: str, used: str) -> None:
    allow(h, address=address, user="admin", port=2222)
    machine = by_ssh(h, address=said)
    machine.status.addresses = [
        Address(type="InternalIP", address="10.0.0.5"),
        Address(type="ExternalIP", address="203.0.113.5"),
    ]
    reach(h).run(machine, "true")
    access = remote.ran[0][0]
    assert (access.address, access.user, access.port) == (used, "admin", 2222)


def test_what_the_supplier_says_of_user_and_port_wins(h: Harness, remote: Remote) -> None:
    allow(h, user="admin", port=2222)
    reach(h).run(by_ssh(h, user="root", port=2200), "true")
    assert (remote.ran[0][0].user, remote.ran[0][0].port) == ("root", 2200)


def test_a_public_address_that_is_not_there_is_told_with_the_remedy(h: Harness) -> None:
    allow(h, address="public")
    machine = by_ssh(h)
    machine.status.addresses = [Address(type="InternalIP", address="10.0.0.5")]
    with pytest.raises(errors.NotReady, match="no public address") as caught:
        reach(h).run(machine, "true")
    assert "spec.access.address: private" in caught.value.remedy


@pytest.mark.parametrize(
    ("via", "used"),
    [
        ("bastion.example", "kubeup@bastion.example"),
        ("ops@bastion.example:2222", "ops@[bastion.example]:2222"),
        ("ops@[2001:db8::1]:2222", "ops@[2001:db8::1]:2222"),
    ],
)
def test_a_jump_host_is_used_with_the_key_that_the_provider_gives(h: Harness, remote: Remote, via: str, used: str) -> None:
    allow(h, via=via, viaHostKey=host_key(7))
    reach(h).run(by_ssh(h), "true")
    assert (remote.ran[0][0].via, remote.ran[0][0].via_host_key) == (used, host_key(7))


def test_a_jump_host_whose_key_nobody_told_is_refused_with_its_own_words(h: Harness, remote: Remote) -> None:
    allow(h, via="bastion.example")
    with pytest.raises(HostKeyUnknown, match=r"jump host bastion\.example") as caught:
        reach(h).run(by_ssh(h), "true")
    assert "spec.access.viaHostKey in Provider sim" in caught.value.remedy
    assert remote.ran == []


def test_the_key_of_a_jump_host_may_be_in_the_clusters_known_hosts(h: Harness, remote: Remote) -> None:
    allow(h, via="ops@bastion.example:2222")
    ssh_keys.pin(h.manager.env, "default", "demo", "[bastion.example]:2222", host_key(7), "")
    reach(h).run(by_ssh(h), "true")
    assert remote.ran[0][0].via_host_key == host_key(7)


def test_a_machine_may_be_the_jump_host_of_the_others_and_is_reached_directly_itself(h: Harness, remote: Remote) -> None:
    jump = h.machines()[0]
    allow(h, via=jump.name)
    jump.status.access = AccessStatus(kind="ssh", address="203.0.113.9", host_key=host_key(9))
    h.client.update_status(jump)
    reach(h).run(by_ssh(h, 1), "true")
    access = remote.ran[0][0]
    assert (access.via, access.via_host_key) == ("kubeup@203.0.113.9", host_key(9))
    reach(h).run(by_ssh(h, 0), "true")
    assert remote.ran[1][0].via == ""


@pytest.mark.parametrize(
    ("field_", "value"),
    [("via", "a b"), ("via", "user@"), ("via", "host:port"), ("viaHostKey", "SHA256:abc"), ("hostKeys", "any")],
)
def test_a_bad_way_in_is_refused_when_it_is_written(h: Harness, field_: str, value: str) -> None:
    from kubeup_core.statuses import StatusError

    with pytest.raises(StatusError, match=field_):
        h.edit(Provider, "sim", spec={"access": {field_: value}})


# -- whom to trust -------------------------------------------------------------------------------------------------------


def console(h: Harness, monkeypatch: pytest.MonkeyPatch, text: str) -> list[str]:
    asked: list[str] = []

    def read(ref: Any, limit: int) -> str:
        asked.append(ref.id)
        return text

    monkeypatch.setattr(h.suppliers().machines, "console", read)
    return asked


BLOCK = f"""[    1.0] systemd[1]: Started\r
-----BEGIN SSH HOST KEY KEYS-----\r
ecdsa-sha2-nistp256 AAAAgarbledgarbledgarbledgarbledgarbledgarbledgarbled root@box\r
{host_key(4)} root@box\r
-----END SSH HOST KEY KEYS-----\r
login: """


def test_a_key_that_nobody_told_is_refused_and_the_words_say_what_to_do(h: Harness, remote: Remote) -> None:
    machine = by_ssh(h, host_key="")
    with pytest.raises(HostKeyUnknown, match="nobody has told the host key") as caught:
        reach(h).run(machine, "true")
    told = not_reached(caught.value, machine)
    assert told.reason == "HostKeyUnknown"
    assert f"`{machine.uid} TYPE KEY` in known_hosts of Secret demo-ssh" in told.message
    assert "spec.access.hostKeys: firstUse in Provider sim" in told.message
    assert remote.ran == []


def test_a_key_on_the_console_is_believed_and_pinned(h: Harness, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = console(h, monkeypatch, BLOCK)
    machine = by_ssh(h, host_key="")
    for _ in range(2):
        reach(h).run(machine, "true")
    assert [access.host_key for access, *_ in remote.ran] == [host_key(4)] * 2
    assert len(asked) == 1
    assert secret(h)["known_hosts"] == f"{machine.uid} {host_key(4)} {machine.name}\n"


def test_only_the_last_block_of_a_console_counts_and_only_real_keys() -> None:
    assert on_console("") == on_console("-----BEGIN SSH HOST KEY KEYS-----\n" + host_key()) == ""
    assert on_console(BLOCK + BLOCK.replace(host_key(4), host_key(5))) == host_key(5)
    prefixed = BLOCK.replace("ssh-ed25519", "[   12.3] cloud-init[400]: ssh-ed25519")
    assert on_console(prefixed) == host_key(4)


def test_first_use_is_a_choice_and_what_was_seen_is_kept_to(h: Harness, remote: Remote) -> None:
    allow(h, hostKeys="firstUse")
    remote.presents = {"192.0.2.1": host_key(2)}
    machine = by_ssh(h, host_key="")
    reach(h).run(machine, "true")
    remote.presents = {"192.0.2.1": host_key(3)}
    reach(h).run(machine, "true")
    assert [access.host_key for access, *_ in remote.ran] == [host_key(2)] * 2
    assert "HostKeyPinned" in [event.reason for event in h.all(Event) if event.involved_object.name == machine.name]


def test_first_use_holds_for_jump_hosts_too(h: Harness, remote: Remote) -> None:
    allow(h, hostKeys="firstUse", via="bastion.example")
    remote.presents = {"192.0.2.1": host_key(2), "bastion.example": host_key(3)}
    reach(h).run(by_ssh(h, host_key=""), "true")
    access = remote.ran[0][0]
    assert (access.host_key, access.via_host_key) == (host_key(2), host_key(3))
    assert f"bastion.example {host_key(3)}" in secret(h)["known_hosts"]


def test_two_machines_that_had_one_address_are_told_apart(h: Harness, remote: Remote) -> None:
    allow(h, hostKeys="firstUse")
    for index, key in ((0, host_key(2)), (1, host_key(3))):
        remote.presents = {"192.0.2.1": key}
        reach(h).run(by_ssh(h, index, host_key=""), "true")
        assert remote.ran[-1][0].host_key == key


def test_the_key_of_a_machine_that_is_gone_goes_with_the_next_one(h: Harness, remote: Remote) -> None:
    allow(h, hostKeys="firstUse")
    env, gone = h.manager.env, "00000000-0000-4000-8000-000000000000"
    ssh_keys.pin(env, "default", "demo", gone, host_key(1), "")
    ssh_keys.pin(env, "default", "demo", "bastion.example", host_key(2), "by hand")
    remote.presents = {"192.0.2.1": host_key(3)}
    reach(h).run(by_ssh(h, host_key=""), "true")
    assert gone not in secret(h)["known_hosts"]
    assert f"bastion.example {host_key(2)} by hand" in secret(h)["known_hosts"]


def test_a_key_is_pinned_before_anything_is_sent(h: Harness, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(h, hostKeys="firstUse")
    remote.presents = {"192.0.2.1": host_key(2)}
    monkeypatch.setattr(h.manager.env.client, "update", lambda obj: (_ for _ in ()).throw(RuntimeError("the disk is gone")))
    with pytest.raises(RuntimeError):
        reach(h).run(by_ssh(h, host_key=""), "true")
    assert remote.ran == []


def test_a_changed_key_is_told_apart_from_an_unknown_one(h: Harness, remote: Remote) -> None:
    remote.answer = HostKeyChanged("192.0.2.1 presents another key", code="HostKeyChanged")
    machine = by_ssh(h)
    with pytest.raises(HostKeyChanged) as caught:
        reach(h).run(machine, "true")
    told = not_reached(caught.value, machine)
    assert (told.reason, told.stalled) == ("HostKeyChanged", True)
    assert f"delete the Machine {machine.name}" in told.message
    assert f"take the line {machine.uid} out of known_hosts in Secret demo-ssh" in told.message


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errors.Denied("the login is refused"), "AccessDenied"),
        (errors.NotReady("no sshd is up"), "NotReachable"),
        (errors.Unknown("lost"), "OutcomeUnknown"),
    ],
)
def test_each_error_has_words_of_its_own(h: Harness, error: errors.SupplierError, reason: str) -> None:
    told = not_reached(error, h.machines()[0])
    assert told.reason == reason
    assert error.message in told.message
    assert told.after


# -- the key pair --------------------------------------------------------------------------------------------------------


def test_the_key_pair_is_made_once_and_belongs_to_the_cluster(h: Harness) -> None:
    env, cluster = h.manager.env, h.get(Cluster, "demo")
    found = h.get(Secret, "demo-ssh")
    assert [(o.kind, o.uid) for o in found.metadata.owner_references or ()] == [("Cluster", cluster.uid)]
    assert values(found)["ssh-privatekey"].startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    public = ensure_ssh_keys(env, cluster)
    assert public == public_key(env, cluster) == values(found)["ssh-publickey"]
    assert public.startswith("ssh-ed25519 AAAA")
    assert h.get(Secret, "demo-ssh").metadata.resource_version == found.metadata.resource_version


def test_a_key_of_ones_own_is_used_and_stays_when_the_cluster_goes(h: Harness) -> None:
    private = ssh_keys._made()
    h.apply(
        {"kind": "Secret", "metadata": {"name": "mine-ssh"}, "stringData": {"ssh-privatekey": private}},
        {"kind": "Cluster", "metadata": {"name": "mine"}, "spec": {"provider": "sim"}},
    )
    h.settle()
    env, cluster = h.manager.env, h.get(Cluster, "mine")
    public = ensure_ssh_keys(env, cluster)
    found = h.get(Secret, "mine-ssh")
    assert (values(found)["ssh-privatekey"], values(found)["ssh-publickey"]) == (private, public)
    assert not found.metadata.owner_references


def test_a_private_key_that_cannot_be_read_is_told_without_its_text(h: Harness) -> None:
    h.apply(
        {"kind": "Secret", "metadata": {"name": "bad-ssh"}, "stringData": {"ssh-privatekey": "hunter2"}},
        {"kind": "Cluster", "metadata": {"name": "bad"}, "spec": {"provider": "sim"}},
    )
    h.settle()
    with pytest.raises(errors.InvalidSpec, match="default/bad-ssh") as caught:
        ensure_ssh_keys(h.manager.env, h.get(Cluster, "bad"))
    assert "hunter2" not in str(caught.value) + caught.value.remedy
    assert "ssh-keygen" in caught.value.remedy


def test_the_secret_of_a_former_cluster_is_waited_out(h: Harness) -> None:
    env, cluster = h.manager.env, h.get(Cluster, "demo").model_copy(deep=True)
    cluster.metadata.uid = "another"
    with pytest.raises(errors.NotReady, match="on its way out"):
        ensure_ssh_keys(env, cluster)


def test_the_key_pair_goes_with_its_cluster(h: Harness) -> None:
    h.delete(Cluster, "demo")
    h.until(lambda: h.find(Cluster, "demo") is None and h.find(Secret, "demo-ssh") is None)


def test_places_learn_the_clusters_public_key_with_the_network(h: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    env, cluster = h.manager.env, h.get(Cluster, "demo")
    seen: list[tuple[str, ...]] = []
    networks = h.suppliers().networks
    assert networks is not None
    ensure = networks.ensure
    monkeypatch.setattr(networks, "ensure", lambda want: (seen.append(want.ssh_keys), ensure(want))[1])
    h.edit(Cluster, "demo", spec={"machine": {"sshKeys": ["ssh-ed25519 AAAAmine me"]}})
    h.settle()
    assert seen[-1] == tuple(sorted((public_key(env, cluster), "ssh-ed25519 AAAAmine me")))


def test_nothing_of_a_private_key_shows_in_a_repr(h: Harness, remote: Remote) -> None:
    reach(h).run(by_ssh(h), "true")
    shown = repr((remote.built, h.get(Secret, "demo-ssh"), vars(h.manager.env.shared(Executors))["_built"].keys()))
    assert "PRIVATE" not in shown
    assert secret(h)["ssh-privatekey"][40:80] not in shown
