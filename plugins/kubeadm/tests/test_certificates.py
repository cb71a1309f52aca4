"""Certificates on a control plane: what is read there, and what a person sees when RENEW fails. The scripts run on this machine, with
folders of their own and with stand-ins for kubeadm and containerd; a real kubeadm renews in the tests of a real cluster."""

import base64
import os
import subprocess
from pathlib import Path

import pytest
from kubeup_core.bootstrapper import Task
from kubeup_core.pki import make_authority, sign_client
from kubeup_kubeadm import build

BOOTSTRAPPER = build()
AUTHORITY = make_authority("kubernetes", 1.8e9)
LEAF = sign_client(AUTHORITY, "somebody", (), 1.8e9, 3e7)


class Machine:
    """A folder that the scripts take for /, and commands that stand in for the real ones."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "bin").mkdir()
        for name, text in {"sleep": ":", "curl": "echo ok", "systemctl": ":", "journalctl": ":", "openssl": "exit 1"}.items():
            self.command(name, text)

    def command(self, name: str, text: str) -> None:
        path = self.root / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def file(self, path: str, text: str) -> None:
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def sh(self, script: str) -> tuple[int, str]:
        script = script.replace("PATH=/usr/local/sbin:/usr/local/bin:", f"PATH={self.root}/bin:", 1)
        for folder in ("/etc/kubernetes", "/var/lib/kubelet", "/var/lib/kubeup"):
            script = script.replace(folder, f"{self.root}{folder}")
        done = subprocess.run(["sh", "-eu"], input=script.encode(), capture_output=True, timeout=60, env={**os.environ})
        return done.returncode, (done.stdout + done.stderr).decode()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def renew(machine: Machine, plan, node) -> tuple[int, str]:
    (step,) = BOOTSTRAPPER.steps(Task.RENEW, plan(), node())
    return machine.sh(step.script)


def last(result: tuple[int, str]) -> str:
    assert result[0] != 0, result[1]
    return result[1].strip().splitlines()[-1]


def test_every_certificate_is_printed_and_no_key(machine, plan):
    for name in ("apiserver", "front-proxy-client", "etcd/server", "etcd/peer"):
        machine.file(f"/etc/kubernetes/pki/{name}.crt", LEAF.certificate)
        machine.file(f"/etc/kubernetes/pki/{name}.key", LEAF.key)
    data, key = (base64.b64encode(text.encode()).decode() for text in (LEAF.certificate, LEAF.key))
    machine.file(
        "/etc/kubernetes/admin.conf", f"users:\n- user:\n    client-certificate-data: {data}\n    client-key-data: {key}\n"
    )
    machine.file("/var/lib/kubelet/pki/kubelet-client-current.pem", LEAF.certificate + LEAF.key)
    code, text = machine.sh(BOOTSTRAPPER.certificates(plan()))
    assert code == 0, text
    assert [line for line in text.splitlines() if line.startswith("certificate ")] == [
        "certificate apiserver renewed", "certificate front-proxy-client renewed", "certificate etcd/server renewed",
        "certificate etcd/peer renewed", "certificate admin.conf renewed", "certificate kubelet-client rotated",
    ]  # fmt: skip
    assert text.count(LEAF.certificate.strip()) == 6
    assert "KEY" not in text
    assert key not in text


def test_what_the_api_server_shows_is_among_them(machine, plan):
    machine.file("/etc/kubernetes/pki/apiserver.crt", LEAF.certificate)
    machine.command("openssl", f"cat <<'END'\nCONNECTED\n{AUTHORITY.certificate}---\nEND")
    code, text = machine.sh(BOOTSTRAPPER.certificates(plan()))
    assert code == 0, text
    assert f"certificate apiserver as served renewed\n{AUTHORITY.certificate}" in text


def test_a_machine_that_is_no_control_plane_and_a_damaged_file_are_told(machine, plan):
    assert last(machine.sh(BOOTSTRAPPER.certificates(plan()))) == "kubeup: there is no control plane on this machine"
    machine.file("/etc/kubernetes/pki/apiserver.crt", "nonsense")
    assert last(machine.sh(BOOTSTRAPPER.certificates(plan()))) == "kubeup: there is no certificate in apiserver"


def test_a_renewal_without_kubeadm_is_told(machine, plan, node):
    (step,) = BOOTSTRAPPER.steps(Task.RENEW, plan(), node())
    bare = step.script.replace(":/usr/sbin:/usr/bin:/sbin:/bin", "", 1)
    assert last(machine.sh(bare)) == "kubeup: kubeadm is not installed, but it is needed to renew certificates"


def test_a_renewal_that_kubeadm_refuses_is_told(machine, plan, node):
    machine.command("kubeadm", "echo 'no CA key' >&2; exit 1")
    code, text = renew(machine, plan, node)
    assert last((code, text)) == "kubeup: kubeadm certs renew failed"
    assert "no CA key" in text


CONTAINERS = """case "$*" in
    *"containers ls"*apiserver*) echo api ;;
    *"containers ls"*) : ;;
    *"tasks ls"*) printf 'TASK PID STATUS\\napi%s 1 RUNNING\\n' ;;
esac"""


def test_an_api_server_that_does_not_come_back_is_told(machine, plan, node):
    machine.command("kubeadm", ":")
    machine.command("ctr", CONTAINERS % "")  # the same container as before, for ever
    assert last(renew(machine, plan, node)) == (
        "kubeup: kube-apiserver does not run 120 seconds after its certificate was renewed"
    )


def test_an_api_server_that_shows_the_old_certificate_is_told(machine, plan, node):
    machine.command("kubeadm", ":")
    machine.command("ctr", ":")
    machine.file("/etc/kubernetes/pki/apiserver.crt", LEAF.certificate)
    machine.command("openssl", f"cat <<'END'\n{AUTHORITY.certificate}END")
    assert "the API server still shows another certificate than the new one" in last(renew(machine, plan, node))
    machine.command("openssl", f"cat <<'END'\n{LEAF.certificate}END")
    code, text = renew(machine, plan, node)
    assert code == 0, text
