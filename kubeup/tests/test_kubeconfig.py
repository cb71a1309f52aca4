"""Merging into a person's kubeconfig: kubectl's lock, a backup, nothing of others touched."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from kubeup.commands.kubeconfig import merge_into
from kubeup.errors import CommandError

OURS: dict[str, Any] = {
    "clusters": [{"name": "kubeup", "cluster": {"server": "https://127.0.0.1:1", "certificate-authority-data": "eA=="}}],
    "users": [{"name": "kubeup", "user": {"token": "t"}}],
    "contexts": [{"name": "kubeup", "context": {"cluster": "kubeup", "user": "kubeup"}}],
}
THEIRS = yaml.safe_dump({
    "apiVersion": "v1", "kind": "Config", "current-context": "work",
    "clusters": [{"name": "work", "cluster": {"server": "https://work"}}], "users": [], "contexts": [], "preferences": {"colors": True},
})  # fmt: skip


def test_our_entries_are_added_and_theirs_stay(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(THEIRS)
    backup = merge_into(file, OURS, "/state", use=False)
    merged = yaml.safe_load(file.read_text())
    assert merged["current-context"] == "work"
    assert merged["preferences"] == {"colors": True}
    assert [c["name"] for c in merged["clusters"]] == ["work", "kubeup"]
    assert backup is not None
    assert backup.read_text() == THEIRS
    assert file.stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "config.lock").exists()


def test_a_second_merge_changes_nothing_and_a_changed_server_is_updated(tmp_path: Path) -> None:
    file = tmp_path / "config"
    merge_into(file, OURS, "/state", use=False)
    assert merge_into(file, OURS, "/state", use=False) is None
    moved = {**OURS, "clusters": [{"name": "kubeup", "cluster": {"server": "https://127.0.0.1:2"}}]}
    merge_into(file, moved, "/state", use=True)
    merged = yaml.safe_load(file.read_text())
    assert merged["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:2"
    assert merged["current-context"] == "kubeup"


def test_an_entry_of_our_name_that_we_did_not_write_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "config"
    text = yaml.safe_dump({"clusters": [{"name": "kubeup", "cluster": {"server": "https://mine"}}]})
    file.write_text(text)
    with pytest.raises(CommandError, match="did not write"):
        merge_into(file, OURS, "/state", use=False)
    assert file.read_text() == text
    assert not (tmp_path / "config.lock").exists()


def test_a_locked_file_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "config.lock").write_text("")
    with pytest.raises(CommandError, match="kubectl is writing"):
        merge_into(tmp_path / "config", OURS, "/state", use=False)
    assert not (tmp_path / "config").exists()


def test_a_file_that_is_no_kubeconfig_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("- not\n- a mapping\n")
    with pytest.raises(CommandError, match="not a kubeconfig"):
        merge_into(file, OURS, "/state", use=False)
    assert file.read_text().startswith("- not")
