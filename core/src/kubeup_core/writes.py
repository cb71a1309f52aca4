"""How one object becomes the next: created, replaced, its status written, applied, marked for deletion.

Pure functions from the stored object and the request to the object that should be stored; `verbs` does the reading, the
committing and the retrying. Here is what Kubernetes says about metadata: who sets uid, generation and timestamps, what a main
write may not touch, when a finalizer may be added, and when an object is gone.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import ValidationError

from . import fields
from .admission import Others, duplicate_conditions, immutable_faults, metadata_faults, provider_faults, secret_faults
from .kinds import Kind
from .statuses import BadRequest, Cause, Conflict, TooLarge
from .store import RV_SLOT
from .validation import admit, admit_status, invalid, prune_config

_SYSTEM = ("uid", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
_SLOT = RV_SLOT.decode()

MAX_SIZE = 3 * 2**20
"""Bytes of one object. A body is limited by the server; this is for what grows by patches."""


@dataclass(frozen=True)
class Writer:
    """Who writes, and when. `now` is a Kubernetes Time; `subresource` is "", "status" or "scale"."""

    manager: str
    now: str
    subresource: str = ""


@dataclass
class Next:
    """What should be stored. gone: nothing holds the deleting object any more, so it is to be removed instead."""

    obj: dict[str, Any]
    unknown: list[str] = field(default_factory=list)
    changed: bool = True
    gone: bool = False


def encode(obj: Mapping[str, Any], rv: str | None = _SLOT) -> bytes:
    """The bytes that are stored and sent. The resourceVersion comes before anything that a user wrote, so that no text of
    theirs is ever taken for its slot. None: without one."""
    metadata = {"resourceVersion": rv, **obj["metadata"], **({"resourceVersion": rv} if rv is not None else {})}
    if rv is None:
        del metadata["resourceVersion"]
    ordered = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": metadata}
    try:
        data = orjson.dumps(ordered | {key: value for key, value in obj.items() if key not in ordered})
    except TypeError as error:
        raise BadRequest(f"the object cannot be written as JSON: {error}") from None
    if len(data) > MAX_SIZE:
        raise TooLarge(f"the object is {len(data)} bytes long; at most {MAX_SIZE} are kept, put large values elsewhere")
    return data


def created(kind: Kind, body: dict[str, Any], namespace: str, who: Writer, entries: list[fields.Entry] | None = None) -> Next:
    """A new object. `entries`: managedFields, when they are known already (a create by apply)."""
    admitted = admit(kind, _prepared(kind, body))
    obj = admitted.obj
    metadata = _tidy(obj["metadata"])
    for key in (*_SYSTEM, "resourceVersion", "selfLink"):
        metadata.pop(key, None)
    if kind.namespaced:
        metadata["namespace"] = namespace
    else:
        metadata.pop("namespace", None)
    metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": who.now}
    if not kind.builtin:
        metadata["generation"] = 1
    if kind.kind == "Namespace":
        metadata["labels"] = {**metadata.get("labels", {}), "kubernetes.io/metadata.name": metadata["name"]}
    faults = metadata_faults(kind, metadata, create=True)
    faults += () if kind.builtin else secret_faults(obj)
    faults += kind.rules(admitted.model, None) if kind.rules else ()
    if faults:
        raise invalid(kind, metadata.get("name", ""), faults)
    if entries is None:
        owned = fields.fields_of({key: value for key, value in obj.items() if key != "status"})
        delta = fields.Delta(changed=owned)
        entries = fields.updated(
            [], delta, manager=who.manager, subresource=who.subresource, version=kind.api_version, now=who.now
        )
    _set_entries(metadata, entries)
    return Next(obj, admitted.unknown)


def replaced(
    kind: Kind,
    old: dict[str, Any],
    body: dict[str, Any],
    who: Writer,
    others: Others,
    entries: list[fields.Entry] | None = None,
) -> Next:
    """The main part of an object written anew; its status stays. `entries` as for created."""
    given = (body.get("metadata") or {}).get("managedFields")
    admitted = admit(kind, _prepared(kind, body))
    obj, was = admitted.obj, old["metadata"]
    metadata = _tidy(obj["metadata"])
    faults = _keep_system(kind, metadata, was)
    obj.pop("status", None)
    if "status" in old:
        obj["status"] = old["status"]
    if kind.kind == "Namespace":
        _keep_namespace(obj, old)
    faults += metadata_faults(kind, metadata, create=False)
    faults += () if kind.builtin else secret_faults(obj)
    faults += _finalizer_faults(metadata, was)
    faults += _rule_faults(kind, obj, admitted.model, old)
    if kind.kind == "Cluster" and not faults:
        faults += provider_faults(obj, old, others)
    if faults:
        raise invalid(kind, was["name"], faults)
    nxt = _finish(kind, old, obj, who, _entries_of(kind, was, given), entries)
    nxt.unknown = admitted.unknown
    return nxt


def status_replaced(
    kind: Kind, old: dict[str, Any], body: dict[str, Any], who: Writer, entries: list[fields.Entry] | None = None
) -> Next:
    """The status of an object written anew, and nothing else."""
    name = old["metadata"]["name"]
    status = body.get("status")
    admitted = admit_status(kind, {} if status is None else status, name)
    if faults := duplicate_conditions(admitted.obj):
        raise invalid(kind, name, faults)
    obj = {**old, "metadata": {**old["metadata"]}, "status": admitted.obj}
    nxt = _finish(kind, old, obj, who, old["metadata"].get("managedFields") or [], entries)
    nxt.unknown = admitted.unknown
    return nxt


def applied(kind: Kind, old: dict[str, Any] | None, config: dict[str, Any], who: Writer, namespace: str, name: str, *,
            force: bool, others: Others) -> Next:  # fmt: skip
    """Server-side apply of a partial object; `old` None makes it."""
    unknown: list[str] = []
    part = prune_config(kind, _with_data(config) if kind.kind == "Secret" else config, unknown)
    on_status = who.subresource == "status"
    if on_status and (faults := duplicate_conditions(part.get("status"))):
        raise invalid(kind, name, faults)
    part = {key: value for key, value in part.items() if (key == "status") is on_status}
    apply = fields.Apply(old, part, who.manager, who.subresource, kind.api_version, who.now, force)
    merged, entries = apply.merged()
    if on_status:
        assert old is not None
        nxt = status_replaced(kind, old, merged, who, entries)
    else:
        metadata = {**merged.get("metadata", {}), "name": name}
        if kind.namespaced:
            metadata["namespace"] = namespace
        body = {**merged, "apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
        nxt = created(kind, body, namespace, who, entries) if old is None else replaced(kind, old, body, who, others, entries)
    if old is not None and nxt.changed and not nxt.gone and _without_times(nxt.obj) == _without_times(old):
        nxt.changed = False  # once defaults were filled in, nothing had changed but the time of the entry
    nxt.unknown = unknown
    return nxt


def _without_times(obj: Mapping[str, Any]) -> dict[str, Any]:
    entries = [{key: value for key, value in e.items() if key != "time"} for e in obj["metadata"].get("managedFields") or ()]
    entries.sort(key=lambda e: (e["manager"], e["operation"], e.get("subresource", "")))
    return {**obj, "metadata": {**obj["metadata"], "managedFields": entries}}


def marked(kind: Kind, old: dict[str, Any], propagation: str | None, now: str) -> Next:
    """An object on its way out; `gone` when nothing holds it."""
    was = old["metadata"]
    finalizers = list(was.get("finalizers") or ())
    wanted = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}.get(propagation or "")
    if wanted and wanted not in finalizers:
        finalizers.append(wanted)
    metadata = {**was, "deletionTimestamp": now, "deletionGracePeriodSeconds": 0}
    if "generation" in was:
        metadata["generation"] = was["generation"] + 1
    if finalizers:
        metadata["finalizers"] = finalizers
    obj = {**old, "metadata": metadata}
    if kind.kind == "Namespace":
        obj["status"] = {**old.get("status", {}), "phase": "Terminating"}
    return Next(obj, gone=not held(kind, obj))


def held(kind: Kind, obj: Mapping[str, Any]) -> bool:
    """Whether a finalizer keeps an object. A Namespace has Kubernetes' own kind of them in its spec."""
    if kind.kind == "Namespace" and obj["spec"].get("finalizers"):
        return True
    return bool(obj["metadata"].get("finalizers"))


