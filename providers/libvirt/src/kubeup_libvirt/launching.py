"""Making the virtual machines of a launch, and finding out what became of them. Used by machines.py, which has the rest of their lives.

libvirt has no idempotency tokens: uuid, name and MAC address follow from a member's mark. It is defined first, with the mark in its
metadata, so that whatever comes after belongs to something that is found. Then come its disk and seed, its start, and a note that
it was started: what has none and does not run is PARTIAL, and the same launch goes on with it.

libvirt forgets what was undefined: `OneByOne` tells the dead from the never made.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

from kubeup_core import (
    InvalidSpec,
    Launch,
    Mark,
    NoCapacity,
    NotFound,
    NotReady,
    OneByOne,
    Outcome,
    Phase,
    Result,
    SupplierError,
    Taken,
    Unknown,
)

from . import marks, seed, xml
from .client import Hypervisor
from .config import LibvirtConfig, overrides
from .images import Base, Images
from .records import Domain, Place

NETWORK, SUBNET, GATEWAY, RANGE = "network", "subnet", "gateway", "addresses"
"""Keys in NetworkState.data: name; and where kubeup gives addresses: subnet, gateway, and the range as `first-last`."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the members of a launch have in common. guest: but for what is a member's own."""

    guest: xml.Guest
    base: Base
    size: int


def phase(domain: Domain) -> Phase:
    match domain.state:
        case 1 | 2 | 4:  # running, blocked, being shut down
            return Phase.RUNNING
        case 3 | 7:  # paused, suspended
            return Phase.STOPPED if domain.started else Phase.PENDING
        case 5 | 6:  # off, crashed
            return Phase.STOPPED if domain.started else Phase.PARTIAL
    return Phase.UNKNOWN


