"""`python -m kubeup_sim`: the out-of-band hand, on an account in a file."""

import json
from pathlib import Path
from typing import Any

import pytest
from kubeup_sim.__main__ import ON_A_MACHINE, main


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KUBEUP_SIM_FILE", str(tmp_path / "sim.db"))
    return tmp_path / "sim.db"


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(words) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def test_ls_shows_what_exists_as_a_table_and_as_json(file: Path, capsys: Any) -> None:
    assert said(capsys, "ls", "-o", "json") == "[]\n"
    id = said(capsys, "add", "web-0", "kubeup/installation=home", "kubeup/cluster-name=demo").strip()
    table = said(capsys, "ls").splitlines()
    assert table[0].split() == ["KIND", "ID", "NAME", "PHASE", "PLACE", "INSTALLATION", "CLUSTER"]
    assert table[1].split()[:3] == ["Machine", id, "web-0"]
    assert table[1].split()[4:] == ["sim-1a", "home", "demo"]
    [line] = json.loads(said(capsys, "ls", "-o", "json"))
    assert (line["kind"], line["id"], line["name"]) == ("Machine", id, "web-0")


def test_every_act_on_a_machine_is_a_command(file: Path, capsys: Any) -> None:
    for verb in ON_A_MACHINE:
        said(capsys, "add", f"to-{verb}")
        assert said(capsys, verb, f"to-{verb}") == ""
    said(capsys, "add", "spot")
    assert said(capsys, "notice", "spot", "60") == ""
    assert said(capsys, "retag", "spot", "owner=me", "gone=") == ""
    names = {line["name"] for line in json.loads(said(capsys, "ls", "-o", "json"))}
    assert "to-lose" not in names
    assert "to-stop" in names


def test_a_place_is_cut_and_restored(file: Path, capsys: Any) -> None:
    assert said(capsys, "cut", "sim-1a") == ""
    assert said(capsys, "restore", "sim-1a") == ""


def test_faults_are_planted_listed_and_cleared(file: Path, capsys: Any) -> None:
    assert "planted" in said(capsys, "fault", "lostReply", "--operation", "launch", "--times", "2")
    assert "lostReply on *.launch in *: struck 0, 2 left" in said(capsys, "faults")
    said(capsys, "fault", "throttle", "--times", "0")
    assert "always" in said(capsys, "faults")
    said(capsys, "clear")
    assert "2 left" not in said(capsys, "faults")
    assert "always" not in said(capsys, "faults")


def test_accounts_are_told_apart_wherever_the_option_stands(file: Path, capsys: Any) -> None:
    said(capsys, "add", "one", "--account", "mine")
    assert "one" in said(capsys, "--account", "mine", "ls")
    assert "one" not in said(capsys, "ls")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("kill", "nobody"), "error: there is no machine nobody\n"),
        (("add", "x", "nonsense"), "error: 'nonsense' is no tag: write KEY=VALUE, or KEY= to remove it\n"),
        (("release", "vol-none"), "error: there is no volume vol-none\n"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(file: Path, capsys: Any, words: tuple[str, ...], text: str) -> None:
    assert said(capsys, *words, code=1) == text
    assert said(capsys, "ls", "-o", "json") == "[]\n"


def test_a_misspelt_fault_is_refused_with_the_nearest_name(file: Path, capsys: Any) -> None:
    assert "did you mean lostReply?" in said(capsys, "fault", "lostRepl", code=1)


def test_a_name_that_several_machines_have_asks_for_an_id(file: Path, capsys: Any) -> None:
    ids = [said(capsys, "add", "twin").strip() for _ in range(2)]
    error = said(capsys, "kill", "twin", code=1)
    assert all(id in error for id in ids)
