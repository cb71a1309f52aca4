"""The MachineSupplier of the simulator: machines made by launch, or hosts of an inventory claimed by slot.

Called by the core through the contract (`kubeup_core.supplier`). What is asked of the cloud goes through `client.py`; what may be
offered is in `offers.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from kubeup_core.errors import InvalidSpec, NotFound, NotReady, SupplierError, Unknown
from kubeup_core.supplier import (
    Access,
    Context,
    Launch,
    MachineState,
    Offer,
    Outcome,
    Phase,
    Problem,
    Ref,
    Result,
    Scope,
    SlotState,
    Snapshot,
    Template,
)

from . import marks, offers
from .client import Client, TokenKnown, decision
from .cloud import CloudError, physics
from .cloud.views import HOST_UNREACHABLE, Expect, Launched, MachineView, Wanted

PHASES = {
    physics.HALF_MADE: Phase.PARTIAL,
    physics.PENDING: Phase.PENDING,
    physics.RUNNING: Phase.RUNNING,
    physics.STOPPED: Phase.STOPPED,
    physics.DELETING: Phase.DELETING,
    physics.OVER: Phase.GONE,
    physics.REFUSED: Phase.FAILED,
}
KEPT_STATES = 20_000
"""Machine states kept for the next observation; most machines have not changed since the last."""

Kept = tuple[MachineView, MachineState]


class Machines:
    def __init__(self, client: Client, context: Context) -> None:
        self._client = client
        self._cloud = client.cloud
        self._context = context
        self._settings = client.settings()
        self._kept: dict[str, Kept] = {}

    def check(self, want: Template) -> Sequence[Problem]:
        return offers.problems(want, self._settings, self._context)

    def offers(self, want: Template) -> Sequence[Offer]:
        if not self._settings.hosts:
            return offers.on_demand(want, self._cloud.zones, self._context)
        free = self._client.call("Machine", "listHosts", self._cloud.compute.hosts)
        return offers.inventory(want, self._cloud.region, free, self._context)

    def launch(self, launch: Launch) -> Sequence[Result]:
        wanted = self._wanted(launch)
        try:
            if self._client.settings().create == "steps":
                return self._in_steps(launch, replace(wanted, started=False))
            launched = self._client.call("Machine", "launch", lambda: self._cloud.compute.launch(wanted))
        except TokenKnown:
            # The first call landed, so what no listing shows is there all the same.
            looked = self.lookup(launch)
            return tuple(replace(r, outcome=Outcome.UNKNOWN) if r.outcome == Outcome.ABSENT else r for r in looked)
        return self._results(launch, launched)

    def lookup(self, launch: Launch) -> Sequence[Result]:
        launched = self._client.call("Machine", "lookup", lambda: self._cloud.compute.launched(launch.token))
        if launched is not None:
            return self._results(launch, launched)
        # The place does not know the token, yet or any more: the marks still tell.
        tags = marks.owner(launch.mark)
        views, unreachable = self._pages(tags)
        found = {view.machine.index: view for view in views}
        return tuple(
            self._outcome(found[index], "done")
            if index in found
            else Result(id="", outcome=Outcome.UNKNOWN if unreachable & {*_places(launch, index), "*"} else Outcome.ABSENT)
            for index in range(len(launch.members))
        )

    def observe(self, scope: Scope) -> Snapshot[MachineState]:
        views, unreachable = self._pages(marks.within(scope))
        seen = {view.machine.id for view in views}
        doubt = {ref.id: ref for ref in scope.doubt if ref.id not in seen}
        if doubt:
            page = self._client.call("Machine", "get", lambda: self._cloud.compute.get(doubt))
            views += [view for view in page.items if marks.expect(doubt[view.machine.id]).fits(view.machine)]
            unreachable |= page.unreachable
        strays: tuple[Ref, ...] = ()
        if self._client.settings().create == "steps":
            disks = self._client.call("Disk", "list", lambda: self._cloud.disks.find(marks.within(scope)))
            strays = tuple(Ref(id=disk.id, mark=marks.mark_of(disk, "Machine")) for disk in disks)
        items = tuple(self._state(view) for view in views)
        return Snapshot(items=items, unreachable=unreachable, strays=strays, slots=self._slots(views, unreachable))

    def _slots(self, views: Sequence[MachineView], unreachable: frozenset[str]) -> tuple[SlotState, ...]:
        """Of an inventory, all its hosts: who has them is known of ours only."""
        hosts = self._settings.hosts
        if not hosts:
            return ()
        ours = {view.machine.slot: view.machine.hostname for view in views if view.phase not in (physics.OVER, physics.REFUSED)}
        free = self._client.call("Machine", "listHosts", self._cloud.compute.hosts)

        def state(host: str) -> str:
            if unreachable & {host, "*"}:
                return "unreachable"
            return "claimed" if host in ours else "free" if host in free else "taken"

        return tuple(SlotState(name=host, state=state(host), machine=ours.get(host, "")) for host in hosts)

    def delete(self, refs: Sequence[Ref]) -> Sequence[Result]:
        compute, words = self._cloud.compute, dict[int, str]()
        disks = [i for i, ref in enumerate(refs) if ref.id.startswith("disk-")]
        machines = [i for i, ref in enumerate(refs) if not ref.id.startswith("disk-")]
        for kind, indices, request in (("Machine", machines, compute.delete), ("Disk", disks, self._cloud.disks.delete)):
            for chunk in _chunks(indices, self._client.settings().batch_limit):
                targets = [marks.expect(refs[i]) for i in chunk]
                words.update(zip(chunk, self._client.call(kind, "delete", partial(request, targets)), strict=True))
        return tuple(_deleted(ref, words[i]) for i, ref in enumerate(refs))

    def execute(self, ref: Ref, script: str, stdin: bytes, timeout: float) -> Iterator[bytes | int]:
        if self._client.settings().access != "execute":
            raise NotFound("this account offers no way into its machines (spec.config.access)")
        machine = self._client.call("Machine", "execute", lambda: self._cloud.compute.reachable(marks.expect(ref)))
        code, output = self._cloud.guest.run(machine, script, stdin)
        return iter([output, code] if output else [code])

    def console(self, ref: Ref, limit: int) -> str:
        if not self._client.settings().console:
            raise NotFound("machines of this account have no console (spec.config.console)")
        text = self._client.call("Machine", "console", lambda: self._cloud.compute.console(marks.expect(ref)))
        return text[-limit:] if limit > 0 else ""

    def reboot(self, ref: Ref) -> None:
        self._client.call("Machine", "reboot", lambda: self._cloud.compute.reboot(marks.expect(ref)))

    def _in_steps(self, launch: Launch, wanted: Wanted) -> Sequence[Result]:
        """Disks, machines on them, their start: three requests, between each of which this process may die.

        After the first one something may be there, so from then on only a complete undoing lets an error through as it is.
        """
        compute = self._cloud.compute
        names = self._names(launch)
        disks = self._client.call(
            "Disk", "create", lambda: self._cloud.disks.create(launch.token, wanted.place, wanted.tags, names)
        )
        refusal: SupplierError | None = None
        try:
            launched = self._client.call("Machine", "launch", lambda: compute.launch(wanted))
        except SupplierError as error:
            refusal = error
        try:
            if refusal is not None:
                if not isinstance(refusal, Unknown):
                    self._drop(launch, disks, set(names))
                raise refusal
            self._drop(launch, disks, {names[int(index)] for index in launched.operation.errors})
            if any(view.phase == physics.HALF_MADE for view in launched.machines.values()):
                tags = marks.owner(launch.mark)
                launched = self._client.call("Machine", "start", lambda: compute.start(launch.token, tags))
        except SupplierError as error:
            if error is refusal:
                raise
            raise Unknown(f"the launch stopped half-way: {error.message}", code=error.code) from error
        return self._results(launch, launched)

    def _drop(self, launch: Launch, disks: Mapping[str, str], refused: set[str]) -> None:
        """Disks that no machine was made for. Those that are left by a failure here are strays of the next observation."""
        targets = [
            Expect(disks[member], marks.owner(launch.mark), index)
            for index, member in enumerate(self._names(launch))
            if member in refused and member in disks
        ]
        if targets:
            self._client.call("Disk", "delete", lambda: self._cloud.disks.delete(targets))

    def _wanted(self, launch: Launch) -> Wanted:
        hosts = self._client.settings().hosts
        for index, member in enumerate(launch.members):
            if bool(member.slot) != bool(hosts):
                problem = (
                    "names no host of the inventory" if hosts else f"names host {member.slot!r}, and there is no inventory"
                )
                raise InvalidSpec(f"member {index} of the launch {problem}", path="spec.members")
        slots = [member.slot for member in launch.members if member.slot]
        if len(set(slots)) != len(slots):
            raise InvalidSpec("two members of the launch name one host", path="spec.members")
        return Wanted(
            token=launch.token,
            place=launch.offer.place,
            machine_type=launch.offer.machine_type,
            spot=launch.offer.spot,
            image=launch.offer.image,
            role=launch.role,
            network=launch.network.get("network", ""),
            user_data=launch.user_data,
            tags=marks.tags(launch.mark),
            members=[
                (name, member.name, member.slot, member.volumes)
                for name, member in zip(self._names(launch), launch.members, strict=True)
            ],
        )

    @staticmethod
    def _names(launch: Launch) -> list[str]:
        return [marks.full_name(member.name, launch.mark) for member in launch.members]

    def _results(self, launch: Launch, launched: Launched) -> tuple[Result, ...]:
        return tuple(self._result(launch, launched, index) for index in range(len(launch.members)))

    def _result(self, launch: Launch, launched: Launched, index: int) -> Result:
        operation = launched.operation
        id, error = operation.machines[index], operation.errors.get(str(index))
        unreachable = bool(launched.unreachable) and bool(_places(launch, index) & launched.unreachable)
        if error is not None:
            if error["code"] != HOST_UNREACHABLE:
                return Result(id="", outcome=Outcome.REFUSED, error=decision(CloudError.from_record(error)))
            if unreachable:
                return Result(id="", outcome=Outcome.UNKNOWN, error=decision(CloudError.from_record(error)))
            return Result(id="", outcome=Outcome.ABSENT)
        if launched.state == "rolled-back":
            assert operation.rollback_error is not None
            return Result(id=id, outcome=Outcome.REFUSED, error=decision(CloudError.from_record(operation.rollback_error)))
        view = launched.machines.get(id)
        if view is None:
            return Result(id=id, outcome=Outcome.UNKNOWN if unreachable else Outcome.DEAD)
        return self._outcome(view, launched.state)

    def _outcome(self, view: MachineView, state: str) -> Result:
        id, error = view.machine.id, _late_refusal(view)
        match view.phase:
            case physics.DELETING | physics.OVER | physics.REFUSED:
                return Result(id=id, outcome=Outcome.DEAD, error=error)
            case physics.HALF_MADE:
                return Result(id=id, outcome=Outcome.PENDING)
            case _:
                return Result(id=id, outcome=Outcome.MADE if state == "done" else Outcome.PENDING)

    def _pages(self, tags: Mapping[str, str]) -> tuple[list[MachineView], frozenset[str]]:
        """All pages of a listing. A page that fails after the first leaves everything unreachable: what is missing is not known.
        A budget that is spent is the caller's to wait for."""
        views: list[MachineView] = []
        unreachable: frozenset[str] = frozenset()
        after = ""
        while True:
            try:
                page = self._client.call("Machine", "list", partial(self._cloud.compute.find, tags, after))
            except NotReady:
                raise
            except SupplierError:
                if not after:
                    raise
                return views, unreachable | {"*"}
            views += page.items
            unreachable |= page.unreachable
            after = page.next
            if not after:
                return views, unreachable

    def _state(self, view: MachineView) -> MachineState:
        kept = self._kept.get(view.machine.id)
        if kept is not None and kept[0].machine is view.machine and kept[0][1:] == view[1:]:
            return kept[1]
        same_tags = kept is not None and kept[0].machine.tags is view.machine.tags
        ref = kept[1].ref if kept is not None and same_tags else None
        state = _described(view, ref, self._settings.access)
        if len(self._kept) >= KEPT_STATES:
            self._kept.clear()
        self._kept[view.machine.id] = (view, state)
        return state


