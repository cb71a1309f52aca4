"""get, list, create, update, patch, delete and watch: the only door to the store.

The server calls it for HTTP requests, and the in-process client for controllers, so both meet the same rules. Here are reading,
committing, retrying and auditing; how an object becomes the next is in `writes.py`, lists and watches are in `reads.py`, types
in `validation.py`, rules in `admission.py`. Synchronous and thread-safe; a write returns when it is on disk. Errors are those
of `statuses.py`.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import orjson

from . import scale, writes
from .admission import check_delete, check_identity
from .kinds import KINDS, Kind
from .namespaces import NamespaceGate
from .objects import timestamp
from .patches import patched
from .reads import Deliver, Page, Reads
from .requests import DELETE, WRITE, Actor, Answer, AuditLine, DeleteOptions, Options, PatchType
from .statuses import (
    AlreadyExists,
    BadRequest,
    Cause,
    Conflict,
    InternalError,
    Invalid,
    NotFound,
    StatusError,
    Unavailable,
)
from .store import Closed, Exists, Op, Put, Record, Remove, Stale, Store, StoreError
from .validation import check_plain, invalid

_TRIES = 200
"""A write without resourceVersion is repeated when another came between. From the third time on in turn, so this is never reached
by honest competition."""
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


class Clock(Protocol):
    """The part of the runtime's clock that is needed here."""

    def wall(self) -> float:
        """Epoch seconds."""
        ...


@dataclass
class _Audited:
    """What becomes known while a request runs."""

    name: str
    code: int = 200


Step = Callable[[dict[str, Any]], writes.Next]
"""From the stored object to the next one; called again when another write came between."""


