"""The server in the background: one per state directory, found again, restarted when it has to be, and honest when it is gone."""

import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kubeup.assemble import Server
from kubeup.state import State, born

from kubeup import assemble, daemon

Until = Callable[..., None]


def test_two_commands_at_the_same_moment_share_one_server(kubeup: Any, texts: dict[str, str]) -> None:
    file = kubeup.write(texts["provider"])
    both = [kubeup.spawn("up", "-f", file) for _ in range(2)]
    said = [process.communicate(timeout=60) for process in both]
    assert [p.returncode for p in both] == [0, 0], said
    assert kubeup.state.joinpath("serve.log").read_text().count("serving on") == 1
    (line,) = {line for out, _ in said for line in out.splitlines() if "goes on healing" in line}
    assert str(kubeup.server["pid"]) in line


def test_a_server_that_was_killed_leaves_no_lock_and_status_says_since_when(kubeup: Any, texts: dict[str, str]) -> None:
    kubeup("apply", "-f", kubeup.write(texts["provider"]))
    kubeup.kill()
    out = kubeup("status").out
    assert out.startswith("server: not running since 20")
    assert "unattended" in out
    assert kubeup.json("status")["unattended"] is True
    assert "kubeup restart" in kubeup("get", "providers", code=5).err
    kubeup("restart")
    assert "running" in kubeup("status").out


def test_stop_restart_and_logs(kubeup: Any, texts: dict[str, str]) -> None:
    assert "no server runs" in kubeup("stop").out
    assert "no server has run" in kubeup("logs", code=3).err
    assert "there is no state" in kubeup("restart", code=3).err
    assert "nothing here yet" in kubeup("status").out
    kubeup("apply", "-f", kubeup.write(texts["provider"]))
    first = kubeup.server
    assert "the server runs, pid" in kubeup("restart").out
    assert kubeup.server["pid"] != first["pid"]
    assert kubeup.server["port"] == first["port"], "kubeconfigs stay true"
    assert kubeup("logs", "-n", "1").out.startswith("serving on https://127.0.0.1:")
    assert kubeup("logs", "-n", "0").out == ""
    following = kubeup.spawn("logs", "-f")
    assert "stopped" in kubeup("stop").out
    assert "serving on" in following.communicate(timeout=30)[0]
    assert "nothing was left to look after" in kubeup("status").out


def test_a_port_that_somebody_else_has_taken_is_given_up(kubeup: Any, texts: dict[str, str]) -> None:
    kubeup("apply", "-f", kubeup.write(texts["provider"]))
    port = kubeup.server["port"]
    kubeup("stop")
    with socket.create_server(("127.0.0.1", port)):
        kubeup("restart")
        assert kubeup.server["port"] != port
        assert f":{kubeup.server['port']}" in kubeup("kubeconfig", "--print").out
        assert f"port {port} is taken" in kubeup("logs").out
        kubeup("stop")
        assert f"port {port} on 127.0.0.1" in kubeup("serve", "--port", str(port), code=5).err


@pytest.mark.parametrize("newer", [False, True])
def test_a_server_that_cannot_start_says_why_in_one_line(kubeup: Any, texts: dict[str, str], newer: bool) -> None:
    kubeup("apply", "-f", kubeup.write(texts["provider"]))
    kubeup("stop")
    if newer:
        with sqlite3.connect(kubeup.state / "kubeup.db") as db:
            db.execute("PRAGMA user_version = 9999")
        db.close()
    else:
        for file in kubeup.state.glob("kubeup.db*"):
            file.unlink()
        kubeup.state.joinpath("kubeup.db").write_bytes(b"not a database" * 1000)
    done = kubeup("restart", code=5)
    assert len(done.errors) == 1
    assert done.errors[0].startswith("error: the server did not start: ")
    assert "kubeup.db" in done.err
    assert "serve.log" in done.err