def _described(view: MachineView, ref: Ref | None, access: str) -> MachineState:
    """ref: the one of the last description, when the tags are the same: half of the work."""
    machine = view.machine
    return MachineState(
        ref=ref or Ref(id=machine.id, mark=marks.mark_of(machine, "Machine")),
        phase=PHASES[view.phase],
        place=machine.place,
        name=machine.hostname,
        machine_type=machine.machine_type,
        access=Access(kind=access, address=machine.internal),
        provider_id=f"sim:///{machine.place}/{machine.id}",
        boot_id=f"{machine.id}-{machine.boots}",
        internal=(machine.internal,) if machine.internal else (),
        external=(machine.external,) if machine.external else (),
        volumes=view.volumes,
        facts={
            "image": machine.image,
            "network": machine.network,
            "machineType": machine.machine_type,
            "userData": machine.user_data_digest,
        },
        error=_late_refusal(view),
        leaving_at=machine.leaving_at,
        price_per_hour=offers.price(machine.machine_type, spot=machine.spot),
    )


def _late_refusal(view: MachineView) -> SupplierError | None:
    error = view.machine.error
    return decision(CloudError.from_record(error)) if error is not None and view.phase == physics.REFUSED else None


def _places(launch: Launch, index: int) -> set[str]:
    return {launch.offer.place, launch.members[index].slot} - {""}


def _chunks(indices: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (indices[start : start + size] for start in range(0, len(indices), size))


def _deleted(ref: Ref, word: str) -> Result:
    match word:
        case "absent" | physics.OVER:
            return Result(id=ref.id, outcome=Outcome.MADE)
        case physics.DELETING:
            return Result(id=ref.id, outcome=Outcome.PENDING)
        case "foreign":
            error: SupplierError = NotFound(f"{ref.id} does not carry this mark; it was left alone", code="PreconditionFailed")
            return Result(id=ref.id, outcome=Outcome.REFUSED, error=error)
        case "in-use":
            error = NotReady(f"a machine uses {ref.id}", code="IncorrectState")
            return Result(id=ref.id, outcome=Outcome.REFUSED, error=error)
        case _:
            return Result(id=ref.id, outcome=Outcome.UNKNOWN, error=Unknown(f"the place of {ref.id} does not answer"))
