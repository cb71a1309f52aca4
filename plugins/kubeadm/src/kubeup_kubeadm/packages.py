"""Debian packages of a bundle: what the machines' scripts install where it is missing, with all it depends on beyond a base system.

Used by `kubeup bundle create --packages SUITE`. apt does it, with this machine's package sources and keys, but in a state of its own:
nothing is installed here, nobody has to be root, and apt proves what it fetches by the sources' signatures. Machines install them in
`scripts/system.sh` and `scripts/containerd.sh`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from kubeup_core import InvalidSpec, NotReady

WANTED = (
    "ca-certificates", "conntrack", "containerd", "curl", "ethtool", "iproute2", "iptables", "mount", "python3", "runc", "socat", "tar",
)  # fmt: skip
"""What `scripts/` look for."""

BASE = ("?essential", "?priority(required)", "apt", "systemd-sysv")
"""What every machine has; apt's own patterns."""

SECONDS = 900


def download_packages(folder: Path, suite: str, arch: str, say: Callable[[str], None] = lambda line: None) -> None:
    """Fills folder/debs for machines of a suite (bookworm, noble).

    Raises InvalidSpec when this machine's apt has no such suite, NotReady when its sources do not answer.
    """
    if shutil.which("apt-get") is None:
        raise InvalidSpec(
            "packages are fetched by apt-get, which is not on this machine",
            path="--packages",
            remedy="run this on Debian or Ubuntu, or put them into the folder debs and use --from",
        )
    with tempfile.TemporaryDirectory(prefix="kubeup-apt-") as root:
        apt = _Apt(Path(root), arch)
        apt.choose(suite)
        say(f"packages of {suite}")
        apt.update()
        apt.pretend(apt.planned(*BASE))
        apt.fetch(*WANTED)
        debs = folder / "debs"
        debs.mkdir(parents=True, exist_ok=True)
        for found in sorted((apt.root / "cache/archives").glob("*.deb")):
            say(found.name)
            shutil.copyfile(found, debs / found.name)


class _Apt:
    """apt with lists, a cache and a list of installed packages below `root`."""

    def __init__(self, root: Path, arch: str) -> None:
        self.root = root
        for name in ("state/lists/partial", "cache/archives/partial"):
            (root / name).mkdir(parents=True)
        self.status, self.preferences = root / "status", root / "preferences"
        self.status.touch()
        self.preferences.touch()
        settings = {
            "Dir::State": root / "state",
            "Dir::State::status": self.status,
            "Dir::Cache": root / "cache",
            "Dir::Etc::preferences": self.preferences,
            "Dir::Etc::preferencesparts": "/dev/null",
            "APT::Architecture": arch,
            "APT::Architectures": arch,
            "APT::Install-Recommends": "false",
            "APT::Keep-Downloaded-Packages": "true",
            "APT::Sandbox::User": "",
        }
        self.options = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]

    def choose(self, suite: str) -> None:
        """Only this suite's packages are taken, with its updates."""
        said = self._run("apt-get", "indextargets", "--no-release-info", "--format", "$(CREATED_BY) $(RELEASE)")
        releases = {line.split()[1] for line in said.splitlines() if line.startswith("Packages ")}
        if suite not in releases:
            raise InvalidSpec(
                f"the package sources of this machine do not have {suite}, but {', '.join(sorted(releases)) or 'nothing'}",
                path="--packages",
                remedy="add it to apt's sources, or run this on a machine of that suite",
            )
        others = [name for name in releases if name != suite and not name.startswith(f"{suite}-")]
        pins = [f"Package: *\nPin: release {by}={name}\nPin-Priority: -1\n" for name in sorted(others) for by in "an"]
        self.preferences.write_text("\n".join(pins))

    def update(self) -> None:
        said = self._run("apt-get", "-q", "update")
        if wrong := re.findall(r"^(?:E:|Err:|W: Failed to fetch).*", said, re.MULTILINE):
            raise NotReady(f"the package sources do not answer: {wrong[-1][:300]}", remedy="try again later")

    def planned(self, *packages: str) -> list[str]:
        """name=version of all that an installation would bring."""
        said = self._run("apt-get", "-q", "-s", "install", *packages)
        return ["=".join(found) for found in re.findall(r"^Inst (\S+) \((\S+) ", said, re.MULTILINE)]

    def pretend(self, packages: list[str]) -> None:
        """That these are installed."""
        stanzas = self._run("apt-cache", "show", *packages)
        self.status.write_text(re.sub(r"^(Package: .*)$", r"\1\nStatus: install ok installed", stanzas, flags=re.MULTILINE))

    def fetch(self, *packages: str) -> None:
        self._run("apt-get", "-q", "-y", "--download-only", "install", *packages)

    def _run(self, program: str, *arguments: str) -> str:
        command = [program, *self.options, *arguments]
        environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment)
        if done.returncode != 0:
            said = [line for line in done.stderr.splitlines() if line.startswith("E:")]
            raise NotReady(
                f"{program} {next(a for a in arguments if a[0] != '-')} does not succeed: {' '.join(said)[:500]}",
                remedy="try again later",
            )
        return done.stdout + done.stderr
