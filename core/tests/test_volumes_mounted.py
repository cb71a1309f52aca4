"""A volume's file system is made, mounted, grown and unmounted: when that is asked of a machine, and what becomes of its answer.

What the script itself does is tested on real disks, by the providers whose machines run it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubeup_core.kinds import Machine, Volume
from kubeup_core.testing.harness import Harness

pytest.importorskip("kubeup_sim", reason="the simulated cloud is the distribution kubeup-sim: pip install kubeup-sim")


class Disk:
    """Answers for the machines: what they were asked, and what they say."""

    def __init__(self, h: Harness) -> None:
        self.asked: list[tuple[str, str]] = []
        self.answer: dict[str, tuple[int, bytes]] = {}
        h.cloud.guest.on("^set -- ", self)

    def __call__(self, machine: Any, script: str, stdin: bytes) -> tuple[int, bytes]:
        verb = "unmount" if "umount" in script else "mount"
        self.asked.append((machine.hostname, f"{verb} {script.splitlines()[0].removeprefix('set -- ')}"))
        return self.answer.get(verb, (0, b""))


@pytest.fixture
def h(tmp_path: Path) -> Iterator[Harness]:
    with Harness(tmp_path, cloud={"attach": "live", "boot_seconds": (1, 1)}) as harness:
        harness.demo(1)
        harness.ready(1)
        yield harness
        assert [*harness.failed, *harness.manager.failed] == []


def data(h: Harness, **spec: Any) -> None:
    spec = {"cluster": "demo", "size": "10Gi", "attach": {"machine": "workers-0"}, **spec}
    h.apply({"kind": "Volume", "metadata": {"name": "data"}, "spec": spec})


def told(h: Harness) -> tuple[str, str, str]:
    return h.condition(Volume, "data", "Ready")


def device(h: Harness) -> str:
    return str(h.get(Volume, "data").status.device)


def test_a_volume_that_asks_for_it_is_made_and_mounted_once_it_is_there(h: Harness) -> None:
    disk = Disk(h)
    data(h, filesystem="ext4", mountPath="/data")
    h.until(lambda: told(h)[0] == "True")
    assert told(h)[2] == "attached to machine workers-0, mounted at /data"
    assert disk.asked == [("workers-0", f"mount {device(h)} ext4 /data")]
    h.advance(600)
    assert len(disk.asked) == 1, "nothing is asked again while nothing changes"


def test_one_that_asks_for_nothing_is_left_alone(h: Harness) -> None:
    disk = Disk(h)
    data(h)
    h.until(lambda: told(h)[0] == "True")
    assert disk.asked == []


def test_what_the_machine_says_against_it_is_told_and_tried_again(h: Harness) -> None:
    disk = Disk(h)
    disk.answer["mount"] = (1, b"mke2fs 1.47\nthe disk /dev/sdb is not blank, and has no file system: nothing is made on it\n")
    data(h, filesystem="ext4", mountPath="/data")
    h.until(lambda: told(h)[1] == "NotMounted")
    assert told(h)[2].startswith("on workers-0: the disk /dev/sdb is not blank")
    assert h.get(Volume, "data").status.is_true("Stalled")
    disk.answer.clear()
    h.until(lambda: told(h)[0] == "True", 120)


def test_it_is_unmounted_before_it_is_detached_and_not_pulled_away_while_in_use(h: Harness) -> None:
    disk = Disk(h)
    data(h, filesystem="ext4", mountPath="/data")
    h.until(lambda: told(h)[0] == "True")
    disk.answer["unmount"] = (1, b"umount: /data: target is busy.\n")
    h.edit(Volume, "data", spec={"attach": None})
    h.advance(60)
    assert told(h)[1:] == ("StillMounted", "on workers-0: umount: /data: target is busy.")
    assert h.get(Volume, "data").status.attached_to == "workers-0"
    disk.answer.clear()
    h.until(lambda: told(h)[1] == "Available", 120)


def test_it_is_mounted_again_after_a_reboot_and_grown_with_the_volume(h: Harness) -> None:
    disk = Disk(h)
    data(h, filesystem="xfs", mountPath="/data")
    h.until(lambda: told(h)[0] == "True")
    machine = h.get(Machine, "workers-0")
    h.suppliers().machines.reboot(_ref(h, machine))
    h.until(lambda: h.get(Machine, "workers-0").status.boot_id != machine.status.boot_id, 300)
    h.until(lambda: len(disk.asked) == 2, 120)
    h.edit(Volume, "data", spec={"size": "20Gi"})
    h.until(lambda: h.get(Volume, "data").status.size == "20Gi" and len(disk.asked) == 3, 300)


def test_a_machine_that_goes_has_it_unmounted_first(h: Harness) -> None:
    disk = Disk(h)
    data(h, filesystem="ext4", mountPath="/data", attach={"pool": "workers", "slot": 0})
    h.until(lambda: told(h)[0] == "True")
    first = h.get(Machine, "workers-0").uid
    h.delete(Machine, "workers-0")
    h.until(lambda: told(h)[0] == "True" and all(m.uid != first for m in h.machines()), 600)
    assert [asked.split()[0] for _, asked in disk.asked] == ["mount", "unmount", "mount"]


def test_without_a_way_in_it_says_so(tmp_path: Path, harness: Callable[..., Harness]) -> None:
    h = harness(cloud={"attach": "live", "access": "none"})
    h.demo(1)
    h.ready(1)
    data(h, mountPath="/data")
    h.until(lambda: told(h)[1] == "NoAccess", 120)
    assert "nobody can mount it there" in told(h)[2]


def _ref(h: Harness, machine: Machine) -> Any:
    from kubeup_core.controllers.marks import ref_of
    from kubeup_core.kinds import Launch

    launch = h.get(Launch, str(machine.status.launch))
    return ref_of(h.store.installation, launch, machine.status.index or 0, machine.status.id or "")
