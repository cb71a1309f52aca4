"""Making the containers of a launch, and finding out what became of them. Used by machines.py, which has the rest of their lives.

The engine has no idempotency tokens: a member's container is found by its mark in the labels, and its name, made from the mark,
lets only one of two callers create it. A member takes three calls: create, put its files in (user-data), start; what was
created and never started is PARTIAL, and the same launch goes on with it.

The engine forgets a container that was removed: `OneByOne` tells the dead from the never made.

The engine compares fixed addresses only when it starts a container, with those that run. So one is chosen among those that no
container of the network was made with, compared again when a half-made one is taken up later, and chosen anew when somebody
else was quicker.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

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

from . import addresses, guest, marks, volumes
from .client import Engine
from .config import PATH, overrides
from .images import BUILD, WITHOUT_SYSTEMD, Images
from .limits import Limits, refused
from .node_image import USER_DATA_LABEL
from .records import Container, Network, Wish
from .sentences import is_address_taken

PHASES = {
    "created": Phase.PARTIAL,
    "running": Phase.RUNNING,
    "restarting": Phase.STOPPED,
    "paused": Phase.STOPPED,
    "exited": Phase.STOPPED,
    "removing": Phase.DELETING,
    "dead": Phase.FAILED,  # the engine could not remove it completely; it never runs again
}

NETWORK = "network"
"""Key in NetworkState.data and in the facts: the network's name, which stays when the network is made anew."""
FIXED = "fixed"
"""Key in NetworkState.data: "true" on a network in which kubeup chooses the addresses."""

TRIES = 5
"""Of other addresses in one call, when somebody else takes each in the last moment."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the members of a launch have in common. seeded: they are given files before they start."""

    wish: Wish
    network: Network | None
    seeded: bool


