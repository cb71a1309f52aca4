"""What the tests stand on: the cache of artifacts, and the engine that test processes share."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path

import pytest
from kubeup_artifacts import build, engine, system
from kubeup_artifacts.fixtures import unavailable


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KUBEUP_TEST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_artifact_is_made_once_for_the_same_inputs(cache: Path) -> None:
    made = []

    def make(path: Path) -> None:
        made.append(path)
        path.write_text("x")

    first = build.artifact("thing", {"recipe": 1}, make)
    assert build.artifact("thing", {"recipe": 1}, make) == first
    assert build.artifact("thing", {"recipe": 2}, make) != first
    assert len(made) == 2
    assert first.parent == cache


def test_two_builders_at_once_make_one_artifact(cache: Path) -> None:
    made = []
    both = threading.Barrier(2)

    def make(path: Path) -> None:
        made.append(path)
        path.write_text("x")

    def ask() -> None:
        both.wait(10)
        build.artifact("thing", {}, make)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_a_build_that_fails_leaves_no_artifact(cache: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise build.CannotBuild("no")

    with pytest.raises(build.CannotBuild):
        build.artifact("thing", {}, fail)
    assert [entry.suffix for entry in cache.iterdir()] == [".lock"]


def test_a_builder_that_was_killed_leaves_nothing_after_the_next(cache: Path) -> None:
    path = build.artifact("thing", {}, Path.mkdir, suffix="")
    killed = path.with_name(f".{path.name}-killed")
    path.rename(killed)
    assert build.artifact("thing", {}, Path.mkdir, suffix="") == path
    assert not killed.exists()


def test_what_is_missing_is_said_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "COMMANDS", {"some-package": "no-such-command", "dash": "sh"})
    assert system.missing() == ["some-package"]
    assert "sudo apt-get install some-package" in system.advice(system.missing())
    monkeypatch.setattr(system, "can_install", lambda: False)
    monkeypatch.setenv("CI", "")
    assert system.main() == 0
    monkeypatch.setenv("CI", "true")
    assert system.main() == 1


def test_a_missing_part_skips_here_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "")
    with pytest.raises(pytest.skip.Exception, match="no engine"):
        unavailable("no engine")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no engine"):
        unavailable("no engine")


@pytest.mark.docker
def test_an_engine_is_shared_and_stopped_by_its_last_user(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        engine.can_start()
        image = build.machine_image()
    except (engine.NoEngine, build.CannotBuild) as reason:
        unavailable(str(reason))
    monkeypatch.setattr(engine, "answering", lambda: "")
    with tempfile.TemporaryDirectory(prefix="kubeup-") as short:  # the path of a socket has at most 107 bytes
        monkeypatch.setattr(tempfile, "tempdir", short)
        folder = Path(short, f"kubeup-engine-{os.geteuid()}")
        with engine.shared(image, "test:1") as first:
            with engine.shared(image, "test:1") as second:
                assert second == first
                second.call("POST", "/containers/create?name=left", {"Image": "test:1", "Cmd": ["true"]})
            assert [c["Names"] for c in first.ps()] == [["/left"]]
            pid = engine.engine_pid(folder)
            assert pid is not None
        assert not engine.pings(first.host)
        assert engine.engine_pid(folder) is None
        assert {entry.suffix for entry in folder.iterdir()} == {".lock"}
