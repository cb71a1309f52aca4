"""Machines: launch by token, list, get, start, delete. Who may touch what: `expect`, the tags on the thing.

Modelled on EC2's RunInstances (token, partial launches, an index within the call) and GCE's bulk insert (unique names, launches
that roll back). Hosts of a fixed inventory are claimed by name through the same launch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from . import catalog, physics
from .errors import CloudError, ConnectionLost
from .records import Disk, Machine, Network, Operation, Volume, carries
from .room import Room
from .views import HOST_UNREACHABLE, Expect, Launched, MachineView, Page, Wanted

if TYPE_CHECKING:
    from .account import Cloud


class Compute:
    """`cloud.compute`."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def launch(self, wanted: Wanted) -> Launched:
        """Make the machines that the place has room for, in the order of the members; the rest is refused in the operation.

        Raises InsufficientInstanceCapacity, QuotaExceeded and such when there is room for none: then nothing is made and the token
        is as good as new. A token that is known gives what became of it, unless the parameters differ.
        """
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.write():
            known = cloud.state.table(Operation).get(wanted.token)
            if known is not None and now < known.at + cloud.settings.token_life:
                if known.digest != wanted.digest():
                    raise CloudError("IdempotentParameterMismatch", "this token was used with other parameters")
                retry = [i for i, error in known.errors.items() if error["code"] == HOST_UNREACHABLE]
                if retry:
                    known = self._make(wanted, [int(i) for i in retry], known, now)
                return self._launched(known, now)
            self._validate(wanted)
            self._purge(now)
            cloud.guest.jobs.seed(wanted.token, wanted.user_data)
            return self._launched(self._make(wanted, list(range(len(wanted.members))), None, now), now)

    def start(self, token: str, tags: Mapping[str, str]) -> Launched:
        """Start the machines of this launch that were only created and carry the tags. Raises InvalidToken.NotFound."""
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.write():
            operation = cloud.state.table(Operation).get(token)
            if operation is None:
                raise CloudError("InvalidToken.NotFound", "nothing was launched under this token")
            for view in self._launched(operation, now).machines.values():
                if view.phase == physics.HALF_MADE and tags.items() <= view.machine.tags.items():
                    cloud.state.put(replace(view.machine, started_at=now))
            return self._launched(operation, now)

    def launched(self, token: str) -> Launched | None:
        """What became of a launch; None when the token is not known (yet: it settles like a listing), or not any more."""
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.read():
            found = cloud.state.table(Operation).get(token)
            if found is None or now < found.visible_at or now >= found.at + cloud.settings.token_life:
                return None
            return self._launched(found, now)

    def find(self, tags: Mapping[str, str], after: str = "") -> Page:
        """One page of the machines with these tags, by age. after: Page.next of the page before."""
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.read():
            newest, cut = now, set(cloud.cut())
            if cloud.faults.take(("machineLost",), "list", "Machine") is not None:
                self._lose_one(tags, now)
            if (stale := cloud.faults.take(("staleList",), "list", "Machine")) is not None:
                newest = now - stale.seconds
            if (dark := cloud.faults.take(("unreachable",), "list", "Machine")) is not None:
                cut.add(dark.place if dark.place != "*" else (*cloud.settings.hosts, *cloud.zones)[0])
            found = [
                machine
                for machine in cloud.state.table(Machine).values()
                if machine.id > after
                and machine.visible_at <= now
                and machine.created_at <= newest
                and machine.place not in cut
                and carries(machine.tags, tags)
            ]
            found.sort(key=lambda machine: machine.id)
            size = cloud.settings.page_size
            more = found[size - 1].id if len(found) > size else ""
            return Page(self._views(found[:size], now), more, frozenset(cut & {*cloud.zones, *cloud.settings.hosts}))

    def get(self, ids: Iterable[str]) -> Page:
        """Machines by id, whatever their tags; unknown ids are left out. By id nothing lags."""
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.read():
            table, cut = cloud.state.table(Machine), cloud.cut()
            found = [table[id] for id in ids if id in table and table[id].place not in cut]
            return Page(self._views(found, now), "", cut)

    def delete(self, targets: Sequence[Expect]) -> list[str]:
        """Ask for the deletion of machines; their own disks go with them, volumes stay.

        One word for each: "absent", "foreign" (other tags: left alone), "unreachable", "deleting", "over".
        """
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.write():
            return [self._delete(target, now) for target in targets]

    def reboot(self, target: Expect) -> None:
        """Raises InvalidMachine.NotFound, IncorrectState when it does not run."""
        with self._cloud.state.write():
            machine = self._running(target)
            self._cloud.state.put(replace(machine, boots=machine.boots + 1))

    def reachable(self, target: Expect) -> Machine:
        """The machine, when it runs and answers. Raises as reboot, and ConnectionLost."""
        with self._cloud.state.read():
            machine = self._running(target)
            if machine.unplugged or machine.place in self._cloud.cut():
                raise ConnectionLost(f"machine {target.id} does not answer")
            return machine

    def console(self, target: Expect) -> str:
        """What the machine printed while it booted. Raises InvalidMachine.NotFound."""
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.read():
            machine = cloud.state.table(Machine).get(target.id)
            phase = machine and physics.machine_phase(machine, cloud.settings, now)
            if machine is None or phase is None:
                raise CloudError("InvalidMachine.NotFound", f"there is no machine {target.id}")
            target.check(machine)
        lines = [f"[    0.000000] kubeup-sim: {machine.machine_type} in {machine.place}, image {machine.image}"]
        if machine.error and phase == physics.REFUSED:
            lines.append(f"[{machine.boot:12.6f}] kubeup-sim: stopped: {machine.error['message']}")
        elif phase != physics.HALF_MADE and machine.started_at is not None and now >= machine.started_at + machine.boot:
            lines += [f"[{machine.boot:12.6f}] kubeup-sim: boot {machine.boots} done", f"{machine.hostname} login:"]
        return "\n".join(lines) + "\n"

    def hosts(self) -> tuple[str, ...]:
        """Hosts of the inventory that answer and that nobody holds."""
        cloud, now = self._cloud, self._cloud.now()
        with cloud.state.read():
            cut, held = cloud.cut(), {machine.slot for machine in physics.living(cloud, now)}
            return tuple(host for host in cloud.settings.hosts if host not in cut and host not in held)

    def _validate(self, wanted: Wanted) -> None:
        cloud, settings = self._cloud, self._cloud.settings
        if len(wanted.members) > settings.batch_limit:
            raise CloudError(
                "InvalidParameter.Count", f"{len(wanted.members)} machines, at most {settings.batch_limit} in one launch"
            )
        if len(wanted.user_data) > settings.user_data_limit:
            raise CloudError(
                "InvalidUserData", f"user-data has {len(wanted.user_data)} bytes, at most {settings.user_data_limit}"
            )
        if settings.hosts:
            strange = [slot for _, _, slot, _ in wanted.members if slot not in settings.hosts]
            if strange:
                raise CloudError("InvalidHost", f"not in the inventory: {', '.join(repr(slot) for slot in strange)}")
        elif wanted.machine_type not in catalog.TYPES:
            raise CloudError("InvalidMachineType", f"there is no machine type {wanted.machine_type!r}")
        elif wanted.place not in cloud.zones:
            raise CloudError("InvalidZone", f"there is no zone {wanted.place!r} in {cloud.region}")
        elif wanted.place in cloud.cut():
            raise CloudError("ZoneUnavailable", f"zone {wanted.place} does not answer", retryAfter=10.0)
        if not wanted.network:
            return
        network = cloud.state.table(Network).get(wanted.network)
        phase = network and physics.network_phase(network, cloud.now())
        if phase in (None, physics.DELETING):
            raise CloudError("InvalidNetwork.NotFound", f"there is no network {wanted.network}")
        if phase == physics.PENDING:
            raise CloudError("NetworkNotReady", f"network {wanted.network} is being made", retryAfter=1.0)

    def _make(self, wanted: Wanted, indices: list[int], known: Operation | None, now: float) -> Operation:
        cloud, settings = self._cloud, self._cloud.settings
        room = Room(cloud, wanted, list(physics.living(cloud, now)), now)
        errors = dict(known.errors) if known else {}
        machines = list(known.machines) if known else [""] * len(wanted.members)
        made: list[int] = []
        for index in indices:
            try:
                room.take(index)
            except CloudError as error:
                errors[str(index)] = error.as_record()
            else:
                errors.pop(str(index), None)
                made.append(index)
        whole = {error["code"] for error in errors.values()}
        if known is None and not made and not settings.hosts and len(whole) == 1:
            raise CloudError.from_record(errors["0"])
        rollback = cloud.faults.take(("rollback",), "launch", "Machine", wanted.place, wanted.machine_type) if made else None
        rollback_at = now + rollback.seconds if rollback else None
        disks = {} if wanted.started else {disk.name: disk.id for disk in cloud.state.table(Disk).values()}
        for index, id in zip(made, cloud.new_ids("m", len(made)), strict=True):
            machines[index] = id
            self._put(wanted, index, id, room.addresses[index], rollback_at, disks, now)
        operation = Operation(
            id=wanted.token,
            digest=wanted.digest(),
            at=known.at if known else now,
            visible_at=now + settings.settle * physics.draw(settings.seed, wanted.token),
            machines=machines,
            errors=errors,
            rollback_at=rollback_at,
            rollback_error=room.exhausted().as_record() if rollback else None,
        )
        cloud.state.put(operation)
        return operation

    def _put(
        self,
        wanted: Wanted,
        index: int,
        id: str,
        address: str,
        rollback_at: float | None,
        disks: Mapping[str, str],
        now: float,
    ) -> None:
        cloud, settings = self._cloud, self._cloud.settings
        name, hostname, slot, volumes = wanted.members[index]
        low, high = settings.boot_seconds
        boot = low + (high - low) * physics.draw(settings.seed, id)
        refusal = None
        if cloud.faults.planted:
            refusal = cloud.faults.take(("lateRefusal",), "launch", "Machine", wanted.place, wanted.machine_type)
        number = int(id[-7:], 16) % 65536
        disk = None if wanted.started else cloud.state.table(Disk).get(disks.get(name, ""))
        if disk is not None and rollback_at is not None:
            cloud.state.put(replace(disk, gone_at=rollback_at))
        machine = Machine(
            id=id,
            name=name,
            hostname=hostname,
            tags=dict(wanted.tags),
            index=index,
            created_at=now,
            visible_at=now + settings.settle * physics.draw(settings.seed, f"seen/{id}"),
            place=slot or wanted.place,
            machine_type=wanted.machine_type,
            spot=wanted.spot,
            image=wanted.image,
            role=wanted.role,
            network=wanted.network,
            token=wanted.token,
            internal=address,
            external=f"198.18.{number >> 8}.{number & 255}",
            user_data_digest=hashlib.sha256(wanted.user_data).hexdigest()[:16] if wanted.user_data else "",
            disk=disk.id if disk else "",
            slot=slot,
            boot=boot,
            started_at=now if wanted.started else None,
            rollback_at=rollback_at,
            refuse_at=now + (refusal.seconds or boot) if refusal else None,
            error=Room.no_capacity(wanted.place, wanted.machine_type, wanted.spot).as_record() if refusal else None,
        )
        cloud.state.put(machine)
        for volume in volumes:
            attached = replace(
                cloud.state.table(Volume)[volume],
                machine=id,
                attached_at=now + settings.attach_seconds,
                detached_at=None,
                detaching=False,
            )
            cloud.state.put(attached)

    def _delete(self, target: Expect, now: float) -> str:
        cloud, settings = self._cloud, self._cloud.settings
        machine = cloud.state.table(Machine).get(target.id)
        phase = machine and physics.machine_phase(machine, settings, now)
        if machine is None or phase is None:
            return "absent"
        if not target.fits(machine):
            return "foreign"
        if machine.place in cloud.cut():
            return "unreachable"
        if phase in (physics.DELETING, physics.OVER):
            return phase
        slow = cloud.faults.take(("slowDelete",), "delete", "Machine", machine.place, machine.machine_type)
        gone_at = now + settings.delete_seconds + (slow.seconds if slow else 0.0)
        cloud.state.put(replace(machine, gone_at=gone_at))
        if machine.disk in (disks := cloud.state.table(Disk)):
            cloud.state.put(replace(disks[machine.disk], gone_at=gone_at))
        return physics.DELETING if now < gone_at else physics.OVER

    def _expected(self, targets: Iterable[Expect]) -> Iterable[Machine]:
        table = self._cloud.state.table(Machine)
        return [table[target.id] for target in targets if target.id in table and target.fits(table[target.id])]

    def _running(self, target: Expect) -> Machine:
        machine = self._cloud.state.table(Machine).get(target.id)
        phase = machine and physics.machine_phase(machine, self._cloud.settings, self._cloud.now())
        if machine is None or phase in (None, physics.OVER):
            raise CloudError("InvalidMachine.NotFound", f"there is no machine {target.id}")
        target.check(machine)
        if phase != physics.RUNNING:
            raise CloudError("IncorrectState", f"machine {target.id} is {phase}", retryAfter=1.0)
        return machine

    def _launched(self, operation: Operation, now: float) -> Launched:
        cloud = self._cloud
        table, cut = cloud.state.table(Machine), cloud.cut()
        found = [table[id] for id in operation.machines if id in table and table[id].place not in cut]
        state = "done"
        if operation.rollback_at is not None:
            state = "revocable" if now < operation.rollback_at else "rolled-back"
        return Launched(operation, {view.machine.id: view for view in self._views(found, now)}, state, cut)

    def _views(self, machines: Iterable[Machine], now: float) -> list[MachineView]:
        cloud, settings = self._cloud, self._cloud.settings
        volumes: dict[str, tuple[str, ...]] = {}
        for volume in cloud.state.table(Volume).values():
            if volume.machine:
                holder, _ = physics.attachment(volume, cloud.state.table(Machine).get(volume.machine), settings, now)
                volumes[holder] = (*volumes.get(holder, ()), volume.id)
        views = [
            MachineView(machine, phase, volumes.get(machine.id, ()))
            for machine in machines
            if (phase := physics.machine_phase(machine, settings, now)) is not None
        ]
        for view in views:
            if view.phase == physics.RUNNING:
                cloud.guest.jobs.boot(view.machine, now)
        return views

    def _lose_one(self, tags: Mapping[str, str], now: float) -> None:
        cloud = self._cloud
        with cloud.state.write():
            for machine in sorted(cloud.state.table(Machine).values(), key=lambda machine: machine.id):
                running = physics.machine_phase(machine, cloud.settings, now) == physics.RUNNING
                if running and tags.items() <= machine.tags.items():
                    cloud.state.put(replace(machine, lost_at=now))
                    return

    def _purge(self, now: float) -> None:
        """Drop rows that nobody can see any more, so that an account does not grow for ever."""
        cloud, settings = self._cloud, self._cloud.settings
        machines = cloud.state.table(Machine)
        for machine in [m for m in machines.values() if physics.machine_phase(m, settings, now) is None]:
            cloud.state.remove(machine)
        for disk in [d for d in cloud.state.table(Disk).values() if not physics.exists(d, now)]:
            cloud.state.remove(disk)
        for operation in list(cloud.state.table(Operation).values()):
            if now >= operation.at + settings.token_life:
                cloud.state.remove(operation)
