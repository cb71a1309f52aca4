"""What an image is taken for, and what a machine is given: without an engine."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile

import pytest
from kubeup_docker import guest, node_image
from kubeup_docker.limits import Limits, limits
from kubeup_docker.records import Image, Wish

OURS = Image(
    id="1",
    labels={"dev.kubeup.init": "systemd", "dev.kubeup.user-data": "cloud-init"},
    command=("/usr/local/lib/kubeup/machine-init",),
)
KIND = Image(id="2", command=("/usr/local/bin/entrypoint", "/sbin/init"), stop_signal="SIGRTMIN+3")
PLAIN = Image(id="3", command=("bash",))


def engine(**info: object) -> Limits:
    return limits({"Name": "host", "CgroupVersion": "1", "NCPU": 2, "MemTotal": 2**33, **info}, "unix:///nowhere.sock")


@pytest.mark.parametrize(
    ("image", "user_data"), [(OURS, True), (KIND, False), (Image(id="4", command=("/lib/systemd/systemd",)), False)]
)
def test_images_with_systemd_start_it_in_their_own_way_and_run_user_data_where_a_label_says_so(
    image: Image, user_data: bool
) -> None:
    assert guest.kind(image, None) == guest.Kind(systemd=True, user_data=user_data, command=())


def test_in_any_other_image_a_shell_waits_and_runs_no_user_data() -> None:
    assert guest.kind(PLAIN, None) == guest.Kind(systemd=False, user_data=False, command=guest.WAIT)


@pytest.mark.parametrize(
    ("image", "command", "systemd"),
    [(PLAIN, ["/sbin/init"], True), (OURS, ["/bin/sleep", "9"], False), (OURS, list(OURS.command), True)],
)
def test_a_command_of_the_overrides_is_process_1_and_decides(image: Image, command: list[str], systemd: bool) -> None:
    found = guest.kind(image, command)
    assert (found.systemd, found.command) == (systemd, tuple(command))


def test_a_machine_is_never_privileged_and_gets_what_the_engine_can_give() -> None:
    from dataclasses import replace

    plain = Wish(name="n", hostname="n", image="i", command=(), labels={}, security_options=("seccomp=/my.json",))
    here = replace(engine(), local=True, withheld=frozenset({"SYS_RESOURCE", "SYSLOG"}))
    made = guest.as_machine(plain, here)
    assert {"SYS_ADMIN", "NET_ADMIN"} <= set(made.capabilities)
    assert not {"SYS_RESOURCE", "SYSLOG", "BPF", "ALL"} & set(made.capabilities)
    assert made.security_options == ("seccomp=/my.json", "apparmor=unconfined", "label=disable")
    assert (made.unmasked, made.own_cgroups, made.scratch, made.stop_signal) == (True, True, ("/var",), "SIGRTMIN+3")
    assert "SYS_RESOURCE" not in guest.as_machine(plain, engine()).capabilities  # nobody knows what a distant engine lacks


def test_the_files_of_a_machine_are_a_nocloud_seed_and_its_disks() -> None:
    made = guest.files("web-0", "launch-0", b"#cloud-config\n", [("data-1", 4096)])
    with tarfile.open(fileobj=io.BytesIO(made)) as tar:
        read = {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}  # type: ignore[union-attr]
        assert {m.mode for m in tar if m.isfile()} == {0o600}
    assert json.loads(read["var/lib/cloud/seed/nocloud/meta-data"]) == {"instance-id": "launch-0", "local-hostname": "web-0"}
    assert read["var/lib/cloud/seed/nocloud/user-data"] == b"#cloud-config\n"
    assert read["etc/kubeup/volumes"] == b"/kubeup/volumes/data-1/disk 4096\n"


def test_the_scripts_of_the_image_are_posix_shell() -> None:
    scripts = [node_image.FOLDER / "setup.sh", *(node_image.FOLDER / "root/usr/local/lib/kubeup").iterdir()]
    assert len(scripts) == 2
    for script in scripts:
        subprocess.run(["sh", "-n", str(script)], check=True)
    subprocess.run(["sh", "-n", "-c", guest.WAIT[2]], check=True)


def test_the_recipe_of_the_image_decides_its_tag(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    import shutil

    before = node_image.name()
    copy = tmp_path / "node"
    shutil.copytree(node_image.FOLDER, copy)
    monkeypatch.setattr(node_image, "FOLDER", copy)
    assert node_image.name() == before
    with (copy / "packages").open("a") as file:
        file.write("# nobody reads this\n")
    assert node_image.name() != before


def test_the_image_holds_what_kubernetes_asks_of_a_machine_and_no_kubelet() -> None:
    packages = set(node_image.packages())
    assert {
        "systemd",
        "cloud-init",
        "openssh-server",
        "containerd",
        "containernetworking-plugins",
        "conntrack",
        "socat",
    } <= packages
    assert not {"kubelet", "kubeadm", "kubectl"} & packages
