"""The scripts of old: environment variables in, the same documents as `kubeup init` out, and one clear error for a bad value."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from kubeup.checks import check
from kubeup.manifests import load

SCRIPTS = Path(__file__).parents[1]


def run(*args: str, path: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {
        "PATH": path or f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": os.environ.get("HOME", "/"),
        **variables,
    }
    return subprocess.run(["sh", *args], env=env, capture_output=True, text=True, timeout=60)


def documents(**variables: str) -> list[dict[str, object]]:
    done = run("-c", f". {SCRIPTS}/kube-env.sh; kube_cluster", KUBERNETES_VERSION="v1.34.1", **variables)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def test_the_variables_of_old_make_a_cluster_that_passes_every_check(tmp_path: Path) -> None:
    made = documents(KUBERNETES_PROVIDER="sim", NUM_NODES="5", NUM_MASTERS="3", INSTANCE_PREFIX="old")
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump_all(made))
    cluster, pool = (d.object for d in check(load((str(file),)), "default"))
    assert cluster["metadata"]["name"] == "old"
    assert cluster["spec"]["provider"] == "sim"
    assert cluster["spec"]["kubernetes"] == {"version": "v1.34.1"}
    assert cluster["spec"]["controlPlane"] == {"replicas": 3}
    assert pool["spec"]["replicas"] == 5


def test_without_nodes_there_is_no_pool_and_the_control_plane_does_the_work() -> None:
    assert [d["kind"] for d in documents(NUM_NODES="0")] == ["Cluster"]


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"NUM_NODES": "many"}, "NUM_NODES is 'many'; use a number"),
        ({"NUM_MASTERS": "2"}, "NUM_MASTERS is '2'; etcd wants 1, 3 or 5"),
        ({"KUBERNETES_PROVIDER": "mars"}, "pip install kubeup-mars"),
        ({"KUBERNETES_VERSION": "1.34"}, "write it in full, as in v1.34.1"),
        ({"INSTANCE_PREFIX": "A_B"}, "cannot be a name"),
    ],
)
@pytest.mark.parametrize("script", ["kube-up.sh", "kube-down.sh"])
def test_a_bad_value_is_one_clear_error_and_nothing_is_started(
    tmp_path: Path, script: str, variables: dict[str, str], says: str
) -> None:
    done = run(str(SCRIPTS / script), KUBEUP_STATE=str(tmp_path / "state"), **{"KUBERNETES_VERSION": "v1.34.1", **variables})
    assert done.returncode != 0
    assert says in done.stderr
    assert not (tmp_path / "state").exists()


def test_without_the_command_it_says_how_to_get_it(tmp_path: Path) -> None:
    done = run(str(SCRIPTS / "kube-up.sh"), path="/usr/bin:/bin")
    assert done.returncode == 3
    assert "pip install kubeup" in done.stderr
