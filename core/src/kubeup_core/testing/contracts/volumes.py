"""VolumeContract: what every VolumeSupplier must do. Data is at stake: nothing shrinks, formats, forces or goes along."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...errors import Blocked, InvalidSpec, NoCapacity, NotFound, NotReady, Taken
from ...supplier import MachineState, Member, Offer, Phase, Ref, Suppliers, VolumeSpec
from .bench import Bench
from .checks import not_offered, unmarked
from .ensured import EnsuredContract


class VolumeContract(EnsuredContract):
    """Subclass it, name it Test..., write `supply`."""

    def supplier(self, suppliers: Suppliers) -> Any:
        if suppliers.volumes is None:
            not_offered("volumes (Suppliers.volumes)")
        return suppliers.volumes

    def wish(self, bench: Bench, suppliers: Suppliers | None = None, cluster: str = "cluster-1") -> VolumeSpec:
        suppliers = suppliers or bench.a
        self.supplier(suppliers)
        installation = bench.installations[0 if suppliers is bench.a else 1]
        mark = bench.mark("Volume", installation=installation, cluster=cluster)
        return VolumeSpec(
            mark=mark,
            token=mark.maker,
            name=f"contract-{mark.maker[:6]}",
            size=bench.rig.volume_size,
            place=self._offer(bench, suppliers).place,
            overrides=bench.rig.overrides,
        )

    def test_a_volume_says_its_size_device_and_reach(self, bench: Bench) -> None:
        """The device is in the boot script before the volume is attached; the reach decides where its machine may be."""
        want = self.wish(bench)
        state = self.made(bench, want)
        assert state.size >= want.size, f"{state.size} bytes, wanted {want.size}"
        assert state.device or bench.a.capabilities.attach == "none", "VolumeState.device is empty"
        reach = self._offer(bench, bench.a).reach
        assert state.reach & reach, f"the volume reaches {set(state.reach)}, the offer whose place it was made in {set(reach)}"

    def test_a_volume_grows_and_never_shrinks(self, bench: Bench) -> None:
        """Shrinking destroys data."""
        want = self.wish(bench)
        self.made(bench, want)
        larger = replace(want, size=want.size * 2)

        def grown() -> bool:
            return bool(self.ensure(bench, larger).size >= larger.size)

        bench.until(grown, "the volume has grown")
        try:
            self.ensure(bench, want)
            bench.settle()
            self.ensure(bench, want)
        except InvalidSpec:
            pass
        assert self.exactly(bench, larger).size >= larger.size, "the volume shrank"

    def test_a_volume_can_be_marked_to_be_kept(self, bench: Bench) -> None:
        """Retain is decided late: ensure updates the mark before the object goes."""
        want = self.wish(bench)
        made = self.made(bench, want)
        kept = replace(want, mark=replace(want.mark, keep=True))
        self.made(bench, kept)
        state = self.exactly(bench, kept)
        assert state.ref.id == made.ref.id, "a changed mark.keep made another volume"
        assert state.ref.mark.keep, "ensure did not update mark.keep"

    def test_deleting_a_machine_spares_its_volumes(self, bench: Bench) -> None:
        """The volume is another object, with its own end."""
        want = self.wish(bench)
        volume, machine = self._attached(bench, want)
        bench.delete([machine.ref])
        bench.until(lambda: self._running(bench, machine) is None, "the machine is gone")
        bench.settle()
        assert self.exactly(bench, want).ref == volume, "the volume went with its machine"
        bench.until(lambda: not self.exactly(bench, want).attached, "the volume is free once its machine is gone")

    def test_a_volume_is_attached_and_detached(self, bench: Bench) -> None:
        """observe tells when it is true, in both directions; each may be repeated."""
        volumes = self._live(bench)
        want = self.wish(bench)
        volume, machine = self._attached(bench, want)
        bench.patiently(lambda: volumes.attach(volume, machine.ref), "attach, again")
        self._is_attached_to(bench, want, machine.ref)
        for _ in range(2):
            bench.patiently(lambda: volumes.detach(volume, machine.ref), "detach")
            bench.until(lambda: not self.exactly(bench, want).attached, "the volume is detached")
        assert self._running(bench, machine), "the machine did not survive the detach"

    def test_a_volume_attached_elsewhere_is_taken(self, bench: Bench) -> None:
        """Two machines writing to one file system destroy it."""
        volumes = self._live(bench)
        want = self.wish(bench)
        volume, machine = self._attached(bench, want)
        offer = self._offer(bench, bench.a)  # of an inventory, whose offers are single hosts, the other one is on another host
        other = bench.run(bench.launch(1, offer=offer if offer.slots is None else None))[0]
        try:
            bench.patiently(lambda: volumes.attach(volume, other.ref), "attach")
        except Taken:
            pass
        else:
            raise AssertionError("a volume that is attached elsewhere can be attached again; wanted Taken")
        self._is_attached_to(bench, want, machine.ref)

    def test_the_limit_of_a_machine_is_no_capacity(self, bench: Bench) -> None:
        """The core then avoids that machine; any other error would be retried for ever."""
        volumes = self._live(bench)
        limit = self._offer(bench, bench.a).max_volumes
        if limit is None or limit > 8:
            not_offered("a small limit of volumes per machine (Offer.max_volumes)")
        machine = bench.run(bench.launch(1, offer=self._offer(bench, bench.a)))[0]
        for _ in range(limit):
            self._attach(bench, self.wish(bench), machine)
        ref = self.made(bench, self.wish(bench)).ref
        try:
            bench.patiently(lambda: volumes.attach(ref, machine.ref), "attach")
        except NoCapacity:
            return
        raise AssertionError(f"the machine takes {limit} volumes by its offer, and one more was attached")

    def test_deleting_an_attached_volume_is_blocked(self, bench: Bench) -> None:
        """A machine writes to it."""
        want = self.wish(bench)
        volume, machine = self._attached(bench, want)
        try:
            self.supplier(bench.a).delete(volume)
        except (Blocked, NotReady):
            pass
        else:
            raise AssertionError("an attached volume can be deleted; wanted Blocked")
        bench.settle()
        self._is_attached_to(bench, want, machine.ref)

    def test_attaching_under_another_mark_is_not_found(self, bench: Bench) -> None:
        """Both refs carry their marks; either may be stale."""
        volumes = self._live(bench)
        want = self.wish(bench)
        volume = self.made(bench, want).ref
        state = bench.run(bench.launch(1, offer=self._offer(bench, bench.a)))[0]
        machine = state.ref
        for stale in ((unmarked(volume), machine), (volume, unmarked(machine))):
            self._not_found("attach", volumes.attach, *stale)
        assert not self.exactly(bench, want).attached, "attached under a mark that is not there"
        self._attach(bench, want, state)
        self._not_found("detach", volumes.detach, unmarked(volume), machine)
        bench.settle()
        self._is_attached_to(bench, want, machine)

    def test_attach_and_detach_do_not_wait(self, bench: Bench) -> None:
        """A detach may hang for ever on a mounted volume."""
        volumes = self._live(bench)
        want = self.wish(bench)
        volume = self.made(bench, want).ref
        machine = bench.run(bench.launch(1, offer=self._offer(bench, bench.a)))[0].ref
        bench.must_not_wait(lambda: volumes.attach(volume, machine), "attach")
        bench.until(lambda: self.exactly(bench, want).attached, "the volume is attached")
        bench.must_not_wait(lambda: volumes.detach(volume, machine), "detach")

    def _live(self, bench: Bench) -> Any:
        volumes = self.supplier(bench.a)
        if bench.a.capabilities.attach != "live":
            not_offered("attaching to a running machine (Capabilities.attach)")
        return volumes

    def _attached(self, bench: Bench, want: VolumeSpec) -> tuple[Ref, MachineState]:
        """A volume that is attached to a running machine, in whichever way the provider can."""
        offer = self._offer(bench, bench.a)
        if bench.a.capabilities.attach == "launch":
            volume = self.made(bench, want).ref
            launch = bench.launch(1, offer=offer)
            launch = replace(
                launch, members=(Member(name=launch.members[0].name, slot=launch.members[0].slot, volumes=(volume.id,)),)
            )
            machine = bench.run(launch)[0]
        elif bench.a.capabilities.attach == "live":
            machine = bench.run(bench.launch(1, offer=offer))[0]
            volume = self._attach(bench, want, machine)
        else:
            not_offered("attaching volumes (Capabilities.attach)")
        bench.until(lambda: self.exactly(bench, want).attached == (machine.ref.id,), "the volume is attached")
        return volume, machine

    def _attach(self, bench: Bench, want: VolumeSpec, machine: MachineState) -> Ref:
        volume: Ref = self.made(bench, want).ref
        bench.patiently(lambda: self.supplier(bench.a).attach(volume, machine.ref), "attach")
        bench.until(lambda: self.exactly(bench, want).attached == (machine.ref.id,), "the volume is attached")
        return volume

    def _is_attached_to(self, bench: Bench, want: VolumeSpec, machine: Ref) -> None:
        attached = self.exactly(bench, want).attached
        assert attached == (machine.id,), f"the volume is attached to {attached}, wanted {machine.id} alone"

    def _running(self, bench: Bench, machine: MachineState) -> MachineState | None:
        seen = bench.snapshot().items
        return next((s for s in seen if s.ref == machine.ref and s.phase == Phase.RUNNING), None)

    def _offer(self, bench: Bench, suppliers: Suppliers) -> Offer:
        if "offer" not in bench.kept:
            bench.kept["offer"] = bench.offers(suppliers)[0]
        offer: Offer = bench.kept["offer"]
        return offer

    def _not_found(self, name: str, act: Any, *refs: Ref) -> None:
        try:
            act(*refs)
        except NotFound:
            return
        raise AssertionError(f"{name} acts on what carries another mark; wanted NotFound")