def check_version(kind: Kind, obj: Mapping[str, Any], old: Mapping[str, Any]) -> None:
    """Raises Conflict when the writer has read another state, or another object of the same name."""
    metadata, was = obj.get("metadata") or {}, old["metadata"]
    name = was["name"]
    rv, uid = metadata.get("resourceVersion"), metadata.get("uid")
    if uid and uid != was["uid"]:
        message = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {was['uid']}"
    elif rv and rv != was["resourceVersion"]:
        message = "the object has been modified; please apply your changes to the latest version and try again"
    else:
        return
    raise conflict(kind, name, message)


def conflict(kind: Kind, name: str, why: str) -> Conflict:
    message = f'Operation cannot be fulfilled on {kind.resource} "{name}": {why}'
    return Conflict(message, name=name, group=kind.group, kind=kind.plural)


# -- parts of a write ------------------------------------------------------------------------------------------------------


def _prepared(kind: Kind, body: dict[str, Any]) -> dict[str, Any]:
    """The part of a body that is validated: the status is written elsewhere, managedFields are no part of the schema."""
    metadata = {key: value for key, value in (body.get("metadata") or {}).items() if key != "managedFields"}
    body = {**{key: value for key, value in body.items() if key != "status"}, "metadata": metadata}
    return _with_data(body) if kind.kind == "Secret" else body


