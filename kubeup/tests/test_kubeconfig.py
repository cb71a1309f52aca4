"""Merging into a person's kubeconfig: kubectl's lock, a backup, nothing of others touched."""

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubeup.commands.kubeconfig import context_of, merge_into, workload
from kubeup.errors import CommandError
from kubeup.state import State

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


def secret(name: str, kubeconfig: dict[str, Any]) -> dict[str, Any]:
    value = base64.b64encode(yaml.safe_dump(kubeconfig).encode()).decode()
    return {"kind": "Secret", "metadata": {"name": name}, "data": {"value": value}}


class Answers:
    """An API that has these objects."""

    def __init__(self, *objects: dict[str, Any]) -> None:
        self.objects = objects

    def find(self, kind: str, name: str, namespace: str) -> dict[str, Any] | None:
        return next((o for o in self.objects if (o["kind"], o["metadata"]["name"]) == (kind, name)), None)

    def list(self, kind: str, namespace: str) -> list[dict[str, Any]]:
        return [o for o in self.objects if o["kind"] == kind]


CLUSTER: dict[str, Any] = {"kind": "Cluster", "metadata": {"name": "demo"}, "spec": {"kubernetes": {"version": "v1.34.1"}}}


def test_the_kubeconfig_of_a_kubernetes_cluster_is_written_for_its_owner_only_under_our_names(tmp_path: Path) -> None:
    file = workload(State(tmp_path), Answers(CLUSTER, secret("demo-kubeconfig", OURS)), "demo", "default")  # type: ignore[arg-type]
    config = yaml.safe_load(file.read_text())
    assert file == tmp_path / "kubeconfig-demo"
    assert file.stat().st_mode & 0o777 == 0o600
    assert config["current-context"] == "kubeup-demo"
    assert config["clusters"] == [{"name": "kubeup-demo", "cluster": OURS["clusters"][0]["cluster"]}]
    assert config["contexts"] == [{"name": "kubeup-demo", "context": {"cluster": "kubeup-demo", "user": "kubeup-demo"}}]
    assert context_of("demo", "team") == "kubeup-team-demo"


@pytest.mark.parametrize(
    ("objects", "says"),
    [
        ((), "there is no Cluster 'demo' in namespace default; there is none"),
        (({**CLUSTER, "spec": {}},), "plain machines and no Kubernetes"),
        ((CLUSTER,), "no kubeconfig yet"),
    ],
)
def test_a_cluster_without_a_kubeconfig_says_why(tmp_path: Path, objects: tuple[dict[str, Any], ...], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        workload(State(tmp_path), Answers(*objects), "demo", "default")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_merging_a_cluster_makes_its_context_the_current_one_only_when_asked(tmp_path: Path) -> None:
    file = workload(State(tmp_path), Answers(CLUSTER, secret("demo-kubeconfig", OURS)), "demo", "default")  # type: ignore[arg-type]
    mine = tmp_path / "config"
    merge_into(mine, OURS, "/state", use=True)
    merge_into(mine, yaml.safe_load(file.read_text()), "/state", use=False)
    assert yaml.safe_load(mine.read_text())["current-context"] == "kubeup"
    merge_into(mine, yaml.safe_load(file.read_text()), "/state", use=True)
    assert yaml.safe_load(mine.read_text())["current-context"] == "kubeup-demo"
