"""Machines become members of a Kubernetes cluster: in the harness, with simulated machines and a workload in memory."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from kubeup_core.bootstrapper import File, Step, Task
from kubeup_core.controllers.guest import Guests
from kubeup_core.kinds import Cluster, Machine
from kubeup_core.testing.harness import Crash, Harness
from kubeup_core.testing.rehearsal import NAME

pytest.importorskip("kubeup_sim", reason="the simulated cloud is the distribution kubeup-sim: pip install kubeup-sim")

CP, W = "demo-control-plane-0", "workers-0"


@pytest.fixture
def harness(rehearsed: Harness) -> Harness:
    return rehearsed


@pytest.fixture
def large(rehearsal, tmp_path) -> Callable[..., Path]:
    """large(size, sha256) -> a file of that many bytes, which each machine is sent while it is prepared."""

    def made(size: int, sha256: str = "") -> Path:
        bundle = tmp_path / "bundle"
        bundle.write_bytes(bytes(size))
        file = File(path="/opt/bundle", source=str(bundle), sha256=sha256 or hashlib.sha256(bytes(size)).hexdigest())
        rehearsal.more[Task.PREPARE] = (Step(name="images", title="loads images", script=":", files=(file,)),)
        return bundle

    return made


@pytest.fixture
def pieces(harness, monkeypatch) -> list[tuple[str, int]]:
    """(host name, bytes) of each piece of a large file that a machine was sent, in order."""
    run, seen = harness.cloud.guest.run, []

    def watched(machine, script: str, stdin: bytes) -> tuple[int, bytes]:
        if " put " in script:
            seen.append((machine.hostname, len(stdin)))
        return run(machine, script, stdin)

    monkeypatch.setattr(harness.cloud.guest, "run", watched)
    return seen


def cluster(harness: Harness, workers: int = 1, machine=None, **kubernetes) -> None:
    """Cluster demo with one control plane, and a pool of workers where there are to be any."""
    harness.provider()
    kubernetes = {"version": "v1.34.1", "bootstrapper": NAME, **kubernetes}
    spec = {"provider": "sim", "kubernetes": kubernetes, "machine": machine or {}}
    harness.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": spec})
    if workers:
        pool = {"cluster": "demo", "replicas": workers}
        harness.apply({"kind": "NodePool", "metadata": {"name": "workers"}, "spec": pool})


def state(harness: Harness, name: str) -> str:
    found = harness.find(Machine, name)
    return found.status.state if found is not None else ""


def told(harness: Harness, name: str, condition: str) -> tuple[str, str, str]:
    """(status, reason, message), also before the machine is there."""
    return harness.condition(Machine, name, condition) if harness.find(Machine, name) is not None else ("", "", "")


def ready(harness: Harness, *names: str, within: float = 600) -> None:
    harness.until(lambda: all(state(harness, name) == "Ready" for name in names), within)


# -- going well ----------------------------------------------------------------------------------------------------------


def test_a_control_plane_and_a_worker_become_ready_nodes(harness, rehearsal):
    cluster(harness)
    ready(harness, CP, W)
    assert rehearsal.joined == [CP, W]
    status = harness.get(Machine, W).status
    assert {c.type: c.status for c in status.conditions} == {
        "Launched": "True",
        "Reachable": "True",
        "Bootstrapped": "True",
        "NodeHealthy": "True",
        "Ready": "True",
    }
    assert status.node_ref is not None
    assert status.node_ref["name"] == W
    assert status.bootstrap is not None
    assert (status.bootstrap.step, status.bootstrap.done, status.bootstrap.total) == ("join", 1, 1)
    assert harness.cloud.guest.jobs.runs == {
        (m, s): 1 for m, last in ((CP, "init"), (W, "join")) for s in ("runtime", "kubelet", last)
    }


def test_creation_to_ready_costs_three_writes(harness):
    cluster(harness)
    harness.get(Cluster, "demo")
    ready(harness, CP, W)
    assert harness.writes[f"machines/default/{W}"] <= 3
    assert harness.writes[f"machines/default/{CP}"] <= 3


def test_once_ready_nothing_is_asked_or_written_any_more(harness):
    cluster(harness)
    ready(harness, CP, W)
    before = harness.writes["machines"], harness.cloud.requests["Machine.execute"]
    harness.advance(1200)
    assert (harness.writes["machines"], harness.cloud.requests["Machine.execute"]) == before


def test_a_machine_is_prepared_while_it_waits_for_its_turn_and_no_deadline_runs(harness):
    harness.cloud.guest.jobs.slow["init"] = 550
    cluster(harness)
    harness.until(lambda: harness.cloud.guest.jobs.runs[(W, "kubelet")], 60)
    harness.advance(540)
    assert state(harness, W) == "Running"
    assert told(harness, W, "Bootstrapped")[1] == "WaitingForTurn"
    harness.cloud.guest.jobs.slow["join"] = 300
    ready(harness, CP, W, within=1000)


def test_slow_steps_are_seen_while_they_run_and_written_rarely(harness):
    harness.cloud.guest.jobs.slow["runtime"] = 200
    cluster(harness, 0)
    harness.advance(100)
    assert state(harness, CP) == "Running"
    assert told(harness, CP, "Ready")[1:] == (
        "Preparing",
        "step 1 of 2, runtime (installs a container runtime)",
    )
    assert harness.writes[f"machines/default/{CP}"] <= 4
    harness.advance(98)
    assert harness.writes[f"machines/default/{CP}"] <= 4  # nothing new to say
    ready(harness, CP)


def test_plain_machines_of_a_kubernetes_cluster_stay_plain(harness):
    cluster(harness, 0)
    tool = {"cluster": "demo", "provider": "sim", "role": "plain"}
    harness.apply({"kind": "Machine", "metadata": {"name": "tool"}, "spec": tool})
    ready(harness, "tool")
    assert harness.condition(Machine, "tool", "Bootstrapped") == ("", "", "")


def test_large_files_are_sent_in_pieces_that_grow_as_long_as_they_go_quickly(harness, large, pieces, monkeypatch):
    monkeypatch.setattr("kubeup_core.controllers.guest.CHUNK", 1000)
    monkeypatch.setattr("kubeup_core.controllers.guest.LARGEST", 2000)
    large(5500)
    cluster(harness, 0)
    ready(harness, CP)
    assert [size for _, size in pieces] == [1000, 2000, 2000, 500]


def test_while_the_machine_that_begins_the_cluster_is_sent_large_files_no_other_is(harness, large, monkeypatch):
    asked, may_send = [], Guests.may_send

    def watched(book: Guests, uid: str, now: float, *, urgent: bool = False) -> bool:
        asked.append((uid, urgent))
        return may_send(book, uid, now, urgent=urgent)

    monkeypatch.setattr(Guests, "may_send", watched)
    large(3500)
    harness.cloud.faults.add("lostReply", operation="execute", times=9)  # so that it is known who begins when sending begins
    cluster(harness, 2)
    ready(harness, CP, "workers-0", "workers-1")
    first = harness.get(Machine, CP).uid
    assert {uid for uid, urgent in asked if urgent} == {first}

    book = Guests()
    assert book.may_send("worker", 0)
    assert book.may_send("first", 1, urgent=True)
    assert not book.may_send("worker", 2)
    assert not book.may_send("another", 2)
    book.has_sent("first")
    assert book.may_send("worker", 3)
    assert book.may_send("another", 3)
    assert book.may_send("first", 4, urgent=True)
    assert book.may_send("worker", 4000)  # it has not asked for long: it has stopped


def test_the_templates_files_are_put_in_place_also_those_from_a_secret(harness):
    harness.apply({"kind": "Secret", "metadata": {"name": "app"}, "data": {"key": base64.b64encode(b"VALUE").decode()}})
    files = [{"path": "/etc/a", "content": "x"}, {"path": "/etc/b", "secretRef": {"name": "app", "key": "key"}}]
    cluster(harness, 0, machine={"files": files})
    ready(harness, CP)
    assert harness.cloud.guest.jobs.runs[(CP, "machine-files")] == 1


# -- failures: what the user sees ----------------------------------------------------------------------------------------


def test_a_step_that_fails_once_is_tried_again_without_running_the_others_again(harness):
    harness.cloud.guest.jobs.fail("kubelet", output="no network\n")
    cluster(harness, 0)
    ready(harness, CP)
    runs = harness.cloud.guest.jobs.runs
    assert (runs[(CP, "runtime")], runs[(CP, "kubelet")], runs[(CP, "init")]) == (1, 2, 1)


def test_a_step_that_fails_three_times_is_shown_with_its_last_lines_and_the_remedy(harness):
    harness.cloud.guest.jobs.fail("init", times=99, code=7, output="[preflight]\nport 6443 is in use\n")
    cluster(harness, 0)
    harness.until(lambda: told(harness, CP, "Bootstrapped")[1] == "StepFailed")
    assert harness.cloud.guest.jobs.runs[(CP, "init")] == 3
    for condition in ("Bootstrapped", "Ready", "Stalled"):
        message = told(harness, CP, condition)[2]
        assert "init (makes it a member of the cluster) failed with exit code 7" in message
        assert "[preflight] | port 6443 is in use" in message
        assert "look at the kubelet's log" in message
    bootstrap = harness.get(Machine, CP).status.bootstrap
    assert bootstrap is not None
    assert (bootstrap.step, bootstrap.exit_code, bootstrap.log_tail) == ("init", 7, "[preflight]\nport 6443 is in use\n")
    assert [m for m in harness.messages(CP) if m.startswith("StepFailed: ")] != []


def test_a_failed_step_is_counted_after_those_that_are_over_also_when_they_were_skipped(harness, rehearsal):
    rehearsal.more[Task.INIT] = tuple(Step(name=name, title=name, script="true") for name in ("second", "third"))
    harness.cloud.guest.jobs.fail("third", times=99, code=7, output="no\n")
    cluster(harness, 0)
    harness.until(lambda: told(harness, CP, "Bootstrapped")[1] == "StepFailed")
    bootstrap = harness.get(Machine, CP).status.bootstrap
    assert (bootstrap.step, bootstrap.done, bootstrap.total) == ("third", 2, 3)


def test_a_failed_step_is_tried_again_after_a_while_and_at_once_when_the_cluster_is_changed(harness):
    harness.cloud.guest.jobs.fail("init", times=3)
    cluster(harness, 0)
    harness.until(lambda: told(harness, CP, "Bootstrapped")[1] == "StepFailed")
    harness.edit(Cluster, "demo", spec={"protect": True})
    ready(harness, CP, within=30)
    assert told(harness, CP, "Stalled") == ("", "", "")


def test_a_step_that_hangs_is_stopped_at_its_limit_and_says_so(harness, rehearsal):
    rehearsal.more[Task.PREPARE] = (Step(name="mirror", title="asks a mirror", script=":", timeout=20),)
    harness.cloud.guest.jobs.hang("mirror", times=3)
    cluster(harness, 0)
    harness.until(lambda: told(harness, CP, "Ready")[1] == "StepFailed")
    assert "took longer than it may" in told(harness, CP, "Bootstrapped")[2]


def test_a_machine_that_never_joins_fails_at_its_boot_timeout(harness):
    harness.cloud.guest.jobs.fail("runtime", times=99)
    cluster(harness, 0)
    harness.until(lambda: [m for m in harness.messages(CP) if m.startswith("BootTimeout: ")], 700)
    harness.until(lambda: harness.find(Machine, CP) is None, 700)  # its pool replaces it


def test_a_machine_that_reboots_in_the_middle_goes_on_where_it_was(harness):
    harness.cloud.guest.jobs.slow["kubelet"] = 30
    cluster(harness, 0)
    harness.until(lambda: harness.cloud.guest.jobs.runs[(CP, "kubelet")], 60)
    harness.advance(10)
    harness.cloud.console.crash(CP)
    ready(harness, CP)
    runs = harness.cloud.guest.jobs.runs
    assert (runs[(CP, "runtime")], runs[(CP, "kubelet")]) == (1, 2)


def test_a_machine_that_cannot_be_reached_says_so_and_goes_on_when_it_can(harness):
    cluster(harness, 0)
    harness.until(lambda: harness.cloud.console.machines(), 60)
    harness.cloud.console.unplug(CP)
    harness.advance(60)
    assert told(harness, CP, "Reachable")[0] == "False"
    harness.cloud.console.plug(CP)
    ready(harness, CP)
    assert told(harness, CP, "Reachable")[0] == "True"


def test_a_call_that_is_refused_is_shown_as_denied(harness):
    harness.cloud.faults.add("denied", operation="execute", times=30)
    cluster(harness, 0)
    harness.advance(40)
    assert told(harness, CP, "Reachable")[:2] == ("False", "AccessDenied")
    ready(harness, CP)


def test_a_reply_that_is_lost_never_makes_a_step_run_twice(harness):
    harness.cloud.faults.add("lostReply", operation="execute", times=5)
    cluster(harness, 0)
    ready(harness, CP)
    assert set(harness.cloud.guest.jobs.runs.values()) == {1}


def test_steps_that_the_bootstrapper_refuses_are_a_condition_with_the_field(harness):
    cluster(harness, 0, config={"fault": "no such feature gate"})
    harness.advance(60)
    assert told(harness, CP, "Bootstrapped")[1:] == (
        "InvalidSpec",
        "spec.kubernetes.config.fault: no such feature gate; leave it out",
    )


def test_a_file_whose_secret_is_missing_is_a_condition_with_the_command(harness):
    cluster(harness, 0, machine={"files": [{"path": "/etc/b", "secretRef": {"name": "app", "key": "key"}}]})
    harness.advance(60)
    message = told(harness, CP, "Bootstrapped")[2]
    assert "there is no key key in Secret default/app for the file /etc/b; kubectl create secret generic app" in message


def test_a_node_that_is_no_longer_ready_makes_its_machine_not_ready(harness):
    cluster(harness)
    ready(harness, CP, W)
    harness.workload().condition(W, "False", "KubeletNotReady", "container runtime is down")
    harness.until(lambda: state(harness, W) == "Running", 120)
    assert "container runtime is down" in told(harness, W, "Ready")[2]
    harness.workload().condition(W, "True", "KubeletReady")
    ready(harness, W)


def test_an_api_that_is_silent_says_nothing_about_machines_that_have_joined(harness):
    cluster(harness)
    ready(harness, CP, W)
    harness.workload().fault = "unreachable"
    before = harness.writes["machines"]
    harness.advance(900)
    assert (state(harness, W), harness.writes["machines"]) == ("Ready", before)


# -- kubeup itself dies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", range(0, 40, 5))
def test_kubeup_killed_at_any_time_goes_on_and_nobody_joins_twice(harness, rehearsal, moment):
    harness.cloud.guest.jobs.seconds = 4
    cluster(harness)
    harness.advance(moment)
    harness.crash()
    ready(harness, CP, W)
    assert rehearsal.joined == [CP, W]
    assert set(harness.cloud.guest.jobs.runs.values()) == {1}


def test_kubeup_killed_at_every_write_goes_on_and_nobody_joins_twice(harness, rehearsal):
    cluster(harness)
    crashes = 0
    for number in range(1, 8):
        for when in ("before", "after"):
            count = 0

            def strike(moment: str, number: int = number, when: str = when) -> None:
                nonlocal count
                count += moment == when
                if moment == when and count == number:
                    raise Crash

            harness.on_commit = strike
            try:
                harness.advance(3)
            except Crash:
                crashes += 1
            harness.crash()
    ready(harness, CP, W)
    assert crashes > 0
    assert rehearsal.joined == [CP, W]


def test_a_failure_of_an_earlier_process_counts(harness):
    harness.cloud.guest.jobs.fail("init", times=3)
    cluster(harness, 0)
    harness.until(lambda: told(harness, CP, "Bootstrapped")[1] == "StepFailed")
    harness.crash()
    harness.advance(60)
    assert harness.cloud.guest.jobs.runs[(CP, "init")] == 3
    assert told(harness, CP, "Bootstrapped")[1] == "StepFailed"


def test_only_so_many_machines_are_sent_large_files_at_once_and_all_get_them(harness, large, monkeypatch):
    monkeypatch.setattr("kubeup_core.controllers.guest.SENDERS", 1)
    large(3500)
    harness.cloud.faults.add("lostReply", operation="execute", times=4)
    cluster(harness, 3)
    ready(harness, CP, "workers-0", "workers-1", "workers-2")


def test_a_large_file_that_is_not_what_the_spec_says_is_a_condition(harness, large):
    bundle = large(3500, "0" * 64)
    cluster(harness, 0)
    harness.advance(60)
    status, reason, message = told(harness, CP, "Bootstrapped")
    assert (status, reason) == ("False", "InvalidSpec")
    assert f"{bundle} does not have the sha256 {'0' * 64}; get the file anew" in message
