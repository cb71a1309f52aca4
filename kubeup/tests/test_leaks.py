"""kubeup leaks: what lies at a provider and belongs to nobody is shown, and goes only when somebody says so."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

CLUSTER = """
apiVersion: kubeup.dev/v1alpha1
kind: Cluster
metadata: {name: leaky}
spec: {provider: yard}
---
apiVersion: kubeup.dev/v1alpha1
kind: NodePool
metadata: {name: leaky}
spec: {cluster: leaky, replicas: 1}
---
apiVersion: kubeup.dev/v1alpha1
kind: Volume
metadata: {name: precious}
spec: {cluster: leaky, size: 1Gi, onDelete: Retain}
"""

ELSEWHERE = """
apiVersion: kubeup.dev/v1alpha1
kind: Provider
metadata: {name: far}
spec: {type: sim, config: {account: far, deleteSeconds: 0}}
"""
UNPAUSED_AND_REPORTING = """
apiVersion: kubeup.dev/v1alpha1
kind: Installation
metadata: {name: kubeup}
spec: {paused: false, unknownResources: Report}
"""


def sim(home: Any, *args: str) -> str:
    command = [sys.executable, "-m", "kubeup_sim", *args]
    return subprocess.run(command, env=home.env, capture_output=True, text=True, check=True).stdout.strip()


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_what_nobody_asked_for_is_listed_and_deleted_when_told_and_kept_volumes_stay(home: Any) -> None:
    home("up", "-f", home.write(CLUSTER, name="leaky.yaml"))
    assert "nothing: everything" in home("leaks").out
    home("delete", "volume/precious")
    tags = json.loads(sim(home, "ls", "-o", "json"))[0]["tags"]
    about = [f"{key}={value}" for key, value in tags.items() if key in ("kubeup/installation", "kubeup/cluster-name")]
    stranger = sim(home, "add", "from-before", *about, "kubeup/kind=Machine", "kubeup/maker=1111-2222")
    until(lambda: stranger in home("leaks", "yard").out and "kept on purpose" in home("leaks").out)

    other = [tag.replace(tags["kubeup/installation"], "laptop-2") for tag in about]
    theirs = sim(home, "add", "not-ours", *other, "kubeup/kind=Machine", "kubeup/maker=3333-4444")
    shown = home("leaks", "yard").out
    ours, _, others = shown.partition("Of other installations")
    assert stranger in ours
    assert "$0." in ours, "an estimated price"
    assert others.split()[-6:] == ["yard", "laptop-2", "leaky", "Machine", "1", others.split()[-1]]
    assert others.split()[-1].startswith("$")
    assert theirs not in ours

    refused = home("leaks", "--delete", code=3)
    assert "say --yes" in refused.err
    assert stranger in sim(home, "ls")

    assert "gone: 1 resource" in home("leaks", "--delete", "--yes").out
    assert stranger not in sim(home, "ls")
    assert theirs in sim(home, "ls")
    left = json.loads(home("leaks", "-o", "json").out)
    assert left["unknown"] == []
    assert [one["id"] for one in left["around"]["yard"]["foreign"]] == [theirs]
    assert [v["cluster"] for v in left["keptVolumes"]] == ["leaky"]
    installation = json.loads(home("get", "installation", "kubeup", "-o", "json").out)
    assert installation["spec"]["unknownResources"] == "Pause", "what a person had decided before holds again"
    assert not installation["spec"].get("paused")


def test_leaks_of_one_provider_go_while_those_of_another_stay_and_a_persons_pause_outlives_it(home: Any) -> None:
    home("apply", "-f", home.write(ELSEWHERE, name="elsewhere.yaml"))
    until(lambda: "identity" in (home.json("get", "provider", "far").get("status") or {}))
    installation = home.json("get", "installation", "kubeup")["status"]["id"]
    about = [f"kubeup/installation={installation}", "kubeup/cluster-name=old", "kubeup/kind=Machine", "kubeup/maker=5555-6666"]
    here, there = sim(home, "add", "here", *about), sim(home, "add", "there", *about, "--account", "far")
    until(lambda: here in home("leaks", "yard").out and there in home("leaks", "far").out)
    assert "gone: 1 resource" in home("leaks", "yard", "--delete", "--yes").out
    assert here not in sim(home, "ls")
    assert there in sim(home, "ls", "--account", "far")
    until(lambda: home.json("get", "installation", "kubeup")["spec"].get("paused"))

    home("apply", "-f", home.write(UNPAUSED_AND_REPORTING, name="reporting.yaml"))
    home("apply", "-f", home.write(UNPAUSED_AND_REPORTING.replace("false", "true"), name="paused.yaml"))
    assert "gone: 1 resource" in home("leaks", "far", "--delete", "--yes").out
    spec = home.json("get", "installation", "kubeup")["spec"]
    assert (spec["paused"], spec["unknownResources"], spec.get("unknownResourcesAt")) == (True, "Report", [])


def test_a_provider_that_is_not_there_is_named_with_those_that_are(home: Any) -> None:
    assert "there is no Provider 'nobody'" in home("leaks", "nobody", code=3).err
