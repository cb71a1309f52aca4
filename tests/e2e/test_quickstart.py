"""The main job, as a person does it: up, kubectl, scale, heal, roll, why, down; on the simulator, with real processes."""

import json
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.kubectl, pytest.mark.slow]
QUICKSTART = "docs/examples/quickstart.yaml"
Until = Callable[..., None]


def test_from_nothing_to_ready_and_back_to_nothing(kubeup: Any, until: Until) -> None:
    out = kubeup("up", "-f", QUICKSTART)
    assert "Ready: 1 cluster, 1 node pool, 1 load balancer, 1 volume; 3 machines" in out
    assert f"export KUBECONFIG={kubeup.state}/kubeconfig" in out
    assert "default/sim-1" in out, "who acts where is said before anything is made"
    assert len(kubeup.machines(ready=True)) == 3
    assert "web-0" in kubeup.sim("ls")
    assert kubeup.kubectl("diff", "-f", QUICKSTART) == ""

    # nothing scales it back
    kubeup.kubectl("scale", "nodepool", "web", "--replicas=5")
    until(lambda: len(kubeup.machines(ready=True)) == 5, "five machines")
    kubeup.kubectl("scale", "nodepool", "web", "--replicas=2")
    until(lambda: len(kubeup.machines()) == 2 and len(kubeup.machines(ready=True)) == 2, "two machines")
    assert kubeup.get("nodepool", "web")["spec"]["replicas"] == 2

    # a machine that is taken away behind its back is replaced
    lost = kubeup.machines()[0]
    kubeup.sim("kill", lost["status"]["id"])
    until(lambda: lost["metadata"]["uid"] not in {m["metadata"]["uid"] for m in kubeup.machines(ready=True)}, "it is noticed")
    until(lambda: len(kubeup.machines(ready=True)) == 2, "it is replaced")

    # a changed template rolls
    before = {m["metadata"]["uid"] for m in kubeup.machines()}
    kubeup.kubectl("patch", "nodepool", "web", "--type=merge", "-p", '{"spec":{"machine":{"cpu":4}}}')
    until(
        lambda: len(kubeup.machines(ready=True)) == 2 and not before & {m["metadata"]["uid"] for m in kubeup.machines()},
        "all replaced",
        120,
    )
    assert all(m["status"]["resolved"]["cpu"] >= 4 for m in kubeup.machines())

    # up again changes back only what the file says
    assert "nodepool/web configured" in kubeup("up", "-f", QUICKSTART)
    assert len(kubeup.machines(ready=True)) == 3

    out = kubeup("down", "-f", QUICKSTART, "--yes", "--volumes")
    assert "Complete listings at the providers prove that nothing of it is left." in out
    assert "the server had nothing left to do and was stopped" in out
    assert kubeup.at_provider() == []


def test_once_leaves_no_process_and_no_question(kubeup: Any) -> None:
    out = kubeup("up", "--once", "-f", QUICKSTART)
    assert "nobody heals this" in out
    assert "not running" in kubeup("status")
    assert "unattended" in kubeup("status")
    kubeup("down", "--once", "--yes", "--volumes")
    assert kubeup.at_provider() == []
    assert "not running" in kubeup("status")


def test_a_killed_server_is_said_to_be_unattended_and_goes_on_where_it_stopped(kubeup: Any, until: Until) -> None:
    kubeup("up", "-f", QUICKSTART)
    uids = {m["metadata"]["uid"] for m in kubeup.machines()}
    kubeup.kill()
    until(lambda: "unattended" in kubeup("status"), "status says so")
    kubeup("restart")
    assert {m["metadata"]["uid"] for m in kubeup.machines()} == uids
    assert "running" in kubeup("status")
    assert len(kubeup.sim("ls").splitlines()) > 3


BIG = """
apiVersion: kubeup.dev/v1alpha1
kind: NodePool
metadata: {name: big}
spec: {cluster: demo, replicas: 1, machine: {memory: 9Ti}}
"""


def test_up_again_changes_nothing_and_what_cannot_be_had_or_taken_down_is_explained(kubeup: Any) -> None:
    kubeup("up", "-f", QUICKSTART)
    pid = kubeup.pid
    out = kubeup("up", "-f", QUICKSTART)
    assert kubeup.pid == pid
    assert out.count("unchanged") == 4
    assert "configured" not in out

    out = kubeup("up", "-f", kubeup.write(BIG), "--timeout", "3s", code=4)
    assert "not Ready after 3s: nodepool/big" in out
    why = kubeup("why", "demo")
    assert "NodePool big: not Ready" in why
    assert "memory" in why
    tree = json.loads(kubeup("why", "nodepool/big", "-o", "json"))
    assert tree[0]["object"] == "NodePool big"

    kubeup.kubectl("patch", "cluster", "demo", "--type=merge", "-p", '{"spec":{"protect":true}}')
    out = kubeup("down", "--yes", code=6)
    assert "protected: cluster/demo; nothing was deleted" in out
    assert "protect" in kubeup.kubectl("delete", "cluster", "demo", code=1)
    assert len(kubeup.machines(ready=True)) == 3


def test_a_backup_starts_paused_and_goes_on_when_a_person_says_so(kubeup: Any, until: Until) -> None:
    kubeup("up", "-f", QUICKSTART)
    copy = kubeup.home / "copy.db"
    kubeup("backup", str(copy))
    assert copy.stat().st_mode & 0o777 == 0o600
    kubeup("backup", str(copy), code=3)
    uids = {m["metadata"]["uid"] for m in kubeup.machines()}
    kubeup("stop")
    for file in kubeup.state.glob("kubeup.db*"):
        file.unlink()
    copy.replace(kubeup.state / "kubeup.db")
    kubeup("restart")
    assert "PAUSED" in kubeup("status")
    assert "set spec.paused to false" in kubeup("up", "-f", QUICKSTART, code=6)
    kubeup.kubectl("patch", "installation", "kubeup", "--type=merge", "-p", '{"spec":{"paused":false}}')
    kubeup("up", "-f", QUICKSTART)
    assert {m["metadata"]["uid"] for m in kubeup.machines()} == uids
    assert "PAUSED" not in kubeup("status")


def test_kubectl_delete_namespace_takes_everything_in_it(kubeup: Any) -> None:
    kubeup("version")
    kubeup("up", "-f", kubeup.write("apiVersion: v1\nkind: Namespace\nmetadata: {name: team}\n", "ns.yaml"))
    kubeup("up", "-n", "team", "-f", QUICKSTART)
    assert len(kubeup.get("machines", "-n", "team")["items"]) == 3
    kubeup.kubectl("delete", "ns", "team", "--timeout=90s")
    assert kubeup.get("machines", "-A")["items"] == []
    assert kubeup.at_provider() == []
