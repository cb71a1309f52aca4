"""A real libvirtd of the tests' own, and the disk that its virtual machines boot from.

The daemon runs in namespaces of its own (mounts, network, processes): it shares neither sockets nor bridges nor state with another one
on the machine, and what it started goes with it. /dev/kvm is hidden from it, as nested KVM that half works makes qemu hang for
minutes: machines are emulated. The image is Debian with cloud-init, booted by its kernel without a boot loader.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .build import SUITE, CannotBuild, artifact, mmdebstrap
from .progress import step
from .sshd import descendants
from .system import PATH, advice, find

PACKAGES = (
    "systemd-sysv,udev,dbus,openssh-server,cloud-init,linux-image-cloud-amd64,iproute2,ifupdown,isc-dhcp-client,"
    "python3-minimal,e2fsprogs,lvm2"
)
TRIMMED = """
datasource_list: [NoCloud]
locale: false
ssh_genkeytypes: [ed25519]
cloud_init_modules: [write-files, set_hostname, users-groups, ssh, runcmd]
cloud_config_modules: []
cloud_final_modules: [scripts-user, ssh-authkey-fingerprints, keys-to-console, final-message]
"""
"""What cloud-init does in these machines: little, as every second of it is ten under emulation. What is usually in its stage `config`
is in `init`, so that one start of Python is saved."""

MASKED = (
    "apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer dpkg-db-backup.timer man-db.timer"
    " e2scrub_reap.service systemd-timesyncd.service systemd-logind.service systemd-binfmt.service lvm2-monitor.service"
    " cloud-config.service cloud-init-hotplugd.socket modprobe@.service kmod-static-nodes.service systemd-update-utmp.service"
    " systemd-update-utmp-runlevel.service systemd-random-seed.service systemd-journal-flush.service systemd-pstore.service"
    " dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount"
    " sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount getty.target"
)
"""Units that nothing here needs; each is seconds under emulation."""

FOLDERS = ("/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt", "/run")
NEEDED = {"libvirt-daemon-system": "libvirtd", "qemu-system-x86": "qemu-system-x86_64", "qemu-utils": "qemu-img"}

START = r"""
set -e
folder=$1; shift
for path in "$@"; do mount --bind "$folder$path" "$path"; done
test ! -e /dev/kvm || mount --bind "$folder/nothing" /dev/kvm
umount /sys/fs/cgroup/unified 2>/dev/null || true
mount -t proc proc /proc
ip link set lo up
trap : USR1
while true; do
  while test -e "$folder/paused"; do sleep 0.05; done
  libvirtd >>"$folder/log" 2>&1 & echo started >>"$folder/starts"
  wait $! || true
