"""The XML that EC2 speaks, as far as the strict layer has to take it apart. Part of `strict_ec2.py`; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .strict_aws import Params


def describe(ids: list[str]) -> Params:
    return {"Action": "DescribeInstances", "Version": "2016-11-15"} | {f"InstanceId.{i + 1}": id for i, id in enumerate(ids)}


def tight(xml: str) -> str:
    return re.sub(r">\s+<", "><", xml)


def items(inner: str) -> list[str]:
    """The contents of the outermost <item> elements."""
    found, depth, start = [], 0, 0
    for match in re.finditer(r"<(/?)item>", inner):
        if match[1]:
            depth -= 1
            if depth == 0:
                found.append(inner[start : match.start()])
        else:
            if depth == 0:
                start = match.end()
            depth += 1
    return found


def in_item(xml: str, id: str, change: Any) -> str:
    """Changes the outermost <item> that names this volume."""
    whole = tight(xml)
    inner = re.search(r"<volumeSet>(.*)</volumeSet>", whole, re.DOTALL)
    if not inner:
        return xml
    changed = [change(item) if f"<volumeId>{id}</volumeId>" in item else item for item in items(inner[1])]
    return whole.replace(inner[1], "".join(f"<item>{item}</item>" for item in changed))


def entries(xml: str) -> Iterator[tuple[str, str]]:
    """(id, the <item> of a reservation that holds nothing else) for each instance of a DescribeInstances answer."""
    reservations = re.search(r"<reservationSet>(.*)</reservationSet>", tight(xml), re.DOTALL)
    for reservation in items(reservations[1]) if reservations else ():
        inner = re.search(r"<instancesSet>(.*)</instancesSet>", reservation, re.DOTALL)
        assert inner
        head, _, tail = reservation.partition(inner[0])
        for item in items(inner[1]):
            id = re.search(r"<instanceId>(i-\w+)</instanceId>", item)
            assert id
            yield id[1], f"<item>{head}<instancesSet><item>{item}</item></instancesSet>{tail}</item>"


def copy_of(entry: str, id: str, number: int) -> str:
    """The same of another instance: its id and its number in the launch differ."""
    numbered = re.sub(r"<amiLaunchIndex>\d*</amiLaunchIndex>", f"<amiLaunchIndex>{number}</amiLaunchIndex>", entry)
    return numbered.replace(id, f"i-{number:017x}")


def envelope(name: str, inner: str) -> bytes:
    return f'<{name} xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>strict</requestId>{inner}</{name}>'.encode()
