"""Clusters on hosts, with the core around: real sshd processes, the store and the controllers, a clock that tests turn."""

from __future__ import annotations

import fcntl
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kubeup_artifacts.sshd import PASSWORD, key_pair
from kubeup_core import Launch, Mark, Member, NoCapacity, NotReady, Outcome, Ref, Scope, Taken, Template
from kubeup_core.kinds import Cluster, Machine, NodePool, Provider
from kubeup_core.testing.harness import Harness
from kubeup_ssh.doors import Doors

WANT = Template(cpu=1, memory=2**27, disk=2**30, arch="", image="debian-12")
SMALL = {"cpu": 1, "memory": "128Mi", "disk": "1Gi"}


@pytest.fixture
def harness(tmp_path: Path, hosts: Any) -> Iterator[Callable[..., Harness]]:
    """harness("one"): an installation whose Provider `rack` has the six hosts."""
    made: list[Harness] = []

    def make(folder: str = "one", *names: str, **config: Any) -> Harness:
        h = Harness(tmp_path / folder)
        made.append(h)
        spec = {"type": "ssh", "config": hosts.config(*names, **config)}
        h.apply({"kind": "Provider", "metadata": {"name": "rack"}, "spec": spec})
        return h

    yield make
    for one in made:
        failed = [*one.failed, *one.manager.failed]
        one.close()
        assert failed == []


def pool(h: Harness, replicas: int, **spec: Any) -> None:
    h.apply(
        {"kind": "Cluster", "metadata": {"name": "demo"}, "spec": {"provider": "rack"}},
        {
            "kind": "NodePool",
            "metadata": {"name": "workers"},
            "spec": {"cluster": "demo", "replicas": replicas, "machine": SMALL, **spec},
        },
    )


def slots(h: Harness) -> dict[str, tuple[str, str | None]]:
    h.advance(31)
    return {host.name: (host.state, host.machine) for host in h.get(Provider, "rack").status.hosts or ()}


def launch(place: Any, slot: str, name: str = "m-0") -> Launch:
    import uuid

    mark = Mark(installation=place.installation, cluster="c", cluster_name="demo", kind="Machine", maker=str(uuid.uuid4()))
    offer = next(o for o in place.machines.offers(WANT) if slot in (o.slots or ()))
    return Launch(
        mark=mark, token=mark.maker, template=WANT, offer=offer, role="plain", members=(Member(name=name, slot=slot),)
    )


# -- with the core -------------------------------------------------------------------------------------------------------


def test_machines_get_hosts_and_give_them_back(harness: Callable[..., Harness], hosts: Any) -> None:
    h = harness()
    pool(h, 3)
    h.ready(3)
    table = slots(h)
    assert sorted(state for state, _ in table.values()) == ["Claimed"] * 3 + ["Free"] * 3
    assert {machine for _, machine in table.values() if machine} == {"workers-0", "workers-1", "workers-2"}
    h.delete(Cluster, "demo")
    h.until(lambda: not h.all(Cluster), 300)
    assert hosts.claims() == set()
    assert {state for state, _ in slots(h).values()} == {"Free"}


def test_two_installations_never_have_the_same_host(harness: Callable[..., Harness], hosts: Any) -> None:
    one, two = harness("one"), harness("two")
    pool(one, 3)
    pool(two, 3)
    one.ready(3)
    two.ready(3)
    assert len(hosts.claims()) == 6
    assert sorted(state for state, _ in slots(one).values()) == ["Claimed"] * 3 + ["Taken"] * 3
    two.delete(Cluster, "demo")
    two.until(lambda: not two.all(Cluster), 300)
    one.ready(3, 10)


def test_a_host_that_is_down_is_passed_over(harness: Callable[..., Harness], hosts: Any) -> None:
    hosts.sshds["h1"].stop()
    h = harness()
    pool(h, 2)
    h.ready(2)
    table = slots(h)
    assert table["h1"] == ("Unreachable", None)
    message = next(host.message for host in h.get(Provider, "rack").status.hosts or () if host.name == "h1")
    assert message is not None
    assert "no sshd is up" in message


