"""Every object of every kind that controllers read, fed by watches, with indexes; and the client that keeps it read-your-writes.

One cache per process, shared by all controllers, so that a reconcile costs no read from the store. Objects are shared: never change
one, take `copy`. A write's answer is in the cache before the write returns, so the next reconcile never decides on what its own
controller has just replaced.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, TypeVar, cast

from ..client import Client, Event
from ..kinds import Cluster, Launch, LoadBalancer, Machine, Namespace, NodePool, Provider, Volume, kind_of
from ..objects import Resource

R = TypeVar("R", bound=Resource)
Name = tuple[str, str]
Handler = Callable[[Event[Any]], None]
Values = Callable[[Any], Iterable[str]]


def _cluster(o: Any) -> Iterator[str]:
    yield f"{o.namespace}/{o.spec.cluster}"


def _machine_pool(m: Machine) -> Iterator[str]:
    if m.spec.pool:
        yield f"{m.namespace}/{m.spec.cluster}/{m.spec.pool}"


def _launch_pool(launch: Launch) -> Iterator[str]:
    if launch.spec.pool:
        yield f"{launch.namespace}/{launch.spec.cluster}/{launch.spec.pool}"


def _pool_providers(pool: NodePool) -> Iterator[str]:
    if pool.spec.provider:
        yield pool.spec.provider
    yield from (offer.provider for offer in pool.spec.offers)


def _machine_provider(m: Machine) -> Iterator[str]:
    name = m.status.resolved.provider if m.status.resolved else ""
    if name or m.spec.provider:
        yield name or m.spec.provider or ""


INDEXES: dict[type[Resource], dict[str, Values]] = {
    NodePool: {"cluster": _cluster, "provider": _pool_providers},
    Machine: {
        "cluster": _cluster,
        "pool": _machine_pool,
        "provider": _machine_provider,
        "launch": lambda m: (m.status.launch,) if m.status.launch else (),
    },
    Launch: {
        "cluster": _cluster,
        "pool": _launch_pool,
        "provider": lambda launch: (launch.spec.provider,),
        "member": lambda launch: (member.uid for member in launch.spec.members),
        "phase": lambda launch: (launch.status.phase,),
    },
    LoadBalancer: {"cluster": _cluster, "provider": lambda b: (b.status.provider or b.spec.provider,)},
    Volume: {
        "cluster": _cluster,
        "provider": lambda v: (v.status.provider or v.spec.provider or "",),
        "machine": lambda v: (f"{v.namespace}/{v.status.attached_to}",) if v.status.attached_to else (),
    },
    Cluster: {"provider": lambda c: {c.spec.provider, *(n.provider for n in c.status.networks)}},
    Provider: {"type": lambda p: (p.spec.type,)},
}
"""index -> the values an object is found under. Every kind has "uid" and "owner" (uids of its owners) besides."""


def _owners(o: Resource) -> Iterator[str]:
    yield from (ref.uid for ref in o.metadata.owner_references or ())


class _Table:
    """One kind's objects and indexes."""

    def __init__(self, kind: type[Resource]) -> None:
        self.objects: dict[Name, Resource] = {}
        self.before: dict[Name, tuple[int, Resource | None]] = {}  # what our own last write, at that version, replaced
        self.gone: dict[Name, int] = {}  # our own removals that the watch has not told yet
        self.values: dict[str, Values] = {"uid": lambda o: (o.uid,), "owner": _owners, **INDEXES.get(kind, {})}
        self.index: dict[str, dict[str, dict[Name, Resource]]] = {name: {} for name in self.values}

    def set(self, name: Name, obj: Resource) -> None:
        """Readers take no lock, so the object is replaced, never taken away for a moment."""
        old = self.objects.get(name)
        self.objects[name] = obj
        for index, values in self.values.items():
            found, now = self.index[index], set(values(obj))
            for value in now:
                found.setdefault(value, {})[name] = obj
            if old is not None:
                self._unlist(index, name, [value for value in values(old) if value not in now])

    def drop(self, name: Name) -> Resource | None:
        old = self.objects.pop(name, None)
        if old is not None:
            for index, values in self.values.items():
                self._unlist(index, name, list(values(old)))
        return old

    def _unlist(self, index: str, name: Name, values: Iterable[str]) -> None:
        for value in values:
            found = self.index[index].get(value)
            if found is not None:
                found.pop(name, None)
                if not found:
                    del self.index[index][value]


