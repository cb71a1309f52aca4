"""Containers as machines, on a real engine: what the contract tests cannot know about Docker."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kubeup_core import Denied, InvalidSpec, NoCapacity, NotReady, Outcome, Phase, Scope, Unknown
from kubeup_docker import client, machines

pytestmark = pytest.mark.docker


def observed(place) -> dict:
    return {state.ref.mark.index: state for state in place.machines.observe(Scope(installation=place.installation)).items}


def outcomes(results) -> list[Outcome]:
    return [result.outcome for result in results]


def run(place, ref, script: str, stdin: bytes = b"") -> tuple[bytes, int]:
    *output, code = place.machines.execute(ref, script, stdin, 20)
    return b"".join(output), code


def test_docker_ps_shows_what_was_launched(place) -> None:
    launch = place.launch(2, name="web")
    results = place.machines.launch(launch)
    assert outcomes(results) == [Outcome.MADE] * 2
    found = {c["Labels"]["kubeup.dev/index"]: c for c in place.ps()}
    assert [found[i]["Id"] for i in "01"] == [result.id for result in results]
    assert [found[i]["Names"][0][:6] for i in "01"] == ["/web-0", "/web-1"]
    assert {c["State"] for c in found.values()} == {"running"}
    assert found["1"]["Labels"]["kubeup.dev/maker"] == launch.mark.maker
    assert found["1"]["Labels"]["kubeup.dev/cluster-name"] == "demo"


def test_a_container_that_was_never_started_is_partial_and_the_same_launch_starts_it(place, monkeypatch) -> None:
    launch = place.launch(2)
    with monkeypatch.context() as patch:
        patch.setattr(client.Engine, "start", lambda engine, id: (_ for _ in ()).throw(Unknown("the reply is lost")))
        results = place.machines.launch(launch)
        assert outcomes(results) == [Outcome.PENDING, Outcome.REFUSED]  # the second was not even tried
        assert observed(place)[0].phase is Phase.PARTIAL
        assert outcomes(place.machines.lookup(launch)) == [Outcome.PENDING, Outcome.ABSENT]
    place.rebuild()
    again = place.machines.launch(launch)
    assert outcomes(again) == [Outcome.MADE] * 2
    assert again[0].id == results[0].id
    assert {state.phase for state in observed(place).values()} == {Phase.RUNNING}


def test_a_member_below_a_living_one_is_dead_also_after_a_restart(place) -> None:
    """The engine forgets what was removed; that members are made in order is what tells."""
    launch = place.launch(2)
    first, second = place.machines.launch(launch)
    place.engine.remove(first.id)
    place.rebuild()
    assert [(r.outcome, r.id) for r in place.machines.lookup(launch)] == [(Outcome.DEAD, ""), (Outcome.MADE, second.id)]
    assert [(r.outcome, r.id) for r in place.machines.launch(launch)] == [(Outcome.DEAD, ""), (Outcome.MADE, second.id)]
    assert len(place.ps()) == 1


def test_what_this_process_made_is_never_made_again(place) -> None:
    launch = place.launch()
    place.engine.remove(place.machines.launch(launch)[0].id)
    assert outcomes(place.machines.launch(launch)) == [Outcome.DEAD]
    assert place.ps() == []


def test_a_process_that_cannot_start_is_refused_and_leaves_nothing(place) -> None:
    launch = place.launch(2, want=place.template(command=["/no/such/program"]))
    first, second = place.machines.launch(launch)
    assert (first.outcome, second.outcome) == (Outcome.REFUSED, Outcome.REFUSED)
    assert isinstance(first.error, InvalidSpec)
    assert "/no/such/program" in first.error.message
    assert place.ps() == []


def test_a_stopped_machine_is_stopped_and_neither_dead_nor_replaced(place) -> None:
    launch = place.launch()
    made = place.machines.launch(launch)[0]
    place.engine.call("POST", f"/containers/{made.id}/stop?t=1")
    assert observed(place)[0].phase is Phase.STOPPED
    assert [(r.outcome, r.id) for r in place.machines.launch(launch)] == [(Outcome.MADE, made.id)]
    assert place.machines.delete([observed(place)[0].ref])[0].outcome is Outcome.MADE
    assert place.ps() == []


def test_a_doubted_id_is_looked_up_by_itself(place) -> None:
    made = place.machines.launch(place.launch())[0]
    ref = observed(place)[0].ref
    scope = Scope(installation=place.installation, doubt=(ref, replace(ref, id="0" * 64)))
    assert [state.ref.id for state in place.machines.observe(scope).items] == [made.id]


def test_the_template_becomes_limits(place) -> None:
    made = place.machines.launch(place.launch(want=place.template(cpu=1, memory=100 * 2**20)))[0]
    host = place.engine.call("GET", f"/containers/{made.id}/json")["HostConfig"]
    assert (host["NanoCpus"], host["Memory"]) == (1_000_000_000, 100 * 2**20)
    assert observed(place)[0].facts["template"] == f"cpu=1 memory={100 * 2**20}"


@pytest.mark.parametrize("large", [{"cpu": 4096}, {"memory": 2**50}])
def test_a_machine_that_exceeds_the_host_is_no_capacity(place, large) -> None:
    want = place.template(**large)
    assert place.machines.offers(want) == ()
    assert place.machines.check(want)[0].path == "spec.machine"
    with pytest.raises(NoCapacity, match="does not fit"):
        place.machines.launch(place.launch(want=want))
    assert place.ps() == []


def test_an_unknown_family_is_told_with_the_known_ones(place) -> None:
    problem = place.machines.check(replace(place.template(), image="plan-9"))[0]
    assert problem.path == "spec.machine.image"
    assert "debian-12" in problem.remedy


def test_a_capability_that_the_engine_lacks_is_told_before_anything_is_made(place) -> None:
    limits = replace(place.machines._limits, withheld=frozenset({"SYS_RESOURCE"}))
    place.machines._limits = place.machines._launcher._limits = limits
    want = place.template(capabilities=["SYS_RESOURCE"])
    assert "SYS_RESOURCE" in place.machines.check(want)[0].message
    with pytest.raises(InvalidSpec) as caught:
        place.machines.launch(place.launch(want=want))
    assert caught.value.path == "spec.overrides.docker.capabilities"


def test_a_capability_that_the_engine_has_is_given(place) -> None:
    place.machines.launch(place.launch(want=place.template(capabilities=["NET_ADMIN"])))
    output, code = run(place, observed(place)[0].ref, "ip link set lo down && ip link set lo up")
    assert (output, code) == (b"", 0)


def test_machines_of_one_network_reach_each_other_and_know_their_names(place) -> None:
    network = place.networks.ensure(place.network_spec())
    launch = place.launch(2, network=dict(network.data))
    place.machines.launch(launch)
    states = observed(place)
    assert all(len(state.internal) == 1 for state in states.values())
    output, code = run(
        place, states[0].ref, f"{place.suppliers.capabilities.whoami}; ping -c 1 -w 5 {states[1].internal[0]} >&2"
    )
    assert code == 0
    assert output.startswith(b"box-0\n")


def test_a_network_that_is_not_there_is_waited_for(place) -> None:
    with pytest.raises(NotReady, match="the network gone is not there"):
        place.machines.launch(place.launch(network={"network": "gone"}))
    assert place.ps() == []


def test_machines_that_run_for_a_while_are_observed_in_two_requests_however_many(place, monkeypatch) -> None:
    place.machines.launch(place.launch(3))
    before = observed(place)
    asked: list[str] = []
    monkeypatch.setattr(place.machines._engine, "_charge", lambda bucket, cost: asked.append(bucket))
    monkeypatch.setattr(machines, "at_least", lambda uptime: 3600.0)
    assert observed(place) == before
    assert len(asked) == 2


def test_a_reboot_changes_the_boot_id_and_nothing_else(place) -> None:
    place.machines.launch(place.launch())
    before = observed(place)[0]
    place.machines.reboot(before.ref)
    after = observed(place)[0]
    assert after.boot_id not in ("", before.boot_id)
    assert replace(after, boot_id=before.boot_id) == before


def test_the_console_shows_the_end_of_what_process_1_said(place, settled) -> None:
    command = ["/bin/sh", "-c", "echo first; echo last; sleep 1000"]
    place.machines.launch(place.launch(want=place.template(command=command)))
    ref = observed(place)[0].ref
    settled(lambda: place.machines.console(ref, 1000) == "first\nlast\n")
    assert place.machines.console(ref, 5) == "last\n"


def test_both_streams_and_a_large_input_go_through_execute(place) -> None:
    place.machines.launch(place.launch())
    ref = observed(place)[0].ref
    assert run(place, ref, "echo out; echo err >&2; exit 7") == (b"out\nerr\n", 7)
    large = b"x" * 5_000_000
    assert run(place, ref, "cat", large) == (large, 0)
    assert run(place, ref, "head -c 10", large) == (b"x" * 10, 0)


def test_output_comes_while_the_command_runs(place) -> None:
    place.machines.launch(place.launch())
    ref = observed(place)[0].ref
    stream = place.machines.execute(ref, "echo started; sleep 1000", b"", 20)
    assert next(stream) == b"started\n"
    stream.close()


def test_a_command_that_does_not_end_is_unknown(place) -> None:
    place.machines.launch(place.launch())
    with pytest.raises(Unknown, match="did not end within"):
        list(place.machines.execute(observed(place)[0].ref, "sleep 1000", b"", 0.3))


def test_execute_in_a_stopped_machine_is_not_ready(place) -> None:
    made = place.machines.launch(place.launch())[0]
    place.engine.call("POST", f"/containers/{made.id}/stop?t=1")
    with pytest.raises(NotReady):
        list(place.machines.execute(observed(place)[0].ref, "true", b"", 5))


def test_a_script_that_is_too_long_for_an_argument_is_refused(place) -> None:
    place.machines.launch(place.launch())
    with pytest.raises(InvalidSpec, match="100000 bytes") as caught:
        list(place.machines.execute(observed(place)[0].ref, "#" * 200_000, b"", 5))
    assert "stdin" in caught.value.remedy


def test_another_engine_at_the_same_address_is_not_believed(place, monkeypatch) -> None:
    """Its honest "no machines here" would have every machine made a second time."""
    place.machines.launch(place.launch())
    launch = place.launch()
    info = client.Engine.info
    monkeypatch.setattr(client.Engine, "info", lambda engine: info(engine) | {"ID": "ANOTHER"})
    calls = [
        lambda: place.machines.observe(Scope(installation=place.installation)),
        lambda: place.machines.launch(launch),
        lambda: place.machines.lookup(launch),
        lambda: place.networks.observe(Scope(installation=place.installation)),
        lambda: place.networks.ensure(place.network_spec()),
        place.suppliers.probe,
    ]
    for call in calls:
        with pytest.raises(Denied, match="another Docker engine"):
            call()
    assert len(place.ps()) == 1


def test_labels_are_the_mark(place) -> None:
    made = place.machines.launch(place.launch())[0]
    inspected = place.engine.call("GET", f"/containers/{made.id}/json")
    assert set(inspected["Config"]["Labels"]) == {
        f"kubeup.dev/{key}" for key in ("installation", "cluster", "cluster-name", "kind", "maker", "index", "keep")
    }


def test_process_1_ends_at_once_when_told_to(place) -> None:
    made = place.machines.launch(place.launch())[0]
    place.engine.call("POST", f"/containers/{made.id}/stop?t=60")
    assert place.engine.call("GET", f"/containers/{made.id}/json")["State"]["ExitCode"] == 0
