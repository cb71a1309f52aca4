"""Volumes on the simulator: the data is where it was put, on one machine at a time, and is never lost by accident."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubeup_core.controllers.attachment import volumes_hold
from kubeup_core.kinds import Cluster, Installation, Machine, NodePool, Volume
from kubeup_core.testing.harness import Crash, Harness


@pytest.fixture
def h(tmp_path: Path) -> Iterator[Harness]:
    with Harness(tmp_path, cloud={"boot_seconds": (1, 1)}) as harness:
        harness.provider()
        harness.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": {"provider": "sim"}})
        yield harness


def pool(h: Harness, replicas: int = 1, name: str = "web", **spec: Any) -> None:
    h.apply({"kind": "NodePool", "metadata": {"name": name}, "spec": {"cluster": "demo", "replicas": replicas, **spec}})


def volume(h: Harness, name: str = "data", **spec: Any) -> None:
    h.apply({"kind": "Volume", "metadata": {"name": name}, "spec": {"cluster": "demo", "size": "1Gi", **spec}})


def status(h: Harness, name: str = "data") -> Any:
    return h.get(Volume, name).status


def attached(h: Harness, name: str = "data") -> bool:
    return bool(status(h, name).state == "Attached" and status(h, name).is_true("Ready"))


def up(h: Harness, replicas: int = 1, **spec: Any) -> None:
    pool(h, replicas)
    volume(h, **{"attach": {"pool": "web", "slot": 0}, **spec})
    h.until(lambda: attached(h) and len(h.machines()) == replicas)


def disks(h: Harness) -> list[str]:
    return [line.id for line in h.cloud.console.everything() if line.kind == "Volume"]


def holder(h: Harness, name: str = "data") -> str:
    """The machine at the place that has it, by host name."""
    view = h.cloud.storage.get(status(h, name).id)
    return next((line.name for line in h.cloud.console.machines() if line.id == view.machine), "")


def running(h: Harness, name: str) -> bool:
    return any(line.name == name and line.phase == "Running" for line in h.cloud.console.machines())


# -- made ------------------------------------------------------------------------------------------------------------------


def test_one_that_is_attached_to_nothing_is_made_and_available(h: Harness) -> None:
    volume(h)
    h.settle()
    found = status(h)
    assert (found.state, found.size, found.provider) == ("Available", "1Gi", "sim")
    assert found.device
    assert len(disks(h)) == 1


def test_it_is_made_where_its_machine_is_and_attached_to_it(h: Harness) -> None:
    volume(h, attach={"pool": "web", "slot": 0})
    h.settle()
    assert disks(h) == []
    assert h.condition(Volume, "data", "Ready")[1] == "NodePoolMissing"
    pool(h)
    h.until(lambda: attached(h))
    assert holder(h) == "web-0"
    machine = h.machines()[0]
    assert machine.status.resolved is not None
    assert status(h).zone == machine.status.resolved.zone
    assert status(h).attached_to == "web-0"


def test_each_slot_of_a_pool_over_zones_gets_its_own_in_its_own_zone(h: Harness) -> None:
    pool(h, 3)
    for n in range(3):
        volume(h, f"data-{n}", attach={"pool": "web", "slot": n})
    h.until(lambda: all(attached(h, f"data-{n}") for n in range(3)))
    zones = {m.name: m.status.resolved.zone for m in h.machines() if m.status.resolved}
    assert len(set(zones.values())) == 3
    assert {f"web-{n}": status(h, f"data-{n}").zone for n in range(3)} == zones


def test_it_grows_and_keeps_its_data(h: Harness) -> None:
    volume(h)
    h.settle()
    before = status(h).id
    h.edit(Volume, "data", spec={"size": "5Gi"})
    h.settle()
    assert (status(h).size, status(h).id) == ("5Gi", before)


def test_a_slot_beyond_the_pool_is_said(h: Harness) -> None:
    pool(h, 1)
    volume(h, attach={"pool": "web", "slot": 4})
    h.settle()
    assert "scale it, or name another slot" in h.condition(Volume, "data", "Ready")[2]


def test_a_re_check_writes_nothing_and_neither_does_a_restart(h: Harness) -> None:
    up(h)
    h.settle()
    before = h.writes.copy()
    h.advance(1800)
    assert h.writes - before == {}
    h.crash()
    h.settle()
    h.advance(60)
    assert h.writes - before == {}


def test_a_place_without_volumes_is_said(h: Harness) -> None:
    h.cloud.configure({"attach": "none"})
    h.crash()
    volume(h)
    h.settle()
    status, reason, message = h.condition(Volume, "data", "Ready")
    assert (status, reason) == ("False", "NotOffered")
    assert "set spec.provider" in message


def test_where_attaching_is_only_at_launch_the_machine_starts_with_it(h: Harness) -> None:
    h.cloud.configure({"attach": "launch"})
    up(h)
    assert holder(h) == "web-0"
    assert [m.volumes for m in h.launches()[0].spec.members] == [[status(h).id]]


def test_a_hot_change_there_needs_a_replacement_and_says_so(h: Harness) -> None:
    h.cloud.configure({"attach": "launch"})
    pool(h)
    h.until(lambda: len(h.machines()) == 1 and h.machines()[0].status.is_true("Ready"))
    volume(h, attach={"pool": "web", "slot": 0})
    h.until(lambda: h.condition(Volume, "data", "AttachBlocked")[1] == "NeedsReplacement")
    assert "kubectl delete machine web-0" in h.condition(Volume, "data", "AttachBlocked")[2]
    h.delete(Machine, "web-0")
    h.until(lambda: attached(h))


# -- moved -----------------------------------------------------------------------------------------------------------------


def test_the_slots_next_machine_takes_it_over(h: Harness) -> None:
    up(h)
    disk, first = status(h).id, h.machines()[0]
    h.delete(Machine, "web-0")
    h.until(lambda: [m.uid for m in h.machines()] not in ([first.uid], []) and attached(h))
    h.until(lambda: holder(h) == status(h).attached_to != "")
    assert status(h).id == disk
    assert len(disks(h)) == 1
    zone = h.get(Machine, status(h).attached_to).status.resolved
    assert zone is not None
    assert zone.zone == status(h).zone


def test_it_is_never_attached_elsewhere_before_the_last_machine_let_go(h: Harness) -> None:
    up(h, 2)
    h.cloud.faults.add("stuckDetach", seconds=300)
    machine = h.machines()[1]
    target = machine.name
    h.edit(Volume, "data", spec={"attach": {"pool": None, "slot": None, "machine": target}})
    h.advance(60)
    assert holder(h) == "web-0"
    assert status(h).attached_to == "web-0"


def test_a_machine_that_never_lets_go_is_not_deleted_for_it_and_nothing_is_forced(h: Harness) -> None:
    up(h)
    h.cloud.faults.add("stuckDetach", seconds=0)
    h.edit(Volume, "data", spec={"attach": None})
    h.until(lambda: h.condition(Volume, "data", "AttachBlocked")[1] == "DetachBusy", 600)
    message = h.condition(Volume, "data", "AttachBlocked")[2]
    assert "unmount it there" in message
    h.advance(600)
    assert running(h, "web-0")
    assert holder(h) == "web-0"
    h.cloud.console.release_volume(status(h).id)
    h.until(lambda: status(h).state == "Available")
    assert h.condition(Volume, "data", "AttachBlocked")[1] == ""


def test_a_machine_that_goes_lets_go_of_its_volumes_first(h: Harness) -> None:
    up(h)
    h.cloud.configure({"attach_seconds": 20.0})
    h.delete(Machine, "web-0")
    h.step()
    assert volumes_hold(h.manager.env, h.get(Machine, "web-0"))
    h.advance(10)
    assert running(h, "web-0")
    h.until(lambda: not running(h, "web-0"))
    assert status(h).state != "Attached" or status(h).attached_to != "web-0"


def test_a_machine_that_hangs_is_deleted_with_its_volume_and_the_volume_is_free_when_it_is_gone(h: Harness) -> None:
    up(h)
    disk = status(h).id
    h.cloud.faults.add("stuckDetach", seconds=0)
    h.delete(Machine, "web-0")
    h.until(lambda: h.condition(Volume, "data", "AttachBlocked")[1] == "DetachTimedOut", 600)
    h.until(lambda: not running(h, "web-0"), 600)
    h.until(lambda: attached(h), 1200)
    assert status(h).id == disk
    assert len(disks(h)) == 1


def test_one_in_another_zone_is_a_condition_that_names_both(h: Harness) -> None:
    volume(h)
    h.settle()
    zone = status(h).zone
    other = next(z for z in h.cloud.zones if z != zone)
    pool(h, offers=[{"provider": "sim", "zones": [other]}])
    h.until(lambda: len(h.machines()) == 1 and h.machines()[0].status.is_true("Ready"))
    h.edit(Volume, "data", spec={"attach": {"machine": h.machines()[0].name}})
    h.until(lambda: h.condition(Volume, "data", "AttachBlocked")[1] == "OutOfReach")
    message = h.condition(Volume, "data", "AttachBlocked")[2]
    assert str(zone) in message
    assert other in message
    before = h.cloud.requests["Volume.attach"]
    h.advance(1800)
    assert h.cloud.requests["Volume.attach"] == before


def test_a_machine_is_launched_where_its_volume_is(h: Harness) -> None:
    up(h)
    zone = status(h).zone
    for _ in range(2):
        name = status(h).attached_to
        h.delete(Machine, name)
        uid = h.get(Machine, name).uid
        h.until(lambda uid=uid: all(m.uid != uid for m in h.machines()) and attached(h))
    assert status(h).zone == zone
    assert len(disks(h)) == 1


def test_a_full_machine_is_said_and_gets_it_when_there_is_room(h: Harness) -> None:
    pool(h)
    h.until(lambda: len(h.machines()) == 1 and h.machines()[0].status.is_true("Ready"))
    limit = h.launches()[0].spec.offer.max_volumes
    assert limit is not None
    for n in range(limit + 1):
        volume(h, f"data-{n:02}", attach={"pool": "web", "slot": 0})
    names = [f"data-{n:02}" for n in range(limit + 1)]
    h.until(lambda: sum(attached(h, n) for n in names) == limit)
    h.settle(60)
    (late,) = [n for n in names if not attached(h, n)]
    _, reason, message = h.condition(Volume, late, "AttachBlocked")
    assert reason == "LimitReached"
    assert "larger machine type" in message
    first = next(n for n in names if n != late)
    h.edit(Volume, first, spec={"attach": None})
    h.until(lambda: attached(h, late))


# -- the end ---------------------------------------------------------------------------------------------------------------


def test_deleting_the_object_deletes_the_disk_after_it_was_detached(h: Harness) -> None:
    up(h)
    h.delete(Volume, "data")
    h.until(lambda: h.find(Volume, "data") is None)
    assert disks(h) == []
    assert running(h, "web-0")


def test_retain_keeps_the_disk_and_marks_it(h: Harness) -> None:
    up(h, onDelete="Retain")
    disk = status(h).id
    h.delete(Volume, "data")
    h.until(lambda: h.find(Volume, "data") is None)
    assert disks(h) == [disk]
    tags = next(line.tags for line in h.cloud.console.everything() if line.id == disk)
    assert tags["kubeup/keep"] == "true"
    h.until(lambda: [v.id for v in h.get(Installation, "kubeup").status.kept_volumes] == [disk])
    assert not h.get(Installation, "kubeup").spec.paused, "what was kept on purpose is no loss of memory"
    h.cloud.console.lose_volume(disk)
    h.until(lambda: h.get(Installation, "kubeup").status.kept_volumes == [])


def test_retain_after_it_was_made_marks_it_before_the_object_goes(h: Harness) -> None:
    volume(h)
    h.settle()
    h.edit(Volume, "data", spec={"onDelete": "Retain"})
    h.delete(Volume, "data")
    h.until(lambda: h.find(Volume, "data") is None)
    (line,) = [line for line in h.cloud.console.everything() if line.kind == "Volume"]
    assert line.tags["kubeup/keep"] == "true"
    h.advance(7200)
    assert len(disks(h)) == 1


def test_the_end_of_a_cluster_keeps_what_is_to_be_kept(h: Harness) -> None:
    up(h, onDelete="Retain")
    volume(h, "scratch")
    h.settle()
    kept = status(h).id
    h.delete(Cluster, "demo")
    h.until(lambda: h.find(Cluster, "demo") is None)
    assert [(line.kind, line.id) for line in h.cloud.console.everything()] == [("Volume", kept)]


def test_a_disk_that_vanished_is_not_replaced_by_an_empty_one(h: Harness) -> None:
    volume(h)
    h.settle()
    h.cloud.console.lose_volume(status(h).id)
    h.until(lambda: h.condition(Volume, "data", "Ready")[1] == "Lost")
    h.advance(3600)
    h.crash()
    h.advance(600)
    assert disks(h) == []
    assert h.condition(Volume, "data", "Ready")[1] == "Lost"
    h.delete(Volume, "data")
    h.until(lambda: h.find(Volume, "data") is None)


def test_a_disk_is_not_deleted_while_a_machine_holds_it(h: Harness) -> None:
    up(h)
    h.cloud.faults.add("stuckDetach", seconds=0)
    h.delete(Volume, "data")
    h.advance(600)
    assert h.get(Volume, "data").deleting
    assert len(disks(h)) == 1
    h.cloud.console.release_volume(status(h).id)
    h.until(lambda: h.find(Volume, "data") is None)
    assert disks(h) == []


def test_one_that_was_never_made_goes_at_once(h: Harness) -> None:
    volume(h, cluster="nothing")
    h.settle()
    assert h.condition(Volume, "data", "Ready")[1] == "ClusterMissing"
    h.delete(Volume, "data")
    h.settle()
    assert h.find(Volume, "data") is None


def test_a_paused_one_is_left_alone(h: Harness) -> None:
    volume(h)
    h.settle()
    h.edit(Volume, "data", spec={"paused": True, "size": "5Gi"})
    h.settle()
    assert h.cloud.storage.get(status(h).id).volume.size == 2**30
    h.delete(Volume, "data")
    h.advance(60)
    assert len(disks(h)) == 1
    h.edit(Volume, "data", spec={"paused": False})
    h.until(lambda: h.find(Volume, "data") is None)
    assert disks(h) == []


# -- what goes wrong -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["create", "attach", "update", "detach", "delete"])
@pytest.mark.parametrize("fault", ["lostReply", "lostRequest", "throttle"])
def test_no_fault_makes_a_second_disk_or_leaves_one(h: Harness, fault: str, operation: str) -> None:
    h.cloud.configure({"settle": 5.0})
    h.cloud.faults.add(fault, operation=operation, kind="Volume", times=2)
    up(h)
    assert len(disks(h)) == 1
    h.edit(Volume, "data", spec={"size": "2Gi"})
    h.until(lambda: status(h).size == "2Gi")
    h.delete(Volume, "data")
    h.until(lambda: h.find(Volume, "data") is None)
    assert disks(h) == []


@pytest.mark.parametrize("moment", range(1, 17))
def test_a_crash_at_any_request_makes_no_second_disk_and_leaves_none(h: Harness, moment: int) -> None:
    numbers = iter(range(1, 1000))
    pool(h)
    volume(h, attach={"pool": "web", "slot": 0})

    def strike(point: str) -> None:
        if "Volume" in point and next(numbers) == moment:
            raise Crash

    h.cloud.strike = strike
    try:
        h.until(lambda: attached(h))
        h.delete(Volume, "data")
        h.until(lambda: h.find(Volume, "data") is None)
    except Crash:
        h.crash()
        if not h.get(Volume, "data").deleting:
            h.until(lambda: attached(h))
            assert len(disks(h)) == 1
            h.delete(Volume, "data")
        h.until(lambda: h.find(Volume, "data") is None)
    assert disks(h) == []


def test_scaling_away_a_machine_frees_its_volume(h: Harness) -> None:
    up(h)
    h.edit(NodePool, "web", spec={"replicas": 0})
    h.until(lambda: h.machines() == [] and status(h).state == "Available")
    assert len(disks(h)) == 1


def test_each_slot_keeps_its_own_volume_through_a_rolling_replacement(h: Harness) -> None:
    pool(h, 3)
    for n in range(3):
        volume(h, f"data-{n}", attach={"pool": "web", "slot": n})
    h.until(lambda: all(attached(h, f"data-{n}") for n in range(3)))
    before = {n: (status(h, f"data-{n}").id, status(h, f"data-{n}").attached_to) for n in range(3)}
    h.edit(NodePool, "web", spec={"machine": {"cpu": 4}})
    old = {m.uid for m in h.machines()}
    h.until(lambda: len(h.machines()) == 3 and not old & {m.uid for m in h.machines()})
    h.until(lambda: all(attached(h, f"data-{n}") for n in range(3)))
    after = {n: (status(h, f"data-{n}").id, status(h, f"data-{n}").attached_to) for n in range(3)}
    assert {n: disk for n, (disk, _) in after.items()} == {n: disk for n, (disk, _) in before.items()}
    assert len({machine for _, machine in after.values()}) == 3
    assert sorted(m.labels["kubeup.dev/slot"] for m in h.machines()) == ["0", "1", "2"]


def test_two_machines_replaced_at_once_do_not_exchange_their_volumes(h: Harness) -> None:
    pool(h, 3)
    for n in range(3):
        volume(h, f"data-{n}", attach={"pool": "web", "slot": n})
    h.until(lambda: all(attached(h, f"data-{n}") for n in range(3)))
    kept = status(h, "data-1").attached_to
    gone = {status(h, "data-0").attached_to, status(h, "data-2").attached_to}
    for name in gone:
        h.delete(Machine, name)
    uids = {m.uid for m in h.machines() if m.name in gone}
    h.until(lambda: not uids & {m.uid for m in h.machines()} and all(attached(h, f"data-{n}") for n in range(3)))
    assert status(h, "data-1").attached_to == kept
    assert len({status(h, f"data-{n}").attached_to for n in range(3)}) == 3
