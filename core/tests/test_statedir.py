"""The state directory: one owner, private, on a disk whose locks hold."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from kubeup_core.statedir import InUse, NetworkFilesystem, StateDir, StateDirError, born, filesystem


def test_it_is_made_private(tmp_path: Path) -> None:
    state = StateDir.open(tmp_path / "a" / "b")
    state.say({"pid": 1})
    state.close()
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a" / "b" / "server.json").stat().st_mode & 0o777 == 0o600
    assert state.said() == {"pid": 1}


def test_a_second_owner_is_told_who_the_first_is(tmp_path: Path) -> None:
    first = StateDir.open(tmp_path)
    with pytest.raises(InUse, match=str(os.getpid())) as caught:
        StateDir.open(tmp_path)
    assert caught.value.pid == os.getpid()
    first.close()
    StateDir.open(tmp_path).close()


def test_the_lock_of_a_killed_process_is_no_lock(tmp_path: Path) -> None:
    code = "import sys, os, signal; from pathlib import Path; from kubeup_core.statedir import StateDir; "
    code += "StateDir.open(Path(sys.argv[1])); os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert (tmp_path / "lock").read_text().isdigit()
    StateDir.open(tmp_path).close()


def test_a_network_filesystem_is_refused_by_name(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"22 1 0:1 / / rw - ext4 /dev/vda rw\n23 22 0:2 / {tmp_path / 'far'} rw - nfs4 server:/x rw\n")
    with pytest.raises(NetworkFilesystem, match="nfs4"):
        StateDir.open(tmp_path / "far" / "state", mounts)
    assert filesystem(tmp_path, mounts) == "ext4"


def test_a_place_that_cannot_be_a_directory_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateDirError, match="choose another --state"):
        StateDir.open(tmp_path / "file" / "state")


def test_a_process_is_named_by_its_pid_and_its_birth() -> None:
    assert born(os.getpid()) == born(os.getpid()) != ""
    assert born(2**22 + 1) == ""
