"""Volumes on hosts: files on loop devices here. Logical volumes need a kernel with device-mapper: see docs/how-to/ssh.md."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from kubeup_core import (
    Blocked,
    InvalidSpec,
    Launch,
    Mark,
    Member,
    NoCapacity,
    NotFound,
    Phase,
    Ref,
    Scope,
    Taken,
    Template,
    VolumeSpec,
)
from kubeup_core.kinds import Cluster, Machine, Volume
from kubeup_core.testing.harness import Harness

WANT = Template(cpu=1, memory=2**27, disk=2**30, arch="", image="debian-12")
MiB = 2**20


def mark(kind: str) -> Mark:
    return Mark(installation="one", cluster="c", cluster_name="demo", kind=kind, maker=str(uuid.uuid4()))


def machine(it: Any, slot: str) -> Ref:
    made = mark("Machine")
    offer = next(o for o in it.machines.offers(WANT) if slot in (o.slots or ()))
    order = Launch(
        mark=made, token=made.maker, template=WANT, offer=offer, role="plain", members=(Member(name="m", slot=slot),)
    )
    return Ref(id=it.machines.launch(order)[0].id, mark=made)


def volume(size: int, place: str = "", of: Mark | None = None) -> VolumeSpec:
    of = of or mark("Volume")
    return VolumeSpec(mark=of, token=of.maker, name="data", size=size, place=place)


def inside(it: Any, host: str, script: str) -> str:
    code, output = it.machines._fleet.doors.run(it.machines._fleet.hosts[host], script)
    assert code == 0, output
    return str(output.decode().strip())


def test_a_volume_is_a_device_with_a_name_that_stays_and_keeps_its_data(place: Any) -> None:
    it = place("one", "h1")
    owner, want = machine(it, "h1"), volume(8 * MiB, "h1")
    made = it.volumes.ensure(want)
    it.volumes.attach(made.ref, owner)
    (seen,) = it.volumes.observe(Scope(installation="one")).items
    assert (seen.attached, seen.size, seen.phase) == ((owner.id,), 8 * MiB, Phase.RUNNING)
    inside(it, "h1", f"echo precious | dd of={seen.device} conv=notrunc 2>/dev/null; blockdev --getsize64 {seen.device}")
    it.volumes.detach(made.ref, owner)
    assert inside(it, "h1", f"ls {seen.device} 2>/dev/null | wc -l") == "0"
    it.volumes.attach(made.ref, owner)
    assert inside(it, "h1", f"head -n 1 {seen.device}") == "precious"
    it.volumes.detach(made.ref, owner)
    it.volumes.delete(made.ref)
    assert it.volumes.observe(Scope(installation="one")).items == ()


def test_a_volume_that_is_attached_grows_and_its_device_with_it(place: Any) -> None:
    it = place("one", "h1")
    owner, of = machine(it, "h1"), mark("Volume")
    made = it.volumes.ensure(volume(8 * MiB, "h1", of))
    it.volumes.attach(made.ref, owner)
    assert it.volumes.ensure(volume(16 * MiB, "h1", of)).size == 16 * MiB
    assert inside(it, "h1", f"blockdev --getsize64 {made.device}") == str(16 * MiB)
    assert it.volumes.ensure(volume(4 * MiB, "h1", of)).size == 16 * MiB, "it never shrinks"
    it.volumes.detach(made.ref, owner)


def test_one_that_is_mounted_is_not_pulled_away(place: Any) -> None:
    it = place("one", "h1")
    owner = machine(it, "h1")
    made = it.volumes.ensure(volume(8 * MiB, "h1"))
    it.volumes.attach(made.ref, owner)
    inside(it, "h1", f"mkfs.ext4 -q {made.device} && mkdir -p /run/kubeup-test && mount {made.device} /run/kubeup-test")
    try:
        with pytest.raises(Blocked, match="/run/kubeup-test"):
            it.volumes.detach(made.ref, owner)
        with pytest.raises(Blocked):
            it.volumes.delete(made.ref)
    finally:
        inside(it, "h1", "umount /run/kubeup-test")
    it.volumes.detach(made.ref, owner)


def test_it_says_that_it_does_not_leave_its_host(place: Any) -> None:
    it = place("one", "h1", "h2")
    other = machine(it, "h2")
    made = it.volumes.ensure(volume(8 * MiB, "h1"))
    assert made.reach == {"h1"}
    with pytest.raises(Taken, match="does not leave it"):
        it.volumes.attach(made.ref, other)


def test_a_host_without_room_says_so_and_nothing_is_left(place: Any) -> None:
    it = place("one", "h1")
    with pytest.raises(NoCapacity, match="has no room"):
        it.volumes.ensure(volume(2**50, "h1"))
    assert it.volumes.observe(Scope(installation="one")).items == ()
    with pytest.raises(NoCapacity, match="no host has room"):
        it.volumes.ensure(volume(2**50))


def test_a_group_that_is_not_there_is_told(place: Any) -> None:
    it = place("one", "h1", volumeGroup="vg-none")
    with pytest.raises(InvalidSpec, match=r"no LVM on this host|no volume group vg-none"):
        it.volumes.ensure(volume(8 * MiB, "h1"))


def test_the_volume_of_a_machine_that_goes_stays_and_can_be_attached_again(place: Any) -> None:
    it = place("one", "h1")
    first = machine(it, "h1")
    made = it.volumes.ensure(volume(8 * MiB, "h1"))
    it.volumes.attach(made.ref, first)
    it.machines.delete([first])
    (seen,) = it.volumes.observe(Scope(installation="one")).items
    assert seen.attached == ()
    second = machine(it, "h1")
    it.volumes.attach(made.ref, second)
    assert it.volumes.observe(Scope(installation="one")).items[0].attached == (second.id,)
    it.volumes.detach(made.ref, second)


def test_a_volume_whose_link_went_with_a_reboot_is_not_attached_and_can_be_again(place: Any) -> None:
    """LVM makes its devices by itself when a host starts; /dev/kubeup is gone then."""
    it = place("one", "h1")
    owner = machine(it, "h1")
    made = it.volumes.ensure(volume(8 * MiB, "h1"))
    it.volumes.attach(made.ref, owner)
    inside(it, "h1", f"rm {made.device}")
    assert it.volumes.observe(Scope(installation="one")).items[0].attached == ()
    it.volumes.attach(made.ref, owner)
    assert it.volumes.observe(Scope(installation="one")).items[0].attached == (owner.id,)
    assert inside(it, "h1", f"blockdev --getsize64 {made.device}") == str(8 * MiB)
    inside(it, "h1", f"rm {made.device}")
    it.volumes.delete(made.ref)
    assert it.volumes.observe(Scope(installation="one")).items == ()
    assert inside(it, "h1", f"losetup -j /var/lib/kubeup-host/volumes/{made.ref.id.rpartition('/')[2]}.img") == ""


def test_a_folder_for_volumes_keeps_its_mode_and_what_others_keep_there(place: Any) -> None:
    folder = "/var/lib/kubeup-host/it's everybody's"
    it = place("one", "h1", volumeFolder=folder)
    inside(it, "h1", f'mkdir -m 755 "{folder}"; echo "[1]" >"{folder}/other.json"')
    made = it.volumes.ensure(volume(1 * MiB, "h1"))
    assert [v.ref for v in it.volumes.observe(Scope(installation="one")).items] == [made.ref]
    assert inside(it, "h1", f'stat -c %a "{folder}"; stat -c %a "{folder}"/data-*') == "755\n600\n600"
    it.volumes.delete(made.ref)
    assert inside(it, "h1", f'ls "{folder}"') == "other.json"


def test_only_the_volume_with_the_mark_is_touched_and_the_host_itself_compares(place: Any) -> None:
    it = place("one", "h1")
    owner, want = machine(it, "h1"), volume(8 * MiB, "h1")
    made = it.volumes.ensure(want)
    wrong = Ref(id=made.ref.id, mark=mark("Volume"))
    for act in (it.volumes.attach, it.volumes.detach, lambda ref, _: it.volumes.delete(ref)):
        with pytest.raises(NotFound):
            act(wrong, owner)
    with pytest.raises(NotFound):
        it.volumes.attach(made.ref, Ref(id=owner.id, mark=mark("Machine")))
    looked: list[str] = []
    it.volumes._fleet.look = lambda *args, **more: looked.append("looked")  # what is seen before may be over by then
    it.volumes.attach(made.ref, owner)
    it.volumes.detach(made.ref, owner)
    it.volumes.delete(made.ref)
    assert looked == []


def test_a_volume_of_a_cluster_is_formatted_mounted_and_keeps_its_data_over_its_machines(hosts: Any, tmp_path: Path) -> None:
    where = f"/run/kubeup-test-{uuid.uuid4().hex[:8]}"
    with Harness(tmp_path) as h:
        spec = {"type": "ssh", "config": hosts.config("h1")}
        small = {"cpu": 1, "memory": "128Mi", "disk": "1Gi"}
        pool = {"cluster": "demo", "replicas": 1, "machine": small}
        data = {"cluster": "demo", "size": "16Mi", "filesystem": "ext4", "mountPath": where}
        h.apply(
            {"kind": "Provider", "metadata": {"name": "rack"}, "spec": spec},
            {"kind": "Cluster", "metadata": {"name": "demo"}, "spec": {"provider": "rack"}},
            {"kind": "NodePool", "metadata": {"name": "workers"}, "spec": pool},
            {"kind": "Volume", "metadata": {"name": "data"}, "spec": {**data, "attach": {"pool": "workers", "slot": 0}}},
        )
        h.until(lambda: h.condition(Volume, "data", "Ready")[0] == "True", 120)
        assert h.condition(Volume, "data", "Ready")[2] == f"attached to machine workers-0, mounted at {where}"
        suppliers = h.suppliers("rack")

        def run(script: str) -> str:
            fleet = suppliers.machines._fleet  # type: ignore[attr-defined]
            code, output = fleet.doors.run(fleet.hosts["h1"], script)
            assert code == 0, output
            return str(output.decode().strip())

        run(f"findmnt -n -M {where} && echo precious >{where}/file")
        first = h.machines()[0].uid
        h.delete(Machine, "workers-0")
        h.until(lambda: [m.uid for m in h.machines() if m.uid != first and m.status.state == "Ready"], 300)
        h.until(lambda: h.condition(Volume, "data", "Ready")[0] == "True", 120)
        assert run(f"cat {where}/file") == "precious"
        h.delete(Cluster, "demo")
        h.until(lambda: not h.all(Cluster), 300)
        assert run(f"findmnt -n -M {where} || true; rmdir {where}; losetup -j /var/lib/kubeup-host/volumes/*.img") == ""
        assert [*h.failed, *h.manager.failed] == []
