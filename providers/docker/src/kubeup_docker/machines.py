"""Containers as machines: launch, look up, observe, delete, execute, console, reboot.

A machine is a container whose process number 1 only waits (or the one that `overrides.docker.command` names). The engine has no
idempotency tokens: a member's container is found by its mark in the labels, and its name, made from the mark, lets only one
of two callers create it. Creating and starting are two calls; a container that was never started is PARTIAL, and the same
launch starts it. Networks are in networks.py, images in images.py, the SDK in client.py.

The engine forgets a container that was removed. So that a repeated launch never makes a dead member again, members are made
strictly in order, up to the first that fails: one that is missing below one that is there was made and is dead. What
this process made or deleted it also remembers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from kubeup_core import (
    Access,
    BaseMachines,
    InvalidSpec,
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
    Taken,
    Template,
    Unknown,
)

from . import marks
from .client import Engine
from .config import PATH, DockerOverrides, overrides
from .images import FAMILIES, Images
from .limits import Limits, refused
from .records import Container, Wish

PHASES = {
    "created": Phase.PARTIAL,
    "running": Phase.RUNNING,
    "restarting": Phase.STOPPED,
    "paused": Phase.STOPPED,
    "exited": Phase.STOPPED,
    "removing": Phase.DELETING,
    "dead": Phase.FAILED,  # the engine could not remove it completely; it never runs again
}

WAIT = ("/bin/sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done")
"""Process number 1: a shell that collects orphans, and ends at once when it is told to. Needs nothing of the image but sh."""

MACHINE_TYPE = "container"
NETWORK = "network"
"""Key in NetworkState.data and in the facts: the network's name, which stays when the network is made anew."""

REBOOT_SECONDS = 1
SCRIPT_BYTES = 100_000
"""Linux takes 128 KiB in one argument."""
EXECUTE_SECONDS = 30.0


