"""Addresses that stay, on a real engine: chosen without two ever getting one, and kept over a restart of the engine."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kubeup_artifacts import engine as engines
from kubeup_artifacts.build import machine_image
from kubeup_core import Context, Launch, Mark, Member, NetworkSpec, NoCapacity, Outcome, Scope, Template
from kubeup_docker import DockerConfig, addresses, build

pytestmark = pytest.mark.docker


def held(place) -> dict[str, tuple[str, ...]]:
    items = place.machines.observe(Scope(installation=place.installation)).items
    return {state.ref.id: state.internal for state in items}


def test_launches_at_the_same_time_never_share_an_address(place) -> None:
    """Two processes, as far as this provider can tell, in a network in which most addresses are needed."""
    network = dict(place.networks.ensure(place.network_spec(cidr="10.214.40.0/28")).data)
    launches = [place.launch(5, name=f"n{i}", network=network) for i in range(2)]
    suppliers = [place.suppliers, place.rebuild()]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda pair: pair[0].machines.launch(pair[1]), zip(suppliers, launches, strict=True)))
    assert [r.outcome for results in answers for r in results] == [Outcome.MADE] * 10
    assert len({address for internal in held(place).values() for address in internal}) == 10


def test_an_address_that_somebody_took_in_the_last_moment_is_left_to_them(place, monkeypatch: pytest.MonkeyPatch) -> None:
    network = dict(place.networks.ensure(place.network_spec(cidr="10.214.41.0/28")).data)
    place.machines.launch(place.launch(1, network=network))
    ((theirs,),) = held(place).values()
    free = addresses.free

    def late(network, used, seed: str) -> str:
        """As one that looked before the other was there."""
        return theirs if seed.endswith("/0/0") else free(network, used, seed)

    monkeypatch.setattr(addresses, "free", late)
    assert place.machines.launch(place.launch(1, name="late", network=network))[0].outcome is Outcome.MADE
    internal = list(held(place).values())
    assert len(internal) == 2
    assert internal[0] != internal[1]


def test_one_that_was_never_started_is_made_anew_when_its_address_is_gone(place, monkeypatch: pytest.MonkeyPatch) -> None:
    from kubeup_core import Unknown
    from kubeup_docker import client

    network = dict(place.networks.ensure(place.network_spec(cidr="10.214.42.0/28")).data)
    launch = place.launch(1, network=network)
    with monkeypatch.context() as patch:
        patch.setattr(client.Engine, "start", lambda engine, id: (_ for _ in ()).throw(Unknown("lost")))
        half = place.machines.launch(launch)[0]
    ((address,),) = held(place).values()
    with monkeypatch.context() as patch:
        patch.setattr(addresses, "free", lambda network, used, seed: address)
        patch.setattr(addresses, "must_yield", lambda mine, containers: False)
        assert place.machines.launch(place.launch(1, name="quick", network=network))[0].outcome is Outcome.MADE
    made = place.machines.launch(launch)[0]
    assert made.outcome is Outcome.MADE
    assert made.id != half.id
    assert len({a for internal in held(place).values() for a in internal}) == 2


def test_a_network_without_a_free_address_is_no_capacity(place) -> None:
    network = dict(place.networks.ensure(place.network_spec(cidr="10.214.43.0/30")).data)
    first, second = place.machines.launch(place.launch(2, network=network))
    assert (first.outcome, second.outcome) == (Outcome.MADE, Outcome.REFUSED)
    assert isinstance(second.error, NoCapacity)
    assert "machineCIDR" in second.error.remedy


def test_a_network_whose_addresses_nobody_chose_has_fixed_ones_too_and_leaves_no_trial(place) -> None:
    network = place.networks.ensure(place.network_spec())
    assert len(place.engine.networks(installation=place.installation)) == 1
    made = place.machines.launch(place.launch(1, network=dict(network.data)))[0]
    inspected = place.engine.call("GET", f"/containers/{made.id}/json")["NetworkSettings"]["Networks"]
    (end,) = inspected.values()
    assert end["IPAMConfig"]["IPv4Address"] == end["IPAddress"] == held(place)[made.id][0]


@pytest.fixture
def own_engine(docker_engine) -> Iterator[tuple[Path, str]]:
    """An engine that may be stopped: its folder and host."""
    folder = Path(tempfile.mkdtemp(prefix="kubeup-own-engine-"))
    host = f"unix://{folder}/docker.sock"
    try:
        engines.can_start()
        engines.start(folder, host)
    except engines.NoEngine as reason:
        from kubeup_artifacts.fixtures import unavailable

        shutil.rmtree(folder)
        unavailable(str(reason))
    yield folder, host
    engines.stop(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_machines_come_back_with_their_addresses_when_the_engine_does(
    own_engine: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a restart of the host: in whatever order they start, and although one of them had been stopped."""
    folder, host = own_engine
    engines.load(host, machine_image(), "machine:1")
    context = Context(installation=uuid.uuid4().hex[:12], images={"debian-12": "machine:1"})

    def mark(kind: str) -> Mark:
        return Mark(installation=context.installation, cluster="c", cluster_name="c", kind=kind, maker=str(uuid.uuid4()))

    suppliers = build(DockerConfig(host=host), context)
    assert suppliers.networks is not None
    network = suppliers.networks.ensure(NetworkSpec(mark=mark("Network"), name="n"))
    want = Template(cpu=1, memory=2**27, disk=0, arch="", image="debian-12")
    launch = Launch(
        mark=mark("Machine"), token="t", template=want, offer=suppliers.machines.offers(want)[0], role="plain",
        network=network.data, members=tuple(Member(name=f"m{i}") for i in range(4)),
    )  # fmt: skip
    assert [r.outcome for r in suppliers.machines.launch(launch)] == [Outcome.MADE] * 4

    def states() -> dict[int, tuple[str, tuple[str, ...], str]]:
        items = suppliers.machines.observe(Scope(installation=context.installation)).items
        return {s.ref.mark.index: (s.phase.name, s.internal, s.boot_id) for s in items}

    stopped = next(r.id for r in suppliers.machines.lookup(launch))
    engines.request(host, "POST", f"/containers/{stopped}/stop?t=1")
    before = states()
    suppliers.close()
    pid = engines.engine_pid(folder)
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    engines._started[folder].wait(60)
    with monkeypatch.context() as patch:
        patch.setattr(engines, "clean", lambda folder: None)  # what it made is still there
        engines.start(folder, host)

    suppliers = build(DockerConfig(host=host), context)
    try:
        until = time.monotonic() + 60
        while (after := states()) and [s[0] for s in after.values()].count("RUNNING") < 3:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert {i: s[1] for i, s in after.items()} == {i: s[1] for i, s in before.items()}
        assert after[0][0] == "STOPPED"  # somebody stopped it, and it stays so
        assert all(after[i][2] != before[i][2] for i in (1, 2, 3))
    finally:
        suppliers.close()
