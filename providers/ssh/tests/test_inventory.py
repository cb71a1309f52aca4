"""What people write: hosts, ranges, files; and each wrong input gets one clear error."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from kubeup_artifacts.sshd import key_pair
from kubeup_core import Context, InvalidSpec, SupplierError
from kubeup_ssh import SshConfig, build
from kubeup_ssh.inventory import hosts, unfold
from kubeup_ssh.looks import Look, read
from pydantic import ValidationError


def config(**fields: Any) -> SshConfig:
    return SshConfig.model_validate(fields)


def test_a_range_stands_for_its_hosts_with_its_leading_zeros() -> None:
    assert unfold("host[08-10].example.org") == ["host08.example.org", "host09.example.org", "host10.example.org"]
    assert unfold("r[1-2]-n[1-2]") == ["r1-n1", "r1-n2", "r2-n1", "r2-n2"]
    assert unfold("192.0.2.7") == ["192.0.2.7"]


@pytest.mark.parametrize("text", ["host[5-1]", "host[a-b]", "host[1-999999]"])
def test_a_range_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec, match="range") as caught:
        hosts(config(hosts=[text]))
    assert caught.value.path == "spec.config.hosts[0]"


def test_a_field_of_a_host_wins_over_the_configs() -> None:
    found = hosts(config(user="ops", port=2222, zone="r1", hosts=["a", {"address": "b", "user": "root", "zone": "r2"}]))
    assert [(h.name, h.user, h.port, h.place) for h in found.values()] == [("a", "ops", 2222, "r1"), ("b", "root", 2222, "r2")]


def test_names_and_addresses_unfold_together() -> None:
    found = hosts(config(hosts=[{"name": "web[1-2]", "address": "10.0.0.[11-12]"}]))
    assert {h.name: h.address for h in found.values()} == {"web1": "10.0.0.11", "web2": "10.0.0.12"}


@pytest.mark.parametrize(
    ("hosts_", "said"),
    [
        (["a", "a"], "twice"),
        ([{"name": "x[1-3]", "address": "h[1-2]"}], "3 names for 2 addresses"),
        ([{"address": "h[1-2]", "hostKey": "ssh-ed25519 AAAA"}], "of one host"),
    ],
)
def test_an_inventory_that_contradicts_itself_is_refused(hosts_: list[Any], said: str) -> None:
    with pytest.raises(InvalidSpec, match=said):
        hosts(config(hosts=hosts_))


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("root@h1", "has a user"),
        ("h1:2222", "has a port"),
        ("h 1", "is no address"),
        ("host[01-20", "range"),
        ("host01-20]", "range"),
        ({"address": "h1", "roles": ["workr"]}, "no role 'workr'"),
        ({"address": "h1", "hostKey": "rubbish"}, "host key cannot be read"),
        ({"address": "h1", "hostKey": "ssh-ed25519 AAAA"}, "host key cannot be read"),
        ({"address": "h1", "via": "ops@bastion:ssh"}, "jump host"),
        ({"address": "h1", "name": "a/b"}, "a host's name"),
        ({"address": "h1", "volumeFolder": "/"}, "cannot be /"),
        ({"address": "h1", "volumeFolder": "//srv/.."}, "cannot be /"),
    ],
)
def test_a_host_that_cannot_be_is_refused_with_its_place_and_what_to_do(host: Any, said: str) -> None:
    with pytest.raises(InvalidSpec, match=said) as caught:
        hosts(config(hosts=["fine", host]))
    assert caught.value.path == "spec.config.hosts[1]"
    assert caught.value.remedy


def test_one_host_under_two_names_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="b and a are the same host"):
        hosts(config(hosts=["a", {"name": "b", "address": "A"}]))
    assert len(hosts(config(hosts=["a", {"name": "b", "address": "a", "port": 2222}]))) == 2


def test_an_ipv6_jump_host_is_looked_up_by_its_address(tmp_path: Path) -> None:
    from kubeup_core.executor import HostKeyUnknown
    from kubeup_ssh.doors import Doors

    key = tmp_path / "key"
    key.write_text(key_pair()[0])
    found = config(
        hosts=[{"address": "h1", "via": "ops@[2001:db8::1]:22"}], key={"path": str(key)}, knownHosts=str(tmp_path / "none")
    )
    with pytest.raises(HostKeyUnknown, match="jump host 2001:db8::1, "):
        Doors(found, {}).run(hosts(found)["h1"], "true")


def test_an_inventory_file_is_read_with_its_own_defaults(tmp_path: Path) -> None:
    file = tmp_path / "hosts.yaml"
    file.write_text("zone: room-2\nhosts:\n- a\n- {address: b, zone: room-3}\n")
    found = hosts(config(inventory=str(file), user="ops"))
    assert [(h.name, h.zone, h.user) for h in found.values()] == [("a", "room-2", "ops"), ("b", "room-3", "ops")]
    file.write_text("- a\n- b\n")
    assert list(hosts(config(inventory=str(file)))) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read"),
        ("hosts: [", "is not YAML"),
        ("hosts: [{adress: a}]", "is wrong at hosts"),
        ("{hosts: [a], hostKeys: firstUse}", "sets inventory, hostKeys or knownHosts"),
    ],
)
def test_an_inventory_file_that_is_wrong_is_refused_with_its_path(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "hosts.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InvalidSpec, match=said) as caught:
        hosts(config(inventory=str(file)))
    assert str(file) in caught.value.message
    assert caught.value.remedy


def test_a_config_without_hosts_is_refused() -> None:
    with pytest.raises(ValidationError, match="name hosts, or an inventory file"):
        config()


def test_a_key_comes_from_one_place_only() -> None:
    with pytest.raises(ValidationError, match="exactly one of path, secretRef and agent"):
        config(hosts=["a"], key={"path": "x", "agent": True})


def test_a_key_that_is_not_there_is_told_before_any_host_is_asked(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="there is no key at") as caught:
        build(config(hosts=["192.0.2.1"], key={"path": str(tmp_path / "none")}), Context(installation="one"))
    assert caught.value.path == "spec.config.key"
    ref = {"namespace": "ops", "name": "rack", "key": "id"}
    with pytest.raises(InvalidSpec, match="Secret ops/rack has no key id") as caught:
        build(config(hosts=["192.0.2.1"], key={"secretRef": ref}), Context(installation="one"))
    assert "kubectl create secret" in caught.value.remedy


def test_what_a_host_says_is_read_whole_or_not_at_all() -> None:
    from kubeup_core import Unknown

    text = b"== host\ncpu 4\nmemory 8\ndisk 9\narch aarch64\nos debian-12\nboot b\naddress 10.0.0.1\nroom 5\n"
    look = read(text)
    assert isinstance(look, Look)
    assert (look.cpu, look.arch, look.claim, look.volumes) == (4, "arm64", None, ())
    for end in range(10, len(text) - 8, 7):
        if b"room" not in text[:end]:
            with pytest.raises(Unknown):
                read(text[:end])


@pytest.mark.parametrize("code", ["Timeout", "NoHandshake", "NameUnknown"])
def test_a_host_that_is_silent_holds_the_others_up_once_and_not_at_each_look(
    monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    from kubeup_core import NotReady
    from kubeup_ssh import fleet as fleets

    text = b"== host\ncpu 4\nmemory 8\ndisk 9\narch x86_64\nos debian-12\nboot b\naddress 10.0.0.1\nroom 5\n"
    asked: list[str] = []
    now = [1000.0]

    class Doors:
        def run(self, host: Any, script: str, stdin: bytes = b"", timeout: float = 30.0) -> tuple[int, bytes]:
            asked.append(host.name)
            if host.name == "off" and now[0] < 1040:
                now[0] += 10
                raise NotReady("off does not answer", code=code)
            return 0, text

        def close(self) -> None:
            pass

    monkeypatch.setattr(fleets.time, "monotonic", lambda: now[0])
    fleet = fleets.Fleet(hosts(config(hosts=["on", "off"])), Doors(), lambda bucket, cost: None)  # type: ignore[arg-type]
    try:
        for _ in range(3):
            found = fleet.look()
            assert isinstance(found["on"], Look)
            assert isinstance(found["off"], NotReady)
        assert (asked.count("on"), asked.count("off")) == (3, 1)
        now[0] += fleets.SILENT + 1
        fleet.look()
        assert asked.count("off") == 2
        now[0] = 1200.0
        assert isinstance(fleet.look()["off"], Look)
    finally:
        fleet.close()


def test_an_sshd_that_hangs_is_connected_to_once_in_that_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel takes its connections, and nobody speaks."""
    from kubeup_ssh import fleet as fleets
    from kubeup_ssh.doors import Doors
    from kubeup_ssh_executor import client

    monkeypatch.setattr(client, "BANNER", 0.3)
    monkeypatch.setattr(fleets, "LONG", 0.1)
    key = tmp_path / "key"
    key.write_text(key_pair()[0])
    with socket.create_server(("127.0.0.1", 0), backlog=8) as silent:
        hung = {"name": "hung", "address": "127.0.0.1", "port": silent.getsockname()[1], "hostKey": key_pair()[1]}
        found = config(hosts=[hung], key={"path": str(key)})
        fleet = fleets.Fleet(hosts(found), Doors(found, {}), lambda bucket, cost: None)
        try:
            first, second = fleet.look()["hung"], fleet.look()["hung"]
            assert isinstance(first, SupplierError)
            assert first.code == "NoHandshake"
            assert second is first
        finally:
            fleet.close()
