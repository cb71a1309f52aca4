"""Bridges as networks, one per cluster. Containers on one bridge reach each other on every port.

Found by mark. The engine lets two networks have one name (it checks, but two calls at once slip through), so after creating,
the marked networks are listed again and the oldest is the one; a lock keeps this process from racing itself.

Containers can have addresses that stay only where the subnet was asked for. So where nobody chose one, the engine is made to
choose, by a network that lives for a moment (a trial): it knows what is free on its host.
Rules between roles and ssh keys have no counterpart here: machines are reached by execute, and a bridge does not filter.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from kubeup_core import (
    Blocked,
    InvalidSpec,
    NetworkSpec,
    NetworkState,
    NotFound,
    NotReady,
    Phase,
    Ref,
    Scope,
    Snapshot,
    SupplierError,
    Taken,
)

from . import marks
from .client import Engine
from .config import PATH, overrides
from .launching import FIXED, NETWORK
from .limits import Limits
from .records import Network

TRIAL = f"{marks.PREFIX}trial"


class DockerNetworks:
    """The networks of one engine. Thread-safe."""

    def __init__(self, engine: Engine, limits: Limits, same: Callable[[], None]) -> None:
        self._engine = engine
        self._limits = limits
        self._same = same
        self._lock = threading.Lock()

    def ensure(self, want: NetworkSpec) -> NetworkState:
        self._same()
        parsed = overrides(want.overrides)
        if isinstance(parsed, list):
            raise InvalidSpec(parsed[0].message, path=parsed[0].path, remedy=parsed[0].remedy)
        if parsed.network:
            return self._existing(want, parsed.network)
        with self._lock:
            network = self._one(want) or self._create(want)
        return self._state(network, Ref(id=network.id, mark=want.mark))

    def observe(self, scope: Scope) -> Snapshot[NetworkState]:
        self._same()
        items = []
        for network in self._engine.networks(marks.of_scope(scope, "Network")):
            mark = marks.mark_of(network.labels)
            if mark is not None and scope.covers(mark):
                items.append(self._state(network, Ref(id=network.id, mark=mark)))
        return Snapshot(items=tuple(items))

    def delete(self, ref: Ref) -> None:
        try:
            network = self._engine.network(ref.id)
        except NotFound:
            return
        found = marks.mark_of(network.labels)
        if found is None:
            return  # one that overrides named: there is nothing of ours to take away
        if not found.same(ref.mark):
            raise NotFound(f"network {network.name} belongs to {marks.owner(found)}", code=marks.FOREIGN)
        # The engine would let go of a network that only stopped containers use, and they could never start again
        if users := self._engine.on_network(ref.id):
            names = ", ".join(sorted(c.name for c in users))
            raise Blocked(f"network {network.name} is used by {names}", by=tuple(c.id for c in users))
        try:
            self._engine.remove_network(ref.id)
        except NotFound:
            return

    def _existing(self, want: NetworkSpec, name: str) -> NetworkState:
        """One that somebody else made and keeps: it does not carry the mark, so `delete` never takes it."""
        try:
            network = self._engine.network(name)
        except NotFound as error:
            raise InvalidSpec(
                f"there is no network {name} on the engine", path=f"{PATH}.network", remedy=f"docker network create {name}"
            ) from error
        return self._state(network, Ref(id=network.id, mark=want.mark))

    def _create(self, want: NetworkSpec) -> Network:
        named = marks.name(want.name, want.mark)
        cidr = want.cidr or self._free_subnet(named, want)
        try:
            self._engine.create_network(named, marks.labels(want.mark), cidr)
        except Taken as taken:
            try:
                holder = self._engine.network(named)
            except NotFound:  # it is the addresses that are taken
                if want.cidr:
                    raise taken from None
                raise NotReady(f"somebody else took the addresses {cidr} in the last moment", retry_after=1) from taken
            found = marks.mark_of(holder.labels)
            if found is None or not found.same(want.mark):
                raise Taken(
                    f"a network called {named} exists already", by=marks.owner(found), remedy=f"docker network rm {named}"
                ) from taken
        network = self._one(want)
        if network is None:
            raise NotFound(f"network {named} vanished right after it was created")
        return network

    def _free_subnet(self, named: str, want: NetworkSpec) -> str:
        trial = self._engine.create_network(f"{named}-trial", {**marks.labels(want.mark), TRIAL: "true"}, "")
        subnet = self._engine.network(trial).subnet
        self._engine.remove_network(trial)
        return subnet

    def _one(self, want: NetworkSpec) -> Network | None:
        """The oldest with the mark. Younger twins, which nothing can use yet, and left-over trials are taken away."""
        found = self._engine.networks(marks.of_maker(want.mark))
        marked = [n for n in found if (m := marks.mark_of(n.labels)) and m.same(want.mark)]
        ours = sorted((n for n in marked if TRIAL not in n.labels), key=lambda n: (n.created, n.id))
        for spare in (*ours[1:], *(n for n in marked if TRIAL in n.labels)):
            try:
                self._engine.remove_network(spare.id)
            except SupplierError:
                continue  # the next ensure tries again
        return ours[0] if ours else None

    def _state(self, network: Network, ref: Ref) -> NetworkState:
        return NetworkState(
            ref=ref,
            phase=Phase.RUNNING,
            fabric=f"docker:{self._limits.key}/{network.id}",
            flat=True,
            data={NETWORK: network.name, FIXED: "true" if marks.mark_of(network.labels) else "false"},
        )
