"""How answers are written: whole objects, lists, Tables, metadata only; JSON or YAML.

A list in plain JSON is the stored bytes, joined: no object is decoded. Everything else decodes what it must.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import orjson
import yaml

from ..reads import Page
from .events import Served
from .negotiation import Wanted
from .tables import Table, partial


@cache
def table_of(served: Served) -> Table:
    # Both shapes of an event print alike, from the stored one.
    return Table(served.stored)


def one(served: Served, data: bytes, wanted: Wanted, *, now: float, include: str) -> bytes:
    """One stored object in the form that was asked for."""
    if not wanted.shape:
        data = served.outward(data)
    elif wanted.shape == "Table":
        rv = orjson.loads(data)["metadata"].get("resourceVersion", "")
        meta = {"resourceVersion": rv}
        data = table_of(served).encode([data], meta, now=now, include=include, version=wanted.version)
    else:
        data = orjson.dumps(partial(orjson.loads(data), wanted.version))
    return to_yaml(data) if wanted.yaml else data


def many(served: Served, page: Page, wanted: Wanted, *, now: float, include: str) -> bytes:
    """A page of stored objects in the form that was asked for."""
    metadata: dict[str, Any] = {"resourceVersion": str(page.rv)}
    if page.continue_:
        metadata["continue"] = page.continue_
    if page.remaining is not None:
        metadata["remainingItemCount"] = page.remaining
    if wanted.shape == "Table":
        data = table_of(served).encode(page.items, metadata, now=now, include=include, version=wanted.version)
    elif wanted.shape:
        items = [orjson.dumps(partial(orjson.loads(item), wanted.version)) for item in page.items]
        data = _list("PartialObjectMetadataList", f"meta.k8s.io/{wanted.version}", metadata, items)
    else:
        items = [served.outward(item) for item in page.items] if served.converted else page.items
        data = _list(f"{served.kind.kind}List", served.kind.api_version, metadata, items)
    return to_yaml(data) if wanted.yaml else data


def deleted(served: Served, data: bytes, wanted: Wanted) -> bytes:
    """The answer to a delete of a collection: a List, whose items are in the stored shape."""
    if served.converted:
        found = orjson.loads(data)
        found["items"] = [orjson.Fragment(served.outward(orjson.dumps(item))) for item in found["items"]]
        data = orjson.dumps(found | {"apiVersion": served.kind.api_version})
    return to_yaml(data) if wanted.yaml else data


def to_yaml(data: bytes) -> bytes:
    return yaml.dump(orjson.loads(data), Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True).encode()


def _list(kind: str, version: str, metadata: dict[str, Any], items: Sequence[bytes]) -> bytes:
    head = orjson.dumps({"kind": kind, "apiVersion": version, "metadata": metadata})
    return head[:-1] + b',"items":[' + b",".join(items) + b"]}"
