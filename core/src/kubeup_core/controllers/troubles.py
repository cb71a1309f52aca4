"""What stands in the way, in words for people: supplier errors, references to nothing, pauses. Called by the controllers.

A trouble has a reason for machines, a sentence that ends with what to do, and the time after which looking again makes sense.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from ..errors import Blocked, Denied, InvalidSpec, NoCapacity, NotFound, NotReady, SupplierError, Taken, Unknown
from ..kinds import Cluster, LoadBalancer, Provider, Volume
from ..objects import Status
from ..runtime.controller import Env, Result
from ..runtime.places import Place
from .marks import last_error, same_error

R = TypeVar("R", Cluster, LoadBalancer, Volume)

SOON = 5.0
LATER = 60.0
RARELY = 300.0
DONE = ("Ready", "Available", "Attached", "NoMachines")
"""Reasons that are no trouble: what was asked for is there."""


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """after: awake seconds until the next look, None when only a change can help. stalled: a person has to act.
    reason "": nothing is known yet, so nothing is said."""

    reason: str
    message: str
    after: float | None = None
    stalled: bool = False


def trouble(error: SupplierError, provider: str) -> Trouble:
    """What an error of a supplier means for the one object that it happened to."""
    text = error.message
    match error:
        case NotReady():
            return _of("NotReady", text, error.remedy or "it is tried again by itself", error.retry_after or SOON)
        case NoCapacity(person=True):
            remedy = error.remedy or f"raise the quota at {provider}"
            return _of("QuotaExceeded", text, remedy, error.retry_after or LATER, stalled=True)
        case NoCapacity():
            return _of("NoCapacity", text, error.remedy or "it is tried again by itself", error.retry_after or LATER)
        case Denied():
            remedy = (
                error.remedy or f"check the credentials and rights of Provider {provider}: kubectl describe provider {provider}"
            )
            return _of("Denied", text, remedy, RARELY, stalled=True)
        case InvalidSpec():
            where = f"{error.path}: " if error.path else ""
            return _of("Refused", where + text, error.remedy or "change the spec", None, stalled=True)
        case Taken():
            by = f" (held by {error.by})" if error.by else ""
            return _of("Taken", text + by, error.remedy or "free it, or use another name", RARELY, stalled=True)
        case Blocked():
            by = f" (by {', '.join(error.by)})" if error.by else ""
            return _of("Blocked", text + by, error.remedy or "it goes on when that is gone", SOON)
        case Unknown():
            return _of(
                "OutcomeUnknown", text, "nobody knows what came of it, so it is looked for before it is tried again", SOON
            )
        case NotFound():
            return _of("NotFound", text, error.remedy or "it is looked for again", SOON)
        case _:
            return _of(error.decision, text, error.remedy, LATER)


def note(status: Status, error: SupplierError | None, now: float) -> None:
    """Keep the last error in a status. The same error again changes nothing, so that a retry is not a write."""
    if error is None:
        status.last_error = None
        return
    new = last_error(error, now)
    if not same_error(status.last_error, new):
        status.last_error = new


def missing(kind: str, name: str, names: Iterable[str]) -> Trouble:
    """A reference to nothing. Files arrive in any order, so it may still come; a person may also have mistyped."""
    known = sorted(set(names))
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        remedy = f"did you mean {near[0]}?"
    elif known:
        remedy = f"create it, or name one that is there: {', '.join(known[:5])}{', ...' if len(known) > 5 else ''}"
    else:
        remedy = "create it"
    return Trouble(reason=f"{kind}Missing", message=f"there is no {kind} {name}; {remedy}", stalled=True)


def obstacle(env: Env, obj: LoadBalancer | Volume, cluster: Cluster | None) -> Trouble | None:
    """Why nothing may be changed for an object of a cluster: the cluster is not there, is going, or something is paused."""
    if cluster is None:
        return missing("Cluster", obj.spec.cluster, (c.name for c in env.cache.list(Cluster, obj.namespace)))
    if cluster.deleting and not obj.deleting:
        return Trouble(reason="ClusterDeleting", message=f"Cluster {cluster.name} is being deleted, and this with it")
    return paused(obj, cluster)


def paused(obj: LoadBalancer | Volume, cluster: Cluster | None) -> Trouble | None:
    if not obj.spec.paused and not (cluster is not None and cluster.spec.paused):
        return None
    who = f"{obj.kind} {obj.name}" if obj.spec.paused or cluster is None else f"Cluster {cluster.name}"
    return Trouble(reason="Paused", message=f"nothing is changed; set spec.paused: false in {who} to go on")


def busy(after: float | None) -> Trouble:
    """A call is under way: what was said last stands until it has ended."""
    return Trouble(reason="", message="", after=after)


def usable(env: Env, name: str) -> tuple[Place | None, Trouble | None]:
    """The place of a Provider, or why there is none to talk to."""
    if env.cache.get(Provider, name) is None:
        return None, missing("Provider", name, (p.name for p in env.cache.list(Provider)))
    place = env.places.get(name)
    if place is None or not place.usable:
        return None, not_usable(name, place)
    return place, None


def not_usable(name: str, place: Place | None) -> Trouble:
    """What keeps a place from being used for something new. When that changes, whoever follows places is woken."""
    reason, why = (place.reason, place.why) if place is not None else ("", "")
    if reason == "Paused":
        return Trouble(reason=reason, message=why)
    if not reason or reason == "Starting":
        return Trouble(reason="Starting", message=f"Provider {name} is being prepared; wait a moment")
    return Trouble(reason=reason, message=f"Provider {name} cannot be used: {why}", stalled=True)


def stand(obj: R, status: Status, found: Trouble, now: float) -> None:
    """Ready, and what kstatus reads beside it. Reconciling, Stalled and Paused are there only while they are true.

    A trouble whose reason is in DONE says that all is well.
    """
    generation = obj.metadata.generation
    ready, held = found.reason in DONE, found.reason == "Paused"
    status.observed_generation = generation
    status.set_condition("Ready", ready, found.reason, found.message, now=now, generation=generation)
    flags = {"Reconciling": not (ready or held or found.stalled), "Stalled": found.stalled and not held, "Paused": held}
    for type_, value in flags.items():
        if value:
            status.set_condition(type_, True, found.reason, found.message, now=now, generation=generation)
        else:
            status.drop_condition(type_)


def tell(env: Env, obj: R, status: Status, found: Trouble, after: float | None = None) -> Result:
    """Say where an object is, and when to look again.

    Nothing is said while this process cannot know yet (it has just started, and the place has not answered): the last word stands.
    """
    unknown = not found.reason or (found.reason == "Starting" and obj.status.condition("Ready") is not None)
    if not unknown:
        stand(obj, status, found, env.clock.wall())
        write_status(env, obj, status)
    return Result(after=sooner(found.after, after))


def write_status(env: Env, obj: R, status: Status) -> R:
    """Write a status when it says something new. The object as it is then."""
    if status == obj.status:
        return obj
    changed = obj.model_copy(deep=True)
    changed.status = status  # type: ignore[assignment]
    return env.client.update_status(changed)


def hold(env: Env, obj: R, finalizer: str) -> R:
    """Put the finalizer on, before anything is made that would be left behind without it."""
    if finalizer in obj.finalizers:
        return obj
    changed = obj.model_copy(deep=True)
    changed.metadata.finalizers = [*obj.finalizers, finalizer]
    return env.client.update(changed)


def let_go(env: Env, obj: R, finalizer: str) -> None:
    """Take the finalizer off: nothing of it is left."""
    changed = obj.model_copy(deep=True)
    changed.metadata.finalizers = [f for f in obj.finalizers if f != finalizer]
    env.client.update(changed)


def sooner(*afters: float | None) -> float | None:
    return min((after for after in afters if after is not None), default=None)


def _of(reason: str, text: str, remedy: str, after: float | None, *, stalled: bool = False) -> Trouble:
    return Trouble(reason=reason, message=f"{text}; {remedy}" if remedy else text, after=after, stalled=stalled)