class DockerMachines(BaseMachines):
    """The machines of one engine. Thread-safe."""

    def __init__(self, engine: Engine, limits: Limits, images: Images, workers: ThreadPoolExecutor, same: Callable[[], None]):
        """same: raises when another engine answers now than the one that these suppliers were built for."""
        self._engine = engine
        self._limits = limits
        self._images = images
        self._workers = workers
        self._same = same
        self._seen: set[tuple[str, int]] = set()  # (launch uid, index) of what was made or deleted here

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
        return found

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
        found = self._members(launch)
        wish: Wish | None = None
        failure: SupplierError | None = None
        if len(found) < len(launch.members):
            try:
                wish = self._prepare(launch)
            except SupplierError as error:
                if not found:
                    raise
                failure = error
        results = []
        for index in range(len(launch.members)):
            if index in found:
                result = self._finish(found[index])
            elif self._is_dead(launch, index, found):
                result = Result(id="", outcome=Outcome.DEAD)
            elif wish is None or failure is not None:
                result = Result(id="", outcome=Outcome.REFUSED, error=failure)
            else:
                result = self._make(launch, index, wish)
                failure = result.error
            results.append(result)
        return tuple(results)

    def lookup(self, launch: Launch) -> Sequence[Result]:
        self._same()
        found = self._members(launch)
        results = []
        for index in range(len(launch.members)):
            if index in found:
                results.append(_result(found[index]))
            else:
                dead = self._is_dead(launch, index, found)
                results.append(Result(id="", outcome=Outcome.DEAD if dead else Outcome.ABSENT))
        return tuple(results)

    def _members(self, launch: Launch) -> dict[int, Container]:
        """What is there of a launch, by index."""
        found = {}
        for container in self._engine.containers(marks.of_maker(launch.mark)):
            mark = marks.mark_of(container.labels)
            if mark is not None and mark.same(launch.member_mark(mark.index)):
                found[mark.index] = container
                self._seen.add((mark.maker, mark.index))
        return found

    def _is_dead(self, launch: Launch, index: int, found: dict[int, Container]) -> bool:
        """Of a member that is not there: whether it was."""
        return (launch.mark.maker, index) in self._seen or index < max(found, default=-1)

    def _prepare(self, launch: Launch) -> Wish:
        """What the members have in common. Raises when none of them could be made."""
        parsed = overrides(launch.template.overrides)
        if isinstance(parsed, list):
            raise InvalidSpec(parsed[0].message, path=parsed[0].path, remedy=parsed[0].remedy)
        if withheld := refused(parsed.capabilities, self._limits.withheld):
            message = f"the engine on {self._limits.name} cannot give {', '.join(withheld)}"
            raise InvalidSpec(message, path=f"{PATH}.capabilities", remedy="name single capabilities, without these")
        if lacking := self._limits.lacking(launch.template):
            raise lacking
        self._images.ensure(launch.offer.image)
        network = launch.network.get(NETWORK, "")
        if network:
            try:
                self._engine.network(network)
            except NotFound as error:
                raise NotReady(f"the network {network} is not there yet", code=error.code) from error
        return self._wish(launch, parsed, network)

    def _wish(self, launch: Launch, parsed: DockerOverrides, network: str) -> Wish:
        return Wish(
            name="",
            hostname="",
            labels={},
            image=launch.offer.image,
            command=tuple(parsed.command or WAIT),
            network=network,
            cpu=launch.template.cpu if self._limits.limits_cpu else 0.0,
            memory=launch.template.memory if self._limits.limits_memory else 0,
            capabilities=tuple(parsed.capabilities),
            security_options=tuple(parsed.security_options),
            rotate_logs=self._limits.rotates_logs,
        )

    def _make(self, launch: Launch, index: int, wish: Wish) -> Result:
        """Create and start one member, or adopt what another call has created under its name."""
        mark = launch.member_mark(index)
        member = launch.members[index].name
        named = marks.name(member, mark)
        try:
            id = self._engine.create(replace(wish, name=named, hostname=member, labels=marks.labels(mark)))
        except Taken as error:
            return self._adopt(named, mark, error)
        except Unknown as error:
            return Result(id="", outcome=Outcome.UNKNOWN, error=error)
        except SupplierError as error:
            return Result(id="", outcome=Outcome.REFUSED, error=error)
        self._seen.add((mark.maker, mark.index))
        result = self._start(id)
        if result.outcome is Outcome.REFUSED:
            self._seen.discard((mark.maker, mark.index))
        return result

    def _adopt(self, named: str, mark: Mark, taken: Taken) -> Result:
        """The holder of the name: ours, from a call at the same time; or somebody else's, which is left alone."""
        try:
            holder = self._engine.container(named)
        except NotFound:
            return Result(id="", outcome=Outcome.REFUSED, error=NotReady(f"the name {named} is only now becoming free"))
        except SupplierError as error:
            return Result(id="", outcome=Outcome.UNKNOWN, error=error)
        found = marks.mark_of(holder.labels)
        if found is not None and found.same(mark):
            return self._finish(holder)
        held = Taken(f"a container called {named} exists already", by=marks.owner(found), remedy=f"docker rm {named}")
        held.__cause__ = taken
        return Result(id="", outcome=Outcome.REFUSED, error=held)

    def _finish(self, container: Container) -> Result:
        """Start what was created and no more; everything else is as it is."""
        return self._start(container.id) if container.state == "created" else _result(container)

    def _start(self, id: str) -> Result:
        """A container that can never start is taken away again, so that the member is known not to have been made."""
        try:
            self._engine.start(id)
        except (NotReady, Unknown) as error:
            return Result(id=id, outcome=Outcome.PENDING, error=error)
        except SupplierError as error:
            try:
                self._engine.remove(id, force=False)
            except NotFound:
                return Result(id=id, outcome=Outcome.DEAD)  # somebody was quicker
            except SupplierError:
                return Result(id=id, outcome=Outcome.PENDING, error=error)
            return Result(id="", outcome=Outcome.REFUSED, error=error)
        return Result(id=id, outcome=Outcome.MADE)

    # -- seeing --

    def observe(self, scope: Scope) -> Snapshot[MachineState]:
        self._same()
        listed = [c.id for c in self._engine.containers(marks.of_scope(scope, "Machine"))]
        doubted = [ref.id for ref in scope.doubt if ref.id and ref.id not in listed]
        return Snapshot(
            items=tuple(state for state in map(self._state, listed + doubted) if state and scope.covers(state.ref.mark))
        )

    def _state(self, id: str) -> MachineState | None:
        """None when it is gone, or not a machine of kubeup's. The listing lacks when a container was started, hence this."""
        try:
            container = self._engine.container(id)
        except NotFound:
            return None
        mark = marks.mark_of(container.labels)
        if mark is None or mark.kind != "Machine":
            return None
        return MachineState(
            ref=Ref(id=container.id, mark=mark),
            phase=PHASES.get(container.state, Phase.UNKNOWN),
            place=self._limits.name,
            name=container.name,
            machine_type=MACHINE_TYPE,
            access=Access(kind="execute", user="root"),
            provider_id=f"docker:///{container.name}",
            boot_id=container.started_at if container.state != "created" else "",
            internal=tuple(address for address in container.addresses.values() if address),
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
                gone = error.code != FOREIGN
                return Result(id=ref.id, outcome=Outcome.MADE if gone else Outcome.REFUSED, error=None if gone else error)
            self._seen.add((ref.mark.maker, ref.mark.index))
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
        return self._engine.logs(ref.id, lines=min(limit, 10_000))[-limit:].decode(errors="replace")

    def reboot(self, ref: Ref) -> None:
        self._owned(ref)
        self._engine.restart(ref.id, timeout=REBOOT_SECONDS)

    def _owned(self, ref: Ref) -> Container:
        """The container, when it carries the mark; else NotFound."""
        container = self._engine.container(ref.id)
        found = marks.mark_of(container.labels)
        if found is None or not found.same(ref.mark):
            raise NotFound(f"container {container.name} belongs to {marks.owner(found)}", code=FOREIGN)
        return container


FOREIGN = "foreign mark"


def _result(container: Container) -> Result:
    match PHASES.get(container.state, Phase.UNKNOWN):
        case Phase.PARTIAL:
            outcome = Outcome.PENDING
        case Phase.DELETING | Phase.FAILED:
            outcome = Outcome.DEAD
        case Phase.UNKNOWN:
            outcome = Outcome.UNKNOWN
        case _:
            outcome = Outcome.MADE
    return Result(id=container.id, outcome=outcome)
