"""The startup script for images without cloud-init, run by a real shell; apt and cloud-init are stand-ins that note their calls."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from kubeup_gce.launching import NEEDS_CLOUD_INIT

STAGES = ["init --local", "init", "modules --mode=config", "modules --mode=final"]
CLOUD_INIT = """#!/bin/sh
echo "cloud-init $*" >>"$LOG"
"""
APT = """#!/bin/sh
echo "apt-get $*" >>"$LOG"
read -r left <"$LOG.fails" || left=0
if [ "$left" -gt 0 ]; then echo $((left - 1)) >"$LOG.fails"; exit 100; fi
if [ "$1" = install ]; then printf '%s' "$CLOUD_INIT" >"$PATH/cloud-init"; /bin/chmod 755 "$PATH/cloud-init"; fi
"""


class Machine:
    """fails: how often apt does, before it works."""

    def __init__(self, folder: Path, fails: int = 0) -> None:
        self.bin, self.log = folder / "bin", folder / "log"
        self.bin.mkdir()
        (folder / "log.fails").write_text(f"{fails}\n")
        for name, text in (("apt-get", APT), ("sleep", "#!/bin/sh\n")):
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)

    def boot(self) -> tuple[int, str, list[str]]:
        """-> (exit code, what it complained about, what was called)."""
        self.log.write_text("")
        env = {"PATH": str(self.bin), "LOG": str(self.log), "CLOUD_INIT": CLOUD_INIT}
        done = subprocess.run(
            ["/bin/sh", "-c", NEEDS_CLOUD_INIT], env=env, capture_output=True, text=True, check=False, timeout=60
        )
        return done.returncode, done.stderr, self.log.read_text().splitlines()


def test_cloud_init_is_installed_and_runs_all_its_stages_once_and_not_at_the_next_boot(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    code, said, called = machine.boot()
    assert (code, said) == (0, "")
    assert called == ["apt-get update -q", "apt-get install -q -y cloud-init", *(f"cloud-init {stage}" for stage in STAGES)]
    assert machine.boot() == (0, "", [])


def test_an_image_that_has_cloud_init_is_left_to_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    (machine.bin / "cloud-init").write_text(CLOUD_INIT)
    (machine.bin / "cloud-init").chmod(0o755)
    assert machine.boot() == (0, "", [])


def test_a_mirror_that_fails_for_a_while_is_asked_again(tmp_path: Path) -> None:
    code, _, called = Machine(tmp_path, fails=3).boot()
    assert code == 0
    assert called.count("apt-get update -q") == 4
    assert [call for call in called if call.startswith("cloud-init")] == [f"cloud-init {stage}" for stage in STAGES]


def test_a_mirror_that_fails_for_good_is_said_on_the_console_and_tried_at_the_next_boot(tmp_path: Path) -> None:
    machine = Machine(tmp_path, fails=5)
    code, said, called = machine.boot()
    assert code == 1
    assert "cloud-init cannot be installed" in said
    assert called == ["apt-get update -q"] * 5
    assert machine.boot()[0] == 0


def test_shellcheck_finds_nothing(tmp_path: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed (apt-get install shellcheck)")
    script = tmp_path / "startup.sh"
    script.write_text(NEEDS_CLOUD_INIT)
    done = subprocess.run(["shellcheck", "--shell=sh", str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
