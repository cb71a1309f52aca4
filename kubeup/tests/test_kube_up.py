"""The scripts of old: environment variables in, the same documents as `kubeup init` out, and one clear error for a bad value."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml
from kubeup.checks import check
from kubeup.manifests import load
from kubeup_core.plugins import discover

SCRIPTS = Path(__file__).parents[1]
LAB = {
    "apiVersion": "kubeup.dev/v1alpha1",
    "kind": "Provider",
    "metadata": {"name": "lab"},
    "spec": {"type": "sim", "config": {"bootSeconds": [0, 0], "deleteSeconds": 0, "networkSeconds": 0, "volumeSeconds": 0}},
}
BIN = Path(sys.executable).parent
RECORDING = """#!/bin/sh
[ "$1" = init ] && exec {bin}/kubeup "$@"
printf '%s\\n' "$@" >{folder}/arguments
cp "$3" {folder}/cluster.yaml
exit {code}
"""
"""A `kubeup` that makes documents, and of anything else only writes down how it was called."""


def run(script: str, *args: str, path: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {
        "PATH": path or f"{BIN}:{os.environ['PATH']}",
        "HOME": os.environ.get("HOME", "/"),
        **variables,
    }
    return subprocess.run(["sh", str(SCRIPTS / script), *args], env=env, capture_output=True, text=True, timeout=60)


class Recorded:
    """A run of a script with a recording kubeup: how that was called, and what stood in its first file."""

    def __init__(self, folder: Path, script: str, *args: str, code: int = 0, **variables: str) -> None:
        (folder / "bin").mkdir(exist_ok=True)
        (folder / "tmp").mkdir(exist_ok=True)
        stub = folder / "bin" / "kubeup"
        stub.write_text(RECORDING.format(bin=BIN, folder=folder, code=code))
        stub.chmod(0o755)
        path = f"{folder}/bin:{os.environ['PATH']}"
        done = run(script, *args, path=path, TMPDIR=str(folder / "tmp"), **variables)
        assert done.returncode == code, done.stderr
        self.err = done.stderr
        self.verb, _, self.file, *self.rest = (folder / "arguments").read_text().splitlines()
        self.documents = list(yaml.safe_load_all((folder / "cluster.yaml").read_text()))


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[..., Recorded]:
    return partial(Recorded, tmp_path)


@pytest.mark.parametrize(("script", "verb"), [("kube-up.sh", "up"), ("kube-down.sh", "down")])
def test_each_script_hands_the_cluster_its_file_and_its_own_arguments_to_kubeup(
    recorded: Callable[..., Recorded], tmp_path: Path, script: str, verb: str
) -> None:
    more = tmp_path / "with a space.yaml"
    more.write_text(yaml.safe_dump(LAB))
    made = recorded(script, "--timeout", "1 m", KUBERNETES_PROVIDER="lab", KUBE_UP_FILE=str(more))
    assert (made.verb, made.rest) == (verb, ["-f", str(more), "--timeout", "1 m"])
    assert [d["kind"] for d in made.documents] == ["Cluster", "NodePool"]
    assert made.documents[0]["spec"]["provider"] == "lab"
    assert not any((tmp_path / "tmp").iterdir())


def test_down_asks_unless_a_variable_answers(recorded: Callable[..., Recorded]) -> None:
    assert recorded("kube-down.sh").rest == []
    assert recorded("kube-down.sh", KUBE_DOWN_YES="1").rest == ["--yes"]


def test_without_a_variable_it_is_docker_three_workers_and_the_newest_version_that_is_known(
    recorded: Callable[..., Recorded],
) -> None:
    cluster, pool = recorded("kube-up.sh").documents
    assert (cluster["metadata"]["name"], cluster["spec"]["provider"], pool["spec"]["replicas"]) == ("kubernetes", "docker", 3)
    newest = discover().bootstrapper("kubeadm").build().newest()
    assert cluster["spec"]["kubernetes"] == {"version": newest}
    assert cluster["spec"]["controlPlane"] == {"replicas": 1}


def test_the_file_that_an_error_names_stays_when_something_failed(recorded: Callable[..., Recorded]) -> None:
    made = recorded("kube-up.sh", code=5)
    assert f"{made.file} is what the variables mean" in made.err
    assert list(yaml.safe_load_all(Path(made.file).read_text())) == made.documents


def test_the_variables_of_old_make_a_cluster_that_passes_every_check(recorded: Callable[..., Recorded], tmp_path: Path) -> None:
    old = {"KUBERNETES_PROVIDER": "sim", "NUM_NODES": "5", "NUM_MASTERS": "3", "INSTANCE_PREFIX": "old"}
    made = recorded("kube-up.sh", KUBERNETES_VERSION="v1.34.1", **old).documents
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump_all(made))
    cluster, pool = (d.object for d in check(load((str(file),)), "default"))
    assert cluster["metadata"]["name"] == "old"
    assert cluster["spec"]["provider"] == "sim"
    assert cluster["spec"]["kubernetes"] == {"version": "v1.34.1"}
    assert cluster["spec"]["controlPlane"] == {"replicas": 3}
    assert pool["spec"]["replicas"] == 5


def test_without_nodes_there_is_no_pool_and_the_control_plane_does_the_work(recorded: Callable[..., Recorded]) -> None:
    assert [d["kind"] for d in recorded("kube-up.sh", NUM_NODES="0").documents] == ["Cluster"]


def test_a_cluster_comes_and_goes_on_a_real_server(tmp_path: Path) -> None:
    """Its machines do; simulated ones run no Kubernetes, so nobody waits for that."""
    (tmp_path / "lab.yaml").write_text(yaml.safe_dump(LAB))
    same = {
        "HOME": str(tmp_path), "KUBEUP_STATE": str(tmp_path / "state"), "KUBEUP_SIM_FILE": str(tmp_path / "sim.db"),
        "TMPDIR": str(tmp_path), "KUBERNETES_PROVIDER": "lab", "NUM_NODES": "2", "KUBE_UP_FILE": str(tmp_path / "lab.yaml"),
    }  # fmt: skip
    try:
        up = run("kube-up.sh", "--timeout", "1s", **same)
        assert "nodepool/kubernetes-pool created" in up.stdout, up.stderr
        assert "error: not Ready after 1s" in up.stderr
    finally:
        down = run("kube-down.sh", KUBE_DOWN_YES="1", **same)
    assert down.returncode == 0, down.stderr
    assert "Complete listings at the providers prove that nothing of it is left" in down.stdout
    assert "the server had nothing left to do and was stopped" in down.stdout


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"NUM_NODES": "many"}, "NUM_NODES is 'many'; use a number"),
        ({"NUM_MASTERS": "2"}, "NUM_MASTERS is '2'; etcd wants 1, 3 or 5"),
        ({"KUBERNETES_PROVIDER": "mars"}, "declare a Provider of this name in such a file, or install the type: pip install"),
        ({"KUBERNETES_PROVIDER": "ssh"}, "ssh needs a config, so it has no Provider by itself"),
        ({"KUBE_UP_FILE": "/no/such.yaml"}, "KUBE_UP_FILE is '/no/such.yaml', which cannot be read"),
        ({"KUBERNETES_VERSION": "1.34"}, "write it in full, as in v1.34.1"),
        ({"INSTANCE_PREFIX": "A_B"}, "cannot be a name"),
    ],
)
@pytest.mark.parametrize("script", ["kube-up.sh", "kube-down.sh"])
def test_a_bad_value_is_one_clear_error_and_nothing_is_started(
    tmp_path: Path, script: str, variables: dict[str, str], says: str
) -> None:
    done = run(script, KUBEUP_STATE=str(tmp_path / "state"), **{"KUBERNETES_VERSION": "v1.34.1", **variables})
    assert done.returncode != 0
    assert says in done.stderr
    assert not (tmp_path / "state").exists()


def test_without_the_command_it_says_how_to_get_it(tmp_path: Path) -> None:
    done = run("kube-up.sh", path="/usr/bin:/bin")
    assert done.returncode == 3
    assert "pip install kubeup" in done.stderr
