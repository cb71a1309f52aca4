"""Who set which field: managedFields, and server-side apply on top of them.

`verbs` calls `updated` for every write that is not an apply, and `Apply` for those that are. A set of fields is kept as it goes
over the wire (FieldsV1): nested dicts whose keys are `f:NAME`, `k:{KEYS}` or `v:VALUE`, and {} at a leaf. Lists are one field,
except those of `_KEYED` and `_SETS`. Only what differs between two states is walked, so that a controller's status write costs
little. Semantics: Kubernetes' server-side apply (structured-merge-diff), without the `.` markers of whole maps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from .statuses import Cause, Conflict

Fields = dict[str, Any]
Entry = dict[str, Any]

_KEYED: dict[tuple[str, ...], str] = {("status", "conditions"): "type", ("metadata", "ownerReferences"): "uid"}
_SETS = {("metadata", "finalizers")}
_METADATA = ("labels", "annotations", "finalizers", "ownerReferences", "generateName")
_UNTRACKED = {"apiVersion", "kind"}


@dataclass
class Delta:
    """The leaves that differ between two states."""

    changed: Fields = field(default_factory=dict)
    removed: Fields = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed)


def tracked(obj: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an object whose fields have managers: no identity, nothing that the server sets."""
    metadata = obj.get("metadata") or {}
    kept = {key: metadata[key] for key in _METADATA if key in metadata}
    rest = {key: value for key, value in obj.items() if key not in _UNTRACKED and key != "metadata"}
    return {"metadata": kept, **rest} if kept else rest


def fields_of(obj: Mapping[str, Any]) -> Fields:
    """All leaves of an object's tracked part."""
    return {f"f:{key}": _leaves(value, (key,)) for key, value in tracked(obj).items()}


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> Delta:
    """What changed between two objects."""
    delta = Delta()
    before, after = tracked(old), tracked(new)
    _differ(before, after, (), delta.changed, delta.removed)
    if not delta and orjson.dumps(before, option=orjson.OPT_SORT_KEYS) != orjson.dumps(after, option=orjson.OPT_SORT_KEYS):
        # 1, 1.0 and True are equal in Python and are three values in a free-form field.
        delta.changed = {f"f:{key}": _leaves(after[key], (key,)) for key in after if repr(before[key]) != repr(after[key])}
    return delta


def updated(entries: Sequence[Entry], delta: Delta, *, manager: str, subresource: str, version: str, now: str) -> list[Entry]:
    """The entries after a write that is not an apply: the manager takes what it changed from everybody else."""
    result: list[Entry] = []
    mine: Entry | None = None
    for entry in entries:
        if mine is None and _is(entry, manager, "Update", subresource):
            mine = entry
            owned = union(minus(entry["fieldsV1"], delta.removed), delta.changed)
            entry = {**_entry(manager, "Update", subresource, version, now), "fieldsV1": owned}
        else:
            owned = minus(minus(entry["fieldsV1"], delta.changed), delta.removed)
            if owned != entry["fieldsV1"]:
                entry = {**entry, "fieldsV1": owned}
        if owned:
            result.append(entry)
    if mine is None and delta.changed:
        result.append({**_entry(manager, "Update", subresource, version, now), "fieldsV1": delta.changed})
    return result


# -- server-side apply -----------------------------------------------------------------------------------------------------


@dataclass
class Apply:
    """One apply of `config` by `manager` onto `live` (None: a create). Raises Conflict unless `force`."""

    live: Mapping[str, Any] | None
    config: Mapping[str, Any]
    manager: str
    subresource: str
    version: str
    now: str
    force: bool

    def merged(self) -> tuple[dict[str, Any], list[Entry]]:
        """The object as it should become (not yet defaulted), and its entries."""
        wanted = {f"f:{key}": _leaves(value, (key,)) for key, value in tracked(self.config).items()}
        live: Mapping[str, Any] = self.live or {}
        entries = self._entries(live)
        mine = next((entry for entry in entries if self._mine(entry)), None)
        others = [entry for entry in entries if entry is not mine]

        merged = _merge(tracked(live), tracked(self.config), ())
        delta = difference(live, merged)
        others = self._resolve(others, delta.changed)
        if mine is not None:
            gone = minus(mine["fieldsV1"], wanted, exact=True)
            for other in others:
                gone = minus(gone, other["fieldsV1"], exact=True)
            _drop(merged, gone, ())
        if wanted:
            if mine is not None and mine["fieldsV1"] == wanted and not delta:
                others.insert(min(entries.index(mine), len(others)), mine)
            else:
                others.append({**_entry(self.manager, "Apply", self.subresource, self.version, self.now), "fieldsV1": wanted})
        return merged, others

    def _entries(self, live: Mapping[str, Any]) -> list[Entry]:
        entries: list[Entry] = list((live.get("metadata") or {}).get("managedFields") or ())
        if self.live is not None and not entries:
            # Somebody reset the entries: what is there was set by nobody in particular, but it was set.
            before = _entry("before-first-apply", "Update", "", self.version, self.now)
            entries = [{**before, "fieldsV1": fields_of(self.live)}]
        return entries

    def _mine(self, entry: Entry) -> bool:
        return _is(entry, self.manager, "Apply", self.subresource)

    def _resolve(self, others: list[Entry], changed: Fields) -> list[Entry]:
        conflicts = [(entry, hit) for entry in others if (hit := common(entry["fieldsV1"], changed))]
        if conflicts and not self.force:
            raise _conflict(conflicts)
        lost = {id(entry): hit for entry, hit in conflicts}
        kept = []
        for entry in others:
            owned = minus(entry["fieldsV1"], lost[id(entry)]) if id(entry) in lost else entry["fieldsV1"]
            if owned:
                kept.append(entry if owned is entry["fieldsV1"] else {**entry, "fieldsV1": owned})
        return kept