def test_a_host_that_goes_down_leaves_its_machine_unknown_and_gets_it_back(harness: Callable[..., Harness], hosts: Any) -> None:
    h = harness("one", "h1", "h2")
    pool(h, 1)
    h.ready(1)
    name = next(name for name, (state, _) in slots(h).items() if state == "Claimed")
    before = h.machines()[0].uid
    hosts.sshds[name].stop()
    h.advance(60)
    assert [m.status.state for m in h.machines()] == ["Unknown"]
    hosts.sshds[name].start()
    h.ready(1, 120)
    assert h.machines()[0].uid == before


def test_a_host_that_is_down_when_its_machine_goes_is_waited_for(harness: Callable[..., Harness], hosts: Any) -> None:
    h = harness("one", "h1")
    pool(h, 1)
    h.ready(1)
    hosts.sshds["h1"].stop()
    h.edit(NodePool, "workers", spec={"replicas": 0})
    h.advance(120)
    assert "kubeup.dev/abandon" in h.condition(Machine, "workers-0", "Ready")[2]
    hosts.sshds["h1"].start()
    h.until(lambda: not h.machines(), 300)
    assert hosts.claims() == set()


def test_one_that_was_given_up_is_kept_back_when_it_was_not_cleaned(harness: Callable[..., Harness], hosts: Any) -> None:
    h = harness("one", "h1")
    pool(h, 1)
    h.ready(1)
    (hosts.inside("h1", "/var/lib/kubeup") / "jobs").mkdir()
    hosts.sshds["h1"].stop()
    h.edit(NodePool, "workers", spec={"replicas": 0})
    h.advance(60)
    h.edit(Machine, "workers-0", metadata={"annotations": {"kubeup.dev/abandon": "on fire"}})
    h.until(lambda: not h.machines(), 60)
    hosts.sshds["h1"].start()
    h.until(lambda: hosts.claims() == set(), 600)
    assert slots(h)["h1"][0] == "KeptBack"
    h.edit(NodePool, "workers", spec={"replicas": 1})
    h.advance(60)
    assert hosts.claims() == set()
    (hosts.inside("h1") / "kept").unlink()
    h.ready(1, 600)


def test_without_a_free_host_a_pool_waits_and_says_so(harness: Callable[..., Harness]) -> None:
    h = harness("one", "h1")
    pool(h, 2)
    h.until(lambda: [m.status.state for m in h.machines()].count("Ready") == 1, 60)
    h.advance(60)
    assert [m.status.state for m in h.machines()].count("Ready") == 1
    message = h.condition(NodePool, "workers", "Ready")[2]
    assert "1 of 2" in message


def test_hosts_are_chosen_by_size_name_label_and_role(harness: Callable[..., Harness], hosts: Any) -> None:
    config = hosts.config()
    for host in config["hosts"]:
        host["labels"] = {"disk": "ssd" if host["name"] in ("h2", "h4") else "hdd"}
        host["roles"] = ["loadBalancer"] if host["name"] == "h4" else []
    h = harness("one")
    h.edit(Provider, "rack", spec={"config": config})
    pool(h, 1, role="worker", overrides={"ssh": {"labels": {"disk": "ssd"}}})
    h.ready(1)
    assert slots(h)["h2"] == ("Claimed", "workers-0")
    h.apply({"kind": "Machine", "metadata": {"name": "big"}, "spec": {"cluster": "demo", "machine": {"cpu": 900}}})
    h.advance(60)
    assert "no host is large enough for cpu 900" in h.condition(Machine, "big", "Stalled")[2]


# -- trust and rights ----------------------------------------------------------------------------------------------------


def test_a_host_whose_key_has_changed_is_refused(place: Any, hosts: Any) -> None:
    it = place()
    assert len(it.machines.observe(Scope(installation="one")).unreachable) == 0
    host = hosts.sshds["h1"]
    host.stop()
    host.new_host_keys()
    host.start()
    try:
        seen = it.machines.observe(Scope(installation="one"))
        assert seen.unreachable == {"h1"}
        assert "presents the host key" in next(s.message for s in seen.slots if s.name == "h1")
        assert "h1" not in {slot for offer in it.machines.offers(WANT) for slot in offer.slots}
    finally:
        hosts.sshds["h1"].host_key = host.host_key


