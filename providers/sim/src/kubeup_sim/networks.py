"""The NetworkSupplier of the simulator: a network, and its firewall once it is there."""

from __future__ import annotations

from kubeup_core.errors import Blocked, InvalidSpec, NotFound, NotReady, Taken
from kubeup_core.supplier import NetworkSpec, NetworkState, Phase, Ref, Scope, Snapshot

from . import marks
from .client import Client
from .cloud import physics
from .cloud.records import Network
from .config import SimOverrides

PHASES = {physics.PENDING: Phase.PENDING, physics.RUNNING: Phase.RUNNING, physics.DELETING: Phase.DELETING}

Seen = tuple[Network, str]


class Networks:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._cloud = client.cloud

    def ensure(self, want: NetworkSpec) -> NetworkState:
        overrides = SimOverrides.model_validate(dict(want.overrides))
        if overrides.network is not None:
            return self._theirs(want, overrides.network)
        networking = self._cloud.networking
        listed = self._client.call("Network", "list", lambda: networking.find(marks.owner(want.mark)))
        seen = next((item for item in listed if item[1] != physics.DELETING), None) or self._create(want)
        rules = [[r.from_role, r.to_role, r.protocol, r.low, r.high] for r in want.rules]
        network, phase = seen
        if phase == physics.RUNNING and (network.rules != rules or network.ssh_keys != list(want.ssh_keys)):
            target = marks.expect(Ref(id=network.id, mark=want.mark))
            network = self._client.call("Network", "update", lambda: networking.set_firewall(target, rules, want.ssh_keys))
        return self._state((network, phase))

    def observe(self, scope: Scope) -> Snapshot[NetworkState]:
        networking = self._cloud.networking
        seen = {
            n.id: (n, phase) for n, phase in self._client.call("Network", "list", lambda: networking.find(marks.within(scope)))
        }
        for ref in scope.doubt:
            if ref.id not in seen:
                found = self._get(ref.id)
                if found is not None and marks.expect(ref).fits(found[0]):
                    seen[ref.id] = found
        return Snapshot(items=tuple(self._state(item) for item in seen.values()))

    def delete(self, ref: Ref) -> None:
        try:
            left = self._client.call("Network", "delete", lambda: self._cloud.networking.delete(marks.expect(ref)))
        except NotFound as error:
            if error.code == "PreconditionFailed" and not self._named(ref.id):
                raise
            return
        if left is not None:
            raise Blocked(f"network {ref.id} is being deleted", by=(ref.id,), code="IncorrectState")

    def _create(self, want: NetworkSpec) -> Seen:
        """A name that is taken may be our own first try, which no listing shows yet."""
        name = marks.full_name(want.name, want.mark)
        try:
            network = self._client.call(
                "Network", "create", lambda: self._cloud.networking.create(name, want.cidr, marks.tags(want.mark))
            )
        except Taken as error:
            found = self._get(error.by)
            if found is None:
                raise NotReady(f"network {name} is just going away", retry_after=1.0) from error
            if not marks.mark_of(found[0], "Network").same(want.mark):
                raise
            if found[1] == physics.DELETING:
                raise NotReady(f"network {found[0].id} is still being deleted", retry_after=1.0) from error
            return found
        return network, physics.RUNNING if self._cloud.now() >= network.ready_at else physics.PENDING

    def _theirs(self, want: NetworkSpec, id: str) -> NetworkState:
        found = self._get(id)
        if found is None:
            raise InvalidSpec(
                f"there is no network {id}",
                path="spec.overrides.sim.network",
                remedy="name one that exists, or leave it out to get one made",
            )
        state = self._state(found)
        return NetworkState(
            ref=Ref(id=id, mark=want.mark),
            phase=PHASES[found[1]],
            fabric=state.fabric,
            flat=state.flat,
            data=state.data,
        )

    def _named(self, id: str) -> bool:
        """True for a network without any mark, which an override named: nothing of ours is there to be deleted."""
        found = self._get(id)
        return found is None or not marks.mark_of(found[0], "Network").installation

    def _get(self, id: str) -> Seen | None:
        return self._client.call("Network", "get", lambda: self._cloud.networking.get(id))

    def _state(self, seen: Seen) -> NetworkState:
        network, phase = seen
        without_firewall = phase == physics.RUNNING and network.rules is None
        return NetworkState(
            ref=Ref(id=network.id, mark=marks.mark_of(network, "Network")),
            phase=Phase.PENDING if without_firewall else PHASES[phase],
            fabric=f"sim:{self._cloud.key}/{network.id}",
            flat=self._client.settings().flat,
            data={"network": network.id, "cidr": network.cidr},
        )
