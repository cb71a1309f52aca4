"""Which machine a volume belongs to, and whether it can go there. Called by `volume.py`, and by the machine's side:

`volumes_hold` before a machine is deleted, `at_launch` and `misfit` when an offer is chosen for it.
"""

from __future__ import annotations

from collections.abc import Collection

from ..kinds import Launch, Machine, NodePool, Volume
from ..runtime.controller import Env
from ..runtime.places import Place
from .slots import machine_in, slot_of
from .troubles import Trouble, missing

TIMED_OUT = "DetachTimedOut"
"""Reason of AttachBlocked: the machine does not let go; it is deleted with the volume attached, and that frees it."""


def volumes_hold(env: Env, machine: Machine) -> bool:
    """Whether a machine that is being deleted has volumes that are still being detached.

    For the machine's controller, after `leaving_balancers` and the drain, before the machine is deleted at its provider. False
    too when a detach took too long or the machine does not answer: deleting it then is what frees its volumes, without force.
    """
    if machine.status.launch is None:
        return False
    return any(
        v.status.attached_to == machine.name and not _given_up(v) and _can_detach(env, v) for v in _volumes(env, machine)
    )


def at_launch(env: Env, machine: Machine, place: Place) -> tuple[str, ...] | None:
    """Ids of the volumes that have to be in the machine's Launch; None while one of them is not made yet.

    Only where volumes are attached at launch (`capabilities.attach`); elsewhere they are attached once the machine runs.
    """
    if place.capabilities.attach != "launch":
        return ()
    ids = []
    for volume in _meant_for(env, machine):
        holder = env.cache.get(Machine, volume.status.attached_to or "", volume.namespace)
        if volume.status.id is None:
            if volume.status.is_true("Stalled"):
                continue  # a machine is not kept from running by a volume that a person has to put right
            return None
        if holder is not None and holder.uid != machine.uid:
            if holder.deleting:
                return None  # it is free when its last machine is gone
            continue
        if volume.status.provider == place.name:
            ids.append(volume.status.id)
    return tuple(sorted(ids))


def misfit(env: Env, machine: Machine, place: Place, zone: str, reach: Collection[str]) -> Trouble | None:
    """Why an offer (its place and reach) does not suit the volumes that this machine is to get; None when it does."""
    for volume in _meant_for(env, machine):
        if volume.status.id is None or volume.status.provider is None or volume.status.zone is None:
            continue
        theirs = env.places.get(volume.status.provider)
        if theirs is not None and theirs.usable and theirs.identity.key != place.identity.key:
            return _apart(volume, machine, f"{place.name} {zone}".strip())
        if reach and not set(volume.status.zone.split(",")) & set(reach):
            return _apart(volume, machine, zone)
    return None


def target(env: Env, volume: Volume) -> Machine | None:
    """The Machine that a volume is to be attached to: the one of that name, or the one that fills the slot of the pool now."""
    attach = volume.spec.attach
    if attach is None:
        return None
    if attach.machine is not None:
        return env.cache.get(Machine, attach.machine, volume.namespace)
    pool = env.cache.get(NodePool, attach.pool or "", volume.namespace)
    machines = env.cache.by(Machine, "pool", f"{volume.namespace}/{volume.spec.cluster}/{attach.pool}")
    replicas = pool.spec.replicas if pool is not None else 0
    return machine_in(attach.slot or 0, replicas, machines, volume.status.attached_to)


def concerns(env: Env, machine: Machine, volume: Volume) -> bool:
    """Whether a change of the machine may matter to the volume. Quick: a cluster may have thousands of both."""
    attach = volume.spec.attach
    if machine.name in (volume.status.attached_to, attach.machine if attach else None):
        return True
    if attach is None or attach.pool is None or attach.pool != machine.spec.pool:
        return False
    pool = env.cache.get(NodePool, attach.pool, volume.namespace)
    slot = slot_of(machine)
    return slot is None or slot == attach.slot or pool is None or slot >= pool.spec.replicas


