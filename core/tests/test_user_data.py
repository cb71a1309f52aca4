"""User-data: what machines are told at their first boot, where it is kept, and what never gets into it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json

import pytest
import yaml
from kubeup_core.errors import InvalidSpec
from kubeup_core.kinds import Launch, Machine, NodePool, Secret
from kubeup_core.testing.harness import Harness
from kubeup_core.user_data import BootFile, render

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8mYkJ3Tt0VQYw3Yh1nZ2m0Zk5Yk3l1n0c9d8e7f6a5 person@example"
PEM = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"

pytest.importorskip("kubeup_sim", reason="the simulated cloud is the distribution kubeup-sim: pip install kubeup-sim")


def config(user_data: bytes) -> dict:
    text = gzip.decompress(user_data) if user_data[:2] == b"\x1f\x8b" else user_data
    assert text.startswith(b"#cloud-config\n")
    return yaml.safe_load(text)


# -- rendering -----------------------------------------------------------------------------------------------------------


def test_nothing_to_tell_is_no_user_data():
    assert render(limit=0) == b""
    assert render(["", " \n"], limit=0) == b""


def test_keys_are_for_the_images_user_and_for_root():
    assert config(render([f"{KEY}\n"], limit=16384)) == {"ssh_authorized_keys": [KEY], "disable_root": False}


def test_files_arrive_byte_for_byte_whatever_is_in_them():
    content = "#!/bin/sh\n: 'a' \"b\" {% jinja %} ü\t\n"
    (file,) = config(render(files=[BootFile(path="/etc/x", content=content, mode="0755")], limit=16384))["write_files"]
    assert base64.b64decode(file["content"]).decode() == content
    assert (file["path"], file["permissions"], file["owner"]) == ("/etc/x", "0755", "root:root")


def test_what_is_too_long_is_compressed_and_then_refused():
    plain = BootFile(path="/etc/x", content="a" * 30_000)
    packed = render(files=[plain], limit=16384)
    assert len(packed) < 16384
    assert base64.b64decode(config(packed)["write_files"][0]["content"]) == b"a" * 30_000
    noise = "".join(hashlib.sha256(str(n).encode()).hexdigest() for n in range(1000))
    with pytest.raises(InvalidSpec, match=r"has \d+ bytes, and the place takes 16384") as refused:
        render(files=[BootFile(path="/etc/x", content=noise)], limit=16384)
    assert refused.value.remedy


def test_the_same_input_gives_the_same_bytes():
    noise = BootFile(path="/etc/x", content="b" * 30_000)
    assert render([KEY], [noise], limit=16384) == render([KEY], [noise], limit=16384)


@pytest.mark.parametrize("key", [PEM, PEM.replace("\n", " "), "word", f"{KEY}\nssh-rsa AAAA"])
def test_what_is_no_public_key_is_refused_and_not_repeated(key):
    with pytest.raises(InvalidSpec, match="SSH key is none") as refused:
        render([key], limit=16384)
    assert "AAAA" not in str(refused.value)


def test_a_private_key_in_a_file_is_refused():
    with pytest.raises(InvalidSpec, match="/etc/key holds a private key"):
        render(files=[BootFile(path="/etc/key", content=PEM)], limit=16384)


# -- with its Launch -----------------------------------------------------------------------------------------------------


@pytest.fixture
def harness(tmp_path):
    with Harness(tmp_path, cloud={"boot_seconds": (1, 1)}) as harness:
        yield harness
        assert [*harness.failed, *harness.manager.failed] == []


def stored(harness: Harness) -> list[bytes]:
    found = [s for s in harness.all(Secret) if s.name.startswith("userdata-")]
    return [base64.b64decode((s.data or {})["user-data"]) for s in found]


def test_plain_machines_without_keys_and_files_get_none(harness):
    harness.demo(2)
    harness.ready(2)
    assert stored(harness) == []


def test_keys_and_files_of_a_plain_machine_are_its_user_data_stored_with_the_launch(harness):
    harness.demo(2, machine={"sshKeys": [KEY], "files": [{"path": "/etc/motd", "content": "hello"}]}, spread="none")
    harness.ready(2)
    (user_data,) = stored(harness)
    (launch,) = harness.launches()
    digest = hashlib.sha256(user_data).hexdigest()
    assert launch.spec.user_data_digest == digest
    assert config(user_data)["ssh_authorized_keys"] == [KEY]
    states = harness.suppliers().machines.observe(scope(harness)).items
    assert len({state.facts["userData"] for state in states}) == 1


def scope(harness: Harness):
    from kubeup_core.supplier import Scope

    return Scope(installation=harness.store.installation)


def test_a_repeated_launch_carries_the_same_bytes_after_a_crash(harness):
    harness.cloud.faults.add("lostReply", operation="launch")
    harness.demo(2, machine={"sshKeys": [KEY]})
    harness.until(lambda: harness.all(Launch))
    harness.crash()
    harness.ready(2)
    assert len(harness.rented()) == 2


def test_user_data_goes_with_its_launch(harness):
    harness.demo(1, machine={"sshKeys": [KEY]})
    harness.ready(1)
    harness.delete(NodePool, "workers")
    harness.until(lambda: not harness.all(Launch), 7200)
    harness.settle()
    assert stored(harness) == []


def test_a_launch_whose_user_data_is_gone_is_only_looked_up_and_its_machine_comes_from_another(harness):
    harness.demo(1, machine={"sshKeys": [KEY]})
    harness.cloud.faults.add("lostRequest", operation="launch")
    harness.until(lambda: [launch for launch in harness.launches() if launch.status.phase == "Open"])
    (launch,) = harness.launches()
    harness.delete(Secret, f"userdata-{launch.name}")
    harness.crash()
    harness.ready(1)
    assert {la.name: la.status.made for la in harness.launches()} == {
        la.name: int(la.name != launch.name) for la in harness.launches()
    }
    assert len(harness.launches()) == 2


@pytest.mark.parametrize(
    ("machine", "cloud", "message"),
    [
        ({"sshKeys": [KEY]}, {"userDataLimit": 0}, "told nothing at their first boot"),
        ({"sshKeys": [KEY]}, {"userDataLimit": 20}, "the place takes 20"),
        ({"files": [{"path": "/x", "secretRef": {"name": "a", "key": "b"}}]}, {}, "the file /x comes from a Secret"),
        ({"files": [{"path": "/x", "content": PEM}]}, {}, "holds a private key"),
        ({"sshKeys": ["nonsense"]}, {}, "SSH key is none"),
    ],
)
def test_what_cannot_be_told_is_a_condition_and_nothing_is_launched(harness, machine, cloud, message):
    harness.demo(1, cloud=cloud, machine=machine)
    harness.advance(60)
    said = " ".join(c.message for c in harness.pool().status.conditions)
    assert message in said
    assert harness.launches() == []
    assert "AAAA" not in said


def test_no_secret_of_a_cluster_is_in_any_user_data_or_launch(harness):
    """All that is rendered in this file, and what the core adds to it."""
    harness.demo(2, machine={"sshKeys": [KEY], "files": [{"path": "/etc/motd", "content": "hello"}]})
    harness.ready(2)
    rendered = b"".join(stored(harness)) + json.dumps([launch.to_dict() for launch in harness.launches()]).encode()
    decoded = rendered + b"".join(
        base64.b64decode(f["content"]) for data in stored(harness) for f in config(data)["write_files"]
    )
    assert b"PRIVATE KEY" not in decoded


def test_machines_of_a_kubernetes_cluster_without_any_way_in_are_refused_before_they_cost_money(tmp_path):
    from kubeup_core.testing.rehearsal import NAME, Rehearsal

    with Harness(tmp_path, plugins=Rehearsal().plugins()) as harness:
        harness.provider(access="none")
        kubernetes = {"version": "v1.34.1", "bootstrapper": NAME}
        harness.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": {"provider": "sim", "kubernetes": kubernetes}})
        harness.advance(60)
        said = " ".join(c.message for p in harness.all(NodePool) for c in p.status.conditions)
        assert "there is no way into its machines" in said
        assert harness.launches() == []
        assert harness.all(Machine) != []