def entries_fault(value: Any) -> str:
    """What is wrong with managedFields that a client sent; empty when they can be used."""
    if not isinstance(value, list):
        return "must be a list"
    for entry in value:
        if not isinstance(entry, dict) or not isinstance(entry.get("manager", ""), str):
            return "each entry must be an object with a manager"
        if entry.get("operation") not in ("Apply", "Update"):
            return "operation must be Apply or Update"
        if entry.get("fieldsType", "FieldsV1") != "FieldsV1" or not _is_fields(entry.get("fieldsV1")):
            return "fieldsV1 must be nested objects, with fieldsType FieldsV1"
    return ""


def without_markers(entries: Sequence[Entry]) -> list[Entry]:
    """Entries of a client without `.`, Kubernetes' marker of a map as such: here a map is owned by its leaves."""
    return [{**entry, "fieldsV1": _unmarked(entry["fieldsV1"])} for entry in entries]


def _unmarked(fields: Fields) -> Fields:
    return {key: _unmarked(below) for key, below in fields.items() if key != "."}


# -- sets of fields --------------------------------------------------------------------------------------------------------


def union(a: Fields, b: Fields) -> Fields:
    """Leaves of either; `a` itself when it has all of them."""
    result = a
    for key, below in b.items():
        have = a.get(key)
        joined = below if have is None else union(have, below)
        if joined is not have:
            if result is a:
                result = dict(a)
            result[key] = joined
    return result


def minus(a: Fields, b: Fields, *, exact: bool = False) -> Fields:
    """Leaves of `a` that are not in `b`; a leaf of `b` stands for all below it, unless `exact`: then it stands for the map
    itself, that was empty. `a` itself when nothing is taken away."""
    result = a
    for key, below in b.items():
        have = a.get(key)
        if have is None or (below and not have) or (exact and have and not below):
            continue
        left = minus(have, below, exact=exact) if below else None
        if left is have:
            continue
        if result is a:
            result = dict(a)
        if left:
            result[key] = left
        else:
            del result[key]
    return result


def common(owned: Fields, changed: Fields) -> Fields:
    """Leaves of `owned` that `changed` touches. Adding something to a map that was owned while empty touches nothing."""
    result = {}
    for key, below in changed.items():
        have = owned.get(key)
        if have is None or (below and not have):
            continue
        if not below:
            result[key] = have
        elif hit := common(have, below):
            result[key] = hit
    return result


def paths(fields: Fields, above: str = "") -> list[str]:
    """Leaves as texts: `.spec.size`, `.status.conditions[type="Ready"].status`."""
    found: list[str] = []
    for key, below in fields.items():
        if key.startswith("f:"):
            path = f"{above}.{key[2:]}"
        elif key.startswith("k:"):
            path = above + "[" + ",".join(f'{k}="{v}"' for k, v in orjson.loads(key[2:]).items()) + "]"
        else:
            path = f"{above}[={key[2:]}]"
        found += paths(below, path) if below else [path]
    return found


def _leaves(value: Any, path: tuple[str, ...]) -> Fields:
    if isinstance(value, dict):
        return {f"f:{key}": _leaves(item, (*path, key)) for key, item in value.items()}
    if isinstance(value, list) and _is_map(value, path):
        return {key: _leaves(item, (*path, key)) for key, item in _items(value, path).items()}
    return {}


def _is_map(value: list[Any], path: tuple[str, ...]) -> bool:
    """Whether a list is not one field but a set, or a map written as a list. What a client sent is not validated yet here."""
    return path in _SETS or (path in _KEYED and all(isinstance(item, dict) for item in value))


