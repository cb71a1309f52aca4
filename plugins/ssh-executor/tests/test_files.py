"""Files: whole or not at all, for root and through sudo."""

import os
import stat
from pathlib import Path

import pytest
from kubeup_core.errors import Denied, InvalidSpec, NotFound, NotReady


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "files"
    path.mkdir()
    return path


def test_a_file_is_written_with_its_mode_and_nothing_else_is_left(sshd, executor, folder):
    data = os.urandom(3_000_000)
    chunks = (data[i : i + 100_000] for i in range(0, len(data), 100_000))
    executor.upload(sshd().access(), str(folder / "key"), chunks, 0o640, 20)
    assert (folder / "key").read_bytes() == data
    assert stat.S_IMODE((folder / "key").stat().st_mode) == 0o640
    assert os.listdir(folder) == ["key"]


def test_a_file_that_is_there_is_replaced_at_once(sshd, executor, folder):
    (folder / "conf").write_text("old")
    with (folder / "conf").open() as reader:
        executor.upload(sshd().access(), str(folder / "conf"), [b"new"], 0o600, 20)
        assert reader.read() == "old"
    assert (folder / "conf").read_text() == "new"


def test_an_upload_that_breaks_off_leaves_the_old_file_and_no_other(sshd, executor, folder):
    (folder / "conf").write_text("old")

    def content():
        yield b"half"
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        executor.upload(sshd().access(), str(folder / "conf"), content(), 0o600, 20)
    assert (folder / "conf").read_text() == "old"
    assert os.listdir(folder) == ["conf"]


def test_a_host_that_dies_in_the_middle_leaves_the_old_file(sshd, executor, folder):
    from kubeup_core.errors import Unknown

    host = sshd()
    (folder / "conf").write_text("old")

    def content():
        yield b"half" * 1000
        host.stop()
        for _ in range(2000):
            yield b"more" * 1000

    with pytest.raises(Unknown):
        executor.upload(host.access(), str(folder / "conf"), content(), 0o600, 20)
    assert (folder / "conf").read_text() == "old"


def test_nobody_else_can_read_a_file_while_it_is_written(sshd, executor, folder):
    modes = []

    def content():
        yield b"secret"
        modes.extend(stat.S_IMODE(f.stat().st_mode) for f in folder.iterdir())
        yield b"s"

    executor.upload(sshd().access(), str(folder / "key"), content(), 0o644, 20)
    assert modes == [0o600]


def test_a_missing_folder_is_told(sshd, executor, folder):
    with pytest.raises(NotFound, match="folder"):
        executor.upload(sshd().access(), str(folder / "not" / "there"), [b""], 0o600, 20)


def test_a_path_that_is_no_file_is_refused(sshd, executor, folder):
    for path in ("relative", f"{folder}/"):
        with pytest.raises(InvalidSpec, match="not the path of a file"):
            executor.upload(sshd().access(), path, [b""], 0o600, 20)


def test_a_full_disk_leaves_the_old_file_and_says_where_to_look(sshd, executor, run, users):
    host = sshd()
    file = host.folder / "small" / "conf"
    executor.upload(host.access(), str(file), [b"old"], 0o600, 20)
    with pytest.raises(NotReady, match="was not written") as caught:
        executor.upload(host.access(), str(file), [b"x" * 32768] * 5, 0o600, 20)
    assert "disk" in caught.value.remedy
    assert run(host.access(), f"cd {file.parent}; ls -A; cat conf") == (0, b"conf\nold")


def test_another_user_writes_as_root_through_sudo(sshd, executor, folder, users):
    folder.chmod(0o700)
    executor.upload(sshd().access(user="kubeup"), str(folder / "key"), [b"data"], 0o600, 20)
    assert (folder / "key").read_bytes() == b"data"
    assert (folder / "key").stat().st_uid == 0


def test_sudo_that_asks_is_told_for_files_too(sshd, executor, folder, users):
    with pytest.raises(Denied, match="without a password"):
        executor.upload(sshd().access(user="asks"), str(folder / "key"), [b"data"], 0o600, 20)