def _with_data(secret: dict[str, Any]) -> dict[str, Any]:
    """stringData merged into data. What is of a wrong type is left for validation to refuse."""
    plain = secret.get("stringData")
    data = {} if secret.get("data") is None else secret["data"]
    if not isinstance(plain, dict) or not isinstance(data, dict) or not all(isinstance(v, str | None) for v in plain.values()):
        return secret
    encoded = {key: base64.b64encode((value or "").encode()).decode() for key, value in plain.items()}
    merged = {key: value for key, value in secret.items() if key != "stringData"}
    return merged | {"data": {**data, **encoded}} if data or encoded else merged


def _tidy(metadata: dict[str, Any]) -> dict[str, Any]:
    for key in ("labels", "annotations", "finalizers", "ownerReferences", "generateName"):
        if not metadata.get(key):
            metadata.pop(key, None)
    if "finalizers" in metadata:
        metadata["finalizers"] = list(dict.fromkeys(metadata["finalizers"]))
    return metadata


def _keep_system(kind: Kind, metadata: dict[str, Any], was: Mapping[str, Any]) -> list[Cause]:
    faults = []
    for key in ("deletionTimestamp", "deletionGracePeriodSeconds"):
        if key in metadata and metadata[key] != was.get(key):
            message = f'Invalid value: "{metadata[key]}": field is immutable; delete the object to have it set'
            faults.append(Cause("FieldValueInvalid", message, f"metadata.{key}"))
    for key in (*_SYSTEM, "resourceVersion", "name", "namespace"):
        if key in was:
            metadata[key] = was[key]
        else:
            metadata.pop(key, None)
    metadata.pop("selfLink", None)
    return faults


def _keep_namespace(obj: dict[str, Any], old: dict[str, Any]) -> None:
    """The label with its name stays, and spec.finalizers are let go of only while it is being deleted."""
    metadata = obj["metadata"]
    metadata["labels"] = {**metadata.get("labels", {}), "kubernetes.io/metadata.name": metadata["name"]}
    if "deletionTimestamp" not in metadata:
        obj["spec"] = old["spec"]


def _finalizer_faults(metadata: Mapping[str, Any], was: Mapping[str, Any]) -> list[Cause]:
    if "deletionTimestamp" not in was:
        return []
    new = [name for name in metadata.get("finalizers") or () if name not in (was.get("finalizers") or ())]
    if not new:
        return []
    message = (
        "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers "
        f"[]string{{{', '.join(orjson.dumps(name).decode() for name in new)}}}"
    )
    return [Cause("FieldValueForbidden", message, "metadata.finalizers")]


def _rule_faults(kind: Kind, obj: dict[str, Any], model: Any, old: dict[str, Any]) -> list[Cause]:
    if kind.rules is None and not kind.immutable:
        return []
    try:
        before: Any = kind.model.model_validate({**old, "metadata": {"name": old["metadata"]["name"]}})
    except ValidationError:
        # Stored by an older version, under rules that it would not pass today. It must stay editable.
        before = None
    defaulted: Callable[[], Mapping[str, Any]] = (lambda: old) if before is None else before.to_dict
    faults = immutable_faults(kind, obj, old, defaulted)
    if kind.rules is not None and (before is not None or kind.builtin):
        faults += kind.rules(model, before)
    return faults


def _entries_of(kind: Kind, was: Mapping[str, Any], given: Any) -> list[fields.Entry] | None:
    """The entries to go on from: those that the client sent, when it sent any. None: it resets them."""
    if not given:
        return was.get("managedFields") or []
    if given == [{}]:
        return None
    fault = fields.entries_fault(given)
    if fault:
        raise invalid(kind, was["name"], [Cause("FieldValueInvalid", f"Invalid value: {fault}", "metadata.managedFields")])
    return fields.without_markers(given)


def _finish(
    kind: Kind,
    old: dict[str, Any],
    obj: dict[str, Any],
    who: Writer,
    base: list[fields.Entry] | None,
    entries: list[fields.Entry] | None,
) -> Next:
    """Generation and managedFields, once it is known what changed."""
    was, metadata = old["metadata"], obj["metadata"]
    delta = fields.difference(old, obj)
    if entries is None:
        entries = base or []
        if delta and base is not None:
            entries = fields.updated(
                entries, delta, manager=who.manager, subresource=who.subresource, version=kind.api_version, now=who.now
            )
    if not kind.builtin and (delta.changed.keys() | delta.removed.keys()) - {"f:metadata", "f:status"}:
        metadata["generation"] = was.get("generation", 0) + 1
    _set_entries(metadata, entries)
    changed = bool(delta) or (metadata.get("managedFields") or []) != (was.get("managedFields") or [])
    return Next(obj, changed=changed, gone="deletionTimestamp" in metadata and not held(kind, obj))


def _set_entries(metadata: dict[str, Any], entries: list[fields.Entry]) -> None:
    if entries:
        metadata["managedFields"] = entries
    else:
        metadata.pop("managedFields", None)