def test_a_host_that_nobody_vouches_for_is_not_talked_to_unless_the_first_key_is_believed(
    place: Any, hosts: Any, tmp_path: Path
) -> None:
    config = hosts.config("h1")
    del config["hosts"][0]["hostKey"]
    known = tmp_path / "known_hosts"
    it = place("one", "h1", hosts=config["hosts"], knownHosts=str(known))
    (slot,) = it.machines.observe(Scope(installation="one")).slots
    assert slot.state == "unreachable"
    assert "nobody has told the host key of h1" in slot.message
    assert "hostKeys: firstUse" in slot.message
    assert not known.exists()
    believing = place("one", "h1", hosts=config["hosts"], knownHosts=str(known), hostKeys="firstUse")
    assert believing.machines.observe(Scope(installation="one")).slots[0].state == "free"
    sshd = hosts.sshds["h1"]
    assert known.read_text() == f"[127.0.0.1]:{sshd.port} {sshd.host_key}\n"
    assert place("one", "h1", hosts=config["hosts"], knownHosts=str(known)).machines.observe(
        Scope(installation="one")
    ).slots[0].state == "free"  # fmt: skip
    known.write_text(f"[127.0.0.1]:{sshd.port} {key_pair()[1]}\n")
    changed = place("one", "h1", hosts=config["hosts"], knownHosts=str(known), hostKeys="firstUse")
    assert "presents the host key" in changed.machines.observe(Scope(installation="one")).slots[0].message


