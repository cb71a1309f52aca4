"""The VolumeSupplier of the simulator: zonal volumes, found by token, then by name."""

from __future__ import annotations

from kubeup_core.errors import Blocked, InvalidSpec, NotFound, NotReady, Taken
from kubeup_core.supplier import Phase, Ref, Scope, Snapshot, VolumeSpec, VolumeState

from . import marks
from .client import Client
from .cloud import physics
from .cloud.storage import VolumeView

PHASES = {
    physics.PENDING: Phase.PENDING,
    physics.RUNNING: Phase.RUNNING,
    physics.DELETING: Phase.DELETING,
    physics.OVER: Phase.GONE,
}


class Volumes:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._cloud = client.cloud

    def ensure(self, want: VolumeSpec) -> VolumeState:
        """A volume that was lost is returned GONE, never made anew: the data would be missing without a word."""
        view = self._find_or_create(want)
        wanted = marks.tags(want.mark)
        alive = view.phase in (physics.PENDING, physics.RUNNING)
        if alive and (view.volume.size < want.size or view.volume.tags != wanted):
            target = marks.expect(Ref(id=view.volume.id, mark=want.mark))
            view = self._client.call("Volume", "update", lambda: self._cloud.storage.modify(target, want.size, wanted))
        return self._state(view)

    def attach(self, volume: Ref, machine: Ref) -> None:
        if self._client.settings().attach != "live":
            raise InvalidSpec(
                "volumes are attached at launch only here (spec.config.attach of the Provider)",
                path="spec.attach",
                remedy="replace the machine: its successor is launched with the volume",
            )
        target, to = marks.expect(volume), marks.expect(machine)
        self._client.call("Volume", "attach", lambda: self._cloud.storage.attach(target, to))

    def detach(self, volume: Ref, machine: Ref) -> None:
        target = marks.expect(volume)
        self._client.call("Volume", "detach", lambda: self._cloud.storage.detach(target, machine.id))

    def observe(self, scope: Scope) -> Snapshot[VolumeState]:
        storage = self._cloud.storage
        listed, unreachable = self._client.call("Volume", "list", lambda: storage.find(marks.within(scope)))
        seen = {view.volume.id: view for view in listed}
        for ref in scope.doubt:
            if ref.id not in seen:
                found = self._get(ref.id)
                if found is not None and marks.expect(ref).fits(found.volume):
                    seen[ref.id] = found
        return Snapshot(items=tuple(self._state(view) for view in seen.values()), unreachable=unreachable)

    def delete(self, ref: Ref) -> None:
        """Returns once the deletion is accepted; observe tells when it is over."""
        try:
            self._client.call("Volume", "delete", lambda: self._cloud.storage.delete(marks.expect(ref)))
        except NotFound as error:
            if error.code == "PreconditionFailed":
                raise
        except Taken as error:
            raise Blocked(error.message, by=(error.by,), code=error.code, request_id=error.request_id) from error

    def _find_or_create(self, want: VolumeSpec) -> VolumeView:
        name, tags = marks.full_name(want.name, want.mark), marks.tags(want.mark)
        place = want.place or (self._cloud.region if self._client.settings().hosts else self._cloud.zones[0])
        try:
            view = self._client.call(
                "Volume",
                "create",
                lambda: self._cloud.storage.create(want.token, name, place, want.size, want.klass, tags),
            )
        except Taken as error:
            found = self._get(error.by)
            if found is None:
                raise NotReady(f"volume {name} is just going away", retry_after=1.0) from error
            view = found
        if not marks.mark_of(view.volume, "Volume").same(want.mark):
            raise Taken(f"volume {view.volume.id} carries another mark", by=view.volume.id)
        return view

    def _get(self, id: str) -> VolumeView | None:
        return self._client.call("Volume", "get", lambda: self._cloud.storage.get(id))

    def _state(self, view: VolumeView) -> VolumeState:
        return VolumeState(
            ref=Ref(id=view.volume.id, mark=marks.mark_of(view.volume, "Volume")),
            phase=PHASES[view.phase],
            size=view.volume.size,
            reach=frozenset({view.volume.place}),
            device=f"/dev/disk/by-id/sim-{view.volume.id}",
            attached=(view.machine,) if view.machine else (),
            busy=view.busy,
        )