done
"""


class NoLibvirt(Exception):
    """libvirtd cannot be had here. The message is for people."""


@dataclass(frozen=True)
class MachineDisk:
    """Paths. disk: qcow2 with one file system, without a boot loader; kernel and initrd: to boot it with."""

    disk: Path
    kernel: Path
    initrd: Path


def machine_disk() -> MachineDisk:
    """Made once per recipe and kept in the cache of artifacts. Raises CannotBuild."""
    hook = r"""
        set -e; cd "$1"
        printf '%s' "$TRIMMED" > etc/cloud/cloud.cfg.d/99-tests.cfg
        rm -f etc/ssh/ssh_host_* etc/hostname etc/resolv.conf var/lib/dbus/machine-id; : > etc/machine-id
        echo /dev/vda / ext4 defaults 0 0 > etc/fstab
        for unit in $MASKED; do ln -sf /dev/null etc/systemd/system/$unit; done
        ln -sf /lib/systemd/system/multi-user.target etc/systemd/system/default.target
        printf 'datasource: NoCloud\npolicy: enabled\n' > etc/cloud/ds-identify.cfg
        sed -i 's/^MODULES=.*/MODULES=list/; s/^COMPRESS=.*/COMPRESS=gzip/' etc/initramfs-tools/initramfs.conf
        printf '%s\n' virtio_pci virtio_blk virtio_scsi virtio_net ext4 > etc/initramfs-tools/modules
        chroot . update-initramfs -u
        rm -rf usr/share/doc usr/share/man usr/share/locale var/cache/apt/*.bin var/lib/apt/lists/*
    """.replace('"$TRIMMED"', f"'{TRIMMED}'").replace("$MASKED", MASKED)
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", f"--customize-hook={hook}"]

    def make(path: Path) -> None:
        if find("qemu-img") is None:
            raise CannotBuild(advice(["qemu-utils"]))
        with step("The disk of virtual machines", about=240):
            path.mkdir()
            root = path / "root"
            mmdebstrap(command, root)
            for name, found in (("kernel", "vmlinuz-*"), ("initrd", "initrd.img-*")):
                shutil.move(next((root / "boot").glob(found)), path / name)
            raw, disk = path / "disk.raw", path / "disk.qcow2"
            _run("truncate", "-s", "2G", str(raw))
            _run("mke2fs", "-q", "-t", "ext4", "-d", str(root), str(raw))
            _run("qemu-img", "convert", "-O", "qcow2", str(raw), str(disk))
            raw.unlink()
            shutil.rmtree(root)

    path = artifact("virtual-machine", {"command": command, "suite": SUITE, "disk": 1}, make, suffix="")
    return MachineDisk(path / "disk.qcow2", path / "kernel", path / "initrd")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PATH": PATH})
    if done.returncode != 0:
        raise CannotBuild(f"{command[0]} failed: {done.stderr.strip()[-1000:]}")


@dataclass
class Libvirtd:
    """uri: for clients. pool: the folder of its storage pool `default`. init: the process number 1 of its namespaces."""

    folder: Path
    process: subprocess.Popen[bytes]
    init: int

    @property
    def uri(self) -> str:
        return f"qemu+unix:///system?socket={self.folder}/run/libvirt/libvirt-sock"

    @property
    def pool(self) -> Path:
        return self.folder / "var/lib/libvirt/images"

    def inside(self, *command: str) -> list[str]:
        """The command line that runs this command on its network."""
        return ["nsenter", f"--net=/proc/{self.init}/ns/net", *command]

    def stop(self) -> None:
        """As when it crashed; machines run on. It stays away until `start`."""
        (self.folder / "paused").touch()
        self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        for pid in descendants(self.init):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().strip() == "libvirtd":
                    os.kill(pid, number)

    def start(self) -> None:
        (self.folder / "paused").unlink(missing_ok=True)
        self.wait()

    def wait(self) -> None:
        until = time.monotonic() + 120
        while True:
            done = subprocess.run(["virsh", "-c", self.uri, "version"], capture_output=True, text=True)
            if done.returncode == 0:
                return
            if self.process.poll() is not None or time.monotonic() > until:
                raise NoLibvirt(f"libvirtd does not answer: {done.stderr.strip()} {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)

    def virsh(self, *arguments: str) -> str:
        done = subprocess.run(["virsh", "-c", self.uri, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, f"virsh {' '.join(arguments)}: {done.stderr}"
        return done.stdout


@contextmanager
def libvirtd() -> Iterator[Libvirtd]:
    """Started, with a storage pool `default` and no network. Raises NoLibvirt."""
    lacking = [package for package, command in NEEDED.items() if find(command) is None]
    if lacking or os.geteuid() != 0:
        raise NoLibvirt(advice(lacking) if lacking else "libvirtd is started as root only")
    folder = Path(tempfile.mkdtemp(prefix="kubeup-libvirt-", dir="/var/tmp"))
    folder.chmod(0o755)  # qemu runs as a user of its own
    try:
        for path in FOLDERS:
            Path(path).mkdir(parents=True, exist_ok=True)
            (folder / path[1:]).mkdir(parents=True)
        shutil.copytree("/etc/libvirt", folder / "etc/libvirt", dirs_exist_ok=True)
        for default in ("default.xml", "autostart/default.xml"):
            (folder / "etc/libvirt/qemu/networks" / default).unlink(missing_ok=True)
        with (folder / "etc/libvirt/qemu.conf").open("a") as conf:
            conf.write('\nnamespaces = []\nstdio_handler = "file"\nsecurity_driver = "none"\n')
        with (folder / "etc/libvirt/libvirtd.conf").open("a") as conf:
            conf.write('\nauth_unix_rw = "none"\nauth_unix_ro = "none"\n')
        (folder / "nothing").touch(mode=0)
        (folder / "log").touch()
        command = ["unshare", "-m", "-n", "-p", "--fork", "--kill-child", "--propagation", "private"]
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [*command, "sh", "-c", START, "sh", str(folder), *FOLDERS],
                env={**os.environ, "PATH": PATH},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            until = time.monotonic() + 60
            while not (found := descendants(process.pid)):
                if process.poll() is not None or time.monotonic() > until:
                    raise NoLibvirt(f"no namespaces: {(folder / 'log').read_text()}")
                time.sleep(0.02)
            daemon = Libvirtd(folder, process, found[0])
            daemon.wait()
            daemon.pool.mkdir(exist_ok=True)
            daemon.virsh("pool-create-as", "default", "dir", "--target", "/var/lib/libvirt/images")
            yield daemon
        finally:
            process.kill()
            process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
