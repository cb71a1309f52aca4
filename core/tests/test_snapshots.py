"""The store of etcd snapshots that needs no plugin: a directory."""

import os
from pathlib import Path

import pytest
from kubeup_core.errors import InvalidSpec, NotFound, NotReady
from kubeup_core.plugins import NotInstalled, Plugins, SwitchedOff, discover
from kubeup_core.snapshots import Directory

NAME = "demo-20260101-000000.etcd-snapshot"


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    file = tmp_path / "snapshot"
    file.write_bytes(b"etcd" * 1000)
    return file


def test_a_snapshot_comes_back_as_it_was_put_and_only_its_owner_can_read_it(tmp_path: Path, snapshot: Path) -> None:
    store = Directory(f"file://{tmp_path}/kept")
    store.put(NAME, snapshot)
    store.get(NAME, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == snapshot.read_bytes()
    assert (tmp_path / "kept" / NAME).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o700


def test_the_newest_is_listed_first_and_what_is_not_a_snapshot_is_neither_listed_nor_touched(
    tmp_path: Path, snapshot: Path
) -> None:
    store = Directory(f"file://{tmp_path}/kept")
    assert store.list() == ()
    for name in ("a.etcd-snapshot", "b.etcd-snapshot"):
        store.put(name, snapshot)
    os.utime(tmp_path / "kept" / "b.etcd-snapshot", (1, 1))
    (tmp_path / "kept" / "notes.txt").write_text("mine")
    (tmp_path / "kept" / ".c.etcd-snapshot.1").write_text("half")
    assert [s.name for s in store.list()] == ["a.etcd-snapshot", "b.etcd-snapshot"]
    assert store.list()[0].size == 4000
    store.delete("a.etcd-snapshot")
    store.delete("a.etcd-snapshot")
    assert [s.name for s in store.list()] == ["b.etcd-snapshot"]


def test_a_snapshot_that_is_not_there_is_not_found_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no snapshot"):
        Directory(f"file://{tmp_path}").get(NAME, tmp_path / "back")
    assert not list(tmp_path.iterdir())


def test_a_directory_that_cannot_be_made_says_so_with_a_remedy(tmp_path: Path, snapshot: Path) -> None:
    (tmp_path / "kept").write_text("a file")
    with pytest.raises(NotReady, match="cannot be used") as caught:
        Directory(f"file://{tmp_path}/kept").put(NAME, snapshot)
    assert "right to write" in caught.value.remedy


@pytest.mark.parametrize("url", ["file://host/path", "relative/path", "s3://bucket", "file:relative"])
def test_what_is_not_a_directory_is_refused(url: str) -> None:
    with pytest.raises(InvalidSpec, match="does not name a directory"):
        Directory(url)


PLUGIN = """
from kubeup_core import hookimpl

@hookimpl
def kubeup_register_snapshot_stores(register):
    register.snapshot_store(scheme={scheme!r}, build=lambda url, secrets: (url, dict(secrets)))
"""


def plugins(tmp_path: Path, scheme: str) -> Plugins:
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN.format(scheme=scheme))
    return discover([file], found=[])


def test_the_scheme_of_a_url_chooses_the_store(tmp_path: Path) -> None:
    found = plugins(tmp_path, "tape")
    assert found.snapshot_store("tape://robot/1", {"pin": "1"}) == ("tape://robot/1", {"pin": "1"})
    assert isinstance(found.snapshot_store(f"file://{tmp_path}", {}), Directory)


def test_a_scheme_that_nobody_serves_gives_the_install_line(tmp_path: Path) -> None:
    with pytest.raises(NotInstalled, match=r"there is file, tape.*pip install kubeup-s3") as caught:
        plugins(tmp_path, "tape").snapshot_store("s3://bucket", {})
    assert not isinstance(caught.value, SwitchedOff)


@pytest.mark.parametrize(("scheme", "says"), [("file", "kubeup's own"), ("S_3", "not a DNS label")])
def test_a_store_that_cannot_be_registered_is_off_with_the_reason(tmp_path: Path, scheme: str, says: str) -> None:
    (broken,) = plugins(tmp_path, scheme).broken
    assert says in broken.reason
