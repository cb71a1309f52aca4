"""What carries our mark and has no owner that wants it: deleted when the store knows who asked for it, else a sign of lost memory.

Every creation is journalled before it is asked for, so a resource whose maker is not in the store proves that the store is older
than the resource (a restored backup, a copied file). Then nothing is deleted: the installation pauses and says so. Volumes are never
swept. An object that went while this process ran is remembered: what a listing still shows of it for a while is no lost memory, and
parts that turn up late are deleted. Marks of other installations are none of our business (`look_around.py` lists them). Snapshot
first, then store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ..client import Event
from ..errors import SupplierError
from ..kinds import Cluster, Installation, Launch, LoadBalancer, Machine, Volume
from ..kinds.installation import NAME, UnknownResource
from ..objects import Resource
from ..runtime.calls import InProgress
from ..runtime.controller import Controller, Env, Key, Result, Watch
from ..runtime.inventory import Seen, What
from ..runtime.places import Place
from ..supplier import Mark, Phase, Ref
from .book import Book, Removal

SHOWN = 100
REMEMBERED = 3600.0
"""Awake seconds for which it is known of an object that it was there: longer than any listing lags."""

MAKERS: dict[What, type[Resource]] = {
    "machines": Launch,
    "networks": Cluster,
    "load_balancers": LoadBalancer,
    "volumes": Volume,
}
"""Whose uid a mark's maker is."""


class Found(NamedTuple):
    """One thing as it was seen. price: per hour, where the provider lists one."""

    id: str
    mark: Mark
    price: float | None = None