class Launcher(OneByOne[Container, Plan]):
    """Of one engine. Thread-safe."""

    def __init__(self, engine: Engine, limits: Limits, images: Images) -> None:
        super().__init__()
        self._engine = engine
        self._limits = limits
        self._images = images
        self._choosing = threading.Lock()  # between seeing what is used and creating: of this process, no two at once

    def _marked(self, launch: Launch) -> list[tuple[Mark, Container]]:
        there = self._engine.containers(marks.of_maker(launch.mark))
        return [(mark, container) for container in there if (mark := marks.mark_of(container.labels)) is not None]

    def _is_unfinished(self, found: Container) -> bool:
        return found.state == "created"

    def _result(self, found: Container) -> Result:
        match PHASES.get(found.state, Phase.UNKNOWN):
            case Phase.PARTIAL:
                outcome = Outcome.PENDING
            case Phase.DELETING | Phase.FAILED:
                outcome = Outcome.DEAD
            case Phase.UNKNOWN:
                outcome = Outcome.UNKNOWN
            case _:
                outcome = Outcome.MADE
        return Result(id=found.id, outcome=outcome)

    # -- what members have in common --

    def _plan(self, launch: Launch) -> Plan:
        """Raises when none of the members could be made."""
        parsed = overrides(launch.template.overrides)
        if isinstance(parsed, list):
            raise InvalidSpec(parsed[0].message, path=parsed[0].path, remedy=parsed[0].remedy)
        if withheld := refused(parsed.capabilities, self._limits.withheld):
            message = f"the engine on {self._limits.name} cannot give {', '.join(withheld)}"
            raise InvalidSpec(message, path=f"{PATH}.capabilities", remedy="name single capabilities, without these")
        if lacking := self._limits.lacking(launch.template):
            raise lacking
        if launch.role in ("controlPlane", "worker") and launch.offer.image in WITHOUT_SYSTEMD:
            raise InvalidSpec(
                f"image {launch.offer.image} runs no Kubernetes: there is no systemd in it",
                path="spec.machine.image",
                remedy=f"make the image of machines with `{BUILD}`",
            )
        kind = guest.kind(self._images.ensure(launch.offer.image), parsed.command)
        if kind.systemd and (never := self._limits.no_systemd()):
            raise InvalidSpec(never.message, remedy=never.remedy)
        if launch.user_data and not kind.user_data:
            raise InvalidSpec(
                f"image {launch.offer.image} does not run user-data (files, ssh keys, bootstrap): it has no label {USER_DATA_LABEL}",
                remedy=f"make the image of machines with `{BUILD}`, or name one with systemd, cloud-init and that label",
            )
        wish = Wish(
            name="",
            hostname="",
            labels={},
            image=launch.offer.image,
            command=kind.command,
            cpu=launch.template.cpu if self._limits.limits_cpu else 0.0,
            memory=launch.template.memory if self._limits.limits_memory else 0,
            capabilities=tuple(parsed.capabilities),
            security_options=tuple(parsed.security_options),
            rotate_logs=self._limits.rotates_logs,
        )
        if kind.systemd:
            wish = guest.as_machine(wish, self._limits)
        network = self._network(launch.network.get(NETWORK, ""))
        return Plan(
            wish=replace(wish, network=network.name if network else launch.network.get(NETWORK, "")),
            network=network if network and network.subnet and launch.network.get(FIXED) == "true" else None,
            seeded=kind.systemd or bool(launch.user_data),
        )

    def _network(self, name: str) -> Network | None:
        if not name:
            return None
        try:
            return self._engine.network(name)
        except NotFound as error:
            raise NotReady(f"the network {name} is not there yet", code=error.code) from error

    # -- one member --

    def _make(self, launch: Launch, index: int, plan: Plan) -> Result:
        """Create one member and go on with it, or with what another call has created under its name."""
        mark = launch.member_mark(index)
        named = marks.name(launch.members[index].name, mark)
        for attempt in range(TRIES):
            try:
                id = self._create(launch, index, plan, named, attempt)
            except Taken as error:
                return self._adopt(launch, index, plan, named, error)
            except Unknown as error:
                return Result(id="", outcome=Outcome.UNKNOWN, error=error)
            except SupplierError as error:
                return Result(id="", outcome=Outcome.REFUSED, error=error)
            self.remember(mark)
            result = self._start(launch, index, plan, id)
            if result.outcome is not Outcome.REFUSED:
                return result
            self.forget(mark)
            if not (result.error and is_address_taken(result.error)):
                return result
        return Result(id="", outcome=Outcome.REFUSED, error=NotReady("others take each address first that is chosen here"))

    def _create(self, launch: Launch, index: int, plan: Plan, named: str, attempt: int) -> str:
        mark, member = launch.member_mark(index), launch.members[index]
        wish = replace(plan.wish, name=named, hostname=member.name, labels=marks.labels(mark))
        if not plan.network and not member.volumes:
            return self._engine.create(wish)
        with self._choosing:
            if plan.network:
                used = addresses.in_use(self._engine.on_network(plan.network.id))
                seed = f"{mark.maker}/{mark.index}/{attempt}"
                address = addresses.wanted(plan.network, used, member.address) or addresses.free(plan.network, used, seed)
                if not address:
                    raise NoCapacity(
                        f"network {plan.network.name} has no free address in {plan.network.subnet}",
                        person=True,
                        remedy="delete machines, or make the cluster with a larger spec.network.machineCIDR",
                    )
                wish = replace(wish, address=address)
            if member.volumes:
                binds = volumes.binds(self._engine, launch.mark, member.volumes)
                wish = replace(wish, binds=(*wish.binds, *binds))
            return self._engine.create(wish)

    def _adopt(self, launch: Launch, index: int, plan: Plan, named: str, taken: Taken) -> Result:
        """The holder of the name: ours, from a call at the same time; or somebody else's, which is left alone."""
        mark = launch.member_mark(index)
        try:
            holder = self._engine.container(named)
        except NotFound:
            error = taken if taken.by else NotReady(f"the name {named} is only now becoming free")
            return Result(id="", outcome=Outcome.REFUSED, error=error)
        except SupplierError as error:
            return Result(id="", outcome=Outcome.UNKNOWN, error=error)
        found = marks.mark_of(holder.labels)
        if found is not None and found.same(mark):
            return self._finish(launch, index, plan, None, holder)
        held = Taken(f"a container called {named} exists already", by=marks.owner(found), remedy=f"docker rm {named}")
        held.__cause__ = taken
        return Result(id="", outcome=Outcome.REFUSED, error=held)

    def _finish(self, launch: Launch, index: int, plan: Plan | None, failure: SupplierError | None, found: Container) -> Result:
        """Go on with what was created and no more; everything else is as it is."""
        if found.state != "created":
            return self._result(found)
        if plan is None:
            return Result(id=found.id, outcome=Outcome.PENDING, error=failure)
        result = self._start(launch, index, plan, found.id, compare=True)
        if result.outcome is Outcome.REFUSED and result.error and is_address_taken(result.error):
            return self._make(launch, index, plan)
        return result

    def _start(self, launch: Launch, index: int, plan: Plan, id: str, *, compare: bool = False) -> Result:
        """A container that can never start is taken away again, so that the member is known not to have been made."""
        try:
            if compare and plan.network and self._must_yield(plan.network, id):
                raise Taken("address already in use")
            if plan.seeded or launch.members[index].volumes:
                self._engine.put(id, self._files(launch, index))
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

    def _must_yield(self, network: Network, id: str) -> bool:
        there = self._engine.on_network(network.id)
        mine = next((c for c in there if c.id == id), None)
        return mine is not None and addresses.must_yield(mine, there)

    def _files(self, launch: Launch, index: int) -> bytes:
        member, mark = launch.members[index], launch.member_mark(index)
        disks = volumes.sizes(self._engine, launch.mark, member.volumes) if member.volumes else []
        return guest.files(member.name, f"{mark.maker}-{mark.index}", launch.user_data, disks)
