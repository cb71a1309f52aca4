"""Debian packages of bundles: collected by the real apt from a small archive of the tests' own, and installed by stand-ins."""

import hashlib
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from kubeup_core import InvalidSpec, NotReady
from kubeup_core.bootstrapper import Archive, Task
from kubeup_kubeadm import build, bundle
from kubeup_kubeadm.bundle_command import command
from kubeup_kubeadm.packages import WANTED, download_packages

BOOTSTRAPPER = build()
BUNDLE = Archive(path="/bundles/k.tar", sha256="ab" * 32)
INSTALLED = ("tar", "mount")
"""Of those that are wanted: what a base system has."""


def deb(folder: Path, name: str, **fields: str) -> str:
    """Makes a package; returns its entry for an archive's list."""
    tree = folder / "tree" / name
    (tree / "DEBIAN").mkdir(parents=True)
    known = {"Package": name, "Version": "1:1.0", "Architecture": "amd64", "Maintainer": "a test", "Description": "x", **fields}
    control = "".join(f"{key}: {value}\n" for key, value in known.items())
    (tree / "DEBIAN" / "control").write_text(control)
    file = folder / f"{name}.deb"
    subprocess.run(["dpkg-deb", "-Znone", "--root-owner-group", "-b", str(tree), str(file)], check=True, capture_output=True)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return f"{control}Filename: ./{file.name}\nSize: {file.stat().st_size}\nSHA256: {digest}\n\n"


@pytest.fixture
def archive(tmp_path, monkeypatch) -> Path:
    """This machine's only package source: suite toy, for amd64."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip("apt-get and dpkg-deb are not here: packages are fetched on Debian and Ubuntu only")
    folder = tmp_path / "archive"
    entries = [deb(folder, "base", Essential="yes", Depends="libbase"), deb(folder, "libbase"), deb(folder, "libtool")]
    entries += [deb(folder, name) for name in ("apt", "systemd-sysv", "unwanted")]
    for name in WANTED:
        required = {"Priority": "required"} if name in INSTALLED else {}
        needs = {"Depends": "libtool, libbase, runc", "Recommends": "unwanted"} if name == "containerd" else {}
        entries.append(deb(folder, name, **required, **needs))
    lists = folder / "dists" / "toy" / "main" / "binary-amd64"
    lists.mkdir(parents=True)
    text = "".join(entries).encode()
    (lists / "Packages").write_bytes(text)
    release = (
        "Suite: toy\nCodename: toy\nArchitectures: amd64\nComponents: main\nDate: Sat, 28 Nov 2026 00:00:00 UTC\nSHA256:\n"
    )
    release += f" {hashlib.sha256(text).hexdigest()} {len(text)} main/binary-amd64/Packages\n"
    (folder / "dists" / "toy" / "Release").write_text(release)
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] copy:{folder} toy main\n")
    (tmp_path / "apt.conf").write_text(f'Dir::Etc::sourcelist "{tmp_path}/sources.list";\nDir::Etc::sourceparts "/dev/null";\n')
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    return folder


def test_packages_come_with_what_they_depend_on_beyond_a_base_system(archive, tmp_path):
    download_packages(tmp_path / "parts", "toy", "amd64")
    found = {file.name.split("_")[0] for file in (tmp_path / "parts" / "debs").glob("*.deb")}
    assert found == {*WANTED, "libtool"} - {*INSTALLED}


def test_a_bundle_holds_the_packages_and_lists_them(archive, tmp_path):
    parts = tmp_path / "parts"
    download_packages(parts, "toy", "amd64")
    (parts / "bin").mkdir()
    for name in bundle.NEEDED:
        (parts / name).write_text("x")
    bundle.create(parts, "v1.36.4", "amd64", tmp_path / "k.tar")
    listed = CliRunner().invoke(command, ["inspect", str(tmp_path / "k.tar")])
    assert listed.exit_code == 0
    assert "debs/containerd_1%3a1.0_amd64.deb" in listed.output
    with tarfile.open(tmp_path / "k.tar") as tar:
        assert "debs/runc_1%3a1.0_amd64.deb" in tar.getnames()


def test_a_suite_that_this_machine_has_no_sources_of_is_refused(archive, tmp_path):
    with pytest.raises(InvalidSpec, match="do not have bookworm, but toy") as refused:
        download_packages(tmp_path / "parts", "bookworm", "amd64")
    assert "run this on a machine of that suite" in refused.value.remedy


def test_sources_that_do_not_answer_are_told(archive, tmp_path):
    shutil.rmtree(archive / "dists")
    with pytest.raises(NotReady, match="apt-get update does not succeed"):
        download_packages(tmp_path / "parts", "toy", "amd64")


def test_a_package_that_does_not_match_its_hash_is_refused(archive, tmp_path):
    (archive / "runc.deb").write_bytes((archive / "socat.deb").read_bytes())
    with pytest.raises(NotReady, match="runc"):
        download_packages(tmp_path / "parts", "toy", "amd64")


def test_a_machine_without_apt_is_told_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InvalidSpec, match="not on this machine"):
        download_packages(tmp_path / "parts", "toy", "amd64")


def test_packages_are_not_put_into_a_folder_of_somebodys_own(tmp_path):
    given = ["create", "--version", "v1.36.4", "--from", str(tmp_path), "--packages", "bookworm"]
    done = CliRunner().invoke(command, given)
    assert done.exit_code == 1
    assert f"put the packages of bookworm into {tmp_path}/debs" in done.output


# -- on the machine --------------------------------------------------------------------------------------------------------


class Machine:
    """Runs the beginning of a step's script, where it installs things; dpkg, apt-get and containerd are stand-ins."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, folder / "calls"
        (folder / "bin").mkdir()
        self.debs = folder / "state/bundle/v1.36.4/debs"
        for program in ("sh", "ls", "cat", "sed", "grep", "tail", "printf"):
            (folder / "bin" / program).symlink_to(shutil.which(program) or program)

    def has(self, program: str, script: str = "") -> None:
        path = self.folder / "bin" / program
        path.write_text(f'#!/bin/sh\necho "{program} $*" >>{self.calls}\n{script}\n')
        path.chmod(0o755)

    def run(self, name: str, until: str, plan, node) -> tuple[int, list[str], str]:
        steps = BOOTSTRAPPER.steps(Task.PREPARE, plan(bundle=BUNDLE, cni="none"), node())
        return self.shell(next(step.script for step in steps if step.name == name).partition(until)[0])

    def shell(self, text: str) -> tuple[int, list[str], str]:
        text = text.replace("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", f"PATH={self.folder}/bin")
        text = text.replace("STATE=/var/lib/kubeup", f"STATE={self.folder}/state").replace("/etc/os-release", "./os-release")
        (self.folder / "os-release").write_text("ID=debian\n")
        done = subprocess.run(["/bin/sh", "-eu"], input=text, capture_output=True, text=True, timeout=60, cwd=self.folder)
        return done.returncode, self.calls.read_text().splitlines() if self.calls.exists() else [], done.stderr


