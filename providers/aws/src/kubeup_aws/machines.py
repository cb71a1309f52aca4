"""Instances as machines: the supplier. What a launch says is in `launching.py`, what is offered in `offers.py`.

One request launches, one page of a thousand observes, one describes and one terminates any number. Nothing is remembered: a repeat of a
launch is EC2's own to recognise, by its token; and where EC2 knows the token but not the request, by the mark.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from kubeup_core import (
    Access,
    BaseMachines,
    Blocked,
    InvalidSpec,
    Launch,
    MachineState,
    Mark,
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
    Snapshot,
    Template,
    Unknown,
)

from . import launching, marks
from .catalog import Catalog, price
from .client import Aws
from .decisions import SAME_TOKEN, is_young
from .images import Images
from .offers import faults, offers

PAGE = 1000
PHASES = {
    "pending": Phase.PENDING,
    "running": Phase.RUNNING,
    "stopping": Phase.STOPPED,
    "stopped": Phase.STOPPED,
    "shutting-down": Phase.DELETING,
    "terminated": Phase.GONE,
}
ID = re.compile(r"i-[0-9a-f]+")


class AwsMachines(BaseMachines):
    """The instances of one account in one region. Thread-safe."""

    def __init__(self, aws: Aws, catalog: Catalog, images: Images, globs: Sequence[str]) -> None:
        self._aws = aws
        self._catalog = catalog
        self._images = images
        self._globs = tuple(globs)

    def check(self, want: Template) -> Sequence[Problem]:
        return faults(want, self._images)

    def offers(self, want: Template) -> Sequence[Offer]:
        return offers(want, self._catalog, self._images, self._globs)

    def launch(self, launch: Launch) -> Sequence[Result]:
        offer = launch.offer
        scope = Place(place=offer.place, machine_type=offer.machine_type, spot=offer.spot)
        try:
            params = launching.request(launch, self._images.root(offer.image))
            answer = self._aws.call("ec2", "run_instances", scope=scope, members=len(launch.members), **params)
        except (InvalidSpec, NotFound) as error:
            return self._landed(launch) or self._refuse(error)
        except Unknown as error:
            if error.code not in SAME_TOKEN:
                raise
            return [_not_absent(result) for result in self.lookup(launch)]
        return launching.results(launch, answer["Instances"])

    def lookup(self, launch: Launch) -> Sequence[Result]:
        found = self._listed(marks.of_maker(launch.mark))
        by_index = {i["AmiLaunchIndex"]: i for i in found if (m := _mark(i)) and m.same(launch.member_mark(m.index))}
        known = [by_index.get(i) for i in range(len(launch.members))]
        return [launching.result_of(i) if i else Result(id="", outcome=Outcome.ABSENT) for i in known]

    def observe(self, scope: Scope) -> Snapshot[MachineState]:
        found = {i["InstanceId"]: i for i in self._listed(marks.of_scope(scope, "Machine"))}
        doubted = [ref.id for ref in scope.doubt if ref.id not in found]
        found.update((i["InstanceId"], i) for i in self._by_id(doubted))
        states = []
        for instance in found.values():
            mark = _mark(instance)
            if mark is not None and mark.kind == "Machine" and scope.covers(mark):
                states.append(_state(instance, Ref(id=instance["InstanceId"], mark=mark)))
        return Snapshot(items=tuple(states))

    def delete(self, refs: Sequence[Ref]) -> Sequence[Result]:
        there = {i["InstanceId"]: i for i in self._by_id([ref.id for ref in refs])}
        found = {id: _mark(instance) for id, instance in there.items()}
        foreign = {ref.id: found[ref.id] for ref in refs if ref.id in found and not _same(found[ref.id], ref.mark)}
        states = {id: instance["State"]["Name"] for id, instance in there.items() if id not in foreign}
        alive = [ref.id for ref in refs if states.get(ref.id, "terminated") not in launching.OVER]
        wanted = list(dict.fromkeys(alive))
        blocked: dict[str, Blocked] = {}
        for start in range(0, len(wanted), PAGE):
            blocked |= self._terminate(wanted[start : start + PAGE])
        return [
            Result(id=ref.id, outcome=Outcome.REFUSED, error=blocked[ref.id])
            if ref.id in blocked
            else _deleted(ref, there.get(ref.id), foreign, alive)
            for ref in refs
        ]

    def console(self, ref: Ref, limit: int) -> str:
        self.owned(ref)
        try:
            answer = self._aws.read("ec2", "get_console_output", InstanceId=ref.id, Latest=True)
        except InvalidSpec:  # a type that is not built on Nitro keeps only what was printed at boot
            answer = self._aws.read("ec2", "get_console_output", InstanceId=ref.id)
        data = str(answer.get("Output") or "").encode()
        return data[-limit:].decode(errors="ignore") if limit > 0 else ""

    def reboot(self, ref: Ref) -> None:
        self.owned(ref)
        self._aws.call("ec2", "reboot_instances", InstanceIds=[ref.id])

    # -- below -----------------------------------------------------------------------------------------------------------

    def owned(self, ref: Ref) -> dict[str, Any]:
        """The instance, when it is there and carries the mark; else NotFound."""
        found = self._by_id([ref.id])
        if not found:
            raise NotFound(f"there is no instance {ref.id}")
        mark = _mark(found[0])
        if mark is None or not mark.same(ref.mark):
            raise NotFound(f"instance {ref.id} belongs to {marks.owner(mark)}", code=marks.FOREIGN)
        return found[0]

    def _terminate(self, ids: list[str]) -> dict[str, Blocked]:
        """Which of them are protected. EC2 refuses a whole request for one of them and does not say which: halves are asked for."""
        try:
            self._aws.call("ec2", "terminate_instances", members=len(ids), InstanceIds=ids)
        except Blocked as error:
            if len(ids) > 1:
                half = len(ids) // 2
                return self._terminate(ids[:half]) | self._terminate(ids[half:])
            remedy = "switch its termination protection off"
            return {ids[0]: Blocked(error.message, by=error.by, code=error.code, request_id=error.request_id, remedy=remedy)}
        return {}

    def _landed(self, launch: Launch) -> list[Result]:
        """What an earlier call of the launch made; nothing when there was none that is seen. For parameters that are no longer valid:
        an image that was withdrawn since, a group that is gone."""
        found = self.lookup(launch)
        return [_not_absent(result) for result in found] if any(result.id for result in found) else []

    @staticmethod
    def _refuse(error: InvalidSpec | NotFound) -> list[Result]:
        if is_young(error):  # nothing was made
            remedy = "it is tried again by itself; if it stays, what the message names is not there"
            raise NotReady(error.message, retry_after=5, code=error.code, request_id=error.request_id, remedy=remedy) from error
        if isinstance(error, NotFound):
            raise InvalidSpec(error.message, code=error.code, request_id=error.request_id) from error
        raise error

    def _listed(self, filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        pages = self._aws.pages("ec2", "describe_instances", "Reservations", Filters=filters, MaxResults=PAGE)
        return [instance for reservation in pages for instance in reservation["Instances"]]

    def _by_id(self, ids: Iterable[str]) -> list[dict[str, Any]]:
        """Those of them that are there. EC2 refuses a whole request for one id that it does not know, and says which."""
        left = [id for id in dict.fromkeys(ids) if ID.fullmatch(id)]
        found: list[dict[str, Any]] = []
        while left:
            some = left[:PAGE]
            try:
                answer = self._aws.read("ec2", "describe_instances", InstanceIds=some)
            except NotFound as error:
                named = set(ID.findall(error.message)) & set(some)
                if not named:
                    return found + [i for id in left for i in self._single(id)]
                left = [id for id in left if id not in named]
                continue
            found += [instance for reservation in answer["Reservations"] for instance in reservation["Instances"]]
            left = left[PAGE:]
        return found

    def _single(self, id: str) -> list[dict[str, Any]]:
        try:
            answer = self._aws.read("ec2", "describe_instances", InstanceIds=[id])
        except NotFound:
            return []
        return [instance for reservation in answer["Reservations"] for instance in reservation["Instances"]]


Owned = Callable[[Ref], dict[str, Any]]
"""`AwsMachines.owned`, for who attaches something to a machine."""


def _mark(instance: dict[str, Any]) -> Mark | None:
    return marks.mark_of(marks.as_dict(instance.get("Tags")), int(instance.get("AmiLaunchIndex", 0)))


def _same(found: Mark | None, wanted: Mark) -> bool:
    return found is not None and found.same(wanted)


def _not_absent(result: Result) -> Result:
    """An earlier call landed, so what a listing does not show may still come."""
    return replace(result, outcome=Outcome.UNKNOWN) if result.outcome is Outcome.ABSENT else result


def _deleted(ref: Ref, instance: dict[str, Any] | None, foreign: dict[str, Any], alive: list[str]) -> Result:
    if ref.id in foreign:
        error = NotFound(f"instance {ref.id} belongs to {marks.owner(foreign[ref.id])}; it was left alone", code=marks.FOREIGN)
        return Result(id=ref.id, outcome=Outcome.REFUSED, error=error)
    if instance is None or (ref.id not in alive and instance["State"]["Name"] == "terminated"):
        return Result(id=ref.id, outcome=Outcome.MADE)
    return Result(id=ref.id, outcome=Outcome.PENDING)


def _state(instance: dict[str, Any], ref: Ref) -> MachineState:
    zone = instance.get("Placement", {}).get("AvailabilityZone", "")
    root = instance.get("RootDeviceName")
    refused = launching.late_refusal(instance)
    phase = PHASES.get(instance["State"]["Name"], Phase.UNKNOWN)
    disks = [
        m["Ebs"]["VolumeId"] for m in instance.get("BlockDeviceMappings", ()) if m.get("DeviceName") != root and "Ebs" in m
    ]
    return MachineState(
        ref=ref,
        phase=Phase.FAILED if isinstance(refused, NoCapacity) else phase,
        place=zone,
        name=marks.name_of(marks.as_dict(instance.get("Tags")), ref.mark.index),
        machine_type=instance.get("InstanceType", ""),
        access=Access(kind="ssh", user="root"),
        provider_id=f"aws:///{zone}/{ref.id}",
        internal=tuple(filter(None, [instance.get("PrivateIpAddress")])),
        external=tuple(filter(None, [instance.get("PublicIpAddress")])),
        volumes=tuple(disks),
        facts={"image": instance.get("ImageId", ""), "machineType": instance.get("InstanceType", "")},
        error=refused,
        price_per_hour=None if instance.get("InstanceLifecycle") == "spot" else price(instance.get("InstanceType", "")),
    )
