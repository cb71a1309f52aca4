"""The MachineSupplier: a machine is a host that carries its mark.

The core picks the host (`Offer.slots`), `launch` claims exactly that one, under a lock on the host itself, so that two installations
can never have the same. A host that does not answer is unknown. What was done on it is undone by the core before `delete`; one that was
not cleaned is kept back.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from kubeup_core import (
    Access,
    BaseMachines,
    Context,
    InvalidSpec,
    Launch,
    MachineState,
    Member,
    NoCapacity,
    NotFound,
    NotReady,
    Offer,
    Outcome,
    Phase,
    Place,
    Problem,
    Ref,
    Result,
    Scope,
    SlotState,
    Snapshot,
    SupplierError,
    Taken,
    Template,
    Unknown,
)

from .config import PATH, SshOverrides, overrides
from .fleet import Fleet, Found
from .inventory import Host
from .looks import DOWN, OVER, Foreign, Look, NotLetIn, claim_text, failure, key_of

NOMINAL = 0.85
"""Of the memory and disk that are wanted, so much is enough: a host of 4 GiB shows 3.8."""

NOT_THIS = 197
"""Exit code of a script whose host has another owner by now."""

NOT_NOW = 198
"""Exit code of a script that was not run, as the host starts or goes down."""

TYPE = "host"


class SshMachines(BaseMachines):
    def __init__(self, fleet: Fleet, context: Context) -> None:
        self._fleet = fleet
        self._zones = context.zones
        self._installation = context.installation

    # -- which hosts -----------------------------------------------------------------------------------------------------

    def check(self, want: Template) -> Sequence[Problem]:
        wanted = overrides(want.overrides)
        if not isinstance(wanted, SshOverrides):
            return wanted
        if want.spot:
            return (
                Problem(path="spec.machine.spot", message="hosts are not rented, so there is no spot", remedy="leave it out"),
            )
        named = [host for host in self._fleet.hosts.values() if self._named(host, wanted, want.role)]
        if not named:
            remedy = "see kubeup providers hosts, and correct the overrides, or the inventory"
            return (Problem(path=PATH, message="no host of the inventory has these names, labels and roles", remedy=remedy),)
        known = self._fleet.known()
        looks = [known.get(host.name) for host in named]
        if all(isinstance(look, Look) and not _large_enough(look, want) for look in looks):
            return (Problem(path="spec.machine", message=_too_small(looks, want), remedy="ask for less, or add such a host"),)
        return ()

    def offers(self, want: Template) -> Sequence[Offer]:
        """One for each host that is free, the smallest first."""
        wanted = overrides(want.overrides)
        if not isinstance(wanted, SshOverrides) or want.spot:
            return ()
        found = []
        for name, look in self._fleet.recent().items():
            host = self._fleet.hosts[name]
            if isinstance(look, Look) and self._named(host, wanted, want.role) and _free(look) and _large_enough(look, want):
                found.append(_offer(host, look))
        return sorted(found, key=lambda offer: (offer.cpu, offer.memory))

    def _named(self, host: Host, wanted: SshOverrides, role: str) -> bool:
        if self._zones and host.place not in self._zones:
            return False
        if host.roles and role and role not in host.roles:
            return False
        if wanted.hosts and not any(fnmatchcase(host.name, glob) for glob in wanted.hosts):
            return False
        return all(host.labels.get(key) == value for key, value in wanted.labels.items())

    # -- claiming --------------------------------------------------------------------------------------------------------

    def launch(self, launch: Launch) -> Sequence[Result]:
        return tuple(self._claim(launch, index, member) for index, member in enumerate(launch.members))

    def _claim(self, launch: Launch, index: int, member: Member) -> Result:
        mark = launch.member_mark(index)
        id_ = id_of(member.slot, mark.maker)
        try:
            host = self._fleet.host(member.slot)
            self._fleet.change(host, f"claim {shlex.quote(key_of(mark))}", claim_text(mark, member.name))
        except NotFound as error:
            gone = NoCapacity(error.message, scope=Place(slot=member.slot), retry_after=5.0)
            return Result(id="", outcome=Outcome.REFUSED, error=gone)
        except (Taken, NoCapacity, InvalidSpec) as error:
            return Result(id="", outcome=Outcome.REFUSED, error=error)
        except NotLetIn as error:
            # Raised, not a result: an earlier call of this token may have been let in, and then the host's word is awaited.
            lack = NoCapacity(
                error.message, scope=Place(slot=member.slot), retry_after=60.0, code=error.code, remedy=error.remedy
            )
            raise lack from error
        except Unknown as error:
            if error.code == str(OVER):
                return Result(id=id_, outcome=Outcome.DEAD)
            raise
        return Result(id=id_, outcome=Outcome.MADE)

    def lookup(self, launch: Launch) -> Sequence[Result]:
        return tuple(self._look_up(launch, index, member) for index, member in enumerate(launch.members))

    def _look_up(self, launch: Launch, index: int, member: Member) -> Result:
        mark = launch.member_mark(index)
        id_ = id_of(member.slot, mark.maker)
        try:
            said = self._fleet.call(self._fleet.host(member.slot), f"lookup {shlex.quote(key_of(mark))}").decode().strip()
        except SupplierError as error:
            return Result(id="", outcome=Outcome.UNKNOWN, error=error)
        match said:
            case "made":
                return Result(id=id_, outcome=Outcome.MADE)
            case "dead":
                return Result(id=id_, outcome=Outcome.DEAD)
        return Result(id="", outcome=Outcome.ABSENT)

    # -- looking ---------------------------------------------------------------------------------------------------------

    def observe(self, scope: Scope) -> Snapshot[MachineState]:
        found = self._fleet.look()
        items = []
        for name, look in found.items():
            if isinstance(look, Look) and look.claim is not None and scope.covers(look.claim):
                items.append(_state(self._fleet.hosts[name], look))
        unreachable = {name for name, look in found.items() if isinstance(look, SupplierError)}
        # One that was taken out of the inventory while it had a machine cannot be asked, so nothing is known of that machine.
        unreachable |= {slot_of(ref.id) for ref in scope.doubt} - set(self._fleet.hosts)
        slots = tuple(self._slot(self._fleet.hosts[name], look) for name, look in found.items())
        return Snapshot(items=tuple(items), unreachable=frozenset(unreachable), slots=slots)

    def _slot(self, host: Host, look: Found) -> SlotState:
        if isinstance(look, SupplierError):
            remedy = f"; {look.remedy}" if look.remedy else ""
            return SlotState(name=host.name, state="unreachable", place=host.zone, message=f"{look.message}{remedy}")
        state, machine, message = "free", "", ""
        if look.claim is not None:
            state, machine = ("claimed" if look.claim.installation == self._installation else "taken"), look.holder
        elif look.kept:
            state, message = "kept", look.kept
        return SlotState(name=host.name, state=state, place=host.zone, machine=machine, message=message, facts=look.facts)

    # -- giving back -----------------------------------------------------------------------------------------------------

    def delete(self, refs: Sequence[Ref]) -> Sequence[Result]:
        return tuple(self._fleet.each(refs, self._release))

    def _release(self, ref: Ref) -> Result:
        try:
            host = self._fleet.host(slot_of(ref.id))
            call = f"release {shlex.quote(key_of(ref.mark))} {shlex.quote(host.volume_folder)}"
            self._fleet.change(host, call)
        except NotFound as error:
            if slot_of(ref.id) not in self._fleet.hosts:
                return Result(id=ref.id, outcome=Outcome.UNKNOWN, error=NotReady(error.message, remedy=error.remedy))
            if isinstance(error, Foreign) and ref.id == id_of(slot_of(ref.id), error.maker):
                return Result(id=ref.id, outcome=Outcome.ABSENT, error=error)
        except SupplierError as error:
            return Result(id=ref.id, outcome=Outcome.UNKNOWN, error=error)
        return Result(id=ref.id, outcome=Outcome.MADE)

    # -- into it ---------------------------------------------------------------------------------------------------------

    def execute(self, ref: Ref, script: str, stdin: bytes, timeout: float) -> Iterator[bytes | int]:
        host = self._fleet.host(slot_of(ref.id))
        guarded = _guard(ref) + script
        for part in self._fleet.doors.stream(host, guarded, stdin, timeout):
            if part == NOT_THIS and isinstance(part, int):
                raise NotFound(f"host {host.name} is not {ref.id} any more")
            if part == NOT_NOW and isinstance(part, int):
                raise failure(host.name, "execute", DOWN, b"it is starting or going down (/run/nologin)")
            yield part

    def reboot(self, ref: Ref) -> None:
        """It goes down a second after this has returned: an answer must come back first."""
        code, output = self._fleet.run(self._fleet.host(slot_of(ref.id)), _guard(ref) + _REBOOT)
        if code == NOT_THIS:
            raise NotFound(f"{ref.id} is not there any more")
        if code != 0:
            raise failure(slot_of(ref.id), "reboot", code, output)


def id_of(slot: str, maker: str) -> str:
    """Of a machine: the host's name, and what tells it from the next machine there."""
    return f"{slot}/{maker[:8]}"


