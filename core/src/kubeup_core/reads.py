"""Lists and watches, with selectors, pages and resourceVersions as Kubernetes has them. Called by `verbs` only.

Without a selector no object is decoded: the store's bytes are passed on, and every watcher shares them.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from . import store
from .kinds import Kind
from .selectors import Matches, compile_selectors, name_in
from .statuses import BadRequest, Cause, Expired, Invalid, Timeout
from .store import Change, Record, Store

Deliver = Callable[[Sequence[Change]], None]
"""Gets changes in order, in batches. `type` is ADDED, MODIFIED or DELETED as this watch sees it."""

_CHUNK = 500

Records = list[Record]


@dataclass(frozen=True)
class Page:
    """items: encoded objects. rv: of the whole list, the same on all its pages. remaining: None where it is not known."""

    items: list[bytes]
    rv: int
    continue_: str = ""
    remaining: int | None = None


@dataclass(frozen=True)
class _Place:
    """Where a list goes on: after an object, in the state of its first page, of so many, of which so many were given."""

    rv: int
    after: tuple[str, str]
    total: int
    given: int


class Reads:
    def __init__(self, store: Store) -> None:
        self._store = store

    def list(
        self,
        kind: Kind,
        namespace: str | None,
        labels: str = "",
        fields: str = "",
        limit: int = 0,
        continue_: str = "",
        resource_version: str = "",
        match: str = "",
    ) -> Page:
        """Raises BadRequest (selectors, continue, resourceVersion), Invalid (match), Expired (a state that is no longer kept),
        Timeout (a state that does not exist yet)."""
        matches = compile_selectors(kind, labels, fields)
        _check_match(resource_version, match, continue_)
        if continue_:
            place = _unpack(continue_)
            return self._page(kind, namespace, matches, limit, place)
        at = self._state(kind, resource_version, match, limit)
        if (name := name_in(fields)) is not None and at is None and (namespace is not None or not kind.namespaced):
            return self._one(kind, namespace or "", name, matches)
        if limit <= 0:
            records, rv = self._records(kind, namespace, at, 0, None)
            return Page([r.data for r in records if matches is None or matches(orjson.loads(r.data))], rv)
        return self._page(kind, namespace, matches, limit, None if at is None else _Place(at, ("", ""), 0, 0))

    def watch(
        self, kind: Kind, namespace: str | None, since: int | None, deliver: Deliver, labels: str = "", fields: str = ""
    ) -> Callable[[], None]:
        """Changes after `since`, or all there is and then the changes. With a selector, what enters it is ADDED and what leaves
        it is DELETED. `deliver` runs on this thread first and on the store's writer thread afterwards: it must be quick.
        Raises Expired, BadRequest. Returns what ends the watch."""
        only = _Only(namespace, name_in(fields) if "," not in fields else None, None)
        if only.name is None or labels:
            only = replace(only, matches=compile_selectors(kind, labels, fields))

        def pass_on(changes: Sequence[Change]) -> None:
            ours = changes if only.everything else [seen for change in changes if (seen := only.see(change))]
            if ours:
                deliver(ours)

        if not since:
            records, since = self._store.list(kind.resource, namespace)
            pass_on([Change(r.rv, "ADDED", r.resource, r.namespace, r.name, r.data, None) for r in records])
        elif since > (now := self._now(kind, since)):
            raise Expired(f"too old resource version: {since} is not of this server, which is at {now}")
        try:
            return self._store.watch(kind.resource, since, pass_on)
        except store.Expired as error:
            raise Expired(str(error)) from error

    def _one(self, kind: Kind, namespace: str, name: str, matches: Matches | None) -> Page:
        rv = self._store.rv()
        record = self._store.get(kind.resource, namespace, name)
        if record is None or (matches is not None and not matches(orjson.loads(record.data))):
            return Page([], rv)
        return Page([record.data], max(rv, record.rv))

    def _page(self, kind: Kind, namespace: str | None, matches: Matches | None, limit: int, place: _Place | None) -> Page:
        after = place.after if place else None
        at = place.rv if place else None
        items: list[bytes] = []
        more = True
        last = ("", "")
        while more and (limit <= 0 or len(items) < limit):
            chunk = limit if matches is None else max(limit, _CHUNK)
            records, rv = self._records(kind, namespace, at, chunk + 1 if limit > 0 else 0, after)
            at = rv
            more = limit > 0 and len(records) > chunk
            for i, record in enumerate(records[:chunk] if more else records):
                last = after = (record.namespace, record.name)
                if matches is None or matches(orjson.loads(record.data)):
                    items.append(record.data)
                    if len(items) == limit:
                        more = more or i + 1 < len(records)
                        break
        assert at is not None
        if not more:
            return Page(items, at)
        total = place.total if place and place.total else self._total(kind, namespace, at)
        given = (place.given if place else 0) + len(items)
        remaining = max(1, total - given) if matches is None else None
        return Page(items, at, _pack(_Place(at, last, total, given)), remaining)

    def _total(self, kind: Kind, namespace: str | None, at: int) -> int:
        if at == self._store.rv():
            return self._store.count(kind.resource, namespace)
        return len(self._records(kind, namespace, at, 0, None)[0])

    def _records(
        self, kind: Kind, namespace: str | None, at: int | None, limit: int, after: tuple[str, str] | None
    ) -> tuple[Records, int]:
        try:
            return self._store.list(kind.resource, namespace, at=at, limit=limit, after=after)
        except store.Expired as error:
            raise Expired(
                "The provided continue parameter or resourceVersion is too old to display a consistent list result: "
                f"{error}. Start the list again without it."
            ) from error

    def _now(self, kind: Kind, wanted: int) -> int:
        """The newest state, at least as fresh as any list that was given: a commit can be read a moment before it is told."""
        now = self._store.rv()
        return now if wanted <= now else self._store.list(kind.resource, "", limit=1)[1]

    def _state(self, kind: Kind, resource_version: str, match: str, limit: int) -> int | None:
        """The exact state that is asked for; None: the newest will do."""
        if resource_version in ("", "0"):
            return None
        wanted = _number(resource_version)
        now = self._now(kind, wanted)
        if wanted > now:
            cause = Cause("ResourceVersionTooLarge", "Too large resource version")
            raise Timeout(f"Too large resource version: {wanted}, current: {now}", causes=[cause], retry_after=1)
        exact = match == "Exact" or (not match and limit > 0)
        return wanted if exact else None


@dataclass(frozen=True)
class _Only:
    """What a watch is about."""

    namespace: str | None
    name: str | None
    matches: Matches | None

    @property
    def everything(self) -> bool:
        return self.namespace is None and self.name is None and self.matches is None

    def see(self, change: Change) -> Change | None:
        """A change as this watch sees it, or None."""
        if self.namespace is not None and change.namespace != self.namespace:
            return None
        if self.name is not None and change.name != self.name:
            return None
        if self.matches is None:
            return change
        before = change.prev is not None and self.matches(orjson.loads(change.prev))
        if change.type == "DELETED":
            return change if before else None
        if self.matches(orjson.loads(change.data)):
            return change if before == (change.type == "MODIFIED") else replace(change, type="MODIFIED" if before else "ADDED")
        if not before:
            return None
        assert change.prev is not None
        return replace(change, type="DELETED", data=_at(change.prev, change.rv))


def _at(data: bytes, rv: int) -> bytes:
    obj = orjson.loads(data)
    obj["metadata"]["resourceVersion"] = str(rv)
    return orjson.dumps(obj)


def _check_match(resource_version: str, match: str, continue_: str) -> None:
    if continue_ and resource_version not in ("", "0"):
        raise BadRequest("specifying resource version is not allowed when using continue")
    why = ""
    if match not in ("", "Exact", "NotOlderThan"):
        cause = Cause(
            "FieldValueNotSupported",
            f'Unsupported value: "{match[:50]}": supported values: "Exact", "NotOlderThan"',
            "resourceVersionMatch",
        )
    elif match and continue_:
        why = "resourceVersionMatch is forbidden when continue is provided"
    elif match and not resource_version:
        why = "resourceVersionMatch is forbidden unless resourceVersion is provided"
    elif match == "Exact" and resource_version == "0":
        why = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
    else:
        return
    if why:
        cause = Cause("FieldValueForbidden", f"Forbidden: {why}", "resourceVersionMatch")
    text = f'ListOptions.meta.k8s.io "" is invalid: {cause.field}: {cause.message}'
    raise Invalid(text, group="meta.k8s.io", kind="ListOptions", causes=[cause])


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise BadRequest(f'invalid resource version: "{text[:50]}"')
    return int(text)


def _pack(place: _Place) -> str:
    text = orjson.dumps([place.rv, *place.after, place.total, place.given])
    return base64.urlsafe_b64encode(text).decode()


def _unpack(token: str) -> _Place:
    try:
        rv, namespace, name, total, given = orjson.loads(base64.b64decode(token, altchars=b"-_", validate=True))
        if not (_natural(rv) and _natural(total) and _natural(given) and isinstance(namespace, str) and isinstance(name, str)):
            raise ValueError
    except (ValueError, TypeError, binascii.Error):
        raise BadRequest("continue key is not valid; start the list again without it") from None
    return _Place(rv, (namespace, name), total, given)


def _natural(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