class SweeperController(Controller):
    name = "sweeper"

    def __init__(self, env: Env) -> None:
        self.watches = (
            Watch(Installation, lambda event: self._all()),
            Watch(Machine, self._of_machine),
            *(Watch(kind, self._of_maker) for kind in MAKERS.values()),
        )
        super().__init__(env)
        self.book = env.shared(Book)
        self._unknown: dict[Key, list[Found]] = {}
        self._kept: dict[Key, list[Found]] = {}
        self._former: dict[str, float] = {}  # uid of a maker that went -> awake time
        env.inventory.on_snapshot(lambda what, identity: [(self.name, Key(what, identity))])

    def reconcile(self, key: Key) -> Result:
        """Key: (kind of thing, identity)."""
        what: What = key.namespace  # type: ignore[assignment]
        place = next(iter(self.env.places.of_identity(key.name)), None)
        if place is None:
            return Result()
        seen = self.env.inventory.snapshot(place, what)
        if seen is None:
            return Result()
        unknown, kept = self._look(place, what, seen)
        before = (self._unknown.get(key, []), self._kept.get(key, []))
        self._unknown[key], self._kept[key] = unknown, kept
        installation = self.env.cache.get(Installation, NAME)
        told = installation is not None and (installation.status.unknown_resources or installation.status.kept_volumes)
        if installation is not None and (unknown or kept or any(before) or told):
            self._report(installation)
            if unknown and installation.spec.deletes_unknown(place.name) and not place.pause:
                self._delete_unknown(place, what, unknown, key)
        return Result()

    # -- what is seen ----------------------------------------------------------------------------------------------------

    def _look(self, place: Place, what: What, seen: Seen[Any]) -> tuple[list[Found], list[Found]]:
        """Delete what is not wanted any more; -> what nobody here has ever asked for, and volumes that were kept."""
        found = [
            Found(item.ref.id, item.ref.mark, getattr(item, "price_per_hour", None))
            for item in seen.by_id.values()
            if item.phase is not Phase.GONE
        ]
        strays = [Found(ref.id, ref.mark) for ref in seen.strays]
        unknown: list[Found] = []
        kept: list[Found] = []
        for one in (*found, *strays):
            id_, mark = one.id, one.mark
            maker = self._maker(what, mark)
            parted = one in strays or (what != "machines" and seen.by_id[id_].phase is Phase.PARTIAL)
            if maker is None and self._late(place, what, one, parted):
                continue
            if maker is None:
                (kept if what == "volumes" and mark.keep else unknown).append(one)
            elif isinstance(maker, Launch):
                whole = (mark.maker, mark.index) in seen.by_mark
                if maker.status.phase == "Settled" and (not self._wanted(maker, mark) or (one in strays and not whole)):
                    self._remove(place, maker, Ref(id=id_, mark=mark))
        return unknown, kept

    def _late(self, place: Place, what: What, one: Found, parted: bool) -> bool:
        """Whether it is of an object that went in this process's time, and is in order: listed late, or a part to be deleted."""
        went = self._former.get(one.mark.maker)
        if went is None or one.mark.keep:
            return False
        if parted and what in ("networks", "load_balancers") and place.may_delete:
            self._delete_single(place, what, Ref(id=one.id, mark=one.mark), Key(what, place.identity.key), lambda: True)
            return True
        return self.env.clock.awake() - went <= place.capabilities.settle

    def _maker(self, what: What, mark: Mark) -> Resource | None:
        """From the cache, and where it is not there, from the store: the snapshot is older than what is read now."""
        kind = MAKERS[what]
        cached = self.env.cache.uid(kind, mark.maker)
        if cached is not None:
            return cached
        stored, _ = self.env.client.list(kind)
        return next((o for o in stored if o.uid == mark.maker), None)

    def _wanted(self, launch: Launch, mark: Mark) -> bool:
        """A member's Machine exists: then it is that controller's, also when it is on its way out."""
        if mark.index >= len(launch.spec.members):
            return False
        member = launch.spec.members[mark.index]
        machine = self.env.cache.get(Machine, member.name, launch.namespace)
        return machine is not None and machine.uid == member.uid

    def _remove(self, place: Place, launch: Launch, ref: Ref) -> None:
        def still_unwanted() -> bool:
            stored = self.env.client.find(Launch, launch.name, launch.namespace)
            if stored is None or stored.uid != launch.uid or stored.status.phase != "Settled":
                return False
            if ref.mark.index >= len(stored.spec.members):
                return True
            member = stored.spec.members[ref.mark.index]
            machine = self.env.client.find(Machine, member.name, launch.namespace)
            return machine is None or machine.uid != member.uid or ref in self._strays(place)

        self._ask(place, ref, still_unwanted)
        message = f"{ref.id} at Provider {place.name} is not wanted any more, and is deleted"
        self.env.events.event(launch, "Normal", "Sweeping", message)

    def _strays(self, place: Place) -> tuple[Ref, ...]:
        seen = self.env.inventory.snapshot(place, "machines")
        return seen.strays if seen is not None else ()

    def _ask(self, place: Place, ref: Ref, wanted: Any) -> None:
        if not place.may_delete:
            return
        name = (ref.mark.maker, ref.mark.index, ref.id)
        removal = Removal(ref, wanted, (self.name, Key("machines", place.identity.key)), self.env.clock.awake())
        sent = self.book.removed.get(name)
        if sent is not None and self.env.clock.awake() - sent[0] < 30.0:
            return
        with self.book.lock:
            self.book.removals.setdefault(place.name, {})[name] = removal
        self.env.wake("deleter", Key("", place.name), 0.02)

    # -- lost memory -----------------------------------------------------------------------------------------------------

    def _report(self, installation: Installation) -> None:
        """Written only when it is news. Pausing is the core's own: the Installation is its object."""
        unknown, kept = list(self._lines(self._unknown)), list(self._lines(self._kept))
        pause = bool(unknown) and installation.spec.unknown_resources == "Pause" and not installation.spec.paused
        if pause:
            paused = self.env.cache.copy(installation)
            paused.spec.paused = True
            installation = self.env.client.update(paused)
        changed = self.env.cache.copy(installation)
        status, now, generation = changed.status, self.env.clock.wall(), installation.metadata.generation
        status.unknown_resources, status.kept_volumes = unknown[:SHOWN], kept[:SHOWN]
        if unknown:
            message = (
                f"{len(unknown)} resources carry the mark of this installation, and nothing here ever asked for them, so this "
                "store has lost memory (a restored backup, a copied file?). `kubeup leaks` lists them. To delete "
                "them: kubectl patch installation kubeup --type merge -p "
                '\'{"spec":{"unknownResources":"Delete","paused":false}}\'; to leave them alone, the same with Report'
            )
            status.set_condition("MemoryLost", True, "UnknownResources", message, now=now, generation=generation)
            if installation.spec.paused:
                status.set_condition("Ready", False, "MemoryLost", message, now=now, generation=generation)
        else:
            status.drop_condition("MemoryLost")
            if not installation.spec.paused:
                status.set_condition("Ready", True, "Working", now=now, generation=generation)
        status.observed_generation = generation
        if status != installation.status:
            self.env.client.update_status(changed)
            if unknown:
                self.env.events.event(
                    installation, "Warning", "MemoryLost", f"{len(unknown)} unknown resources: see the condition"
                )

    def _lines(self, found: dict[Key, list[Found]]) -> Iterator[UnknownResource]:
        for key, these in sorted(found.items()):
            place = next(iter(self.env.places.of_identity(key.name)), None)
            for id_, mark, price in sorted(these, key=lambda one: one.id):
                yield UnknownResource(
                    provider=place.name if place else "",
                    kind=mark.kind,
                    id=id_,
                    cluster=mark.cluster_name,
                    price_per_hour=price,
                )

    def _delete_unknown(self, place: Place, what: What, unknown: Iterable[Found], key: Key) -> None:
        """A person looked at them and said so. Never volumes."""

        def said_so() -> bool:
            stored = self.env.client.find(Installation, NAME)
            return stored is not None and stored.spec.deletes_unknown(place.name) and not stored.spec.paused

        for one in unknown:
            ref = Ref(id=one.id, mark=one.mark)
            if what == "machines":
                self._ask(place, ref, said_so)
                self.env.inventory.want(place, what, soon=True)
            elif what in ("networks", "load_balancers"):
                self._delete_single(place, what, ref, key, said_so)

    def _delete_single(self, place: Place, what: What, ref: Ref, key: Key, guard: Any) -> None:
        supplier = getattr(place.suppliers, what)
        if supplier is None:
            return
        try:
            self.env.calls.do(
                place, ref.mark.maker, "delete", lambda: supplier.delete(ref), wake=(self.name, key), token=ref.id, guard=guard
            )
        except InProgress:
            return
        except SupplierError as error:
            self.env.calls.note(place, error)  # tried again with the next observation
        self.env.inventory.want(place, what, soon=True)

    # -- who is woken ----------------------------------------------------------------------------------------------------

    def _all(self) -> list[Key]:
        return [Key(what, place.identity.key) for place in self.env.places.all() if place.usable for what in MAKERS]

    def _of_maker(self, event: Event[Any]) -> list[Key]:
        if event.type == "DELETED":
            now = self.env.clock.awake()
            self._former = {uid: went for uid, went in self._former.items() if now - went < REMEMBERED} | {
                event.object.uid: now
            }
        return []

    def _of_machine(self, event: Event[Any]) -> list[Key]:
        """A Machine that went may have left something behind."""
        if event.type != "DELETED":
            return []
        return [Key("machines", place.identity.key) for place in self.env.places.all() if place.usable]