class Verbs:
    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        kinds: Sequence[Kind] = KINDS,
        audit: Callable[[AuditLine], None] | None = None,
    ) -> None:
        self.store = store
        self._clock = clock
        self._kinds = {kind.plural: kind for kind in kinds}
        self._audit = audit
        self._reads = Reads(store)
        self._turns = [threading.Lock() for _ in range(64)]
        self._gate = NamespaceGate(store, kinds)

    # -- reads -----------------------------------------------------------------------------------------------------------

    def get(self, kind: Kind, namespace: str, name: str, subresource: str = "") -> bytes:
        """Raises NotFound."""
        data = self._record(kind, namespace, name).data
        return scale.of(orjson.loads(data)) if subresource == "scale" else data

    def list(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        limit: int = 0,
        continue_: str = "",
        resource_version: str = "",
        match: str = "",
    ) -> Page:
        """One page. The parameters are those of the request; see `Reads.list` for errors."""
        return self._reads.list(kind, namespace, labels, fields, limit, continue_, resource_version, match)

    def watch(
        self, kind: Kind, namespace: str | None, since: int | None, deliver: Deliver, *, labels: str = "", fields: str = ""
    ) -> Callable[[], None]:
        """Every change after `since` (None or 0: first an ADDED for all there is). See `Reads.watch`."""
        return self._reads.watch(kind, namespace, since, deliver, labels, fields)

    # -- writes ----------------------------------------------------------------------------------------------------------

    def create(self, kind: Kind, namespace: str, obj: Any, actor: Actor, options: Options = WRITE) -> Answer:
        """Raises AlreadyExists, NotFound (the namespace), Forbidden (it is terminating), Invalid, BadRequest."""
        with self._audited("create", kind, namespace, "", actor, options.dry_run) as audited:
            check_plain(obj)
            check_identity(kind, obj, namespace, None)
            named = (obj.get("metadata") or {}).get("name")
            audited.name = named if isinstance(named, str) else ""
            answer = self._create(kind, namespace, obj, options)
            audited.code = 201
            audited.name = audited.name or orjson.loads(answer.data)["metadata"]["name"]
            return answer

    def update(self, kind: Kind, namespace: str, name: str, obj: Any, actor: Actor, options: Options = WRITE) -> Answer:
        """PUT: the whole object, or its status, or its Scale. Raises NotFound, Conflict, Invalid, BadRequest."""
        with self._audited("update", kind, namespace, name, actor, options.dry_run, options.subresource):
            check_plain(obj)
            if options.subresource == "scale":
                return self._scaled(kind, namespace, name, lambda _: obj, options)
            check_identity(kind, obj, namespace, name)
            rv = (obj.get("metadata") or {}).get("resourceVersion")
            if not rv and kind.plural not in ("namespaces", "secrets", "events"):
                cause = Cause(
                    "FieldValueInvalid", "Invalid value: 0: must be specified for an update", "metadata.resourceVersion"
                )
                refusal = invalid(kind, name, [cause])
                raise Invalid(refusal.message, name=name, group=kind.group, kind=kind.plural, causes=[cause])
            return self._rewritten(kind, namespace, name, lambda _: obj, options)

    def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        patch: Any,
        patch_type: PatchType,
        actor: Actor,
        options: Options = WRITE,
    ) -> Answer:
        """Raises as update does, and Conflict with its causes for an apply; an apply may create."""
        with self._audited("patch", kind, namespace, name, actor, options.dry_run, options.subresource) as audited:
            check_plain(patch)
            _check_apply(options, patch_type)
            if patch_type == "apply" and options.subresource != "scale":
                answer = self._apply(kind, namespace, name, patch, options)
                audited.code = 201 if answer.created else 200
                return answer
            if options.subresource == "scale":
                return self._scaled(
                    kind, namespace, name, lambda now: patched(kind, now, patch, scale.patch_type(patch_type)), options
                )

            def body(old: dict[str, Any]) -> Any:
                result = patched(kind, old, patch, patch_type)
                check_plain(result)
                check_identity(kind, result, namespace, name)
                return result

            return self._rewritten(kind, namespace, name, body, options, patching=True)

    def delete(self, kind: Kind, namespace: str, name: str, actor: Actor, options: DeleteOptions = DELETE) -> Answer:
        """Remove, or mark when something holds it. Raises NotFound, Conflict (preconditions), Forbidden (protected)."""
        with self._audited("delete", kind, namespace, name, actor, options.dry_run):
            return self._delete(kind, namespace, name, options)

    def delete_collection(
        self,
        kind: Kind,
        namespace: str,
        actor: Actor,
        options: DeleteOptions = DELETE,
        *,
        labels: str = "",
        fields: str = "",
    ) -> Answer:
        """Delete all that match; the answer is a List of them. One that is protected refuses the whole request."""
        with self._audited("deletecollection", kind, namespace, "", actor, options.dry_run):
            page = self._reads.list(kind, namespace, labels, fields)
            found = [orjson.loads(item) for item in page.items]
            for obj in found:
                if "deletionTimestamp" not in obj["metadata"]:
                    check_delete(kind, obj, self._others)
            for obj in found:
                try:
                    self._delete(kind, namespace, obj["metadata"]["name"], replace(options, uid=obj["metadata"]["uid"]))
                except (NotFound, Conflict):
                    continue  # Somebody else was quicker.
            head = {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": {"resourceVersion": str(page.rv)}}
            return Answer(orjson.dumps(head | {"items": found}))

    # -- how they are done -----------------------------------------------------------------------------------------------

    def _create(self, kind: Kind, namespace: str, obj: dict[str, Any], options: Options) -> Answer:
        metadata = obj.get("metadata") or {}
        prefix = metadata.get("generateName") if not metadata.get("name") else None
        for left in reversed(range(8)):
            body = obj
            if isinstance(prefix, str) and prefix:
                suffix = "".join(secrets.choice(_ALPHABET) for _ in range(5))
                body = {**obj, "metadata": {**metadata, "name": prefix[:58] + suffix}}
            nxt = writes.created(kind, body, namespace, self._writer(options))
            try:
                return self._insert(kind, namespace, nxt, options, patching=False)
            except AlreadyExists:
                if not prefix or not left:
                    raise
        raise AssertionError("unreachable")

    def _insert(self, kind: Kind, namespace: str, nxt: writes.Next, options: Options, *, patching: bool) -> Answer:
        metadata = nxt.obj["metadata"]
        name = metadata["name"]
        warnings = _complaints(kind, name, nxt, options, patching=patching)
        with self._gate.creating(kind, namespace):
            if options.dry_run:
                if self.store.get(kind.resource, namespace, name) is not None:
                    raise _exists(kind, name)
                return Answer(writes.encode(nxt.obj, None), created=True, warnings=warnings)
            put = Put(kind.resource, namespace, name, metadata["uid"], writes.encode(nxt.obj), None)
            try:
                record = self._commit(put)
            except Exists:
                raise _exists(kind, name) from None
        return Answer(record.data, created=True, warnings=warnings, rv=record.rv)

    def _rewritten(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        body: Callable[[dict[str, Any]], dict[str, Any]],
        options: Options,
        *,
        patching: bool = False,
    ) -> Answer:
        who = self._writer(options)

        def step(old: dict[str, Any]) -> writes.Next:
            new = body(old)
            writes.check_version(kind, new, old)
            if options.subresource == "status":
                return writes.status_replaced(kind, old, new, who)
            return writes.replaced(kind, old, new, who, self._others)

        return self._change(kind, namespace, name, step, options, patching=patching)

    def _apply(self, kind: Kind, namespace: str, name: str, config: Any, options: Options) -> Answer:
        check_identity(kind, config, namespace, name)
        metadata = config.get("metadata") or {}
        if metadata.get("managedFields"):
            raise BadRequest("metadata.managedFields must be nil")
        who = self._writer(options)

        def apply(old: dict[str, Any] | None) -> writes.Next:
            if old is not None:
                writes.check_version(kind, config, old)
            return writes.applied(kind, old, config, who, namespace, name, force=options.force, others=self._others)

        for _ in range(_TRIES):
            try:
                return self._change(kind, namespace, name, apply, options, patching=True)
            except NotFound:
                if options.subresource or metadata.get("resourceVersion"):
                    raise
            if metadata.get("uid"):
                why = f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: "
                raise writes.conflict(kind, name, why)
            nxt = apply(None)
            try:
                return self._insert(kind, namespace, nxt, options, patching=True)
            except AlreadyExists:
                continue
        raise _busy(kind, name)

    def _scaled(self, kind: Kind, namespace: str, name: str, body: Callable[[dict[str, Any]], Any], options: Options) -> Answer:
        """Write a Scale: its spec.replicas goes to the object's, and nothing else does."""

        def wanted(old: dict[str, Any]) -> dict[str, Any]:
            return scale.onto(kind, old, body(orjson.loads(scale.of(old))))

        answer = self._rewritten(kind, namespace, name, wanted, options, patching=True)
        return replace(answer, data=scale.of(orjson.loads(answer.data)))

    def _delete(self, kind: Kind, namespace: str, name: str, options: DeleteOptions) -> Answer:
        def step(old: dict[str, Any]) -> writes.Next:
            was = old["metadata"]
            _check_preconditions(kind, was, options)
            if "deletionTimestamp" in was:
                return writes.Next(old, changed=False)
            check_delete(kind, old, self._others)
            return writes.marked(kind, old, options.propagation, timestamp(self._clock.wall()))

        answer = self._change(kind, namespace, name, step, Options(dry_run=options.dry_run))
        obj = orjson.loads(answer.data)
        if writes.held(kind, obj):
            return answer
        uid = obj["metadata"]["uid"]
        details = {"name": name, **({"group": kind.group} if kind.group else {}), "kind": kind.plural, "uid": uid}
        done = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        return Answer(orjson.dumps(done))

    def _change(self, kind: Kind, namespace: str, name: str, step: Step, options: Options, *, patching: bool = False) -> Answer:
        """Read, step, write where it was read; from the beginning when another write came between."""
        turn = self._turns[hash((kind.resource, namespace, name)) % len(self._turns)]
        for attempt in range(_TRIES):
            waiting = attempt >= 2
            if waiting:
                turn.acquire()
            try:
                record = self._record(kind, namespace, name)
                old = orjson.loads(record.data)
                nxt = step(old)
                warnings = _complaints(kind, name, nxt, options, patching=patching)
                if not nxt.changed:
                    return Answer(record.data, warnings=warnings, rv=record.rv)
                if options.dry_run:
                    return Answer(writes.encode(nxt.obj, str(record.rv)), warnings=warnings, rv=record.rv)
                try:
                    return replace(self._put(kind, record, old, nxt), warnings=warnings)
                except Stale:
                    continue
            finally:
                if waiting:
                    turn.release()
        raise _busy(kind, name)

    def _put(self, kind: Kind, record: Record, old: dict[str, Any], nxt: writes.Next) -> Answer:
        key = (record.resource, record.namespace, record.name)
        if not nxt.gone:
            stored = self._commit(Put(*key, record.uid, writes.encode(nxt.obj), record.rv))
            return Answer(stored.data, rv=stored.rv)
        if kind.kind == "Namespace":
            self._gate.check_empty(record.name)
        # Watchers get the last stored state; the writer gets the object as it made it.
        removed = self._commit(Remove(*key, record.rv, writes.encode(old)))
        return Answer(writes.encode(nxt.obj, str(removed.rv)), rv=removed.rv)

    # -- small parts -----------------------------------------------------------------------------------------------------

    def _record(self, kind: Kind, namespace: str, name: str) -> Record:
        record = self.store.get(kind.resource, namespace, name)
        if record is None:
            raise NotFound(f'{kind.resource} "{name}" not found', name=name, group=kind.group, kind=kind.plural)
        return record

    def _commit(self, op: Op) -> Record:
        try:
            return self.store.commit([op]).result()[0]
        except (Exists, Stale):
            raise
        except Closed as error:
            raise Unavailable(f"the server is stopping: {error}", retry_after=1) from error
        except StoreError as error:
            raise InternalError(str(error)) from error

    def _others(self, plural: str, namespace: str, containing: bytes) -> Iterable[Mapping[str, Any]]:
        records, _ = self.store.list(self._kinds[plural].resource, namespace)
        return [orjson.loads(record.data) for record in records if containing in record.data]

    def _writer(self, options: Options) -> writes.Writer:
        return writes.Writer(options.field_manager or "unknown", timestamp(self._clock.wall()), options.subresource)

    @contextmanager
    def _audited(
        self, verb: str, kind: Kind, namespace: str, name: str, actor: Actor, dry_run: bool, subresource: str = ""
    ) -> Iterator[_Audited]:
        audited = _Audited(name)
        reason = ""
        try:
            yield audited
        except StatusError as error:
            audited.code, reason = error.code, error.reason
            raise
        except BaseException:
            audited.code, reason = 500, "InternalError"
            raise
        finally:
            if self._audit is not None and actor.audited:
                at = timestamp(self._clock.wall())
                where = (kind.resource, namespace, audited.name, subresource)
                self._audit(AuditLine(at, actor.user, verb, *where, dry_run, audited.code, reason))


def _complaints(kind: Kind, name: str, nxt: writes.Next, options: Options, *, patching: bool) -> tuple[str, ...]:
    """Unknown fields: nothing, warnings, or an error, as the client wants it."""
    unknown = (*options.unknown, *nxt.unknown)
    if not unknown or options.field_validation == "Ignore":
        return ()
    if options.field_validation == "Warn":
        return unknown
    text = f"strict decoding error: {', '.join(unknown)}"
    if not patching:
        raise BadRequest(text)
    raise invalid(kind, name, [Cause("FieldValueInvalid", f'Invalid value: "object": {text}', "patch")])


def _check_apply(options: Options, patch_type: str) -> None:
    cause = None
    if patch_type == "apply" and not options.field_manager:
        cause = Cause("FieldValueRequired", "Required value: is required for apply patch", "fieldManager")
    elif patch_type != "apply" and options.force:
        cause = Cause("FieldValueForbidden", "Forbidden: may not be specified for non-apply patch", "force")
    if cause is not None:
        text = f'PatchOptions.meta.k8s.io "" is invalid: {cause.field}: {cause.message}'
        raise Invalid(text, group="meta.k8s.io", kind="PatchOptions", causes=[cause])


def _check_preconditions(kind: Kind, was: Mapping[str, Any], options: DeleteOptions) -> None:
    for what, wanted, have in (
        ("UID", options.uid, was["uid"]),
        ("ResourceVersion", options.resource_version, was["resourceVersion"]),
    ):
        if wanted and wanted != have:
            why = f"Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {have}"
            refusal = writes.conflict(kind, was["name"], why)
            raise Conflict(refusal.message, name=was["name"], group=kind.group, kind=kind.kind)


def _exists(kind: Kind, name: str) -> AlreadyExists:
    return AlreadyExists(f'{kind.resource} "{name}" already exists', name=name, group=kind.group, kind=kind.plural)


def _busy(kind: Kind, name: str) -> Conflict:
    return writes.conflict(kind, name, "it is written all the time; try again")


__all__ = ["Actor", "Answer", "AuditLine", "Deliver", "DeleteOptions", "Options", "Page", "PatchType", "Verbs"]
