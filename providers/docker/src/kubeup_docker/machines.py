"""Containers as machines: choose, observe, delete, execute, console, reboot. Making them is launching.py's.

A machine is a container in which systemd runs, or, from an image without it, one whose process number 1 only waits (guest.py).
Networks are in networks.py, data disks in volumes.py, images in images.py, the SDK in client.py.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from kubeup_core import (
    Access,
    BaseMachines,
    InvalidSpec,
    Launch,
    MachineState,
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
    Unknown,
)

from . import guest, marks
from .client import Engine
from .config import PATH, DockerOverrides, overrides
from .images import FAMILIES, Images
from .launching import NETWORK, PHASES, Launcher
from .limits import Limits, refused
from .records import Container

MACHINE_TYPE = "container"

REBOOT_SECONDS = 5
"""For what runs in a machine to end; a shell that waits ends at once."""
SCRIPT_BYTES = 100_000
"""Linux takes 128 KiB in one argument."""
EXECUTE_SECONDS = 30.0

FORGET_SECONDS = 3600.0
"""After which what is known of a container that no listing shows is dropped."""

TERMINAL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]?|\x1b[()][A-Z0-9]|\r")
"""What systemd writes to a terminal for colours."""


class DockerMachines(BaseMachines):
    """The machines of one engine. Thread-safe."""

    def __init__(self, engine: Engine, limits: Limits, images: Images, workers: ThreadPoolExecutor, same: Callable[[], None]):
        """same: raises when another engine answers now than the one that these suppliers were built for."""
        self._engine = engine
        self._limits = limits
        self._images = images
        self._workers = workers
        self._same = same
        self._launcher = Launcher(engine, limits, images)
        self._known: dict[str, Known] = {}

    # -- choosing --

    def check(self, want: Template) -> Sequence[Problem]:
        parsed = overrides(want.overrides)
        if isinstance(parsed, list):
            return parsed
        found = []
        if not parsed.image and not self._images.known(want.image):
            found.append(
                Problem(
                    path="spec.machine.image",
                    message=f"no image is known for the family {want.image}",
                    remedy=f"use {', '.join(FAMILIES)}, or name an image for it in spec.images of the Provider",
                )
            )
        if withheld := refused(parsed.capabilities, self._limits.withheld):
            found.append(
                Problem(
                    path=f"{PATH}.capabilities",
                    message=f"the engine on {self._limits.name} cannot give {', '.join(withheld)}",
                    remedy="name the single capabilities that are needed, without these",
                )
            )
        if lacking := self._limits.lacking(want):
            found.append(Problem(path="spec.machine", message=lacking.message, remedy=lacking.remedy))
        if (never := self._limits.no_systemd()) and self._wants_systemd(want, parsed):
            found.append(replace(never, path="spec.machine.image"))
        return found

    def _wants_systemd(self, want: Template, parsed: DockerOverrides) -> bool:
        """As far as is known without asking the engine: its image was looked at when offers were made."""
        image = self._images.seen(want.image, parsed.image)
        return image is not None and guest.kind(image, parsed.command).systemd

    def offers(self, want: Template) -> Sequence[Offer]:
        parsed = overrides(want.overrides)
        if isinstance(parsed, list) or self.check(want):
            return ()
        limits = self._limits
        return (
            Offer(
                place=limits.name,
                machine_type=MACHINE_TYPE,
                arch=limits.arch,
                spot=False,
                cpu=want.cpu if limits.limits_cpu else limits.cpus,
                memory=want.memory if limits.limits_memory else limits.memory,
                image=parsed.image or self._images.resolve(want.image),
                price_per_hour=0.0,
                reach=frozenset({limits.key}),
            ),
        )

    # -- making --

    def launch(self, launch: Launch) -> Sequence[Result]:
        self._same()
        return self._launcher.launch(launch)

    def lookup(self, launch: Launch) -> Sequence[Result]:
        self._same()
        return self._launcher.lookup(launch)

    # -- seeing --

    def observe(self, scope: Scope) -> Snapshot[MachineState]:
        """One listing. It lacks what a container was made with and when it was started: those are asked for one by one, and only
        for containers that are new, or may have been started since the last time."""
        self._same()
        begun = time.monotonic()
        self._known = {id: known for id, known in list(self._known.items()) if begun - known.at < FORGET_SECONDS}
        listed = self._engine.containers(marks.of_scope(scope, "Machine"))
        found: list[Container | None] = [c for c in self._workers.map(lambda c: self._with_details(c, begun), listed) if c]
        there = {c.id for c in listed}
        found += [self._alone(ref.id) for ref in scope.doubt if ref.id and ref.id not in there]
        return Snapshot(
            items=tuple(s for s in (self._state(c) for c in found if c is not None) if s and scope.covers(s.ref.mark))
        )

    def _with_details(self, listed: Container, begun: float) -> Container | None:
        """None when it vanished in between."""
        known = self._known.get(listed.id)
        if known is None or known.state != listed.state or at_least(listed.uptime) <= begun - known.at + 1:
            container = self._alone(listed.id)
            if container is None:
                return None
            known = Known(state=container.state, at=begun, container=container)
            listed = replace(listed, state=container.state, addresses=container.addresses)
        self._known[listed.id] = replace(known, at=begun)
        old = known.container
        return replace(listed, image=old.image, started_at=old.started_at, cpu=old.cpu, memory=old.memory, fixed=old.fixed)

    def _alone(self, id: str) -> Container | None:
        try:
            return self._engine.container(id)
        except NotFound:
            self._known.pop(id, None)
            return None

    def _state(self, container: Container) -> MachineState | None:
        """None for what is not a machine of kubeup's."""
        mark = marks.mark_of(container.labels)
        if mark is None or mark.kind != "Machine":
            return None
        held = sorted(container.fixed) or [address for address in container.addresses.values() if address]
        return MachineState(
            ref=Ref(id=container.id, mark=mark),
            phase=PHASES.get(container.state, Phase.UNKNOWN),
            place=self._limits.name,
            name=container.name,
            machine_type=MACHINE_TYPE,
            access=Access(kind="execute", user="root"),
            provider_id=f"docker:///{container.name}",
            boot_id=container.started_at if container.state != "created" else "",
            internal=tuple(held),
            volumes=tuple(sorted(n for n, path in container.volumes.items() if path.startswith(guest.VOLUMES))),
            facts={
                "image": container.image,
                NETWORK: ",".join(sorted(container.addresses)),
                "template": f"cpu={container.cpu:g} memory={container.memory}",
            },
        )

    # -- taking away --

    def delete(self, refs: Sequence[Ref]) -> Sequence[Result]:
        return tuple(self._workers.map(self._delete, refs))

    def _delete(self, ref: Ref) -> Result:
        try:
            try:
                self._owned(ref)
            except NotFound as error:
                gone = error.code != marks.FOREIGN
                return Result(id=ref.id, outcome=Outcome.MADE if gone else Outcome.REFUSED, error=None if gone else error)
            self._launcher.remember(ref.mark)
            self._engine.remove(ref.id, force=True)
        except NotFound:
            pass
        except NotReady as error:  # its removal is in progress
            return Result(id=ref.id, outcome=Outcome.PENDING, error=error)
        except SupplierError as error:
            unknown = isinstance(error, Unknown)
            return Result(id=ref.id, outcome=Outcome.UNKNOWN if unknown else Outcome.REFUSED, error=error)
        return Result(id=ref.id, outcome=Outcome.MADE)

    # -- using --

    def execute(self, ref: Ref, script: str, stdin: bytes, timeout: float) -> Iterator[bytes | int]:
        if len(script.encode()) > SCRIPT_BYTES:
            raise InvalidSpec(f"a script of more than {SCRIPT_BYTES} bytes", remedy="hand the bulk over as stdin")
        self._owned(ref)
        yield from self._engine.execute(ref.id, script, stdin, min(timeout, EXECUTE_SECONDS))

    def console(self, ref: Ref, limit: int) -> str:
        self._owned(ref)
        if limit <= 0:
            return ""
        said = self._engine.logs(ref.id, lines=min(limit, 10_000)).decode(errors="replace")
        return TERMINAL.sub("", said).encode()[-limit:].decode(errors="ignore")

    def reboot(self, ref: Ref) -> None:
        self._owned(ref)
        self._engine.restart(ref.id, timeout=REBOOT_SECONDS)

    def _owned(self, ref: Ref) -> Container:
        """The container, when it carries the mark; else NotFound."""
        container = self._engine.container(ref.id)
        found = marks.mark_of(container.labels)
        if found is None or not found.same(ref.mark):
            raise NotFound(f"container {container.name} belongs to {marks.owner(found)}", code=marks.FOREIGN)
        return container


@dataclass(frozen=True, kw_only=True)
class Known:
    """A container as it was inspected. at: monotonic seconds, before the last listing that it was in."""

    state: str
    at: float
    container: Container


UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 7 * 86400, "month": 30 * 86400, "year": 365 * 86400}


def at_least(uptime: str) -> float:
    """Seconds that a container has run for certain, from the engine's words ("Up 2 hours", rounded up from 1.5): 0 when they are
    not understood, infinity when it does not run."""
    if not uptime.startswith("Up "):
        return float("inf")
    words = re.match(r"Up (?:About )?(an?|\d+) ([a-z]+?)s?(?: \(.*\))?$", uptime)
    if words is None:
        return 0.0
    count = 1 if words[1] in ("a", "an") else int(words[1])
    return 0.7 * count * UNITS.get(words[2], 0)
