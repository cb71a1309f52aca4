"""From the bytes of a request to the dict that `verbs` takes: JSON, YAML and protobuf, and the fields that stand there twice.

Everything that cannot be decoded is one BadRequest that says why. What the fields mean is checked by `verbs`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from typing import Any

import orjson
import yaml

from ..statuses import BadRequest
from ..validation import MAX_DEPTH
from . import protobuf
from .http import JSON, YAML
from .negotiation import PROTOBUF


def decode(data: bytes, media: str, validation: str, twice: list[str]) -> Any:
    """The value in a body. With validation Strict or Warn, fields that stand there twice are added to `twice`."""
    if not data.strip():
        raise BadRequest("the body of the request is empty; it must be one object")
    if media == PROTOBUF:
        return protobuf.decode(data)
    if media == YAML:
        return _yaml(data, twice)
    try:
        value = orjson.loads(data)
    except ValueError as error:
        raise BadRequest(f"the body of the request is not valid JSON: {error}") from None
    if validation != "Ignore" and isinstance(value, dict):
        twice += doubled(data)
    return value


def decode_patch(data: bytes, kind: str, validation: str, twice: list[str]) -> Any:
    """A patch: JSON, or for apply also YAML."""
    media = YAML if kind == "apply" and not data.lstrip().startswith(b"{") else JSON
    value = decode(data, media, validation, twice)
    if kind == "json":
        if not isinstance(value, list):
            raise BadRequest("a JSON patch is a list of operations")
    elif not isinstance(value, dict):
        raise BadRequest("the patch must be one object")
    return value


def doubled(data: bytes) -> list[str]:
    """Paths of keys that stand twice in one object of a valid JSON text."""
    found: list[tuple[dict[str, Any], str]] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(items)
        if len(out) != len(items):
            seen: set[str] = set()
            for key, _ in items:
                if key in seen:
                    found.append((out, key))
                seen.add(key)
        return out

    try:
        root = json.loads(data, object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        return []
    return [f"{path}{key}" for holder, key in found for path in _path_to(root, holder, "")]


def _path_to(value: Any, wanted: Any, at: str) -> list[str]:
    if value is wanted:
        return [at]
    if isinstance(value, dict):
        return [path for key, item in value.items() for path in _path_to(item, wanted, f"{at}{key}.")]
    if isinstance(value, list):
        return [path for i, item in enumerate(value) for path in _path_to(item, wanted, f"{at.rstrip('.')}[{i}].")]
    return []


class _Loader(yaml.CSafeLoader):
    """Without dates, which are text in Kubernetes; and it remembers keys that stand twice."""

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self.twice: list[str] = []

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        self.twice += sorted({key for key in keys if isinstance(key, str) and keys.count(key) > 1})
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d+)?[eE][-+]?\d+$"), list("-+0123456789"))


def _yaml(data: bytes, twice: list[str]) -> Any:
    try:
        _check_events(data)
        loader = _Loader(data)
        try:
            value = loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        text = " ".join(str(error).split())
        raise BadRequest(f"the body of the request is not valid YAML: {text[:300]}") from None
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body of the request cannot be read as YAML: {type(error).__name__}") from None
    twice += loader.twice
    return value


def _check_events(data: bytes) -> None:
    """Refuse what the loader must not see: aliases make a huge object of a small text, and it recurses into what is nested."""
    depth = 0
    for event in yaml.parse(data, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not accepted; write the value out")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise yaml.YAMLError(f"nested more than {MAX_DEPTH} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
