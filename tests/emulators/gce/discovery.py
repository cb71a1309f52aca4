"""Google's published description of compute v1: which requests there are, and whether a body has the form that it says.

The document ships with google-api-python-client. Every request that the emulator takes and every answer that it gives goes
through `problems`; a field that Google does not know is an error here, as it is there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Method:
    """One kind of request. id: `instances.insert`; path: with one named group per variable."""

    id: str
    verb: str
    path: re.Pattern[str]
    parameters: Mapping[str, Any]
    request: str | None
    response: str


@cache
def document() -> dict[str, Any]:
    import googleapiclient

    file = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents" / "compute.v1.json"
    return dict(json.loads(file.read_text()))


@cache
def methods() -> tuple[Method, ...]:
    return tuple(_methods())


def match(verb: str, path: str) -> tuple[Method, dict[str, str]] | None:
    """path: after `/compute/v1/`."""
    for method in methods():
        if method.verb == verb and (found := method.path.fullmatch(path)):
            return method, found.groupdict()
    return None


def problems(schema: str, value: object) -> list[str]:
    """What is wrong with a value, as `path: sentence`."""
    return list(_problems({"$ref": schema}, value, schema))


def unknown_parameters(method: Method, given: Mapping[str, str]) -> list[str]:
    shared = document()["parameters"]
    return [f"{method.id}: unknown parameter {name}" for name in given if name not in method.parameters and name not in shared]


def _methods() -> Iterator[Method]:
    for resource, content in document()["resources"].items():
        for name, method in content.get("methods", {}).items():
            pattern = re.sub(
                r"\\?\{\+?(\w+)\\?\}", r"(?P<\1>[^/]+)", re.escape(method["path"]).replace(r"\{", "{").replace(r"\}", "}")
            )
            yield Method(
                id=f"{resource}.{name}",
                verb=method["httpMethod"],
                path=re.compile(pattern.replace(r"\-", "-")),
                parameters=method.get("parameters", {}),
                request=method.get("request", {}).get("$ref"),
                response=method.get("response", {}).get("$ref", ""),
            )


def _problems(schema: Mapping[str, Any], value: object, path: str) -> Iterator[str]:
    if "$ref" in schema:
        schema = document()["schemas"][schema["$ref"]]
    kind = schema.get("type", "any")
    match kind:
        case "object":
            yield from _object(schema, value, path)
        case "array":
            if not isinstance(value, list):
                yield f"{path}: a list is wanted, not {value!r}"
                return
            for index, item in enumerate(value):
                yield from _problems(schema["items"], item, f"{path}[{index}]")
        case "string":
            if not isinstance(value, str):
                yield f"{path}: text is wanted, not {value!r}"
            elif schema.get("format") in ("int64", "uint64") and not re.fullmatch(r"-?\d+", value):
                yield f"{path}: a number as text is wanted, not {value!r}"
            elif "enum" in schema and value not in schema["enum"]:
                yield f"{path}: {value!r} is none of {', '.join(schema['enum'][:9])}"
        case "integer":
            if not isinstance(value, int) or isinstance(value, bool):
                yield f"{path}: a number is wanted, not {value!r}"
        case "number":
            if not isinstance(value, int | float) or isinstance(value, bool):
                yield f"{path}: a number is wanted, not {value!r}"
        case "boolean":
            if not isinstance(value, bool):
                yield f"{path}: true or false is wanted, not {value!r}"
        case _:
            pass


def _object(schema: Mapping[str, Any], value: object, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: an object is wanted, not {value!r}"
        return
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    for name, item in value.items():
        if name in known:
            yield from _problems(known[name], item, f"{path}.{name}")
        elif others is not None:
            yield from _problems(others, item, f"{path}.{name}")
        else:
            yield f"{path}: no field {name!r}"