def test_a_key_that_is_not_let_in_is_told_for_each_host(place: Any, hosts: Any, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text(key_pair()[0])
    seen = place("one", "h1", key={"path": str(other)}).machines.observe(Scope(installation="one"))
    assert "does not let root in with the key" in seen.slots[0].message


def test_sudo_that_asks_is_told_and_answered_with_the_secret(place: Any, hosts: Any) -> None:
    scope = Scope(installation="one")
    asks = place("one", "h1", user="asks")
    assert "may not become root without a password" in asks.machines.observe(scope).slots[0].message
    ref = {"namespace": "default", "name": "sudo", "key": "password"}
    told = place("one", "h1", user="asks", sudoPassword=ref, secrets={"default/sudo/password": PASSWORD})
    assert told.machines.observe(scope).slots[0].state == "free"
    order = launch(told, "h1")
    (result,) = told.machines.launch(order)
    ran = list(told.machines.execute(Ref(id=result.id, mark=order.mark), "id -u; cat", b"in", 20))
    assert (b"".join(p for p in ran[:-1]), ran[-1]) == (b"0\nin", 0)


# -- claims --------------------------------------------------------------------------------------------------------------


def test_of_two_that_claim_one_host_at_the_same_time_one_gets_it(place: Any) -> None:
    places = [place(f"i{n}", "h1") for n in range(4)]
    orders = [launch(p, "h1") for p in places]
    with ThreadPoolExecutor(4) as threads:
        results = [r[0] for r in threads.map(lambda pair: pair[0].machines.launch(pair[1]), zip(places, orders, strict=True))]
    assert sorted(r.outcome.name for r in results) == ["MADE", "REFUSED", "REFUSED", "REFUSED"]
    assert all(isinstance(r.error, Taken) for r in results if r.outcome is Outcome.REFUSED)


def test_a_host_that_is_being_changed_is_not_claimed_meanwhile(place: Any, hosts: Any) -> None:
    it = place("one", "h1")
    order = launch(it, "h1")
    with (hosts.inside("h1") / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(NotReady) as caught:
            it.machines.launch(order)
        assert caught.value.code == "Busy"
        assert hosts.claims() == set()
    assert it.machines.launch(order)[0].outcome is Outcome.MADE


def test_hosts_are_asked_side_by_side(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each host answers only when all have been asked."""
    it = place()
    together = threading.Barrier(6)
    run = Doors.run

    def meeting(doors: Doors, *args: Any, **more: Any) -> Any:
        together.wait(20)
        return run(doors, *args, **more)

    monkeypatch.setattr(Doors, "run", meeting)
    assert it.machines.observe(Scope(installation="one")).unreachable == frozenset()


# -- ways in -------------------------------------------------------------------------------------------------------------


def test_a_key_comes_from_a_secret(place: Any, hosts: Any) -> None:
    ref = {"namespace": "ops", "name": "rack", "key": "id"}
    it = place("one", "h1", key={"secretRef": ref}, secrets={"ops/rack/id": hosts.key.read_text()})
    assert it.machines.observe(Scope(installation="one")).slots[0].state == "free"


def test_a_key_comes_from_an_agent(place: Any, hosts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.PIPE)
    try:
        assert agent.stdout is not None
        agent.stdout.readline()  # it says where it is when it is there
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        subprocess.run(["ssh-add", "-q", str(hosts.key)], check=True)
        it = place("one", "h1", key={"agent": True})
        assert it.machines.observe(Scope(installation="one")).slots[0].state == "free"
    finally:
        agent.terminate()
        agent.communicate()


@pytest.mark.parametrize("pinned", [True, False], ids=["pinned", "known_hosts"])
def test_a_host_is_reached_through_a_jump_host(place: Any, hosts: Any, tmp_path: Path, pinned: bool) -> None:
    jump = hosts.sshds["h2"]
    known = tmp_path / "known_hosts"
    known.write_text("" if pinned else f"[127.0.0.1]:{jump.port} {jump.host_key}\n")
    way = {"via": f"root@127.0.0.1:{jump.port}", "knownHosts": str(known), **({"viaHostKey": jump.host_key} if pinned else {})}
    it = place("one", "h1", **way)
    assert it.machines.observe(Scope(installation="one")).slots[0].state == "free"
    jump.stop()
    assert it.machines.observe(Scope(installation="one")).unreachable == {"h1"}


def test_a_host_with_a_full_disk_refuses_and_is_as_it_was(place: Any, hosts: Any) -> None:
    it = place("one", "h1")
    order = launch(it, "h1")
    it.machines.observe(Scope(installation="one"))
    small = hosts.sshds["h1"].folder / "small"  # a tmpfs of 64 KiB in the host's namespace
    script = f"mount --bind {small} /var/lib/kubeup-host; dd if=/dev/zero of={small}/fill bs=1k count=200 2>/dev/null; true"
    host = it.machines._fleet.hosts["h1"]
    try:
        it.machines._fleet.doors.run(host, script)
        (result,) = it.machines.launch(order)
        assert result.outcome is Outcome.REFUSED
        assert isinstance(result.error, NoCapacity)
        assert "has no room" in result.error.message
        assert it.machines.observe(Scope(installation="one")).slots[0].state == "free"
    finally:
        it.machines._fleet.doors.run(host, f"umount /var/lib/kubeup-host; rm -f {small}/fill")


def test_a_script_for_a_machine_that_lost_its_host_is_not_run(place: Any, hosts: Any, tmp_path: Path) -> None:
    from kubeup_core import NotFound

    it = place("one", "h1")
    order = launch(it, "h1")
    (result,) = it.machines.launch(order)
    ref = Ref(id=result.id, mark=order.mark)
    it.machines.delete([ref])
    with pytest.raises(NotFound):
        list(it.machines.execute(ref, f"touch {tmp_path}/never", b"", 20))
    assert not (tmp_path / "never").exists()


def test_what_is_sent_in_the_middle_of_a_dying_sshd_is_unknown_and_found_again(place: Any, hosts: Any) -> None:
    it = place("one", "h1")
    order = launch(it, "h1")
    hosts.sshds["h1"].stop()
    assert it.machines.lookup(order)[0].outcome is Outcome.UNKNOWN
    hosts.sshds["h1"].start()
    assert it.machines.lookup(order)[0].outcome is Outcome.ABSENT
    it.machines.launch(order)
    assert it.machines.lookup(order)[0].outcome is Outcome.MADE
    it.machines.delete([Ref(id=it.machines.lookup(order)[0].id, mark=order.mark)])
    assert it.machines.launch(order)[0].outcome is Outcome.DEAD, "a machine that is gone is not made again under its token"


def test_a_machine_on_a_host_that_left_the_inventory_is_unknown_and_never_gone(place: Any) -> None:
    it = place("one", "h1", "h2")
    order = launch(it, "h2")
    (result,) = it.machines.launch(order)
    less = place("one", "h1")
    ref = Ref(id=result.id, mark=order.mark)
    assert less.machines.observe(Scope(installation="one", doubt=(ref,))).unreachable == {"h2"}
    (deleted,) = less.machines.delete([ref])
    assert deleted.outcome is Outcome.UNKNOWN
    assert "put it back" in deleted.error.remedy
