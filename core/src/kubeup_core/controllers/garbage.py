"""Owner references: what an owner leaves behind is deleted (or let go), as Kubernetes' garbage collector does it.

Keys are uids of owners. Three policies, chosen by whoever deletes the owner:
  Background  the owner goes at once; its dependents are found here by their reference to a uid that is no more
  Foreground  the owner waits, with a finalizer, until the dependents that block it are gone
  Orphan      the owner waits, with a finalizer, until no dependent refers to it any more
The finalizers are set by the verbs. An owner that cannot be found in the cache is read once more from the store before anything
that refers to it is deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..client import Event
from ..kinds import KINDS
from ..kinds.kind import Kind
from ..objects import OwnerReference, Resource
from ..runtime.controller import Controller, Key, Result, Watch
from ..statuses import Conflict, Forbidden, NotFound

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"

PROTECTED_AGAIN = 60.0
"""Seconds until a dependent that may not be deleted (spec.protect) is tried again."""


def keys_of(event: Event[Any]) -> Iterator[Key]:
    """An object concerns its owners and, when it goes, what it owns."""
    for state in (event.object, event.old):
        if state is not None:
            yield from (Key("", owner.uid) for owner in state.metadata.owner_references or ())
    if event.type == "DELETED" or event.object.deleting:
        yield Key("", event.object.uid)


class GarbageController(Controller):
    name = "garbage"
    kinds: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind.kind != "Event")
    watches = tuple(Watch(kind.model, keys_of) for kind in kinds)

    def reconcile(self, key: Key) -> Result:
        uid = key.name
        dependents = [d for kind in self.kinds for d in self.env.cache.by(kind.model, "owner", uid)]
        owner = self._owner(uid, dependents)
        if owner is None:
            return self._collect(dependents)
        if not owner.deleting:
            return Result()
        if ORPHAN in owner.finalizers:
            for dependent in dependents:
                self._let_go(dependent, {uid})
            self._drop(owner, ORPHAN)
        elif FOREGROUND in owner.finalizers:
            return self._foreground(owner, dependents)
        return Result()

    # -- the policies ----------------------------------------------------------------------------------------------------

    def _collect(self, dependents: Iterable[Resource]) -> Result:
        """The owner is gone: so is what has no other, and the rest forgets it."""
        again: float | None = None
        for dependent in dependents:
            gone = {ref.uid for ref in dependent.metadata.owner_references or () if self._find(ref, dependent) is None}
            if len(gone) < len(dependent.metadata.owner_references or ()):
                self._let_go(dependent, gone)
            elif not self._delete(dependent, ORPHAN if ORPHAN in dependent.finalizers else None):
                again = PROTECTED_AGAIN
        return Result(after=again)

    def _foreground(self, owner: Resource, dependents: list[Resource]) -> Result:
        blocking = [d for d in dependents if any(r.uid == owner.uid and r.block_owner_deletion for r in _owners(d))]
        again: float | None = None
        for dependent in dependents:
            others = {r.uid for r in _owners(dependent) if r.uid != owner.uid and self._find(r, dependent) is not None}
            if others:
                self._let_go(dependent, {owner.uid})
            elif not self._delete(dependent, FOREGROUND):
                again = PROTECTED_AGAIN
        if not blocking:
            self._drop(owner, FOREGROUND)
        return Result(after=again)

    # -- one object ------------------------------------------------------------------------------------------------------

    def _owner(self, uid: str, dependents: list[Resource]) -> Resource | None:
        for dependent in dependents:
            for ref in _owners(dependent):
                if ref.uid == uid:
                    return self._find(ref, dependent)
        return next((o for kind in self.kinds for o in self.env.cache.by(kind.model, "uid", uid)), None)

    def _find(self, ref: OwnerReference, dependent: Resource) -> Resource | None:
        """The owner that a reference means: that uid, not just that name. A namespaced owner is in the dependent's namespace."""
        kind = next((k for k in KINDS if k.kind == ref.kind and k.api_version == ref.api_version), None)
        if kind is None:
            return dependent  # of a kind that is not known here: nothing can be said, so nothing is collected
        namespace = dependent.namespace if kind.namespaced else ""
        cached = self.env.cache.get(kind.model, ref.name, namespace)
        if cached is not None and cached.uid == ref.uid:
            return cached
        stored = self.env.client.find(kind.model, ref.name, namespace)
        return stored if stored is not None and stored.uid == ref.uid else None

    def _delete(self, dependent: Resource, finalizer: str | None) -> bool:
        """False when it may not be deleted yet."""
        if dependent.deleting:
            return True
        foreground = finalizer == FOREGROUND and any(
            self.env.cache.by(kind.model, "owner", dependent.uid) for kind in self.kinds
        )
        try:
            self.env.client.delete(
                type(dependent),
                dependent.name,
                dependent.namespace,
                uid=dependent.uid,
                propagation="Foreground" if foreground else "Background",
            )
        except (NotFound, Conflict):
            return True  # gone already, or another one of that name
        except Forbidden as error:
            message = f"its owner is gone, but it cannot be deleted: {error.message}"
            self.env.events.event(dependent, "Warning", "DeletionRefused", message)
            return False
        return True

    def _let_go(self, dependent: Resource, uids: set[str]) -> None:
        if not any(ref.uid in uids for ref in _owners(dependent)):
            return
        changed = dependent.model_copy(deep=True)
        changed.metadata.owner_references = [ref for ref in _owners(changed) if ref.uid not in uids] or None
        self._write(changed)

    def _drop(self, owner: Resource, finalizer: str) -> None:
        changed = owner.model_copy(deep=True)
        changed.metadata.finalizers = [f for f in owner.finalizers if f != finalizer] or None
        self._write(changed)

    def _write(self, changed: Resource) -> None:
        try:
            self.env.client.update(changed)
        except NotFound:
            return


def _owners(resource: Resource) -> list[OwnerReference]:
    return resource.metadata.owner_references or []
