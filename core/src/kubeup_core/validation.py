"""From what a client sent to what may be stored: unknown fields pruned, nulls dropped, defaults filled in, types checked.

`verbs` calls `admit` with a whole object and `admit_status` with a status. Faults become causes with the paths and the texts
of a real kube-apiserver, one per fault, because kubectl shows them to people. Rules about names, metadata, immutable fields and
protection are in `admission.py`; values of Secrets never get into a message.
"""

from __future__ import annotations

import difflib
import math
import re
import types
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from .kinds import Kind
from .statuses import BadRequest, Cause, Invalid

MAX_DEPTH = 64
"""Nesting of free-form values. Nothing real comes near; a body of a million brackets must not reach the recursive parts."""


@dataclass
class Admitted:
    """A valid object. `unknown` are the complaints about fields that were pruned."""

    obj: dict[str, Any]
    model: BaseModel
    unknown: list[str] = field(default_factory=list)


def admit(kind: Kind, obj: dict[str, Any]) -> Admitted:
    """Prune, default and check a whole object. Raises Invalid with all faults, BadRequest for metadata of a wrong type."""
    return _admit(kind, kind.model, obj, _name(obj), "")


def admit_status(kind: Kind, status: Any, name: str) -> Admitted:
    """The same for a status alone."""
    model = kind.model.model_fields["status"].annotation
    assert isinstance(model, type)
    assert issubclass(model, BaseModel)
    return _admit(kind, model, status, name, "status")


def prune_config(kind: Kind, config: dict[str, Any], unknown: list[str]) -> dict[str, Any]:
    """A partial object, as server-side apply gets it, without unknown fields and nulls. Types are checked once it is merged."""
    pruned: dict[str, Any] = _prune(config, shape(kind.model), "", unknown)
    return pruned


def invalid(kind: Kind, name: str, causes: Sequence[Cause]) -> Invalid:
    """422 with the text that kubectl builds its own from. `details.kind` is the Kind here, not the plural."""
    texts = [f"{cause.field}: {cause.message}" if cause.field else cause.message for cause in causes]
    text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    return Invalid(f'{kind.qualified} "{name}" is invalid: {text}', name=name, group=kind.group, kind=kind.kind, causes=causes)


def check_plain(value: Any) -> None:
    """Refuse what JSON cannot hold, and what is nested too deeply, before anything recursive sees it. Raises BadRequest."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                if any(not isinstance(key, str) for key in item):
                    raise BadRequest("a key of a mapping is not text; put it in quotes")
                below += item.values()
            elif isinstance(item, list):
                below += item
            elif isinstance(item, float) and not math.isfinite(item):
                raise BadRequest(f"{item} is not a number that JSON can hold")
            elif isinstance(item, int) and not -(2**63) <= item < 2**63:
                raise BadRequest("a number does not fit into 64 bits")
            elif item is not None and not isinstance(item, str | int | float):
                raise BadRequest(f"a value of type {type(item).__name__} has no place in JSON; put it in quotes")
        if not below:
            return
        level = below
    raise BadRequest(f"nested more than {MAX_DEPTH} levels deep")


def text_of(value: Any) -> str:
    """A value as messages quote it: short, and never a whole structure."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return f'"{value if len(value) <= 100 else value[:97] + "..."}"'
    return f'"{json_type(value)}"'


def json_type(value: Any) -> str:
    """JSON schema's word for the type of a value."""
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def _admit(kind: Kind, model: type[BaseModel], obj: Any, name: str, at: str) -> Admitted:
    unknown: list[str] = []
    pruned = _prune(obj, shape(model), at, unknown)
    try:
        valid = model.model_validate(pruned)
    except ValidationError as error:
        raise _refusal(kind, name, error, pruned, at, unknown) from None
    return Admitted(valid.model_dump(mode="json", by_alias=True, exclude_none=True), valid, unknown)


def _name(obj: dict[str, Any]) -> str:
    metadata = obj.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else ""


# -- unknown fields and nulls ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """What a value may contain: a model's fields by their names on the wire, or the shape of every item or entry."""

    fields: dict[str, Shape] | None = None
    items: Shape | None = None
    entries: Shape | None = None


LEAF = Shape()


