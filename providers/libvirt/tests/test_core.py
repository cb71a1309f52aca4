"""With the whole core, on a fake clock: what it does when somebody undefines a machine by hand."""

from __future__ import annotations

from pathlib import Path

from kubeup_core.kinds import Volume
from kubeup_core.testing.harness import Harness

MACHINE = {"cpu": 1, "memory": "128Mi", "disk": "128Mi"}
OBJECTS = [
    {"kind": "Cluster", "metadata": {"name": "demo"}, "spec": {"provider": "libvirt", "machine": MACHINE}},
    {"kind": "NodePool", "metadata": {"name": "web"}, "spec": {"cluster": "demo", "replicas": 1}},
    {
        "kind": "Volume",
        "metadata": {"name": "data"},
        "spec": {"cluster": "demo", "size": "64Mi", "attach": {"pool": "web", "slot": 0}},
    },
]


def test_a_machine_undefined_by_hand_is_replaced_its_files_are_swept_and_its_volume_goes_to_the_next(
    place, tmp_path: Path
) -> None:
    virsh = place.hypervisor.virsh
    spec = {"type": "libvirt", "config": {"uri": place.hypervisor.uri}, "images": {"debian-12": "default/empty.qcow2"}}
    with Harness(tmp_path, cloud=None) as h:
        for made in ({"kind": "Provider", "metadata": {"name": "libvirt"}, "spec": spec}, *OBJECTS):
            h.apply(made)

        def serving(former: str = "") -> bool:
            """One machine, another one than this, has the volume."""
            machines = [m for m in h.machines() if m.uid != former and m.status.is_true("Ready")]
            volume = h.get(Volume, "data").status
            return len(machines) == len(h.machines()) == 1 and (volume.state, volume.attached_to) == (
                "Attached",
                machines[0].name,
            )

        h.until(serving)
        (first,), disk = h.machines(), h.get(Volume, "data").status.id
        own = files(place, "disk.qcow2")
        assert len(own) == 1
        virsh("destroy", first.status.id)
        virsh("undefine", first.status.id)

        h.until(lambda: serving(former=first.uid))
        (second,) = h.machines()
        assert second.status.id in virsh("list", "--uuid").split()
        h.until(lambda: not own & files(place, "disk.qcow2"))
        assert len(files(place, "disk.qcow2")) == 1
        assert h.get(Volume, "data").status.id == disk
        assert disk in virsh("domblklist", second.status.id)
        assert [*h.failed, *h.manager.failed] == []


def files(place, part: str) -> set[str]:
    return {file.name for file in place.hypervisor.pool.glob(f"kubeup.*.{part}")}
