"""From objects to what crosses to a supplier, and back. Pure; called by the controllers of machines and launches."""

from __future__ import annotations

from ..errors import SupplierError
from ..kinds import Launch as LaunchObject
from ..kinds import Machine
from ..kinds.launch import LaunchOffer, LaunchSpec, LaunchTemplate, MemberStatus
from ..kinds.machine import AccessStatus, Address, ResolvedMachine
from ..kinds.template import MachineTemplate
from ..objects import LastError, format_size, parse_size, timestamp
from ..supplier import Launch, MachineState, Mark, Member, Offer, Ref, Template


def launch_mark(installation: str, launch: LaunchObject, index: int = 0) -> Mark:
    """What member `index` of a launch carries."""
    return Mark(
        installation=installation,
        cluster=launch.spec.cluster_uid,
        cluster_name=launch.spec.cluster,
        kind="Machine",
        maker=launch.uid,
        index=index,
    )


def to_launch(installation: str, launch: LaunchObject, user_data: bytes) -> Launch:
    """Equal at every repeat, because all of it is stored. user_data: from its Secret."""
    spec = launch.spec
    return Launch(
        mark=launch_mark(installation, launch),
        token=launch.uid,
        template=Template(**spec.template.model_dump(), role=spec.role),
        offer=Offer(**{**spec.offer.model_dump(), "reach": frozenset(spec.offer.reach)}),
        role=spec.role,
        members=tuple(Member(name=m.name, slot=m.slot, volumes=tuple(m.volumes), address=m.address) for m in spec.members),
        user_data=user_data,
        network=dict(spec.network),
    )


def to_template(
    wanted: MachineTemplate, overrides: dict[str, object], arch: str, spot: bool | None = None, role: str = ""
) -> Template:
    """arch: the pool's, where the template says auto. spot: the offer's word, where it has one."""
    return Template(
        cpu=float(wanted.cpu or 1),
        memory=parse_size(wanted.memory or "1Gi"),
        disk=parse_size(wanted.disk or "1Gi"),
        arch=arch if wanted.arch in (None, "auto") else wanted.arch,
        image=wanted.image or "",
        spot=bool(wanted.spot) if spot is None else spot,
        overrides=overrides,
        role=role,
        public_address={"true": True, "false": False}.get(wanted.public_address or "auto"),
    )


def stored_template(template: Template) -> LaunchTemplate:
    return LaunchTemplate(
        cpu=template.cpu,
        memory=template.memory,
        disk=template.disk,
        arch=template.arch,
        image=template.image,
        spot=template.spot,
        public_address=template.public_address,
        overrides=dict(template.overrides),
    )


def stored_offer(offer: Offer) -> LaunchOffer:
    """Without the free slots: the one that was picked is in the member."""
    return LaunchOffer(
        place=offer.place,
        machine_type=offer.machine_type,
        arch=offer.arch,
        spot=offer.spot,
        cpu=offer.cpu,
        memory=offer.memory,
        image=offer.image,
        price_per_hour=offer.price_per_hour,
        reach=sorted(offer.reach),
        max_volumes=offer.max_volumes,
    )


def last_error(error: SupplierError, now: float, retry_at: float | None = None) -> LastError:
    return LastError(
        decision=error.decision,
        message=error.message,
        code=error.code or None,
        requestID=error.request_id or None,
        remedy=error.remedy or None,
        at=timestamp(now),
        retry_at=timestamp(retry_at) if retry_at is not None else None,
    )


def same_error(a: LastError | None, b: LastError | None) -> bool:
    """But for the times: a repeated error is not a change."""
    if a is None or b is None:
        return a is b
    return (a.decision, a.message, a.code) == (b.decision, b.message, b.code)


def addresses(state: MachineState) -> list[Address]:
    return [Address(type="InternalIP", address=a) for a in state.internal] + [
        Address(type="ExternalIP", address=a) for a in state.external
    ]


def access(state: MachineState) -> AccessStatus:
    a = state.access
    return AccessStatus(
        kind=a.kind, address=a.address, port=a.port, user=a.user, host_key=a.host_key, via=a.via, via_host_key=a.via_host_key
    )


def resolved(launch: LaunchObject, state: MachineState | None) -> ResolvedMachine:
    offer = launch.spec.offer
    return ResolvedMachine(
        provider=launch.spec.provider,
        machine_type=(state.machine_type if state else "") or offer.machine_type,
        zone=(state.place if state else "") or offer.place,
        image=offer.image,
        arch=offer.arch,
        cpu=offer.cpu,
        memory=format_size(offer.memory),
        spot=offer.spot,
        price_per_hour=offer.price_per_hour,
    )


def ref_of(installation: str, launch: LaunchObject, index: int, id: str) -> Ref:
    return Ref(id=id, mark=launch_mark(installation, launch, index))


def place_of(launch: LaunchObject, index: int) -> str:
    """The name under which a place that does not answer is reported: the host of an inventory, else the zone."""
    return launch.spec.members[index].slot or launch.spec.offer.place


def volumes_at(launch: LaunchObject) -> str:
    """The place whose volumes a launch's machines reach: its zone, or the host itself where volumes do not leave that."""
    offer = launch.spec.offer
    return offer.place if offer.place in offer.reach or not offer.reach else sorted(offer.reach)[0]


def index_of(launch: LaunchObject, machine: Machine) -> int | None:
    """The place of a machine in a launch. Looked up in a table per launch: a launch may have a thousand members."""
    return _indices(launch.uid, launch.spec).get(machine.uid)


def member_of(launch: LaunchObject, index: int | None) -> MemberStatus | None:
    """What a settled launch says of one member. Settled launches list all members in order."""
    members = launch.status.members
    if index is None or index >= len(members):
        return None
    return members[index] if members[index].index == index else next((m for m in members if m.index == index), None)


def made_by(launch: LaunchObject, machine: Machine) -> MemberStatus | None:
    """What a settled launch says of this machine, if it made it (dead or alive)."""
    member = member_of(launch, index_of(launch, machine))
    return member if member is not None and member.outcome in ("Made", "Dead") else None


_KEPT = 256
_tables: dict[str, dict[str, int]] = {}


def _indices(uid: str, spec: LaunchSpec) -> dict[str, int]:
    """The members of a launch never change, so its uid is enough of a key."""
    found = _tables.get(uid)
    if found is None:
        found = {member.uid: i for i, member in enumerate(spec.members)}
        if len(_tables) >= _KEPT:
            _tables.clear()
        _tables[uid] = found
    return found