def slot_of(id_: str) -> str:
    return id_.rpartition("/")[0] or id_


_GUARD = """[ "$(head -n 1 /var/lib/kubeup-host/claim 2>/dev/null)" = {key} ] || {{ [ -e /run/nologin ] && exit {down}; exit {code}; }}
"""
"""`standing` of guest.sh: a claim that is not seen while the host starts or goes down is no other owner."""

_REBOOT = """PATH="$PATH:/usr/sbin:/sbin"
command -v reboot >/dev/null || { echo "there is no reboot command"; exit 1; }
sync
setsid sh -c 'sleep 1; exec reboot' </dev/null >/dev/null 2>&1 &
"""


def _guard(ref: Ref) -> str:
    return _GUARD.format(key=shlex.quote(key_of(ref.mark)), down=NOT_NOW, code=NOT_THIS)


def _free(look: Look) -> bool:
    return look.claim is None and not look.kept


def _large_enough(look: Look, want: Template) -> bool:
    if want.arch and look.arch != want.arch:
        return False
    return look.cpu >= want.cpu and look.memory >= NOMINAL * want.memory and look.disk >= NOMINAL * want.disk


def _too_small(looks: Sequence[Found | None], want: Template) -> str:
    best = max((look for look in looks if isinstance(look, Look)), key=lambda look: (look.cpu, look.memory))
    there = ", ".join(f"{name} {value}" for name, value in best.facts.items())
    asked = f"cpu {want.cpu:g}, memory {want.memory // 2**20}Mi, disk {want.disk // 2**30}Gi {want.arch}".rstrip()
    return f"no host is large enough for {asked}; the largest has {there}"


def _offer(host: Host, look: Look) -> Offer:
    return Offer(
        place=host.place,
        machine_type=TYPE,
        arch=look.arch,
        spot=False,
        cpu=look.cpu,
        memory=look.memory,
        image=look.os,
        slots=(host.name,),
        reach=frozenset({host.name}),
    )


def _state(host: Host, look: Look) -> MachineState:
    assert look.claim is not None
    id_ = id_of(host.name, look.claim.maker)
    return MachineState(
        ref=Ref(id=id_, mark=look.claim),
        phase=Phase.RUNNING,
        place=host.place,
        name=look.holder,
        machine_type=TYPE,
        access=Access(kind="execute"),
        provider_id=f"ssh:///{host.name}",
        boot_id=look.boot,
        internal=tuple(filter(None, (host.internal or look.address,))),
        external=tuple(filter(None, (host.external,))),
        volumes=tuple(f"{host.name}/{v.id}" for v in look.volumes if v.attached == id_),
        facts={"image": look.os, "arch": look.arch},
    )
