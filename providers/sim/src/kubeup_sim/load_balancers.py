"""The LoadBalancerSupplier of the simulator. Members are machines by id where they are of this account, else by address."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from kubeup_core.errors import Blocked, NotFound, NotReady, Taken
from kubeup_core.supplier import LBMember, LoadBalancerSpec, LoadBalancerState, Phase, Ref, Scope, Snapshot

from . import marks
from .client import Client
from .cloud import physics
from .cloud.balancing import BalancerView

PHASES = {physics.PENDING: Phase.PENDING, physics.RUNNING: Phase.RUNNING, physics.DELETING: Phase.DELETING}


class LoadBalancers:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._cloud = client.cloud

    def ensure(self, want: LoadBalancerSpec) -> LoadBalancerState:
        """One listing when nothing differs; else creation, listeners and members in one go, as no step has to be waited for."""
        balancing = self._cloud.balancing
        listed = self._client.call("LoadBalancer", "list", lambda: balancing.find(marks.owner(want.mark)))
        view = next((item for item in listed if item.phase != physics.DELETING), None) or self._create(want)
        target = marks.expect(Ref(id=view.balancer.id, mark=want.mark))
        listeners = [{**asdict(listener), "health": dict(listener.health)} for listener in want.listeners]
        if view.balancer.listeners != listeners:
            self._client.call("LoadBalancer", "update", lambda: balancing.set_listeners(target, listeners))
        members = {member.key: self._member(member) for member in want.members}
        if _asked(view) != members:
            view = self._client.call("LoadBalancer", "setMembers", lambda: balancing.set_members(target, members))
        return self._state(view)

    def observe(self, scope: Scope) -> Snapshot[LoadBalancerState]:
        balancing = self._cloud.balancing
        listed = self._client.call("LoadBalancer", "list", lambda: balancing.find(marks.within(scope)))
        seen = {view.balancer.id: view for view in listed}
        for ref in scope.doubt:
            if ref.id not in seen:
                found = self._get(ref.id)
                if found is not None and marks.expect(ref).fits(found.balancer):
                    seen[ref.id] = found
        return Snapshot(items=tuple(self._state(view) for view in seen.values()))

    def delete(self, ref: Ref) -> None:
        try:
            left = self._client.call("LoadBalancer", "delete", lambda: self._cloud.balancing.delete(marks.expect(ref)))
        except NotFound as error:
            if error.code == "PreconditionFailed":
                raise
            return
        if left is not None:
            part = f"{ref.id}/interface"
            raise Blocked(f"load balancer {ref.id} still holds {part}", by=(part,), code="IncorrectState")

    def _create(self, want: LoadBalancerSpec) -> BalancerView:
        name, network = marks.full_name(want.name, want.mark), want.network.get("network", "")
        tags = marks.tags(want.mark)
        try:
            return self._client.call(
                "LoadBalancer",
                "create",
                lambda: self._cloud.balancing.create(name, want.internal, network, want.address, tags),
            )
        except Taken as error:
            found = self._get(error.by)
            if found is None:
                raise NotReady(f"load balancer {name} is just going away", retry_after=1.0) from error
            if not marks.mark_of(found.balancer, "LoadBalancer").same(want.mark):
                raise
            if found.phase == physics.DELETING:
                raise NotReady(f"load balancer {found.balancer.id} is still being deleted", retry_after=1.0) from error
            return found

    def _get(self, id: str) -> BalancerView | None:
        return self._client.call("LoadBalancer", "get", lambda: self._cloud.balancing.get(id))

    def _member(self, member: LBMember) -> dict[str, Any]:
        ours = member.ref is not None and self._cloud.made(member.ref.id)
        machine = member.ref.id if member.ref is not None and ours else ""
        return {"machine": machine, "address": member.address, "drain": member.drain}

    def _state(self, view: BalancerView) -> LoadBalancerState:
        return LoadBalancerState(
            ref=Ref(id=view.balancer.id, mark=marks.mark_of(view.balancer, "LoadBalancer")),
            phase=PHASES[view.phase],
            addresses=(view.balancer.address,),
            members=dict(view.health),
            self_reach=self._client.settings().self_reach,
        )


def _asked(view: BalancerView) -> dict[str, dict[str, Any]]:
    """The members that the balancer was last asked for, in the form of the wish."""
    return {
        key: {"machine": member["machine"], "address": member["address"], "drain": member["drain_until"] is not None}
        for key, member in view.balancer.members.items()
        if not member["left"]
    }
