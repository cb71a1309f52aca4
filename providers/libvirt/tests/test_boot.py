"""A real Debian boots in a virtual machine, under emulation: user-data, SSH with the console's key, a volume that grows under LVM.

The logical volume on it is made, attached, grown and deleted by the provider of hosts over SSH, and its file system is made and grown
by the core's own script: a virtual machine is the one place of these tests whose kernel has a device-mapper, and lets a mounted file
system grow. One machine for one test: everything here waits for it, and it takes one to three minutes to boot. One connection for the
commands, as each login takes seconds under emulation.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from kubeup_artifacts.sshd import key_pair
from kubeup_core import NetworkSpec, Phase, Scope, Template, VolumeSpec
from kubeup_core.controllers.mounting import mounting

pytestmark = pytest.mark.slow

BOOT_SECONDS = 900

USER_DATA = """#cloud-config
disable_root: false
users: [{{name: root, ssh_authorized_keys: ["{public}"]}}]
write_files: [{{path: /etc/said, content: "by user-data"}}]
runcmd: ["echo ran > /run/ran"]
"""


# Run where the machine's network is. Prints what the phase is about.
HOST = """
import sys
from kubeup_core import Context, Launch, Mark, Member, Ref, Scope, Template, VolumeSpec
from kubeup_ssh import SshConfig, build

phase, key, address, host_key = sys.argv[1:]
host = {"name": "guest", "address": address, "internalAddress": address, "hostKey": host_key, "volumeGroup": "group"}
it = build(SshConfig.model_validate({"key": {"path": key}, "hosts": [host]}), Context(installation="rack"))
own = {"installation": "rack", "cluster": "c", "cluster_name": "c"}
machine, disk = Mark(kind="Machine", maker="m", **own), Mark(kind="Volume", maker="v", **own)
want = Template(cpu=1, memory=2**20, disk=2**20, arch="", image="debian-12")

def volume(size):
    return it.volumes.ensure(VolumeSpec(mark=disk, token="v", name="data", size=size, place="guest"))

if phase == "make":
    (offer,) = it.machines.offers(want)
    claim = Launch(mark=machine, token="m", template=want, offer=offer, role="plain", members=(Member(name="m", slot="guest"),))
    owner = Ref(id=it.machines.launch(claim)[0].id, mark=machine)
    made = volume(2**25)
    it.volumes.attach(made.ref, owner)
    print(made.device)
elif phase == "grow":
    print(volume(2**26).size)
else:
    (owner,), (made,) = it.machines.observe(Scope(installation="rack")).items, it.volumes.observe(Scope(installation="rack")).items
    it.volumes.detach(made.ref, owner.ref)
    it.volumes.delete(made.ref)
    it.machines.delete([owner.ref])
    print(len(it.volumes.observe(Scope(installation="rack")).items), len(it.machines.observe(Scope(installation="rack")).items))