@cache
def shape(annotation: Any) -> Shape:
    """The shape of a model or of a field's annotation. Free-form values and scalars are leaves."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return shape(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return next((found for arm in get_args(annotation) if (found := shape(arm)) is not LEAF), LEAF)
    if origin is list:
        return Shape(items=shape(get_args(annotation)[0]))
    if origin is dict:
        value = get_args(annotation)[1]
        return LEAF if value is Any or get_args(value)[-1:] == (Any,) else Shape(entries=shape(value))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return Shape(
            fields={info.alias or name: shape(_hashable(info.annotation)) for name, info in annotation.model_fields.items()}
        )
    return LEAF


def _hashable(annotation: Any) -> Any:
    """mypy knows an annotation as a form that may not be hashable; all of ours are."""
    return annotation


def _prune(value: Any, shape: Shape, path: str, unknown: list[str]) -> Any:
    if shape.fields is not None and isinstance(value, dict):
        kept = {}
        for key, item in value.items():
            below = shape.fields.get(key)
            if below is None:
                unknown.append(_complaint(path, str(key), shape.fields))
            elif item is not None:
                kept[key] = item if below is LEAF else _prune(item, below, f"{path}.{key}" if path else key, unknown)
        return kept
    if shape.items is not None and isinstance(value, list):
        return [_prune(item, shape.items, f"{path}[{i}]", unknown) for i, item in enumerate(value)]
    if shape.entries is not None and isinstance(value, dict):
        return {k: _prune(item, shape.entries, f"{path}.{k}", unknown) for k, item in value.items() if item is not None}
    return value


def _complaint(path: str, key: str, known: Iterable[str]) -> str:
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(key.lower(), by_lower, n=1, cutoff=0.6)
    hint = f'; did you mean "{by_lower[near[0]]}"?' if near else ""
    return f'unknown field "{path}.{key}"{hint}' if path else f'unknown field "{key}"{hint}'


# -- faults ----------------------------------------------------------------------------------------------------------------

_TYPES = {
    "string_type": "string", "int_type": "integer", "int_from_float": "integer", "float_type": "number",
    "bool_type": "boolean", "dict_type": "object", "model_type": "object", "model_attributes_type": "object",
    "list_type": "array",
}  # fmt: skip


def _refusal(kind: Kind, name: str, error: ValidationError, obj: Any, at: str, unknown: Sequence[str]) -> Invalid | BadRequest:
    faults: dict[str, list[Any]] = {}
    for fault in error.errors(include_url=False):
        faults.setdefault(_path(fault["loc"], obj, at, missing=fault["type"] == "missing"), []).append(fault)
    causes = [_cause(path, group, secret=kind.kind == "Secret") for path, group in faults.items()]
    for cause in causes:
        if cause.field == "metadata" or cause.field.startswith("metadata."):
            wanted = cause.message.partition(" in body ")[2].partition(":")[0] or cause.message
            raise BadRequest(
                f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {cause.field} {wanted}'
            )
    # Refused anyhow: then a misspelt field, which may be why another is missing, is told in the same breath.
    return invalid(kind, name, [*causes, *(Cause("FieldValueForbidden", f"Forbidden: {text}") for text in unknown)])


def _path(loc: Sequence[int | str], obj: Any, at: str, *, missing: bool) -> str:
    """Follow a location through the body. What is not there is pydantic's name for an arm of a union, and is left out."""
    path, value = at, obj
    for i, part in enumerate(loc):
        if isinstance(part, int) and isinstance(value, list) and part < len(value):
            path, value = f"{path}[{part}]", value[part]
        elif isinstance(value, dict) and part in value:
            path, value = f"{path}.{part}" if path else str(part), value[part]
        elif missing and i == len(loc) - 1:
            path = f"{path}.{part}" if path else str(part)
    return path


def _cause(path: str, faults: list[Any], *, secret: bool) -> Cause:
    """One cause for one path. The arms of a union all complain; the arm that came nearest speaks."""
    own = [f for f in faults if f["type"] == "value_error"]
    literal = [f for f in faults if f["type"] == "literal_error"]
    wrong_type = [f for f in faults if f["type"] in _TYPES]
    other = [f for f in faults if f not in own and f not in literal and f not in wrong_type]
    value = faults[0].get("input")
    quoted = '"(hidden)"' if secret else text_of(value)
    if own:
        return Cause("FieldValueInvalid", f"Invalid value: {quoted}: {own[0]['ctx']['error']}", path)
    if other:
        return _constraint(path, other[0], quoted, value)
    if literal and (isinstance(value, str) or not wrong_type):
        return _unsupported(path, literal, quoted, value)
    wanted = ",".join(dict.fromkeys(_TYPES[f["type"]] for f in wrong_type))
    got = json_type(value)
    return Cause("FieldValueTypeInvalid", f'Invalid value: "{got}": {path} in body must be of type {wanted}: "{got}"', path)


def _constraint(path: str, fault: Any, quoted: str, value: Any) -> Cause:
    kind, limits = fault["type"], fault.get("ctx") or {}
    size = len(value) if isinstance(value, str | list | dict) else 0
    rules: dict[str, tuple[Any, str]] = {
        "greater_than_equal": (quoted, f"should be greater than or equal to {limits.get('ge')}"),
        "greater_than": (quoted, f"should be greater than {limits.get('gt')}"),
        "less_than_equal": (quoted, f"should be less than or equal to {limits.get('le')}"),
        "less_than": (quoted, f"should be less than {limits.get('lt')}"),
        "string_pattern_mismatch": (quoted, f"should match '{limits.get('pattern')}'"),
        "too_short": (size, f"should have at least {limits.get('min_length')} items"),
        "too_long": (size, f"should have at most {limits.get('max_length')} items"),
    }
    if kind == "missing":
        return Cause("FieldValueRequired", "Required value", path)
    if kind in rules:
        got, rule = rules[kind]
        return Cause("FieldValueInvalid", f"Invalid value: {got}: {path} in body {rule}", path)
    return Cause("FieldValueInvalid", f"Invalid value: {quoted}: {fault['msg']}", path)


def _unsupported(path: str, faults: list[Any], quoted: str, value: Any) -> Cause:
    expected = ", ".join(fault["ctx"]["expected"] for fault in faults)
    texts, numbers = re.findall(r"'([^']*)'", expected), re.findall(r"(?<!')\b\d+\b(?!')", expected)
    wanted = "string" if texts else "integer"
    got = json_type(value)
    if got != wanted:
        hint = f': write "{text_of(value)}" in quotes' if text_of(value) in texts else ""
        hint = hint or (f": write {value} without quotes" if value in numbers else "")
        message = f'Invalid value: "{got}": {path} in body must be of type {wanted}: "{got}"{hint}'
        return Cause("FieldValueTypeInvalid", message, path)
    supported = ", ".join(f'"{text}"' for text in texts) or ", ".join(numbers)
    return Cause("FieldValueNotSupported", f"Unsupported value: {quoted}: supported values: {supported}", path)