def test_a_directory_that_holds_other_things_is_left_alone(kubeup: Any, texts: dict[str, str], tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    shared.joinpath("letter.txt").touch()
    done = kubeup("--state", str(shared), "apply", "-f", kubeup.write(texts["provider"]), code=5)
    assert "holds other things" in done.err
    assert [f.name for f in shared.iterdir()] == ["letter.txt"]
    assert shared.stat().st_mode & 0o777 == 0o755
    done = kubeup("--state", str(shared / "letter.txt" / "x"), "apply", "-f", kubeup.write(texts["provider"]), code=5)
    assert "cannot be the state directory" in done.err


def test_the_state_directory_is_the_option_or_the_variable_or_the_data_home(kubeup: Any, tmp_path: Path) -> None:
    assert str(tmp_path / "elsewhere") in kubeup("--state", str(tmp_path / "elsewhere"), "status").out
    assert str(kubeup.state) in kubeup("status").out
    kubeup.env["KUBEUP_STATE"] = ""
    assert str(tmp_path / ".local/share/kubeup") in kubeup("status").out
    kubeup.env["XDG_DATA_HOME"] = str(tmp_path / "data")
    assert str(tmp_path / "data/kubeup") in kubeup("status").out


def test_once_leaves_no_process_and_others_wait_for_it(kubeup: Any, texts: dict[str, str], until: Until) -> None:
    with Server(State(kubeup.state), once=True):
        waiting = kubeup.spawn("apply", "-f", kubeup.write(texts["provider"]))
        assert "waiting for it to end" in waiting.stdout.readline()
    out, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, err
    assert "provider/yard created" in out
    assert kubeup.server["once"] is False
    kubeup("stop")
    assert "No server is left behind" in kubeup("up", "--once", "-f", kubeup.write(texts["provider"])).out
    assert kubeup.json("status")["server"] is None


def fake_distribution(folder: Path, name: str, version: str) -> None:
    for old in folder.glob(f"{name}-*.dist-info"):
        old.joinpath("METADATA").unlink()
        old.joinpath("entry_points.txt").unlink()
        old.rmdir()
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    info.joinpath("entry_points.txt").write_text("[kubeup]\nmars = kubeup_mars\n")


def test_the_fingerprint_is_of_kubeup_and_its_plugins(tmp_path: Path) -> None:
    fake_distribution(tmp_path, "kubeup_mars", "1.0")
    assert daemon.fingerprint([str(tmp_path)]) == "kubeup_mars==1.0"
    fake_distribution(tmp_path, "kubeup_mars", "1.1")
    assert daemon.fingerprint([str(tmp_path)]) == "kubeup_mars==1.1"
    assert "kubeup-core==" in daemon.fingerprint()


def test_a_server_wants_to_start_again_when_a_plugin_was_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site")])
    tmp_path.joinpath("site").mkdir()
    ended = threading.Event()
    with Server(State(tmp_path / "state"), until=ended) as server:
        assert not server.replaced
        fake_distribution(tmp_path / "site", "kubeup_mars", "1.0")
        assert ended.wait(20)
        assert server.replaced


def test_a_command_of_another_installation_restarts_the_server(
    kubeup: Any, texts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = kubeup.write(texts["provider"])
    kubeup("apply", "-f", file)
    pid = kubeup.server["pid"]
    assert "restarting" not in kubeup("apply", "-f", file).out
    monkeypatch.setattr(daemon, "fingerprint", lambda: "kubeup==9.9.9")
    assert "other versions than these" in kubeup("version").out
    assert "have changed: restarting the server" in kubeup("apply", "-f", file).out
    assert kubeup.server["pid"] != pid


def test_a_pid_is_one_process_for_ever() -> None:
    from kubeup_core import statedir

    assert born(os.getpid()) == statedir.born(os.getpid()) != ""
    assert born(2**22 + 1) == ""
    child = subprocess.Popen(["true"])
    child_born = born(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not daemon._lives({"pid": child.pid, "born": child_born}), "a zombie has ended"
    child.wait()
