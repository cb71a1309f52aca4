"""The binaries of a bundle: put where they belong, and only when they are of the version that was asked for."""

import subprocess

import pytest
from kubeup_kubeadm.shell import script


@pytest.fixture
def install(tmp_path):
    """install(version asked for, version of the bundle's kubeadm) -> exit code, output; what runs now is v1.34.1."""
    system = tmp_path / "system"
    system.mkdir()

    def put(folder, version):
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("kubeadm", "kubelet", "kubectl"):
            (folder / name).write_text(f"#!/bin/sh\necho {version}\n")
            (folder / name).chmod(0o755)

    def run(asked, inside):
        put(system, "v1.34.1")
        put(tmp_path / "state" / "bundle" / asked / "bin", inside)
        text = script("binaries", VERSION=asked, BINARIES="kubeadm kubelet kubectl")
        text = text.replace("/usr/local/bin", str(system)).replace("/var/lib/kubeup", str(tmp_path / "state"))
        done = subprocess.run(["sh", "-eu"], input=text.encode(), capture_output=True, timeout=60)
        return done.returncode, (done.stdout + done.stderr).decode(), (system / "kubelet").read_text()

    return run


def test_a_bundle_of_another_version_touches_nothing(install):
    code, said, kubelet = install("v1.35.0", "v1.36.0")
    assert code != 0
    assert "kubeadm in the bundle is v1.36.0, but v1.35.0 was asked for" in said
    assert "v1.34.1" in kubelet


def test_a_bundle_of_the_version_that_was_asked_for_is_installed(install):
    code, said, kubelet = install("v1.35.0", "v1.35.0")
    assert (code, "v1.35.0" in kubelet) == (0, True), said