class Launcher(OneByOne[Domain, Plan]):
    """Of one libvirt. Thread-safe."""

    def __init__(self, hypervisor: Hypervisor, place: Place, images: Images, config: LibvirtConfig) -> None:
        super().__init__()
        self._hypervisor = hypervisor
        self._place = place
        self._images = images
        self._config = config
        self._making = threading.Lock()  # addresses are chosen, and a member is finished, by one at a time

    def launch(self, launch: Launch) -> list[Result]:
        with self._making:
            return super().launch(launch)

    def _marked(self, launch: Launch) -> list[tuple[Mark, Domain]]:
        return [(domain.mark, domain) for domain in self._hypervisor.domains() if domain.mark is not None]

    def _is_unfinished(self, found: Domain) -> bool:
        return phase(found) is Phase.PARTIAL or (found.active and not found.started)

    def _result(self, found: Domain) -> Result:
        match phase(found):
            case Phase.PARTIAL | Phase.PENDING:
                outcome = Outcome.PENDING
            case Phase.UNKNOWN:
                outcome = Outcome.UNKNOWN
            case _:
                outcome = Outcome.MADE
        return Result(id=found.uuid, outcome=outcome)

    # -- what members have in common --

    def _plan(self, launch: Launch) -> Plan:
        """Raises when none of the members could be made."""
        want = launch.template
        parsed = overrides(want.overrides)
        if isinstance(parsed, list):
            raise InvalidSpec(parsed[0].message, path=parsed[0].path, remedy=parsed[0].remedy)
        base = self._images.base(launch.offer.image)
        size = max(want.disk, base.size)
        if (free := self._hypervisor.space()) < size:
            raise NoCapacity(
                f"storage pool {self._config.pool} has {free >> 20} MiB free, a disk needs {size >> 20}",
                person=True,
                remedy="free space in the storage pool, or name another one in the Provider's config",
            )
        mode = parsed.cpu_mode or self._config.cpu_mode or ("host-passthrough" if self.kvm else "maximum")
        guest = xml.Guest(
            uuid="", name="", element="", disk="", seed="", console="", mac="",
            kvm=self.kvm, arch=self._place.arch, cpus=max(1, round(want.cpu)), memory=want.memory, cpu_mode=mode,
            firmware=parsed.firmware or self._config.firmware, network=launch.network.get(NETWORK, ""),
            kernel=parsed.kernel or "", initrd=parsed.initrd or "", cmdline=parsed.cmdline or "",
        )  # fmt: skip
        return Plan(guest=guest, base=base, size=size)

    @property
    def kvm(self) -> bool:
        return self._place.kvm if self._config.acceleration == "auto" else self._config.acceleration == "kvm"

    # -- one member --

    def _make(self, launch: Launch, index: int, plan: Plan) -> Result:
        mark, member = launch.member_mark(index), launch.members[index]
        uuid = marks.uuid_of(mark)
        try:
            address = self._address(launch, index)
            path = f"{self._place.pool_path}/{{}}".format
            guest = replace(
                plan.guest,
                uuid=uuid,
                name=marks.name_of(member.name, mark),
                mac=marks.mac_of(mark),
                disk=path(marks.volume_name(mark, marks.DISK)),
                seed=path(marks.volume_name(mark, marks.SEED)),
                console=path(marks.volume_name(mark, marks.CONSOLE)),
                element=marks.element(
                    mark,
                    name=member.name,
                    address=address,
                    network=plan.guest.network,
                    image=launch.offer.image,
                    template=f"cpu={launch.template.cpu:g} memory={launch.template.memory}",
                ),
            )
            self._hypervisor.define(xml.domain(guest))
        except Unknown as error:
            return Result(id="", outcome=Outcome.UNKNOWN, error=error)
        except Taken as error:
            named = marks.name_of(member.name, mark)
            taken = Taken(f"a virtual machine called {named} exists already", code=error.code, remedy=f"virsh undefine {named}")
            return Result(id="", outcome=Outcome.REFUSED, error=taken)
        except SupplierError as error:
            return Result(id="", outcome=Outcome.REFUSED, error=error)
        self.remember(mark)
        return self._complete(launch, index, plan, uuid, address)

    def _finish(self, launch: Launch, index: int, plan: Plan | None, failure: SupplierError | None, found: Domain) -> Result:
        """Go on with what was defined and no more; everything else is as it is."""
        if found.active and not found.started:
            try:
                self._note_start(found.uuid)
            except SupplierError as error:
                return Result(id=found.uuid, outcome=Outcome.PENDING, error=error)
            return Result(id=found.uuid, outcome=Outcome.MADE)
        if phase(found) is not Phase.PARTIAL:
            return self._result(found)
        if plan is None:
            return Result(id=found.uuid, outcome=Outcome.PENDING, error=failure)
        return self._complete(launch, index, plan, found.uuid, found.said.get("address", ""))

    def _complete(self, launch: Launch, index: int, plan: Plan, uuid: str, address: str) -> Result:
        """Its disks, and its start. What can never start is taken away again, so that the member is known not to have been made."""
        mark, member = launch.member_mark(index), launch.members[index]
        try:
            self._create(xml.volume(marks.volume_name(mark, marks.DISK), plan.size, backing=(plan.base.path, plan.base.format)))
            static = None
            if address and (subnet := launch.network.get(SUBNET)):
                static = (f"{address}/{ip_network(subnet).prefixlen}", launch.network.get(GATEWAY, ""))
            image = seed.seed(member.name, f"{mark.maker}-{mark.index}", launch.user_data, marks.mac_of(mark), static)
            named = marks.volume_name(mark, marks.SEED)
            self._create(xml.volume(named, len(image), "raw"))
            rest = memoryview(image)

            def read(size: int) -> bytes:
                nonlocal rest
                part, rest = bytes(rest[:size]), rest[size:]
                return part

            self._hypervisor.upload(named, read, len(image))
            self._hypervisor.start(uuid)
            self._note_start(uuid)
        except (NotReady, Unknown) as error:
            return Result(id=uuid, outcome=Outcome.PENDING, error=error)
        except SupplierError as error:
            try:
                self.take_away(uuid, launch, index)
            except SupplierError:
                return Result(id=uuid, outcome=Outcome.PENDING, error=error)
            self.forget(mark)
            return Result(id="", outcome=Outcome.REFUSED, error=error)
        return Result(id=uuid, outcome=Outcome.MADE)

    def _note_start(self, uuid: str) -> None:
        if self._config.autostart:
            self._hypervisor.autostart(uuid)
        self._hypervisor.tell(uuid, xml.STARTED, "kubeup", marks.STARTED)

    def _create(self, volume: str) -> None:
        try:
            self._hypervisor.create_volume(volume)
        except Taken:  # by the same launch, before it was interrupted: the name is its mark
            return

    def take_away(self, uuid: str, launch: Launch, index: int) -> None:
        mark = launch.member_mark(index)
        for part in (marks.SEED, marks.DISK):
            try:
                self._hypervisor.delete_volume(marks.volume_name(mark, part))
            except NotFound:
                continue
        self._hypervisor.undefine(uuid)

    # -- addresses --

    def _address(self, launch: Launch, index: int) -> str:
        """ "" where machines lease theirs."""
        given = launch.network.get(RANGE, "")
        if not given:
            return ""
        first, last = (ip_address(end) for end in given.split("-"))
        used = {
            d.said.get("address")
            for d in self._hypervisor.domains()
            if d.said.get("network") == launch.network.get(NETWORK) and d.uuid != marks.uuid_of(launch.member_mark(index))
        }
        wanted = launch.members[index].address
        if (
            wanted
            and wanted not in used
            and wanted != launch.network.get(GATEWAY)
            and ip_address(wanted) in ip_network(launch.network[SUBNET])
        ):
            return wanted
        for number in range(int(last) - int(first) + 1):
            if (address := str(first + number)) not in used and address != launch.network.get(GATEWAY):
                return address
        raise NoCapacity(
            f"network {launch.network.get(NETWORK)} has no free address in {given}",
            person=True,
            remedy="delete machines, or make the cluster with a larger spec.network.machineCIDR",
        )
