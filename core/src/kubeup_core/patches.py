"""The ways to say a change: JSON patch (RFC 6902), merge patch (RFC 7386), and strategic merge patch for the built-in kinds.

`verbs` gives the stored object and the patch, and gets the object as it should become; server-side apply is in `fields.py`.
Nothing given is changed. Strategic merge is what kubectl sends for Secrets, Namespaces and Events; for kinds of ours a real
kube-apiserver answers 415, and so does this.
"""

from __future__ import annotations

import copy
from typing import Any

import jsonpatch
import jsonpointer
import orjson

from .kinds import Kind
from .statuses import BadRequest, Invalid, UnsupportedMediaType

MAX_OPERATIONS = 10_000
MAX_COPIED = 3 * 2**20
"""Bytes that `copy` operations may add; a few of them could otherwise double an object until memory is gone."""

_MERGE_KEYS = {"ownerReferences": "uid", "conditions": "type"}
_MERGED_LISTS = {"finalizers"}


def patched(kind: Kind, obj: dict[str, Any], patch: Any, patch_type: str) -> Any:
    """`obj` with a patch of type json, merge or strategic. Raises BadRequest, Invalid, UnsupportedMediaType."""
    if patch_type == "json":
        return _json_patch(obj, patch)
    if not isinstance(patch, dict):
        raise BadRequest("the patch must be a JSON object")
    if patch_type == "merge":
        return merge(obj, patch)
    if patch_type == "strategic" and kind.builtin:
        return strategic(obj, patch)
    raise UnsupportedMediaType(
        "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, "
        "application/merge-patch+json, application/apply-patch+yaml"
    )


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386: null removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def strategic(target: Any, patch: dict[str, Any]) -> dict[str, Any]:
    """Kubernetes' strategic merge, with the lists that have merge keys in the built-in kinds, and its directives."""
    directive = patch.get("$patch")
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    result = dict(target) if isinstance(target, dict) else {}
    retain = patch.get("$retainKeys")
    if isinstance(retain, list):
        result = {key: value for key, value in result.items() if key in retain}
    for key, value in patch.items():
        if key in ("$patch", "$retainKeys") or key.startswith("$setElementOrder/"):
            continue
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            gone = value if isinstance(value, list) else []
            if isinstance(result.get(name), list):
                result[name] = [item for item in result[name] if item not in gone]
        elif value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = strategic(result.get(key), value)
        elif isinstance(value, list) and key in _MERGED_LISTS:
            old = result.get(key)
            have: list[Any] = old if isinstance(old, list) else []
            result[key] = [*have, *(item for item in value if item not in have)]
        elif isinstance(value, list) and key in _MERGE_KEYS:
            result[key] = _merge_list(result.get(key), value, _MERGE_KEYS[key])
        else:
            result[key] = value
    return result


def _merge_list(have: Any, patch: list[Any], key: str) -> list[Any]:
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if not (isinstance(item, dict) and item.get("$patch") == "replace")]
    result = list(have) if isinstance(have, list) else []
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise BadRequest(f"map: does not contain declared merge key: {key}")
        at = next((i for i, old in enumerate(result) if isinstance(old, dict) and old.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            if at is not None:
                del result[at]
        elif at is None:
            result.append(strategic({}, item))
        else:
            result[at] = strategic(result[at], item)
    return result


def _json_patch(obj: dict[str, Any], patch: Any) -> Any:
    if not isinstance(patch, list):
        raise BadRequest("a JSON patch must be an array of operations")
    if len(patch) > MAX_OPERATIONS:
        raise BadRequest(f"a JSON patch may have at most {MAX_OPERATIONS} operations; this one has {len(patch)}")
    result: Any = copy.deepcopy(obj)
    copied = 0
    for i, operation in enumerate(patch):
        try:
            if operation["op"] == "copy":
                copied += len(orjson.dumps(jsonpointer.resolve_pointer(result, operation["from"])))
                if copied > MAX_COPIED:
                    raise BadRequest(f"the copy operations of a JSON patch may add at most {MAX_COPIED} bytes")
            result = jsonpatch.JsonPatch([operation]).apply(result, in_place=True)
        except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, *_MALFORMED) as error:
            # The value that a failed test met is not repeated: it may be part of a Secret.
            where = operation.get("path") if isinstance(operation, dict) else None
            what = operation.get("op") if isinstance(operation, dict) else None
            raise Invalid(
                "the server rejected our request due to an error in our request: "
                f"operation {i} ({what} {where}) cannot be done on this object ({type(error).__name__})"
            ) from None
    return result


_MALFORMED = (TypeError, KeyError, ValueError, AttributeError, IndexError)