def _items(value: list[Any], path: tuple[str, ...]) -> dict[str, Any]:
    """Items of a list that is not one field, by their FieldsV1 keys."""
    if path in _SETS:
        return {f"v:{orjson.dumps(item).decode()}": item for item in value}
    name = _KEYED[path]
    return {f"k:{orjson.dumps({name: item.get(name)}).decode()}": item for item in value}


def _differ(old: Any, new: Any, path: tuple[str, ...], changed: Fields, removed: Fields) -> None:
    if isinstance(old, list):
        old, new, prefix = _items(old, path), _items(new, path), ""
    else:
        prefix = "f:"
    for key, after in new.items():
        name = prefix + key
        if key not in old:
            changed[name] = _leaves(after, (*path, key))
            continue
        before = old[key]
        if before == after and type(before) is type(after):
            continue
        below = (*path, key)
        maps = isinstance(before, list) and isinstance(after, list) and _is_map(before, below) and _is_map(after, below)
        if maps or (isinstance(before, dict) and isinstance(after, dict)):
            deeper_changed: Fields = {}
            deeper_removed: Fields = {}
            _differ(before, after, below, deeper_changed, deeper_removed)
            if deeper_changed:
                changed[name] = deeper_changed
            if deeper_removed:
                removed[name] = deeper_removed
        else:
            changed[name] = {}
    for key, before in old.items():
        if key not in new:
            removed[prefix + key] = _leaves(before, (*path, key))


def _merge(live: Any, config: Any, path: tuple[str, ...]) -> Any:
    """`config` over `live`, without changing either."""
    if isinstance(live, dict) and isinstance(config, dict):
        merged = dict(live)
        for key, value in config.items():
            merged[key] = _merge(live.get(key), value, (*path, key))
        return merged
    if isinstance(live, list) and isinstance(config, list) and _is_map(config, path):
        items = _items(live, path)
        for key, item in _items(config, path).items():
            items[key] = _merge(items.get(key), item, (*path, key))
        return list(items.values())
    # A copy of the maps, because fields that were left out are removed from the result in place.
    return _merge({}, config, path) if isinstance(config, dict) else config


def _drop(value: Any, gone: Fields, path: tuple[str, ...]) -> None:
    """Remove leaves in place, and what is empty after that. The containers were copied by `_merge` or are copied here."""
    for key, below in gone.items():
        if key.startswith("f:"):
            name = key[2:]
            if not isinstance(value, dict) or name not in value:
                continue
            if not below:
                del value[name]
                continue
            copy = value[name].copy() if isinstance(value[name], dict | list) else value[name]
            _drop(copy, below, (*path, name))
            value[name] = copy
            if not copy and isinstance(copy, dict | list):
                del value[name]
        elif isinstance(value, list) and _is_map(value, path):
            item = _items(value, path).get(key)
            if item is None:
                continue
            at = value.index(item)
            # With its key goes the item, and the defaults that nobody owns with it.
            if not below or path in _SETS or f"f:{_KEYED[path]}" in below:
                del value[at]
            else:
                value[at] = item.copy()
                _drop(value[at], below, (*path, key))


def _is(entry: Entry, manager: str, operation: str, subresource: str) -> bool:
    return (
        entry.get("manager") == manager and entry.get("operation") == operation and entry.get("subresource", "") == subresource
    )


def _entry(manager: str, operation: str, subresource: str, version: str, now: str) -> Entry:
    entry = {"manager": manager, "operation": operation, "apiVersion": version, "time": now, "fieldsType": "FieldsV1"}
    if subresource:
        entry["subresource"] = subresource
    return entry


def _is_fields(value: Any) -> bool:
    return isinstance(value, dict) and all(
        key[:2] in ("f:", "k:", "v:", ".") and _is_fields(below) and (key[:2] != "k:" or _is_key(key[2:]))
        for key, below in value.items()
    )


def _is_key(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


def _conflict(conflicts: Sequence[tuple[Entry, Fields]]) -> Conflict:
    causes = []
    texts = []
    for entry, hit in conflicts:
        who = f'"{entry.get("manager", "")}"'
        if entry.get("subresource"):
            who += f' with subresource "{entry["subresource"]}"'
        if entry.get("operation") == "Update":
            who += f" using {entry.get('apiVersion', '')}" + (f" at {entry['time']}" if entry.get("time") else "")
        found = paths(hit)
        causes += [Cause("FieldManagerConflict", f"conflict with {who}", path) for path in found]
        texts.append((who, found))
    if len(causes) == 1:
        text = f"Apply failed with 1 conflict: conflict with {texts[0][0]}: {causes[0].field}"
    else:
        lines = "\n".join(f"conflicts with {who}:\n" + "\n".join(f"- {path}" for path in found) for who, found in texts)
        text = f"Apply failed with {len(causes)} conflicts: {lines}"
    return Conflict(text, causes=causes)