STEPS = [("system", "# A kernel without modules"), ("containerd", "supported_containerd\n\npause=")]


@pytest.mark.parametrize(("name", "until"), STEPS)
def test_what_is_missing_is_installed_out_of_the_bundle_without_asking_a_repository(name, until, tmp_path, plan, node):
    machine = Machine(tmp_path)
    machine.debs.mkdir(parents=True)
    (machine.debs / "containerd_1.deb").touch()
    machine.has("dpkg")
    machine.has("apt-get")
    code, calls, said = machine.run(name, until, plan, node)
    assert (code, said) == (0, "")
    assert calls == [f"dpkg --skip-same-version --refuse-downgrade -i {machine.debs}/containerd_1.deb"]


@pytest.mark.parametrize(("name", "until"), STEPS)
def test_without_packages_in_the_bundle_the_machines_repositories_are_asked(name, until, tmp_path, plan, node):
    machine = Machine(tmp_path)
    machine.has("dpkg")
    machine.has("apt-get")
    code, calls, _ = machine.run(name, until, plan, node)
    assert code == 0
    assert [call.split()[0] for call in calls] == ["apt-get", "apt-get"]
    assert calls[1].endswith(" containerd runc" if name == "containerd" else " tar")


def test_packages_whose_pre_dependencies_were_only_unpacked_are_installed_in_another_go(tmp_path, plan, node):
    machine = Machine(tmp_path)
    machine.debs.mkdir(parents=True)
    (machine.debs / "containerd_1.deb").touch()
    machine.has("dpkg", f'[ "$(grep -c dpkg {machine.calls})" -ge 3 ]')
    code, calls, _ = machine.run(*STEPS[0], plan, node)
    assert (code, len(calls)) == (0, 3)
    machine.has("dpkg", "echo broken >&2; exit 1")
    code, _, said = machine.run(*STEPS[0], plan, node)
    assert code == 1
    assert "broken" in said
    assert "the bundle's packages do not install; it needs conntrack iptables" in said


def test_kubernetes_from_a_repository_is_pinned_to_its_version_and_held(tmp_path, plan, node):
    machine = Machine(tmp_path)
    for program in ("awk", "mkdir", "mv", "touch"):
        (tmp_path / "bin" / program).symlink_to(shutil.which(program) or program)
    for folder in ("apt/sources.list.d", "apt/preferences.d"):
        (tmp_path / "etc" / folder).mkdir(parents=True)
    machine.has("curl", 'while [ "$1" != -o ]; do shift; done; touch "$2"')
    machine.has("apt-get")
    machine.has("apt-mark")
    machine.has("apt-cache", 'echo "$2 | 1.36.4-1.1 | here"')
    machine.has("kubeadm", "echo v1.36.4")
    steps = BOOTSTRAPPER.steps(Task.PREPARE, plan(source="packages", repository="https://mirror/v{minor}/{format}"), node())
    step = next(step for step in steps if step.name == "kubernetes")
    code, calls, said = machine.shell(step.script.replace("/etc/apt/", f"{tmp_path}/etc/apt/"))
    assert (code, said) == (0, "")
    pin = "Package: kubeadm kubelet kubectl\nPin: version 1.36.4-*\nPin-Priority: 1001\n"
    assert (tmp_path / "etc/apt/preferences.d/kubeup-kubernetes").read_text() == pin
    key = f"{tmp_path}/etc/apt/keyrings/kubeup-kubernetes.asc"
    line = f"deb [signed-by={key}] https://mirror/v1.36/deb/ /\n"
    assert (tmp_path / "etc/apt/sources.list.d/kubeup-kubernetes.list").read_text() == line
    installs = [call for call in calls if call.startswith("apt-get") and " install " in call]
    assert [call.partition(" install ")[2] for call in installs] == ["kubeadm=1.36.4-* kubelet=1.36.4-* kubectl=1.36.4-*"]
    assert calls[-2:] == ["apt-mark hold kubeadm kubelet kubectl", "kubeadm version -o short"]