class Cache:
    """Thread-safe. Reads take no lock: they are single operations on dictionaries, and a hundred times as many as writes."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._tables: dict[type[Resource], _Table] = {}
        self._handlers: dict[type[Resource], list[Handler]] = {}
        self._ends: list[Callable[[], None]] = []

    # -- reads -----------------------------------------------------------------------------------------------------------

    def get(self, kind: type[R], name: str, namespace: str = "") -> R | None:
        return self._table(kind).objects.get((namespace, name))  # type: ignore[return-value]

    def by(self, kind: type[R], index: str, value: str) -> list[R]:
        """Objects with that value in an index (`INDEXES`, "uid", "owner")."""
        found = self._table(kind).index[index].get(value)
        return cast("list[R]", list(found.values())) if found else []

    def uid(self, kind: type[R], uid: str) -> R | None:
        found = self.by(kind, "uid", uid)
        return found[0] if found else None

    def list(self, kind: type[R], namespace: str | None = None) -> list[R]:
        objects = list(self._table(kind).objects.values())
        return cast("list[R]", [o for o in objects if namespace is None or o.namespace == namespace])

    @staticmethod
    def copy(obj: R) -> R:
        """One that may be changed."""
        return obj.model_copy(deep=True)

    # -- feeding ---------------------------------------------------------------------------------------------------------

    def follow(self, client: Client, kinds: Iterable[type[Resource]]) -> None:
        """List and watch. Handlers are called for changes only, not for what was listed."""
        for kind in kinds:
            objects, rv = client.list(kind)
            for obj in objects:
                self.put(obj)
            self._ends.append(client.watch(kind, rv, _Receiver(self)))

    def on_change(self, kind: type[Resource], handler: Handler) -> None:
        """Call after each change that a watch tells, in order, on the client's thread: quick, and never raising."""
        self._handlers.setdefault(kind, []).append(handler)

    def replay(self, kind: type[Resource], name: str, namespace: str = "") -> None:
        """Call the handlers as if the object had changed: something that belongs to it did."""
        obj = self.get(kind, name, namespace)
        if obj is not None:
            for handler in self._handlers.get(kind, ()):
                handler(Event("MODIFIED", obj, obj))

    def put(self, obj: Resource, *, own: bool = False) -> bool:
        """Take over a state unless a newer one is there. An object that nothing holds any more is gone. own: we wrote it."""
        rv = int(obj.metadata.resource_version or 0)
        name = (obj.namespace, obj.name)
        with self._lock:
            table = self._table(type(obj))
            current = table.objects.get(name)
            if current is not None and int(current.metadata.resource_version or 0) >= rv:
                return False
            if table.gone.get(name, -1) >= rv:
                return False
            if obj.deleting and not obj.finalizers and not isinstance(obj, Namespace):  # held by its spec.finalizers
                table.drop(name)
                table.gone[name] = rv
            else:
                if own:
                    table.before[name] = (rv, current)
                table.set(name, obj)
            return True

    def known(self, kind: type[Resource], namespace: str, name: str, rv: int) -> Event[Any] | None:
        """The change that led to this version, when it is one of our own and the newest: then nothing need be decoded again."""
        with self._lock:
            table = self._table(kind)
            current, before = table.objects.get((namespace, name)), table.before.get((namespace, name))
            if current is None or before is None or before[0] != rv or current.metadata.resource_version != str(rv):
                return None
            return Event("ADDED" if before[1] is None else "MODIFIED", current, before[1])

    def forget(self, kind: type[Resource], name: str, namespace: str = "") -> None:
        """It was found to be gone."""
        with self._lock:
            table = self._table(kind)
            old = table.drop((namespace, name))
            if old is not None:
                table.gone[(namespace, name)] = int(old.metadata.resource_version or 0)

    def close(self) -> None:
        for end in self._ends:
            end()
        self._ends.clear()

    def _told(self, event: Event[Any]) -> None:
        obj = event.object
        name = (obj.namespace, obj.name)
        with self._lock:
            table = self._table(type(obj))
            current = table.objects.get(name)
            if event.type == "DELETED":
                table.gone.pop(name, None)
                table.before.pop(name, None)
                if current is not None and current.uid == obj.uid:
                    table.drop(name)
            else:
                self.put(obj)
                table.before.pop(name, None)
            if event.old is None and current is not None and event.type == "MODIFIED":
                event = Event(event.type, obj, current)
        for handler in self._handlers.get(type(obj), ()):
            handler(event)

    def _table(self, kind: type[Resource]) -> _Table:
        table = self._tables.get(kind)
        if table is None:
            table = self._tables.setdefault(kind, _Table(kind))
        return table


class _Receiver:
    """What a watch delivers to."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self.known = cache.known

    def __call__(self, event: Event[Any]) -> None:
        self._cache._told(event)


class CachedClient:
    """A client whose writes are in the cache before they return."""

    def __init__(self, client: Client, cache: Cache) -> None:
        self._client = client
        self._cache = cache

    def get(self, kind: type[R], name: str, namespace: str = "") -> R:
        return self._client.get(kind, name, namespace)

    def find(self, kind: type[R], name: str, namespace: str = "") -> R | None:
        return self._client.find(kind, name, namespace)

    def list(self, kind: type[R], namespace: str | None = None, *, labels: str = "", fields: str = "") -> tuple[list[R], str]:
        return self._client.list(kind, namespace, labels=labels, fields=fields)

    def create(self, obj: R) -> R:
        return self._written(self._client.create(obj))

    def update(self, obj: R) -> R:
        return self._written(self._client.update(obj))

    def update_status(self, obj: R) -> R:
        return self._written(self._client.update_status(obj))

    def delete(
        self,
        kind: type[R],
        name: str,
        namespace: str = "",
        *,
        uid: str | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] = "Background",
    ) -> None:
        self._client.delete(kind, name, namespace, uid=uid, propagation=propagation)
        cached = self._cache.get(kind, name, namespace)
        if cached is None or cached.deleting or (uid is not None and cached.uid != uid):
            return
        left = self._client.find(kind, name, namespace)
        if left is None:
            self._cache.forget(kind, name, namespace)
        else:
            self._cache.put(left)

    def watch(self, kind: type[R], since: str, deliver: Callable[[Event[R]], None]) -> Callable[[], None]:
        return self._client.watch(kind, since, deliver)

    def _written(self, obj: R) -> R:
        if kind_of(type(obj)).kind != "Event":
            self._cache.put(obj, own=True)
        return obj
