"""Virtual machines as machines: choose, observe, delete, console, reboot. Making them is launching.py's.

Parts of a machine are files in the storage pool, named after its mark (marks.py). They go before the machine itself, so what
was interrupted is still seen; what was left by somebody who undefined a machine is a stray.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from kubeup_core import (
    Access,
    BaseMachines,
    Launch,
    MachineState,
    Mark,
    NotFound,
    NotReady,
    Offer,
    Outcome,
    Problem,
    Ref,
    Result,
    Scope,
    Snapshot,
    SupplierError,
    Template,
    Unknown,
)

from . import marks
from .client import Hypervisor
from .config import LibvirtConfig, overrides
from .images import HELP, Images, problem
from .launching import NETWORK, Launcher, phase
from .records import Domain, Place
from .xml import MACHINE

MACHINE_TYPE = "virtual"
MAX_VOLUMES = 24

HOST_KEYS = re.compile(r"-----BEGIN SSH HOST KEY KEYS-----(.*?)-----END SSH HOST KEY KEYS-----", re.DOTALL)
CONSOLE_BYTES = 200_000
"""In which the keys are looked for, which cloud-init prints when it is done."""

TERMINAL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]?|\x1b[()][A-Z0-9]|\r|\0")


class LibvirtMachines(BaseMachines):
    """The machines of one libvirt. Thread-safe."""

    def __init__(
        self, hypervisor: Hypervisor, place: Place, images: Images, config: LibvirtConfig, workers: ThreadPoolExecutor
    ) -> None:
        self._hypervisor = hypervisor
        self._place = place
        self._images = images
        self._config = config
        self._workers = workers
        self._launcher = Launcher(hypervisor, place, images, config)
        self._keys: dict[str, str] = {}  # host keys by uuid

    # -- choosing --

    def check(self, want: Template) -> Sequence[Problem]:
        parsed = overrides(want.overrides)
        if isinstance(parsed, list):
            return parsed
        found = []
        image = self._images.named(want.image, parsed.image)
        if not image:
            found.append(
                Problem(
                    path="spec.machine.image",
                    message=f"no image is known for the family {want.image}",
                    remedy=f"name one for it in spec.images of the Provider: {HELP}",
                )
            )
        elif said := problem(image):
            found.append(Problem(path="spec.machine.image", message=said, remedy=f"name {HELP}"))
        if want.arch not in ("", self._place.arch) or self._place.arch not in MACHINE:
            message = f"{self._place.hostname} makes {self._place.arch} machines, not {want.arch}"
            found.append(Problem(path="spec.machine.arch", message=message))
        if want.cpu > self._place.cpus or want.memory > self._place.memory:
            message = f"{self._place.hostname} has {self._place.cpus} cores and {self._place.memory >> 20} MiB of memory"
            found.append(Problem(path="spec.machine", message=message, remedy="ask for less, or name another libvirt"))
        if want.spot:
            found.append(Problem(path="spec.machine.spot", message="libvirt has no spot machines"))
        return found

    def offers(self, want: Template) -> Sequence[Offer]:
        parsed = overrides(want.overrides)
        if isinstance(parsed, list) or self.check(want):
            return ()
        return (
            Offer(
                place=self._place.hostname,
                machine_type=MACHINE_TYPE,
                arch=self._place.arch,
                spot=False,
                cpu=float(max(1, round(want.cpu))) if want.cpu > 0.5 else 1.0,
                memory=want.memory,
                image=self._images.named(want.image, parsed.image),
                price_per_hour=0.0,
                reach=frozenset({self._place.identity}),
                max_volumes=MAX_VOLUMES,
            ),
        )

    # -- making --

    def launch(self, launch: Launch) -> Sequence[Result]:
        return self._launcher.launch(launch)

    def lookup(self, launch: Launch) -> Sequence[Result]:
        return self._launcher.lookup(launch)

    # -- seeing --

    def observe(self, scope: Scope) -> Snapshot[MachineState]:
        """Volumes are listed before machines: what is made or deleted in between is then no stray."""
        files = [found for name in self._hypervisor.volume_names() if (found := marks.of_volume(name))]
        domains = self._hypervisor.domains()
        ours = [d for d in domains if d.mark and d.mark.kind == "Machine" and scope.covers(d.mark)]
        there = {d.uuid for d in domains}
        strays = {
            uuid: Ref(id=uuid, mark=mark)
            for mark, _ in files
            if mark.kind == "Machine" and scope.covers(mark) and (uuid := marks.uuid_of(mark)) not in there
        }
        self._keys = {uuid: key for uuid, key in list(self._keys.items()) if uuid in there}
        return Snapshot(items=tuple(self._workers.map(self._state, ours)), strays=tuple(strays.values()))

    def _state(self, domain: Domain) -> MachineState:
        assert domain.mark is not None
        addresses = self._addresses(domain)
        return MachineState(
            ref=Ref(id=domain.uuid, mark=domain.mark),
            phase=phase(domain),
            place=self._place.hostname,
            name=domain.name,
            machine_type=MACHINE_TYPE,
            access=self._access(domain, addresses),
            provider_id=f"libvirt:///{domain.uuid}",
            internal=addresses,
            volumes=tuple(sorted(name for disk in domain.disks if (name := _data(disk.path)))),
            facts={
                "image": domain.said.get("image", ""),
                NETWORK: domain.said.get("network", ""),
                "template": domain.said.get("template", ""),
            },
        )

    def _addresses(self, domain: Domain) -> tuple[str, ...]:
        if fixed := domain.said.get("address"):
            return (fixed,)
        if not domain.active or not domain.macs:
            return ()
        try:
            found = self._hypervisor.addresses(domain.uuid, self._config.addresses)
        except NotFound:  # gone in between
            return ()
        return tuple(dict.fromkeys(address for mac, address in found if mac.lower() in domain.macs))

    def _access(self, domain: Domain, addresses: tuple[str, ...]) -> Access:
        """As root, whom user-data gives the keys to; the other one who gets them, the image's own user, has a name that differs."""
        if not addresses:
            return Access()
        return Access(kind="ssh", address=addresses[0], user="root", host_key=self._host_key(domain))

    def _host_key(self, domain: Domain) -> str:
        """What the machine said on its console, which nobody else can write to; "" until it has."""
        if domain.uuid not in self._keys and domain.active and domain.mark:
            try:
                said = self._said(domain.mark, CONSOLE_BYTES)
            except SupplierError:  # it is looked for again
                return ""
            for keys in HOST_KEYS.findall(said):
                found = re.findall(r"^((?:ssh|ecdsa)-[a-z0-9-]+ [A-Za-z0-9+/=]+)", keys, re.MULTILINE)
                self._keys[domain.uuid] = "\n".join(found)
        return self._keys.get(domain.uuid, "")

    # -- taking away --

    def delete(self, refs: Sequence[Ref]) -> Sequence[Result]:
        return tuple(self._workers.map(self._delete, refs))

    def _delete(self, ref: Ref) -> Result:
        try:
            try:
                domain = self._owned(ref)
            except NotFound as error:
                if error.code == marks.FOREIGN:
                    return Result(id=ref.id, outcome=Outcome.REFUSED, error=error)
                if ref.id == marks.uuid_of(ref.mark):
                    self._delete_parts(ref)
                return Result(id=ref.id, outcome=Outcome.MADE)
            self._launcher.remember(ref.mark)
            if domain.active:
                self._hypervisor.destroy(ref.id)
            self._delete_parts(ref)
            self._hypervisor.undefine(ref.id)
        except NotFound:
            pass
        except NotReady as error:
            return Result(id=ref.id, outcome=Outcome.PENDING, error=error)
        except SupplierError as error:
            unknown = isinstance(error, Unknown)
            return Result(id=ref.id, outcome=Outcome.UNKNOWN if unknown else Outcome.REFUSED, error=error)
        return Result(id=ref.id, outcome=Outcome.MADE)

    def _delete_parts(self, ref: Ref) -> None:
        """Whatever carries its mark: the console's file is written by the machine and may have been rotated, and a snapshot of the disk
        is a file beside it. So the pool is looked at anew."""
        self._hypervisor.refresh()
        for name in self._hypervisor.volume_names():
            found = marks.of_volume(name)
            if found and found[0].same(ref.mark):
                try:
                    self._hypervisor.delete_volume(name)
                except NotFound:
                    continue

    # -- using --

    def console(self, ref: Ref, limit: int) -> str:
        domain = self._owned(ref)
        if limit <= 0 or domain.mark is None:
            return ""
        return self._said(domain.mark, limit).encode()[-limit:].decode(errors="ignore")

    def _said(self, mark: Mark, limit: int) -> str:
        """The end of the console's file, which the pool only knows once it was looked at anew."""
        name = marks.volume_name(mark, marks.CONSOLE)
        for known in (True, False):
            if not known:
                self._hypervisor.refresh()
            try:
                return TERMINAL.sub("", self._hypervisor.tail(name, limit).decode(errors="replace"))
            except NotFound:
                continue
        return ""

    def reboot(self, ref: Ref) -> None:
        self._owned(ref)
        self._hypervisor.reset(ref.id)

    def _owned(self, ref: Ref) -> Domain:
        """The domain, when it carries the mark; else NotFound."""
        try:
            domain = self._hypervisor.domain(ref.id)
        except SupplierError as error:
            if "uuid" in error.message.lower() and not isinstance(error, NotFound):  # an id that can never have been
                raise NotFound(f"there is no machine {ref.id}", code=error.code) from error
            raise
        if domain.mark is None or not domain.mark.same(ref.mark):
            raise NotFound(f"virtual machine {domain.name} belongs to {marks.owner(domain.mark)}", code=marks.FOREIGN)
        return domain


def _data(path: str) -> str:
    """The name of a data volume, "" for another file."""
    name = path.rpartition("/")[2]
    found = marks.of_volume(name)
    return name if found and found[1] == marks.DATA else ""
