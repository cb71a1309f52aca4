"""The MachineSupplier: instances of one region. Launches are in `launching.py`, offers in `catalog.py`."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
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
    Phase,
    Problem,
    Ref,
    Result,
    Scope,
    Snapshot,
    SupplierError,
    Template,
)

from . import marks, prices
from .catalog import Catalog
from .client import Compute, Record
from .config import GceConfig
from .launching import Launching

PHASES = {
    "PENDING": Phase.PENDING,
    "PROVISIONING": Phase.PENDING,
    "STAGING": Phase.PENDING,
    "RUNNING": Phase.RUNNING,
    "PENDING_STOP": Phase.RUNNING,
    "REPAIRING": Phase.RUNNING,
    "STOPPING": Phase.DELETING,  # on the way to being stopped looks the same, and is over as well
    "SUSPENDING": Phase.STOPPED,
    "SUSPENDED": Phase.STOPPED,
    "STOPPED": Phase.STOPPED,
    "TERMINATED": Phase.STOPPED,
}
NEW = "kubeup-image"
DISK = "disks/"
"""Between zone and name in the id of a stray: its name is that of its machine."""
DISKS = 600.0
"""Seconds for which no disk is looked for while no machine goes."""


class GceMachines(BaseMachines):
    def __init__(self, compute: Compute, catalog: Catalog, settings: GceConfig, workers: ThreadPoolExecutor) -> None:
        self._compute, self._catalog, self._settings, self._workers = compute, catalog, settings, workers
        self._launching = Launching(compute, settings)
        self._priced = prices.shown(compute.region)
        self._lock = threading.Lock()
        self._whole: dict[tuple[str, str | None], tuple[frozenset[str], float]] = {}

    def check(self, want: Template) -> Sequence[Problem]:
        return self._catalog.check(want)

    def offers(self, want: Template) -> Sequence[Offer]:
        return self._catalog.offers(want)

    def launch(self, launch: Launch) -> Sequence[Result]:
        return self._launching.launch(launch)

    def lookup(self, launch: Launch) -> Sequence[Result]:
        return self._launching.lookup(launch)

    def observe(self, scope: Scope) -> Snapshot[MachineState]:
        listed, silent = self._compute.everywhere("Instances", "instances", filter=marks.filter_of(scope, "Machine"))
        states = {state.ref.id: state for record in listed if (state := self._state(record)) is not None}
        doubted = [ref for ref in scope.doubt if ref.id not in states]
        for ref, state in zip(doubted, self._workers.map(self._by_id, doubted), strict=True):
            if state is not None and state.ref.mark.same(ref.mark) and scope.covers(state.ref.mark):
                states[ref.id] = state
        ours = tuple(state for state in states.values() if state.place in self._catalog.zones)
        strays, unheard = self._strays(scope, states)
        return Snapshot(items=ours, unreachable=frozenset((silent | unheard) & set(self._catalog.zones)), strays=strays)

    def _strays(self, scope: Scope, states: Mapping[str, MachineState]) -> tuple[tuple[Ref, ...], set[str]]:
        """Disks of systems without their machines, which Google deletes together with these unless somebody told it not to; and
        the zones that did not answer. Listed when there can be a new one: a machine is not there any more, or none is."""
        at, now = (scope.installation, scope.cluster), time.monotonic()
        with self._lock:
            before, until = self._whole.get(at, (frozenset(), 0.0))
        if states and before <= states.keys() and now < until:
            with self._lock:
                self._whole[at] = frozenset(states), until
            return (), set()
        disks, unheard = self._compute.everywhere("Disks", "disks", filter=marks.filter_of(scope, "Machine"))
        strays = tuple(ref for disk in disks if (ref := self._stray(disk, states)) is not None)
        with self._lock:
            self._whole[at] = frozenset(states), 0.0 if strays or unheard else now + DISKS
        return strays, unheard

    def _stray(self, disk: Record, states: Mapping[str, MachineState]) -> Ref | None:
        zone, name = _last(disk["zone"]), str(disk["name"])
        mark = marks.mark_of(disk.get("labels", {}), marks.index_of(name))
        whole = disk.get("users") or disk.get("status") == "CREATING" or f"{zone}/{name}" in states
        if mark is None or mark.kind != "Machine" or mark.index < 0 or whole or zone not in self._catalog.zones:
            return None
        return Ref(id=f"{zone}/{DISK}{name}", mark=mark)

    def delete(self, refs: Sequence[Ref]) -> Sequence[Result]:
        """Marks are compared on one listing per launch; what no listing shows is asked for by name."""
        listed: dict[str, Mark] = {}
        for mark in {ref.mark.maker: ref.mark for ref in refs}.values():
            records, _ = self._compute.everywhere("Instances", "instances", filter=marks.filter_of_maker(mark))
            listed |= {s.ref.id: s.ref.mark for record in records if (s := self._state(record)) is not None}
        return tuple(self._workers.map(lambda ref: self._deleted(ref, listed.get(ref.id)), refs))

    def console(self, ref: Ref, limit: int) -> str:
        self._checked(ref)
        zone, _, name = ref.id.partition("/")
        said = self._compute.ask("Instances", "get_serial_port_output", zone=zone, instance=name, port=1)
        return str(said.get("contents", "")).encode()[-limit:].decode(errors="ignore") if limit > 0 else ""

    def reboot(self, ref: Ref) -> None:
        self._checked(ref)
        zone, _, name = ref.id.partition("/")
        self._compute.change("Instances", "reset", zone=zone, instance=name)

    def _deleted(self, ref: Ref, found: Mark | None) -> Result:
        zone, _, name = ref.id.partition("/")
        try:
            if name.startswith(DISK):
                return self._disk_deleted(ref, zone, name.removeprefix(DISK))
            if found is None:
                state = self._by_id(ref)
                if state is None:
                    return Result(id=ref.id, outcome=Outcome.MADE)
                found = state.ref.mark
            if not found.same(ref.mark):
                raise NotFound(f"{ref.id} belongs to {marks.owner(found)}", code="foreign mark")
            self._compute.change("Instances", "delete", zone=zone, instance=name)
        except NotFound as error:
            if error.code == "foreign mark":
                return Result(id=ref.id, outcome=Outcome.MADE, error=error)
            return Result(id=ref.id, outcome=Outcome.MADE)
        except NotReady as error:
            going = error.code in ("resourceNotReady", "RESOURCE_NOT_READY")  # its deletion has begun
            return Result(id=ref.id, outcome=Outcome.PENDING if going else Outcome.UNKNOWN, error=None if going else error)
        except SupplierError as error:
            return Result(id=ref.id, outcome=Outcome.UNKNOWN, error=error)
        return Result(id=ref.id, outcome=Outcome.PENDING)

    def _disk_deleted(self, ref: Ref, zone: str, name: str) -> Result:
        """Raises as the request does. A disk in use is none of these any more: Google refuses."""
        disk = self._compute.get("Disks", zone=zone, disk=name)
        if disk is None:
            return Result(id=ref.id, outcome=Outcome.MADE)
        mark = marks.mark_of(disk.get("labels", {}), marks.index_of(name))
        if mark is None or not mark.same(ref.mark):
            raise NotFound(f"{ref.id} belongs to {marks.owner(mark)}", code="foreign mark")
        if disk.get("status") != "DELETING":
            self._compute.change("Disks", "delete", zone=zone, disk=name)
        return Result(id=ref.id, outcome=Outcome.PENDING)

    def _by_id(self, ref: Ref) -> MachineState | None:
        zone, _, name = ref.id.partition("/")
        if not zone or not name:
            return None
        record = self._compute.get("Instances", zone=zone, instance=name)
        return None if record is None else self._state(record)

    def _checked(self, ref: Ref) -> MachineState:
        state = self._by_id(ref)
        if state is None or not state.ref.mark.same(ref.mark):
            raise NotFound(f"there is no machine {ref.id} that carries this mark")
        return state

    def _state(self, record: Record) -> MachineState | None:
        """None for what is not ours: somebody copied a label, or chose another name."""
        name, labels = str(record["name"]), record.get("labels", {})
        index = marks.index_of(name)
        mark = marks.mark_of(labels, index)
        if mark is None or mark.kind != "Machine" or index < 0:
            return None
        zone, kind = _last(record["zone"]), _last(record.get("machine_type", ""))
        internal = tuple(c["network_i_p"] for c in record.get("network_interfaces", ()) if c.get("network_i_p"))
        external = tuple(
            a["nat_i_p"] for c in record.get("network_interfaces", ()) for a in c.get("access_configs", ()) if a.get("nat_i_p")
        )
        address = next(iter(external), next(iter(internal), ""))
        return MachineState(
            ref=Ref(id=f"{zone}/{name}", mark=mark),
            phase=PHASES.get(str(record.get("status", "")), Phase.UNKNOWN),
            place=zone,
            name=name,
            machine_type=kind,
            access=Access(kind="ssh", address=address, user=self._settings.ssh_user),
            provider_id=f"gce://{self._compute.project}/{zone}/{name}",
            boot_id=str(record.get("last_start_timestamp", "")),
            internal=internal,
            external=external,
            volumes=tuple(
                f"{zone}/{_last(d['source'])}" for d in record.get("disks", ()) if d.get("source") and not d.get("boot")
            ),
            facts={"image": labels.get(NEW, ""), "machineType": kind, "spot": _spot(record)},
            price_per_hour=prices.by_name(kind) if self._priced and _spot(record) == "false" else None,
        )


def _spot(record: Record) -> str:
    return "true" if record.get("scheduling", {}).get("provisioning_model") == "SPOT" else "false"


def _last(link: str) -> str:
    return link.rpartition("/")[2]
