"""Label and field selectors, as kubectl's `-l` and `--field-selector` write them.

`verbs` lists, watches and deletes collections by them. A selector is compiled once per request and asked with the decoded
object. The texts of errors are those of a real kube-apiserver.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from .kinds import Kind
from .statuses import BadRequest

Matches = Callable[[Mapping[str, Any]], bool]
"""Asked with a decoded object."""

_KEY = r"(?:[a-z0-9.-]+/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_TERM = re.compile(
    rf"\s*(?:(?P<not>!)\s*)?(?P<key>{_KEY})\s*"
    rf"(?:(?P<set>in|notin)\s*\(\s*(?P<values>{_VALUE}(?:\s*,\s*{_VALUE})*)\s*\)"
    rf"|(?P<op>==|!=|=|<|>)\s*(?P<value>{_VALUE}))?\s*(?:,|$)"
)

_METADATA = {"metadata.name": ("metadata", "name"), "metadata.namespace": ("metadata", "namespace")}
_FIELDS: dict[str, dict[str, tuple[str, ...]]] = {
    "events": {
        **{
            f"{prefix}.{field}": ("involvedObject", field)
            for prefix in ("involvedObject", "regarding")
            for field in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
        },
        "reason": ("reason",),
        "reportingComponent": ("reportingComponent",),
        "reportingController": ("reportingComponent",),
        "source": ("source", "component"),
        "type": ("type",),
    },
    "namespaces": {"status.phase": ("status", "phase"), "name": ("metadata", "name")},
    "secrets": {"type": ("type",)},
}


def compile_selectors(kind: Kind, labels: str, fields: str) -> Matches | None:
    """One test for both selectors, or None when everything matches. Raises BadRequest."""
    tests = [*_labels(labels), *_fields(kind, fields)]
    if not tests:
        return None
    return lambda obj: all(test(obj) for test in tests)


def name_in(fields: str) -> str | None:
    """The name that a field selector asks for with `metadata.name=x`; reading one object is then enough."""
    found = [term.partition("=")[2].lstrip("=") for term in fields.split(",") if re.match(r"metadata\.name==?[^=]", term)]
    return found[0] if found else None


def _labels(text: str) -> list[Matches]:
    tests: list[Matches] = []
    at = 0
    while at < len(text) and text[at:].strip():
        match = _TERM.match(text, at)
        # A key alone may be followed by nothing but a comma; `in` without brackets is a key that another word follows.
        if match is None or (match["not"] and (match["set"] or match["op"])):
            raise BadRequest(
                f'unable to parse requirement: found "{text[at:].strip()}", write key=value, key in (a,b), key or !key'
            )
        tests.append(_label_test(match))
        at = match.end()
    if text.rstrip().endswith(","):
        raise BadRequest("unable to parse requirement: found '', expected: identifier after ','")
    return tests


def _label_test(match: re.Match[str]) -> Matches:
    key = match["key"]

    def value(obj: Mapping[str, Any]) -> str | None:
        found = (obj.get("metadata") or {}).get("labels")
        got = found.get(key) if found else None
        return got if isinstance(got, str) else None

    if match["set"]:
        values = {part.strip() for part in match["values"].split(",")}
        if match["set"] == "in":
            return lambda obj: value(obj) in values
        return lambda obj: value(obj) not in values
    if match["not"]:
        return lambda obj: value(obj) is None
    operator, wanted = match["op"], match["value"]
    if operator is None:
        return lambda obj: value(obj) is not None
    if operator in ("=", "=="):
        return lambda obj: value(obj) == wanted
    if operator == "!=":
        return lambda obj: value(obj) != wanted
    if not re.fullmatch(r"\d+", wanted):
        raise BadRequest(
            f"values[0][{key}]: Invalid value: \"{wanted}\": for 'Gt', 'Lt' operators, the value must be an integer"
        )
    limit, sign = int(wanted), 1 if operator == ">" else -1

    def compared(obj: Mapping[str, Any]) -> bool:
        got = value(obj)
        return got is not None and re.fullmatch(r"-?\d+", got) is not None and sign * int(got) > sign * limit

    return compared


def _fields(kind: Kind, text: str) -> list[Matches]:
    known = _METADATA | (_FIELDS.get(kind.plural, {}) if kind.builtin else {})
    tests: list[Matches] = []
    for term in filter(None, text.split(",")):
        match = re.fullmatch(r"([^=!]+)(==|!=|=)(.*)", term)
        if match is None:
            raise BadRequest(f"invalid selector: '{term}'; can't understand '{term}'")
        path = known.get(match[1])
        if path is None:
            raise BadRequest(f"field label not supported: {match[1]}")
        tests.append(_field_test(path, match[3], negate=match[2] == "!="))
    return tests


def _field_test(path: tuple[str, ...], wanted: str, *, negate: bool) -> Matches:
    def test(obj: Mapping[str, Any]) -> bool:
        got: Any = obj
        for part in path:
            got = got.get(part) if isinstance(got, Mapping) else None
        return (("" if got is None else str(got)) == wanted) is not negate

    return test
