"""What the tests need from the system: which Debian packages, and how they get there.

Run by `make test` before pytest. As root on Debian it says what it installs, then installs it; elsewhere it says what is
missing, and the tests concerned skip with the same words (with CI=true a missing part is a failure). Standard library only
and without imports from its neighbours, as it runs before anything else is there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

COMMANDS = {
    "docker.io": "dockerd",
    "docker-compose": "docker-compose",
    "iptables": "iptables",
    "mmdebstrap": "mmdebstrap",
    "haproxy": "haproxy",
    "keepalived": "keepalived",
    # what reads user-data
    "cloud-init": "cloud-init",
    # servers of the tests' own, on loopback
    "openssh-server": "sshd",
    "sudo": "sudo",
    "shellcheck": "shellcheck",
    # to build Kubernetes and its images
    "golang-go": "go",
    "gcc": "gcc",
    "libc6-dev": "/usr/include/stdio.h",
    "dpkg-dev": "dpkg-source",
    "golang-github-modern-go-reflect2-dev": "/usr/share/gocode/src/github.com/modern-go/reflect2",
    # virtual machines under emulation, and what libvirt-python is built against
    "libvirt-daemon-system": "libvirtd",
    "libvirt-clients": "virsh",
    "qemu-system-x86": "qemu-system-x86_64",
    "qemu-utils": "qemu-img",
    "ovmf": "/usr/share/OVMF/OVMF_CODE_4M.fd",
    "dnsmasq-base": "dnsmasq",
    "openssh-client": "ssh",
    "libvirt-dev": "/usr/include/libvirt/libvirt.h",
    "pkg-config": "pkg-config",
    # to make and check a signed repository of packages
    "apt-utils": "apt-ftparchive",
    "gnupg": "gpg",
    "gpgv": "gpgv",
}
"""Debian package -> the command, or the path, that proves that it is there, from whatever source."""

CLOUD_INIT_OFF = Path("/etc/cloud/cloud-init.disabled")

PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
"""Where commands are looked for: a user's PATH on Debian lacks the sbin folders."""


def find(command: str) -> str | None:
    """The full path of a command, or None."""
    return shutil.which(command, path=PATH)


def missing() -> list[str]:
    """The Debian packages whose commands or files are not here."""
    return [package for package, proof in COMMANDS.items() if not (Path(proof).exists() if "/" in proof else find(proof))]


def can_install() -> bool:
    return os.geteuid() == 0 and Path("/etc/debian_version").exists() and find("apt-get") is not None


def advice(packages: list[str]) -> str:
    """One line for people: what is missing and how to get it."""
    return f"not on this machine: {', '.join(packages)}. On Debian: sudo apt-get install {' '.join(packages)}"


class CannotInstall(Exception):
    """apt-get failed. The message has the end of what it complained about."""


def install(packages: list[str]) -> None:
    """Install by apt. Raises CannotInstall.

    The package lists are renewed only when the first try fails: they are usually fresh enough, and slow.
    """
    if "cloud-init" in packages:  # it is asked about user-data, and must not do anything to this machine at its next boot
        CLOUD_INIT_OFF.parent.mkdir(parents=True, exist_ok=True)
        CLOUD_INIT_OFF.touch()
    command = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *packages]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    if subprocess.run(command, env=environment, capture_output=True).returncode == 0:
        return
    for again in (["apt-get", "update", "-qq"], command):
        done = subprocess.run(again, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise CannotInstall(f"apt-get {again[1]} failed ({done.returncode}): {done.stderr.strip()[-1500:]}")


def main() -> int:
    """The exit code: 0 when everything is there or tests may skip, 1 when CI=true and something is missing."""
    wanted = missing()
    if not wanted:
        return 0
    if can_install():
        print(f"The tests need {', '.join(wanted)}: installing with apt-get", flush=True)
        try:
            install(wanted)
        except (OSError, CannotInstall) as error:
            print(error, file=sys.stderr)
        wanted = missing()
        if not wanted:
            return 0
    print(f"{advice(wanted)}\nThe tests that need them skip.", file=sys.stderr)
    return 1 if os.environ.get("CI") == "true" else 0


if __name__ == "__main__":
    sys.exit(main())
