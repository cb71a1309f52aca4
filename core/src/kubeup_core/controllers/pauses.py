"""Whether a change may be made: what is paused, from the object up to the installation. Called by the controllers of
machines and clusters, and by `guest.py` before steps are begun.

A pause stops every change at a place and every decision that would lead to one; observing and reporting go on.
"""

from __future__ import annotations

from ..kinds import Cluster, Installation, Machine, NodePool
from ..kinds.installation import NAME
from ..runtime.controller import Env


def paused(env: Env, obj: Cluster | NodePool | Machine) -> str:
    """The thing that is paused, for people ("Cluster demo"); "" when nothing is. A Provider's pause is its Place's."""
    installation = env.cache.get(Installation, NAME)
    if installation is not None and installation.spec.paused:
        return "the installation (kubectl edit installation kubeup)"
    if obj.spec.paused:
        return f"{obj.kind} {obj.name}"
    if isinstance(obj, Machine) and obj.spec.pool:
        pool = env.cache.get(NodePool, obj.spec.pool, obj.namespace)
        if pool is not None and pool.spec.paused:
            return f"NodePool {pool.name}"
    if isinstance(obj, NodePool | Machine):
        cluster = env.cache.get(Cluster, obj.spec.cluster, obj.namespace)
        if cluster is not None and cluster.spec.paused:
            return f"Cluster {cluster.name}"
    return ""


def held(env: Env, machine: Machine) -> str:
    """As `paused`, or the Provider that the machine is at: nothing may be done to it, nor to its Node."""
    resolved = machine.status.resolved
    place = env.places.get((resolved.provider if resolved is not None else machine.spec.provider) or "")
    return paused(env, machine) or (place.pause if place is not None else "")


def said(stop: str) -> str:
    """In words: what is paused, and what to do."""
    return f"{stop} is paused, so nothing is changed; set spec.paused: false there to go on"
