"""Volumes: made where their machine is going to be, grown, attached, taken over by a slot's next machine, and kept or deleted.

A disk outlives machines, so everything here is careful in one direction: a disk is never attached elsewhere before observation
shows that the last machine has let go, nothing is forced, a disk that vanished is not replaced by an empty one, and `Retain` is
marked on the disk itself before its object goes. Who may have it and who must wait is in `attachment.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..client import Event
from ..errors import NoCapacity, NotFound, SupplierError
from ..kinds import Cluster, Machine, NodePool, Provider, Volume
from ..kinds.volume import FINALIZER, AttachLimit, VolumeStatus
from ..objects import format_size, parse_size
from ..plugins import InvalidConfig
from ..runtime.calls import InProgress
from ..runtime.controller import Controller, Env, Key, Result, Watch
from ..runtime.places import Place
from ..supplier import Mark, Phase, Ref, VolumeSpec, VolumeState, VolumeSupplier
from .attachment import TIMED_OUT, concerns, launch_of, no_target, refusal, target
from .deregistration import leaving_balancers
from .drain import undrained
from .marks import place_of, ref_of, volumes_at
from .mounting import Mounts
from .network_rules import providers_of
from .single import STEP, NotYet, Single
from .troubles import (
    LATER,
    Trouble,
    busy,
    hold,
    let_go,
    not_usable,
    note,
    obstacle,
    paused,
    sooner,
    tell,
    trouble,
    usable,
    write_status,
)

DETACH_TIMEOUT = 120.0
"""Awake seconds that a machine has to let go of a disk. A guest that died never unmounts, and its detach hangs for ever."""


class VolumeController(Controller):
    name = "volume"
    kind = Volume

    def __init__(self, env: Env) -> None:
        self.watches = (
            Watch(Machine, self._of_machine),
            Watch(NodePool, lambda event: self._of_cluster(event.object.namespace, event.object.spec.cluster)),
            Watch(Cluster, lambda event: self._of_cluster(event.object.namespace, event.object.name)),
            Watch(Provider, lambda event: [_key(v) for v in env.cache.list(Volume)]),
        )
        super().__init__(env)
        self.single: Single[VolumeState] = Single(env, "volumes", self.name)
        self.mounts = Mounts(env, self.name)
        env.inventory.on_change("volumes", self._of_mark)
        self._asked: dict[tuple[str, str], float] = {}
        """(volume's uid, machine's id) -> awake stamp of the first detach. After a restart the machine gets its time anew."""

    def reconcile(self, key: Key) -> Result:
        volume = self.env.cache.get(Volume, key.name, key.namespace)
        if volume is None:
            return Result()
        cluster = self.env.cache.get(Cluster, volume.spec.cluster, key.namespace)
        if volume.deleting and FINALIZER not in volume.finalizers:
            return Result()
        step = _Step(self, volume, cluster)
        found = step.delete() if volume.deleting else step.keep()
        return tell(self.env, step.volume, step.status, found, step.after) if found is not None else Result()

    def _of_mark(self, mark: Mark) -> tuple[str, Key] | None:
        volume = self.env.cache.uid(Volume, mark.maker)
        return (self.name, _key(volume)) if volume is not None else None

    def _of_machine(self, event: Event[Any]) -> Iterator[Key]:
        """Only the volumes that the machine has, or is to get: a cluster may have thousands of both."""
        machine = event.object
        for volume in self.env.cache.by(Volume, "cluster", f"{machine.namespace}/{machine.spec.cluster}"):
            if concerns(self.env, machine, volume):
                yield _key(volume)

    def _of_cluster(self, namespace: str, cluster: str) -> list[Key]:
        return [_key(v) for v in self.env.cache.by(Volume, "cluster", f"{namespace}/{cluster}")]


class _Step:
    """One reconcile of one volume: what is known, and the status as it is going to be."""

    def __init__(self, controller: VolumeController, volume: Volume, cluster: Cluster | None) -> None:
        self.env = controller.env
        self.single = controller.single
        self.asked = controller._asked
        self.mounts = controller.mounts
        self.volume = volume
        self.cluster = cluster
        self.status: VolumeStatus = volume.status.model_copy(deep=True)
        self.after: float | None = None
        self.mark = Mark(
            installation=self.env.installation,
            cluster=cluster.uid if cluster else "",
            cluster_name=volume.spec.cluster,
            kind="Volume",
            maker=volume.uid,
            keep=volume.spec.on_delete == "Retain",
        )

    # -- living ----------------------------------------------------------------------------------------------------------

    def keep(self) -> Trouble | None:
        found = obstacle(self.env, self.volume, self.cluster)
        if found is not None:
            return found
        machine = target(self.env, self.volume)
        place, found = self._place(machine)
        if place is None or place.suppliers.volumes is None:
            return found
        try:
            state = self._ensure(place, place.suppliers.volumes)
        except (NotYet, InProgress) as wait:
            seen = self.single.look(place, self.mark) if self.status.id else None
            if seen is None or seen.phase is not Phase.RUNNING:
                return self._unseen(place, wait)
            if self.status.last_error is not None:
                return busy(wait.after)
            state, self.after = seen, wait.after  # a change of it is under way; the rest need not wait for that
        except InvalidConfig as error:
            return Trouble(reason="InvalidOverrides", message=str(error), stalled=True)
        except SupplierError as error:
            note(self.status, error, self.env.clock.wall())
            return trouble(error, place.name)
        note(self.status, state.error if state else None, self.env.clock.wall())
        if state is None:
            return self._lost(place)
        self._observed(state)
        if state.error is not None:
            return trouble(state.error, place.name)
        if state.phase is not Phase.RUNNING:
            return self._creating(place, STEP)
        return self._attachment(place, place.suppliers.volumes, state, machine)

    def _place(self, machine: Machine | None) -> tuple[Place | None, Trouble | None]:
        """Where it is, or is going to be made; that is stored, with the finalizer, before it is made."""
        name = self.status.provider or self._provider(machine)
        place, found = usable(self.env, name)
        if place is None:
            return None, found
        if place.suppliers.volumes is None:
            message = f"Provider {name} has no volumes; set spec.provider to one that has them, or remove this Volume"
            return None, Trouble(reason="NotOffered", message=message, stalled=True)
        if self.status.provider is not None:
            if not place.may_change:
                return None, not_usable(name, place)
            return place, None
        if not place.may_create:
            return None, not_usable(name, place)
        zone = ""
        if self.volume.spec.attach is not None and place.capabilities.attach == "live":
            launch = launch_of(self.env, machine) if machine is not None and not machine.deleting else None
            if launch is None:
                found = self._waiting(machine)
                wait = "it is made in the machine's zone as soon as that is known"
                return None, Trouble(reason=found.reason, message=f"{found.message}; {wait}", stalled=found.stalled)
            zone = volumes_at(launch) if launch.spec.provider == name else ""
        self._begin(place, zone)
        return place, None

    def _provider(self, machine: Machine | None) -> str:
        if self.volume.spec.provider:
            return self.volume.spec.provider
        launch = launch_of(self.env, machine) if machine is not None else None
        if launch is not None:
            return launch.spec.provider
        if machine is not None and machine.spec.provider:
            return machine.spec.provider
        assert self.cluster is not None
        attach = self.volume.spec.attach
        pool = self.env.cache.get(NodePool, attach.pool, self.volume.namespace) if attach and attach.pool else None
        return providers_of(self.cluster, pool)[0] if pool is not None else self.cluster.spec.provider

    def _begin(self, place: Place, zone: str) -> None:
        self.volume = hold(self.env, self.volume, FINALIZER)
        self.status.provider, self.status.zone, self.status.state = place.name, zone or None, "Creating"
        self.volume = write_status(self.env, self.volume, self.status)
        self.status = self.volume.status.model_copy(deep=True)
        self.single.began(place, self.mark)

    def _ensure(self, place: Place, supplier: VolumeSupplier) -> VolumeState | None:
        """None: it was there, and is proven to be gone. It is never made a second time: the data would be missing."""
        if self.status.id is not None and self.single.look(place, self.mark) is None:
            if self.single.gone(place, self.mark, self.status.id):
                return None
            raise NotYet
        spec, type_ = self.volume.spec, place.provider.spec.type
        overrides = spec.overrides.get(type_, {})
        if overrides:
            self.env.plugins.overrides(type_, overrides)
        want = VolumeSpec(
            mark=self.mark,
            token=self.volume.uid,
            name=self.volume.name,
            size=parse_size(spec.size),
            place=self.status.zone or "" if self.status.id is None else "",
            klass=spec.class_,
            overrides=overrides,
        )
        wish = (want.size, want.klass, want.overrides, want.mark.keep)
        state = self.single.ensure(
            place, self.mark, lambda: supplier.ensure(want), wish=wish, key=_key(self.volume), id=self.status.id or ""
        )
        return state if state.phase is not Phase.GONE else None

    def _observed(self, state: VolumeState) -> None:
        status = self.status
        status.id, status.size, status.device = state.ref.id, format_size(state.size), state.device or None
        status.zone = ",".join(sorted(state.reach)) or status.zone
        busy = {"attaching": "Attaching", "detaching": "Detaching", "resizing": "Resizing"}.get(state.busy)
        if state.phase is Phase.RUNNING:
            status.state = busy or ("Attached" if state.attached else "Available")  # type: ignore[assignment]
        else:
            status.state = "Deleting" if state.phase is Phase.DELETING else "Creating"

    def _creating(self, place: Place, after: float | None) -> Trouble:
        what = "it is being changed" if self.status.id else "it is being made"
        return Trouble(reason="Creating", message=f"{what} at {place.name}", after=after)

    def _unseen(self, place: Place, wait: NotYet | InProgress) -> Trouble:
        if isinstance(wait, NotYet) and wait.why:
            message = f"Provider {place.name} cannot be observed: {wait.why}"
            return Trouble(reason="CannotObserve", message=message, after=wait.after)
        if self.status.id or self.status.last_error is not None:
            return busy(wait.after)  # made, and not seen by this process yet; or tried again
        return self._creating(place, wait.after)

    def _lost(self, place: Place) -> Trouble:
        self.status.state, self.status.attached_to = "Unknown", None
        volume = f"{self.volume.name} -n {self.volume.namespace}"
        message = (
            f"the disk {self.status.id} is gone at {place.name}, and its data with it; nobody asked kubeup for that. "
            f"Delete this Volume and create it again for an empty one: kubectl delete volume {volume}"
        )
        return Trouble(reason="Lost", message=message, stalled=True)

    # -- attaching and detaching -----------------------------------------------------------------------------------------

    def _attachment(self, place: Place, supplier: VolumeSupplier, state: VolumeState, machine: Machine | None) -> Trouble:
        wanted = machine if machine is not None and not machine.deleting and machine.status.id else None
        holder = self._holder(place, state)
        if state.attached and wanted is not None and state.attached == (wanted.status.id,):
            return self._attached(wanted, state)
        asked = not state.attached and holder is not None and wanted is not None and holder.uid == wanted.uid
        if (state.attached or holder is not None) and not asked:
            return self._detach(place, supplier, state, holder, wanted)
        if not asked:
            self.status.attached_to = None
            self._forget_asked()
        if self.volume.spec.attach is None:
            self._unblock()
            self.status.attach_limit = None
            return Trouble(reason="Available", message="it is attached to nothing; set spec.attach to use it")
        if wanted is None:
            self._unblock()
            return self._waiting(machine if machine is not None and not machine.deleting else None)
        if state.busy or not self.single.fresh(place, self.mark):
            return Trouble(
                reason="Busy",
                message=f"waits until it is seen to be free ({state.busy or 'a change is under way'})",
                after=STEP,
            )
        return self._attach(place, supplier, state, wanted)

    def _attached(self, machine: Machine, state: VolumeState) -> Trouble:
        self._unblock()
        self._forget_asked()
        self.status.attached_to = machine.name
        self._limit(machine)
        if state.busy:
            return Trouble(reason="Attaching", message=f"is being attached to machine {machine.name}", after=STEP)
        unmounted = self.mounts.step(self.volume, state.device, state.size, machine, _key(self.volume))
        if unmounted is not None:
            return unmounted
        where = f", mounted at {self.volume.spec.mount_path}" if self.volume.spec.mount_path else ""
        return Trouble(reason="Attached", message=f"attached to machine {machine.name}{where}")

    def _attach(self, place: Place, supplier: VolumeSupplier, state: VolumeState, machine: Machine) -> Trouble:
        launch, used = launch_of(self.env, machine), self._limit(machine)
        if launch is None:
            return self._waiting(machine)
        no = refusal(self.volume, machine, launch, place, state.reach, used)
        if no is not None:
            return self._blocked(no)
        if machine.status.state in ("Pending", "Launching", "Failed", "Unknown"):
            return self._waiting(machine)
        # Stored first: from here on the machine has to be asked to let go, whether or not the answer arrives.
        self.status.attached_to, self.status.state = machine.name, "Attaching"
        self.volume = write_status(self.env, self.volume, self.status)
        self.status = self.volume.status.model_copy(deep=True)
        target = ref_of(self.env.installation, launch, machine.status.index or 0, machine.status.id or "")
        try:
            self.single.call(
                place, self.mark, "attach", lambda: supplier.attach(state.ref, target), key=_key(self.volume), token=target.id
            )
        except InProgress as running:
            return busy(running.after)
        except NoCapacity as error:
            self.status.attached_to, self.status.state = None, "Available"
            note(self.status, error, self.env.clock.wall())
            found = trouble(error, place.name)
            remedy = "detach another volume from it, or use a larger machine type"
            message = error.message if error.remedy else f"{error.message}; {remedy}"
            return self._blocked(Trouble(reason="LimitReached", message=message, after=found.after, stalled=True))
        except SupplierError as error:
            note(self.status, error, self.env.clock.wall())
            return self._blocked(trouble(error, place.name))
        return Trouble(reason="Attaching", message=f"is being attached to machine {machine.name}", after=STEP)

    def _detach(
        self, place: Place, supplier: VolumeSupplier, state: VolumeState, holder: Machine | None, wanted: Machine | None
    ) -> Trouble:
        """It is at a machine where it is not wanted (any more). The machine is asked; time, or its end, does the rest."""
        ids = state.attached or ((holder.status.id,) if holder is not None and holder.status.id else ())
        id_ = next((i for i in ids if wanted is None or i != wanted.status.id), ids[0] if ids else "")
        name = holder.name if holder is not None else f"with the id {id_}"
        self.status.attached_to = holder.name if holder is not None else self.status.attached_to
        target = self._target(place, id_, holder)
        leaving = holder is not None and holder.deleting
        if holder is not None and leaving and (leaving_balancers(self.env, holder) or undrained(self.env, holder)):
            return Trouble(reason="WaitingForMachine", message=f"machine {name} is being taken out of service first")
        if place.capabilities.attach != "live" or target is None:
            message = f"it is free when machine {name} is gone"
            return Trouble(reason="WaitingForMachine", message=message, after=STEP)
        asked = self.asked.setdefault((self.volume.uid, id_), self.env.clock.awake())
        waited = self.env.clock.awake() - asked
        silent = holder is not None and self._silent(place, holder)
        if waited >= DETACH_TIMEOUT or silent:
            return self._give_up(holder, name, silent)
        self.status.state = "Detaching"
        mounted = self.mounts.release(self.volume, state.device, holder, _key(self.volume)) if holder is not None else None
        if mounted is not None:
            self.after = sooner(mounted.after, DETACH_TIMEOUT - waited)
            return mounted
        if state.busy == "detaching":
            return Trouble(reason="Detaching", message=f"machine {name} is letting go of it", after=STEP)
        try:
            self.single.call(
                place, self.mark, "detach", lambda: supplier.detach(state.ref, target), key=_key(self.volume), token=id_
            )
        except InProgress as running:
            return busy(running.after)
        except NotFound:
            pass  # what was asked for never came to be: the next observation shows that
        except SupplierError as error:
            note(self.status, error, self.env.clock.wall())
            found = trouble(error, place.name)
            self.after = sooner(found.after, DETACH_TIMEOUT - waited)
            return found
        return Trouble(reason="Detaching", message=f"machine {name} is letting go of it", after=STEP)

    def _give_up(self, holder: Machine | None, name: str, silent: bool) -> Trouble:
        why = "does not answer" if silent else f"did not let go of it within {DETACH_TIMEOUT:g} s"
        if holder is not None and holder.deleting:
            message = f"machine {name} {why}; it is deleted with the disk attached, and the disk is free when it is gone"
            return self._blocked(Trouble(reason=TIMED_OUT, message=message, after=STEP))
        message = (
            f"machine {name} {why}; unmount it there, or delete the machine: "
            f"kubectl delete machine {name} -n {self.volume.namespace}. It is not forced: that would risk the data"
        )
        return self._blocked(Trouble(reason="DetachBusy", message=message, after=LATER, stalled=True))

    # -- the end ---------------------------------------------------------------------------------------------------------

    def delete(self) -> Trouble | None:
        """None: done. First it is detached; then kept, with that written on the disk, or deleted, with proof."""
        name = self.status.provider
        if name is None:
            let_go(self.env, self.volume, FINALIZER)
            return None
        held = paused(self.volume, self.cluster)
        if held is not None:
            return held
        place, found = usable(self.env, name)
        if place is None or place.suppliers.volumes is None or not place.may_delete:
            return found or not_usable(name, place)
        supplier = place.suppliers.volumes
        try:
            state = self.single.look(place, self.mark)
            if state is not None and state.phase is not Phase.DELETING:
                self._observed(state)
                holder = self._holder(place, state)
                if state.attached or holder is not None:
                    return self._detach(place, supplier, state, holder, None)
            self.status.attached_to = None
            if self.volume.spec.on_delete == "Retain":
                done = self._retain(place, supplier)
            else:
                self.status.state = "Deleting"
                done = self.single.remove(
                    place,
                    self.mark,
                    supplier.delete,
                    key=_key(self.volume),
                    id=self.status.id or "",
                    guard=self._still_deleting,
                )
        except NotYet as wait:
            message = f"it is on its way out at {name}; it goes when observation proves that"
            return Trouble(reason="Deleting", message=message, after=wait.after)
        except InProgress as running:
            return busy(running.after)
        except SupplierError as error:
            note(self.status, error, self.env.clock.wall())
            return trouble(error, name)
        if not done:
            return Trouble(reason="Deleting", message=f"it is on its way out at {name}", after=STEP)
        let_go(self.env, self.volume, FINALIZER)
        self._forget_asked()
        return None

    def _retain(self, place: Place, supplier: VolumeSupplier) -> bool:
        """The disk itself says that it is kept, before the object that knew it goes. One that never came to be is no loss."""
        if self.single.look(place, self.mark) is None:
            if self.single.gone(place, self.mark, self.status.id or ""):
                return True
            raise NotYet
        state = self._ensure(place, supplier)
        if state is None or not state.ref.mark.keep:
            return state is None
        self.single.forget(self.mark)
        return True

    def _still_deleting(self) -> bool:
        stored = self.env.client.find(Volume, self.volume.name, self.volume.namespace)
        return (
            stored is not None
            and stored.uid == self.volume.uid
            and stored.deleting
            and stored.spec.on_delete == "Delete"
            and not stored.spec.paused
        )

    # -- below -----------------------------------------------------------------------------------------------------------

    def _waiting(self, machine: Machine | None) -> Trouble:
        if machine is None:
            return no_target(self.env, self.volume)
        return Trouble(reason="WaitingForMachine", message=f"waits for machine {machine.name} to run")

    def _holder(self, place: Place, state: VolumeState) -> Machine | None:
        """The Machine that has it, or was asked to take it and was not seen to have let go of it since."""
        where = f"{self.volume.namespace}/{self.volume.spec.cluster}"
        if state.attached:
            machines: list[Machine] = self.env.cache.by(Machine, "cluster", where)
            return next((m for m in machines if m.status.id in state.attached), None)
        name = self.status.attached_to
        machine = self.env.cache.get(Machine, name, self.volume.namespace) if name else None
        if machine is None or not machine.status.id:
            return None
        asked = (self.volume.uid, machine.status.id) in self.asked
        return None if asked and not state.busy and self.single.fresh(place, self.mark) else machine

    def _silent(self, place: Place, machine: Machine) -> bool:
        """Whether a machine cannot be asked: its place does not answer, or does not know how it is."""
        launch, seen = launch_of(self.env, machine), self.env.inventory.snapshot(place, "machines")
        if machine.status.state == "Unknown":
            return True
        return launch is not None and seen is not None and not seen.reached(place_of(launch, machine.status.index or 0))

    def _target(self, place: Place, id_: str, holder: Machine | None) -> Ref | None:
        launch = launch_of(self.env, holder) if holder is not None else None
        if holder is not None and launch is not None:
            return ref_of(self.env.installation, launch, holder.status.index or 0, id_)
        snapshot = self.env.inventory.snapshot(place, "machines")
        found = snapshot.by_id.get(id_) if snapshot is not None else None
        return found.ref if found is not None else None

    def _limit(self, machine: Machine) -> int:
        """How many other volumes the machine has, and how many fit."""
        launch = launch_of(self.env, machine)
        others = self.env.cache.by(Volume, "machine", f"{machine.namespace}/{machine.name}")
        used = sum(1 for v in others if v.uid != self.volume.uid)
        self.status.attach_limit = AttachLimit(used=used + 1, max=launch.spec.offer.max_volumes if launch else None)
        return used

    def _blocked(self, found: Trouble) -> Trouble:
        self.status.set_condition(
            "AttachBlocked",
            True,
            found.reason,
            found.message,
            now=self.env.clock.wall(),
            generation=self.volume.metadata.generation,
        )
        return found

    def _unblock(self) -> None:
        self.status.drop_condition("AttachBlocked")

    def _forget_asked(self) -> None:
        for key in [k for k in self.asked if k[0] == self.volume.uid]:
            self.asked.pop(key, None)


def _key(volume: Volume) -> Key:
    return Key(volume.namespace, volume.name)