it.close()
"""


@pytest.fixture
def debian(hypervisor, request: pytest.FixtureRequest) -> dict[str, str]:
    """The overrides that boot it."""
    from kubeup_artifacts.fixtures import built
    from kubeup_artifacts.libvirt import machine_disk

    made = built(request, machine_disk)
    for file, name in ((made.disk, "debian.qcow2"), (made.kernel, "kernel"), (made.initrd, "initrd")):
        shutil.copyfile(file, hypervisor.pool / name)
    hypervisor.virsh("pool-refresh", "default")
    folder = "/var/lib/libvirt/images"
    return {
        "image": "default/debian.qcow2",
        "kernel": f"{folder}/kernel",
        "initrd": f"{folder}/initrd",
        "cmdline": "root=/dev/vda rw console=ttyS0 net.ifnames=0 mitigations=off cryptomgr.notests systemd.show_status=0 quiet",
        "cpuMode": "qemu64",  # what it lacks need not be emulated
    }


def connecting(command: list[str], control: Path) -> subprocess.Popen[bytes]:
    """The connection that others share by its socket; sshd may come up after the keys were told."""
    until = time.monotonic() + BOOT_SECONDS
    while True:
        connection = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while connection.poll() is None:
            if control.exists():
                return connection
            time.sleep(0.2)
        assert time.monotonic() < until, "nobody is let in"
        time.sleep(1)


def test_a_debian_boots_takes_its_user_data_and_grows_its_volume(
    place, debian, hypervisor, root_shell, tmp_path: Path, settled, request: pytest.FixtureRequest
) -> None:
    private, public = key_pair()
    key, known, control = tmp_path / "id", tmp_path / "known_hosts", tmp_path / "c"
    key.write_text(private)
    key.chmod(0o600)
    network = place.networks.ensure(NetworkSpec(mark=place.mark("Network"), name="demo"))
    launch = place.launch(network=dict(network.data), user_data=USER_DATA.format(public=public).encode(), **debian)
    launch = replace(launch, template=replace(launch.template, memory=2**29), offer=replace(launch.offer, memory=2**29))
    launch = replace(launch, template=Template(**{**vars(launch.template), "cpu": 2}))
    place.machines.launch(launch)

    def machine():
        return next(iter(place.machines.observe(Scope(installation=place.installation)).items))

    begun = time.monotonic()
    while not machine().access.host_key:
        assert machine().phase is Phase.RUNNING
        assert time.monotonic() - begun < BOOT_SECONDS, place.machines.console(machine().ref, 3000)
        time.sleep(1)
    access = machine().access
    known.write_text("".join(f"{access.address} {line}\n" for line in access.host_key.splitlines()))
    options = [f"UserKnownHostsFile={known}", "StrictHostKeyChecking=yes", "ConnectTimeout=60", "IdentitiesOnly=yes"]
    ssh = ["ssh", "-F", "none", *(part for o in options for part in ("-o", o)), "-i", str(key), "-S", str(control)]
    connection = connecting(hypervisor.inside(*ssh, "-M", "-N", f"{access.user}@{access.address}"), control)
    request.addfinalizer(connection.wait)
    request.addfinalizer(connection.kill)

    def run(script: str) -> str:
        done: subprocess.CompletedProcess[str] = root_shell(*ssh, f"{access.user}@{access.address}", script, timeout=300)
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        return done.stdout.strip()

    def over_ssh(phase: str) -> str:
        host_key = next(line for line in access.host_key.splitlines() if line.startswith("ssh-ed25519"))
        done = root_shell(sys.executable, "-c", HOST, phase, str(key), access.address, host_key, timeout=300)
        assert done.returncode == 0, (phase, done.stdout, done.stderr)
        return str(done.stdout.strip())

    assert run("hostname; cat /etc/said; echo; hostname -I") == f"box-0\nby user-data\n{access.address}"

    want = VolumeSpec(mark=place.mark("Volume"), token="t", name="data", size=2**26)
    volume = place.volumes.ensure(want)
    place.volumes.attach(volume.ref, machine().ref)
    assert machine().volumes == (volume.ref.id,)
    device = volume.device
    run(f"for i in $(seq 120); do test -b {device} && exit 0; sleep 1; done; ls -l /dev/disk/by-id >&2; exit 1")
    run(f"set -e; modprobe dm-mod; pvcreate -q {device}; vgcreate -q group {device}")
    logical = over_ssh("make")
    run(mounting(logical, "ext4", "/mnt"))
    run("set -e; echo kept > /mnt/file; lvs --noheadings group | grep -q kubeup-")
    before = int(run("df -k --output=size /mnt | tail -1"))

    assert place.volumes.ensure(replace(want, size=2**27)).size == 2**27
    run(
        f"set -e; for i in $(seq 60); do test $(blockdev --getsize64 {device}) = {2**27} && break; sleep 1; done;"
        f" pvresize -q {device}"
    )
    assert over_ssh("grow") == str(2**26)
    run(mounting(logical, "ext4", "/mnt"))
    assert int(run("df -k --output=size /mnt | tail -1")) > before * 1.5, "the file system did not grow while it was mounted"
    assert run("cat /mnt/file") == "kept"

    run("umount /mnt")
    assert over_ssh("away") == "0 0"
    run('set -e; test -z "$(lvs --noheadings group)"; vgchange -q -an group')
    place.volumes.detach(volume.ref, machine().ref)
    settled(lambda: not place.volumes.observe(Scope(installation=place.installation)).items[0].attached)
    run(f"for i in $(seq 60); do test -b {device} || exit 0; sleep 1; done; exit 1")
