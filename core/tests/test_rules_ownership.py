"""What is ours, what is not, and what a store that lost its memory may do: two installations, strays, restored backups."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from kubeup_core.kinds import Cluster, Installation, Launch, Machine, NodePool, Provider
from kubeup_core.testing.harness import Harness

Make = Callable[..., Harness]


def everything(h: Harness) -> list[str]:
    return sorted(line.id for line in h.cloud.console.everything())


def test_two_installations_on_one_account_do_not_touch_each_other(harness: Make) -> None:
    one = harness("one")
    two = harness("two", share=one)
    one.demo(2)
    one.ready(2)
    two.demo(3)
    two.ready(3)
    assert (len(one.rented()), len(two.rented())) == (2, 3)
    one.delete(Cluster, "demo")
    one.until(lambda: not one.all(Cluster))
    two.advance(300)
    assert (len(one.rented()), len(two.rented())) == (0, 3)
    two.ready(3)
    assert two.condition(Installation, "kubeup", "MemoryLost") == ("", "", "")


def test_what_other_installations_have_is_shown_when_somebody_asks(harness: Make) -> None:
    one = harness("one")
    two = harness("two", share=one)
    one.demo(1)
    two.demo(2)
    one.ready(1)
    two.ready(2)
    one.edit(Provider, "sim", metadata={"annotations": {"kubeup.dev/look-around": "first"}})
    one.settle()
    around = one.get(Provider, "sim").status.around
    assert around is not None
    assert (around.asked, around.message) == ("first", None)
    assert {o.installation for o in around.foreign} == {two.store.installation}
    machines = [o for o in around.foreign if o.kind == "Machine"]
    assert [m.cluster for m in machines] == ["demo", "demo"]
    assert all(m.price_per_hour for m in machines)
    assert one.condition(Installation, "kubeup", "MemoryLost") == ("", "", "")

    one.cloud.faults.add("denied", operation="list", times=9)
    one.edit(Provider, "sim", metadata={"annotations": {"kubeup.dev/look-around": "second"}})
    one.settle()
    around = one.get(Provider, "sim").status.around
    assert around is not None
    assert (around.asked, around.foreign) == ("second", [])
    assert "credentials were refused" in (around.message or "")


def test_a_machine_that_somebody_else_made_is_left_alone(harness: Make) -> None:
    h = harness()
    foreign = h.cloud.console.add("by-hand")
    h.demo(1)
    h.ready(1)
    h.delete(Cluster, "demo")
    h.until(lambda: not h.all(Cluster))
    assert everything(h) == [foreign]


def test_an_orphan_of_a_stored_launch_is_swept(harness: Make) -> None:
    """A machine that was given up comes back: its Launch says who asked for it, and that nobody wants it any more."""
    h = harness(cloud={"hosts": ("h1", "h2")})
    h.demo(1)
    h.ready(1)
    host = h.launches()[0].spec.members[0].slot
    h.cloud.console.cut(host)
    h.advance(60)
    h.edit(NodePool, "workers", spec={"replicas": 0})
    h.edit(Machine, "workers-0", metadata={"annotations": {"kubeup.dev/abandon": "dead"}})
    h.until(lambda: not h.machines())
    assert len(h.rented()) == 1
    assert len(h.launches()) == 1
    h.cloud.console.restore(host)
    h.until(lambda: not h.rented())
    assert h.condition(Installation, "kubeup", "MemoryLost") == ("", "", "")


def test_strays_of_a_launch_that_was_interrupted_are_swept(harness: Make) -> None:
    h = harness(cloud={"create": "steps"})
    h.demo(2, spread="none")
    h.cloud.faults.add("lostRequest", operation="start", times=2)
    h.ready(2)
    h.delete(Cluster, "demo")
    h.until(lambda: not h.all(Cluster))
    assert everything(h) == []


def test_a_resource_that_nothing_stored_asked_for_pauses_the_installation(harness: Make) -> None:
    """The store is older than the resource: it lost memory, and everything newer must not be deleted as if it were an orphan."""
    h = harness()
    h.demo(2)
    h.ready(2)
    tags = {**h.cloud.console.machines()[0].tags, "kubeup/maker": "11111111-2222-3333-4444-555555555555"}
    stranger = h.cloud.console.add("from-another-time", tags)
    h.advance(120)
    status, _, message = h.condition(Installation, "kubeup", "MemoryLost")
    assert status == "True"
    assert "kubectl patch installation kubeup" in message
    installation = h.get(Installation, "kubeup")
    assert installation.spec.paused
    assert [u.id for u in installation.status.unknown_resources] == [stranger]
    assert stranger in everything(h)
    h.edit(NodePool, "workers", spec={"replicas": 0})
    h.advance(300)
    assert len(h.rented()) == 3
    h.edit(Installation, "kubeup", spec={"unknownResources": "Delete", "unknownResourcesAt": ["elsewhere"], "paused": False})
    h.advance(300)
    assert stranger in everything(h), "that was said of another Provider"
    h.edit(Installation, "kubeup", spec={"unknownResourcesAt": ["sim"]})
    h.until(lambda: stranger not in everything(h) and not h.machines())
    h.advance(60)
    assert h.condition(Installation, "kubeup", "MemoryLost") == ("", "", "")
    assert not h.get(Installation, "kubeup").spec.paused


def test_unknown_resources_can_be_left_alone_and_are_only_reported(harness: Make) -> None:
    h = harness()
    h.edit(Installation, "kubeup", spec={"unknownResources": "Report"})
    h.demo(1)
    h.ready(1)
    tags = {**h.cloud.console.machines()[0].tags, "kubeup/maker": "11111111-2222-3333-4444-555555555555"}
    stranger = h.cloud.console.add("from-another-time", tags)
    h.advance(120)
    assert not h.get(Installation, "kubeup").spec.paused
    assert h.condition(Installation, "kubeup", "MemoryLost")[0] == "True"
    h.edit(NodePool, "workers", spec={"replicas": 2})
    h.until(lambda: len(h.machines()) == 2 and all(m.status.state == "Ready" for m in h.machines()))
    assert stranger in everything(h)


def test_a_restored_backup_starts_paused_and_destroys_and_recreates_nothing(harness: Make, tmp_path: Path) -> None:
    h = harness()
    h.demo(2)
    h.ready(2)
    backup = tmp_path / "backup.db"
    h.store.backup(backup)
    h.edit(NodePool, "workers", spec={"replicas": 4})
    h.ready(4)
    before = everything(h)
    h.stop()
    for name in h.folder.glob("state.db*"):
        name.unlink()
    shutil.copy(backup, h.folder / "state.db")
    h.start()
    h.advance(600)
    assert h.get(Installation, "kubeup").spec.paused
    assert everything(h) == before
    assert h.condition(Installation, "kubeup", "MemoryLost")[0] == "True"
    h.edit(Installation, "kubeup", spec={"paused": False, "unknownResources": "Delete"})
    h.until(lambda: len(h.rented()) == 2)
    h.advance(120)
    h.ready(2)
    assert h.rented() == ["workers-0", "workers-1"]


def test_an_open_launch_of_a_restored_store_is_looked_up_and_never_submitted(harness: Make, tmp_path: Path) -> None:
    h = harness()
    h.demo(2, spread="none")
    h.cloud.faults.add("lostRequest", operation="launch", times=None)
    h.until(lambda: bool(h.launches()))
    backup = tmp_path / "backup.db"
    h.store.backup(backup)
    h.stop()
    for name in h.folder.glob("state.db*"):
        name.unlink()
    shutil.copy(backup, h.folder / "state.db")
    h.cloud.faults.clear()
    h.clock.advance(5)
    h.start()
    old = {launch.name for launch in h.launches()}
    h.edit(Installation, "kubeup", spec={"paused": False})
    h.ready(2)
    assert all(h.get(Launch, name).status.made == 0 for name in old)
    assert len(h.rented()) == 2


def test_deleting_a_namespaces_worth_of_things_by_hand_behind_our_back_recreates_what_is_wanted(harness: Make) -> None:
    h = harness()
    h.demo(3, repair={"maxUnhealthy": "100%"})
    h.ready(3)
    for line in h.cloud.console.machines():
        h.cloud.console.kill(line.id)
    h.until(lambda: len(h.rented()) == 3 and all(m.status.state == "Ready" for m in h.machines()) and len(h.machines()) == 3)


def test_slow_deletes_are_waited_for_and_proven(harness: Make) -> None:
    h = harness(cloud={"settle": 20})
    h.demo(2)
    h.ready(2)
    h.cloud.faults.add("slowDelete", seconds=900)
    h.delete(Cluster, "demo")
    h.advance(600)
    assert h.all(Cluster)
    assert len(h.machines()) == 1
    h.until(lambda: not h.all(Cluster), 3600)
    assert everything(h) == []


def test_a_delete_whose_reply_was_lost_is_repeated(harness: Make) -> None:
    h = harness()
    h.demo(2)
    h.ready(2)
    h.cloud.faults.add("lostReply", operation="delete", times=2)
    h.cloud.faults.add("lostRequest", operation="delete", times=2)
    h.delete(Cluster, "demo")
    h.until(lambda: not h.all(Cluster))
    assert everything(h) == []


def test_many_machines_are_deleted_in_one_call(harness: Make) -> None:
    h = harness()
    h.demo(30)
    h.ready(30)
    before = h.cloud.requests["Machine.delete"]
    h.edit(NodePool, "workers", spec={"replicas": 0})
    h.ready(0)
    assert h.cloud.requests["Machine.delete"] - before <= 3


def test_a_provider_whose_last_answer_was_lost_is_watched_before_it_goes(harness: Make) -> None:
    h = harness(cloud={"settle": 60})
    h.demo(1)
    h.ready(1)
    h.cloud.faults.add("lostReply", operation="delete", times=1)
    h.delete(Cluster, "demo")
    h.delete(Provider, "sim")
    h.until(lambda: not h.all(Provider), 3600)
    assert everything(h) == []
