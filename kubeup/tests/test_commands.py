"""Each command and option, on one server with a cluster of two machines."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubeup_core.plugins import discover

Until = Callable[..., None]


@pytest.fixture(scope="module")
def up(home: Any, texts: dict[str, str]) -> Any:
    """`home`, brought up."""
    home("up", "-f", home.write(texts["provider"], texts["cluster"], texts["pool"]), "--timeout", "90s")
    return home


def test_up_says_who_acts_where_then_what_was_made_and_what_to_try(kubeup: Any, texts: dict[str, str]) -> None:
    lines = kubeup("up", "-f", kubeup.write(*texts.values())).out.splitlines()
    who = lines.index("provider yard: sim:default/sim-1, as simulated account default")
    assert who < lines.index("cluster/demo created"), "before anything is made there"
    assert "Ready: 1 provider, 1 cluster, 1 node pool; 2 machines" in lines
    assert any(line.endswith("per hour, as their provider lists them.") for line in lines)
    assert f"export KUBECONFIG={kubeup.state}/kubeconfig" in lines
    assert "  kubectl scale nodepool web --replicas=5" in lines
    assert "kubeup stop ends it, kubeup down takes everything away." in lines
    assert len(lines) == len({line for line in lines if line} | {""}) + lines.count("") - 1, "nothing is said twice"
    out = kubeup("down", "-f", str(kubeup.home / "cluster.yaml"), "--yes").out
    assert "1 cluster, 1 node pool, 2 machines, 1 provider" in out
    assert "Complete listings at the providers prove that nothing of it is left." in out
    assert "the server had nothing left to do and was stopped" in out
    assert kubeup("down", "--yes").out.startswith("there is nothing to take down")


def test_up_again_changes_nothing(up: Any) -> None:
    out = up("up", "-f", str(up.home / "cluster.yaml")).out
    assert out.count("unchanged") == 3
    assert "created" not in out
    assert "configured" not in out


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_up_for_programs_prints_data_only(up: Any, form: str) -> None:
    facts = yaml.safe_load(up("up", "-f", str(up.home / "cluster.yaml"), "-o", form).out)
    assert facts["ready"] is True
    assert facts["kubeconfig"] == str(up.state / "kubeconfig")
    assert facts["machines"] == {"total": 2, "ready": 2}
    assert [o["kind"] for o in facts["objects"]] == ["Provider", "Cluster", "NodePool"]


def test_apply_reads_stdin_a_directory_and_json(up: Any, texts: dict[str, str]) -> None:
    assert "cluster/demo unchanged" in up("apply", "-f", "-", stdin=texts["cluster"]).out
    folder = up.home / "manifests"
    folder.joinpath("inner").mkdir(parents=True)
    folder.joinpath("a.json").write_text(json.dumps(yaml.safe_load(texts["cluster"])))
    folder.joinpath("inner", "b.yml").write_text(texts["pool"])
    out = up("apply", "-f", str(folder)).out
    assert out.index("cluster/demo unchanged") < out.index("nodepool/web unchanged")


def test_apply_into_a_namespace_that_the_files_bring(up: Any, texts: dict[str, str]) -> None:
    space = "apiVersion: v1\nkind: Namespace\nmetadata: {name: team}\n"
    file = up.write(texts["pool"].replace("replicas: 2", "replicas: 0"), texts["cluster"], space, name="team.yaml")
    out = up("apply", "-n", "team", "-f", file).out
    assert "cluster/team/demo created" in out
    assert "demo" in up("get", "clusters", "-n", "team").out
    assert up("get", "clusters", "-A").out.splitlines()[0].startswith("NAMESPACE")
    assert "why" in up("status").out or "team/demo" in up("status").out
    listing = up("down", "-f", file, "-n", "team", "--yes").out
    assert "Namespace" in listing
    assert "not found" in up("get", "namespace", "team", code=6).err
    assert len(up.json("get", "machines")["items"]) == 2, "what was not named stays"


@pytest.mark.parametrize("word", ["machines", "machine", "ma", "Machine", "machines.kubeup.dev"])
def test_get_knows_every_name_of_a_kind(up: Any, word: str) -> None:
    assert len(up("get", word).out.splitlines()) == 3


def test_get_in_every_form(up: Any) -> None:
    assert up("get", "machines").out.split()[:4] == ["NAME", "CLUSTER", "POOL", "STATE"]
    assert "ZONE" in up("get", "machines", "-o", "wide").out
    assert up("get", "machines", "-o", "name").out.split() == ["machine/web-0", "machine/web-1"]
    assert yaml.safe_load(up("get", "machine/web-0", "-o", "yaml").out)["spec"]["pool"] == "web"
    assert up.json("get", "machine", "web-1")["metadata"]["name"] == "web-1"
    listed = up.json("get", "machines", "-l", "kubeup.dev/pool=web")
    assert {o["kind"] for o in listed["items"]} == {"Machine"}
    assert up.json("get", "machines", "-l", "kubeup.dev/pool=other")["items"] == []
    assert "no volumes found in namespace default" in up("get", "volumes").err
    assert "LAST SEEN" in up("get", "events").out
    assert up("get", "leases").err


def test_status_is_one_screen_and_data(up: Any) -> None:
    lines = up("status").out.splitlines()
    assert lines[0].startswith("server: running for ")
    assert ["NodePool", "web", "yes", "2", "of", "2", "machines"] in [line.split() for line in lines]
    assert "2 machines, 2 Ready" in lines
    assert not any("haproxy" in line for line in lines), "an implicit Provider that nobody uses is noise"
    facts = up.json("status")
    assert facts["machines"] == {"total": 2, "ready": 2, "states": {"Ready": 2}}
    assert facts["troubled"] == []
    assert yaml.safe_load(up("status", "-o", "yaml").out)["paused"] is None


def test_why_is_short_when_all_is_well(up: Any) -> None:
    assert up("why", "demo").out == "Cluster demo: Ready\n"
    assert up("why").out == "everything is Ready\n"
    assert up.json("why", "nodepool/web")[0]["object"] == "NodePool web"


def test_get_hides_what_people_do_not_read(up: Any) -> None:
    assert "managedFields" not in up("get", "cluster/demo", "-o", "yaml").out
    assert "managedFields" not in up("get", "clusters", "-o", "json").out


def test_why_walks_from_a_cluster_to_the_root_cause(up: Any, texts: dict[str, str]) -> None:
    big = texts["pool"].replace("name: web", "name: big").replace("replicas: 2", "replicas: 2, machine: {memory: 90Ti}")
    done = up("up", "-f", up.write(big, name="big.yaml"), "--timeout", "3s", code=4)
    assert "not Ready after 3s: nodepool/big" in done.err
    assert "the server goes on trying" in done.err
    text = up("why", "demo").out
    assert text.startswith("Cluster demo: not Ready")
    assert "└─ NodePool big: not Ready" in text
    assert "90Ti" in text or "memory" in text
    everything = up("why").out
    assert everything.startswith("Cluster demo: not Ready")
    assert everything.count("NodePool big: ") == 1
    assert "kubeup why" in up("status").out
    assert up("delete", "nodepool", "big").out.splitlines()[0] == "nodepool/big is being deleted"


def test_delete_waits_or_not_and_minds_what_is_not_there(up: Any, texts: dict[str, str]) -> None:
    file = up.write(texts["pool"].replace("name: web", "name: extra").replace("replicas: 2", "replicas: 0"), name="extra.yaml")
    up("apply", "-f", file)
    assert "nodepool/extra: gone" in up("delete", "-f", file).out
    assert "nodepool/extra is not there" in up("delete", "np/extra").out
    up("apply", "-f", file)
    assert up("delete", "nodepool", "extra", "--no-wait").out == "nodepool/extra is being deleted\n"


def test_kubeconfig_is_printed_merged_and_used(up: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert up("kubeconfig").out == f"export KUBECONFIG={up.state}/kubeconfig\n"
    assert yaml.safe_load(up("kubeconfig", "--print").out)["current-context"] == "kubeup"
    file = up.home / "theirs"
    file.write_text("apiVersion: v1\nkind: Config\ncurrent-context: work\nclusters: []\nusers: []\ncontexts: []\n")
    monkeypatch.setitem(up.env, "KUBECONFIG", str(file))
    assert f"context kubeup is in {file}" in up("kubeconfig", "--merge").out
    assert yaml.safe_load(file.read_text())["current-context"] == "work"
    assert "current-context: work" in file.with_name("theirs.kubeup-backup").read_text()
    up("kubeconfig", "--merge", "--use")
    assert yaml.safe_load(file.read_text())["current-context"] == "kubeup"


def test_a_context_is_another_server_and_starts_none_here(
    up: Any, texts: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(up.env, "KUBECONFIG", f"{tmp_path}/nothing:{up.state}/kubeconfig")
    monkeypatch.setitem(up.env, "KUBEUP_STATE", str(tmp_path / "state"))
    far = ("--context", "kubeup")
    assert "web-0" in up(*far, "get", "machines").out
    assert up(*far, "status").out.startswith("server: context kubeup\n")
    assert "server 0." in up(*far, "version").out
    assert up(*far, "why", "demo").out == "Cluster demo: Ready\n"
    out = up(*far, "up", "-f", up.write(texts["cluster"], name="one.yaml")).out
    assert "cluster/demo unchanged" in out
    assert "export KUBECONFIG" not in out
    pool = up.write(texts["pool"].replace("web", "far").replace("replicas: 2", "replicas: 0"), name="far.yaml")
    up(*far, "apply", "-f", pool)
    assert "Gone: 1 node pool." in up(*far, "down", "-f", pool, "--yes").out
    for command in (("stop",), ("restart",), ("logs",), ("kubeconfig",), ("serve",), ("backup", "x")):
        assert "leave out --context" in up(*far, *command, code=2).err
    assert not (tmp_path / "state").exists()


def test_version_names_the_command_the_server_and_the_plugins(up: Any, kubeup: Any) -> None:
    out = up("version").out
    assert out.startswith("kubeup 0.")
    assert "\nserver 0." in out
    assert "  kubeup-sim==" in out
    facts = up.json("version")
    assert facts["server"] == facts["kubeup"]
    assert "server not running" in kubeup("version").out


def test_providers_shows_what_is_installed_and_how_it_is_configured(up: Any) -> None:
    out = up("providers").out
    assert out.split()[:3] == ["TYPE", "PLUGIN", "CONTRACT"]
    assert "sim " in out
    one = up("providers", "sim").out
    assert "spec.config:" in one
    assert "bootSeconds" in one
    assert "overrides.sim:" in one
    assert {p["type"] for p in up.json("providers")["providers"]} >= {"sim", "docker"}
    assert "account" in up.json("providers", "sim")["config"]["properties"]


def test_hosts_of_an_inventory_are_listed_with_who_has_them(kubeup: Any, texts: dict[str, str], until: Until) -> None:
    yard = texts["provider"].replace("bootSeconds: [0, 0]", "bootSeconds: [0, 0], account: inventory, hosts: [h1, h2, h3]")
    kubeup("up", "-f", kubeup.write(yard, texts["cluster"], texts["pool"]))
    until(lambda: kubeup("providers", "hosts", "yard").out.count("Claimed") == 2)
    lines = kubeup("providers", "hosts", "yard").out.splitlines()
    assert lines[0].split() == ["PROVIDER", "HOST", "STATE", "MACHINE", "ZONE", "SIZE"]
    assert sorted(" ".join(line.split()[2:4]) for line in lines[1:]) == ["Claimed web-0", "Claimed web-1", "Free"]
    assert [h["name"] for h in kubeup.json("providers", "hosts")["hosts"]] == ["h1", "h2", "h3"]
    assert "Provider haproxy has no hosts" in kubeup("providers", "hosts", "haproxy").out
    assert "there is no Provider 'mars'" in kubeup("providers", "hosts", "mars", code=3).err
    assert "one TYPE" in kubeup("providers", "sim", "yard", code=3).err


def test_a_broken_plugin_is_named_and_stops_nothing(up: Any) -> None:
    mine = up.home / "mine.py"
    mine.write_text("raise RuntimeError('of no use')\n")
    done = up("providers", "--plugin", str(mine))
    assert "sim " in done.out
    assert "of no use" in done.err


def test_init_writes_a_file_that_comes_up_and_is_not_written_twice(up: Any) -> None:
    file = up.home / "first.yaml"
    assert f"wrote {file}" in up("init", "sim", "-o", str(file), "--name", "first", "--replicas", "1").out
    assert "is there already" in up("init", "sim", "-o", str(file), code=3).err
    assert "replicas: 1 " in file.read_text()
    assert "# the one line that you swap" in file.read_text()
    assert "Ready: 1 cluster, 1 node pool; 1 machine\n" in up("up", "-f", str(file)).out
    assert "kubeup down -f" in up("init", "docker").out


def test_init_writes_a_provider_too_where_the_place_cannot_be_guessed(kubeup: Any) -> None:
    provider, cluster, _ = yaml.safe_load_all(kubeup("init", "ssh").out)
    assert cluster["spec"]["provider"] == provider["metadata"]["name"] == "my-ssh"
    assert discover().config("ssh", provider["spec"]["config"])


def test_backup_is_private_verified_and_never_overwrites(up: Any, kubeup: Any) -> None:
    copy = up.home / "copy.db"
    assert "verified" in up("backup", str(copy)).out
    assert copy.stat().st_mode & 0o777 == 0o600
    assert up("backup", str(copy), code=3).errors
    assert "there is no state" in kubeup("backup", str(copy), code=3).err


def test_what_is_protected_is_not_taken_down(up: Any, texts: dict[str, str]) -> None:
    text = texts["cluster"].replace("demo", "safe").replace("yard}", "yard, protect: true}")
    file = up.write(text, texts["pool"].replace("demo", "safe").replace("web", "kept"), name="safe.yaml")
    up("up", "-f", file)
    done = up("down", "-f", file, "--yes", code=6)
    assert "protected: cluster/safe; nothing was deleted" in done.err
    assert "kubectl patch cluster safe --type=merge" in done.err
    assert "protect" in up("delete", "cluster", "safe", code=6).err
    assert len(up.json("get", "machines", "-l", "kubeup.dev/pool=kept")["items"]) == 2
    up("apply", "-f", up.write(text.replace("true", "false"), name="safe2.yaml"))
    assert up.json("down", "-f", file, "--yes")["gone"] == ["cluster/safe", "nodepool/kept", "machine/kept-0", "machine/kept-1"]


@pytest.mark.parametrize("taken", [False, True])
def test_down_keeps_the_data_of_volumes_unless_told_otherwise(up: Any, texts: dict[str, str], taken: bool) -> None:
    volume = "apiVersion: kubeup.dev/v1alpha1\nkind: Volume\nmetadata: {name: data}\nspec: {cluster: store, size: 1Gi}\n"
    file = up.write(texts["cluster"].replace("demo", "store"), volume, name="store.yaml")
    up("up", "-f", file)
    disk = up.json("get", "volume", "data")["status"]["id"]
    assert "nobody is here to ask" in up("down", "-f", file, code=3).err
    out = up("down", "-f", file, "--yes", *(["--volumes"] if taken else [])).out
    assert "1Gi of data" in out
    assert (f"the data of volume/data: {disk} at yard" in out) is not taken
    cloud = {**os.environ, **up.env}
    import subprocess

    there = subprocess.run(
        [sys.executable, "-m", "kubeup_sim", "ls"], env=cloud, capture_output=True, text=True, check=True
    ).stdout
    assert (disk in there) is not taken
