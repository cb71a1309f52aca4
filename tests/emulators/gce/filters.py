"""The filter language of list requests, as far as it is needed: `field=value` and `field eq value`, joined by AND or OR, in
parentheses or not, with `labels.x` for labels. Anything else is refused, so that no test passes by a filter that is ignored."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Test = Callable[[Mapping[str, Any]], bool]
_TOKEN = re.compile(r'\s*(\(|\)|AND\b|OR\b|[\w.-]+\s*(?:!=|=|\beq\b|\bne\b)\s*(?:"[^"]*"|[^\s()]+))')


class BadFilter(ValueError):
    pass


def parse(text: str) -> Test:
    tokens = []
    rest = text.strip()
    while rest:
        found = _TOKEN.match(rest)
        if found is None:
            raise BadFilter(text)
        tokens.append(found[1])
        rest = rest[found.end() :].strip()
    test, left = _either(tokens)
    if left:
        raise BadFilter(text)
    return test


def _either(tokens: list[str]) -> tuple[Test, list[str]]:
    one, left = _both(tokens)
    while left and left[0] == "OR":
        other, left = _both(left[1:])
        one = _or(one, other)
    return one, left


def _both(tokens: list[str]) -> tuple[Test, list[str]]:
    one, left = _single(tokens)
    while left and left[0] not in (")", "OR"):
        other, left = _single(left[1:] if left[0] == "AND" else left)
        one = _and(one, other)
    return one, left


def _single(tokens: list[str]) -> tuple[Test, list[str]]:
    if not tokens:
        raise BadFilter("it ends too early")
    if tokens[0] == "(":
        test, left = _either(tokens[1:])
        if not left or left[0] != ")":
            raise BadFilter("a parenthesis is not closed")
        return test, left[1:]
    found = re.fullmatch(r'([\w.-]+)\s*(!=|=|eq|ne)\s*"?([^"]*)"?', tokens[0])
    if found is None:
        raise BadFilter(tokens[0])
    field, sign, wanted = found[1], found[2], found[3]
    return (lambda body: (_value(body, field) == wanted) == (sign in ("=", "eq"))), tokens[1:]


def _value(body: Mapping[str, Any], field: str) -> str:
    value: Any = body
    for part in field.split(".", 1):
        value = value.get(part, "") if isinstance(value, Mapping) else ""
    return str(value)


def _and(one: Test, other: Test) -> Test:
    return lambda body: one(body) and other(body)


def _or(one: Test, other: Test) -> Test:
    return lambda body: one(body) or other(body)
