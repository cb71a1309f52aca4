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
    assert (caught.value.pid, caught.value.address) == (os.getpid(), "")
    first.say({"pid": os.getpid(), "url": "https://127.0.0.1:6443"})
    with pytest.raises(InUse, match="kubeup stop") as caught:
        StateDir.open(tmp_path)
    assert caught.value.address == "https://127.0.0.1:6443"
    first.say({"pid": os.getpid() + 1, "url": "https://127.0.0.1:1"})
    with pytest.raises(InUse) as caught:
        StateDir.open(tmp_path)
    assert caught.value.address == "", "what a former server said is not the owner's address"
    first.close()
    first.close()
    StateDir.open(tmp_path).close()


def test_the_lock_of_a_killed_process_is_no_lock(tmp_path: Path) -> None:
    code = "import sys, os, signal; from pathlib import Path; from kubeup_core.statedir import StateDir; "
    code += "StateDir.open(Path(sys.argv[1])); os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    pid, start = (tmp_path / "lock").read_text().split()
    assert pid.isdigit()
    assert start.isdigit()
    StateDir.open(tmp_path).close()


def test_a_network_filesystem_is_refused_by_name(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"22 1 0:1 / / rw - ext4 /dev/vda rw\n23 22 0:2 / {tmp_path / 'far'} rw - nfs4 server:/x rw\n")
    with pytest.raises(NetworkFilesystem, match="nfs4"):
        StateDir.open(tmp_path / "far" / "state", mounts)
    assert filesystem(tmp_path, mounts) == "ext4"
    assert not (tmp_path / "far").exists(), "nothing was made there"


@pytest.mark.parametrize("kind", ["nfs", "cifs", "smb3", "9p", "fuse.sshfs"])
def test_a_mount_with_a_space_in_its_name_is_recognised(tmp_path: Path, kind: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"22 1 0:1 / / rw - ext4 /dev/vda rw\n23 22 0:2 / {tmp_path}/my\\040share rw - {kind} server:/x rw\n")
    with pytest.raises(NetworkFilesystem, match="local disk"):
        StateDir.open(tmp_path / "my share", mounts)


def test_a_directory_of_other_things_is_refused_and_stays_as_it_was(tmp_path: Path) -> None:
    place = tmp_path / "shared"
    place.mkdir()
    place.chmod(0o755)
    (place / "thesis.txt").write_text("mine")
    with pytest.raises(StateDirError, match="holds other things"):
        StateDir.open(place)
    assert place.stat().st_mode & 0o777 == 0o755
    assert [f.name for f in place.iterdir()] == ["thesis.txt"]


def test_a_state_directory_that_was_opened_up_is_made_private_again(tmp_path: Path) -> None:
    StateDir.open(tmp_path / "state").close()
    (tmp_path / "state").chmod(0o755)
    StateDir.open(tmp_path / "state").close()
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_a_place_that_cannot_be_a_directory_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateDirError, match="choose another --state"):
        StateDir.open(tmp_path / "file" / "state")


def test_a_process_is_named_by_its_pid_and_its_birth() -> None:
    assert born(os.getpid()) == born(os.getpid()) != ""
    assert born(2**22 + 1) == ""


def test_a_process_that_has_ended_and_was_not_waited_for_is_nobody() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.read()  # ends when the child has: it is a zombie now, or about to be one
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert born(child.pid) == ""
    child.wait()
    child.stdout.close()