def launch_of(env: Env, machine: Machine) -> Launch | None:
    return env.cache.get(Launch, machine.status.launch, machine.namespace) if machine.status.launch else None


def no_target(env: Env, volume: Volume) -> Trouble:
    """The machine is not there: mistyped, or not made yet."""
    attach = volume.spec.attach
    assert attach is not None
    if attach.pool is None:
        return missing("Machine", attach.machine or "", (m.name for m in env.cache.list(Machine, volume.namespace)))
    pool = env.cache.get(NodePool, attach.pool, volume.namespace)
    if pool is None:
        return missing("NodePool", attach.pool, (p.name for p in env.cache.list(NodePool, volume.namespace)))
    if attach.slot is not None and attach.slot >= pool.spec.replicas:
        message = (
            f"pool {pool.name} has {pool.spec.replicas} replicas and no slot {attach.slot}; scale it, or name another slot"
        )
        return Trouble(reason="WaitingForMachine", message=message)
    return Trouble(reason="WaitingForMachine", message=f"waits for the machine in slot {attach.slot} of pool {pool.name}")


def refusal(
    volume: Volume, machine: Machine, launch: Launch, place: Place, reach: Collection[str], used: int
) -> Trouble | None:
    """Why a running machine cannot get this volume, as far as that is known without asking."""
    offer = launch.spec.offer
    if launch.spec.identity != place.identity.key:
        return _apart(volume, machine, f"{launch.spec.provider} {offer.place}".strip())
    if place.capabilities.attach == "none":
        message = f"Provider {place.name} cannot attach volumes; remove spec.attach, or use another provider"
        return Trouble(reason="NotOffered", message=message, stalled=True)
    if offer.reach and reach and not set(offer.reach) & set(reach):
        return _apart(volume, machine, offer.place)
    if offer.max_volumes is not None and used >= offer.max_volumes:
        message = (
            f"machine {machine.name} ({offer.machine_type}) has {used} volumes, and {offer.max_volumes} fit; "
            "detach another, or use a larger machine type"
        )
        return Trouble(reason="LimitReached", message=message, stalled=True)
    if place.capabilities.attach == "launch":
        message = (
            f"Provider {place.name} attaches volumes only when a machine is launched; "
            f"kubectl delete machine {machine.name} -n {machine.namespace} lets its successor start with it"
        )
        return Trouble(reason="NeedsReplacement", message=message, stalled=True)
    return None


def _apart(volume: Volume, machine: Machine, there: str) -> Trouble:
    message = (
        f"volume {volume.name} is in {volume.status.zone or volume.status.provider} and machine {machine.name} is in {there}, and a "
        "disk does not move; attach it to a machine of its own zone, or delete it and create another"
    )
    return Trouble(reason="OutOfReach", message=message, stalled=True)


def _meant_for(env: Env, machine: Machine) -> list[Volume]:
    """Those that name it, or its slot; also when a predecessor still has the slot."""
    found = []
    for volume in _volumes(env, machine):
        if volume.deleting or volume.spec.attach is None or not concerns(env, machine, volume):
            continue
        meant = target(env, volume)
        slot = volume.spec.attach.slot if volume.spec.attach.pool else None
        if (meant is not None and meant.uid == machine.uid) or (slot is not None and slot_of(machine) == slot):
            found.append(volume)
    return found


def _volumes(env: Env, machine: Machine) -> list[Volume]:
    found: list[Volume] = env.cache.by(Volume, "cluster", f"{machine.namespace}/{machine.spec.cluster}")
    return found


def _given_up(volume: Volume) -> bool:
    condition = volume.status.condition("AttachBlocked")
    return condition is not None and condition.status == "True" and condition.reason == TIMED_OUT


def _can_detach(env: Env, volume: Volume) -> bool:
    place = env.places.get(volume.status.provider) if volume.status.provider else None
    return place is None or place.capabilities.attach == "live"
