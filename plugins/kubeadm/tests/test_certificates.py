"""Certificates on a control plane: what is read there, and what a person sees when RENEW fails. On a machine made of a
folder (`conftest.Machine`), with stand-ins for kubeadm and containerd; a real kubeadm renews in the tests of a real cluster."""

import base64

from kubeup_core.bootstrapper import Task
from kubeup_core.pki import make_authority, sign_client
from kubeup_kubeadm import build

BOOTSTRAPPER = build()
AUTHORITY = make_authority("kubernetes", 1.8e9)
LEAF = sign_client(AUTHORITY, "somebody", (), 1.8e9, 3e7)


def renew(machine, plan, node) -> tuple[int, str]:
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
    assert last(machine.sh(step.script)) == "kubeup: kubeadm is not installed, but it is needed to renew certificates"


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
