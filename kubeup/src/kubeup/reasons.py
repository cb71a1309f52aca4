"""Why something is not Ready: from an object down to the root cause. Used by `why`, and by `up` when it gives up.

Walks the references that the API declares (a cluster to its provider, a pool to its machines, a machine to its launch, a balancer
or a volume to its machines), and says of each what its conditions, its last supplier error and its latest warnings say. It asks
the API only, so it tells no more and no less than `kubectl get` would.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .api import Api
from .follow import Object, condition, leaving, message, ready
from .output import age

MOST = 5
"""Different reasons shown of one kind of children."""


@dataclass
class Reason:
    """One object: what it is, why, since when, what to do; and what it waits for."""

    title: str
    why: str = ""
    remedy: str = ""
    extra: list[str] = field(default_factory=list)
    below: list[Reason] = field(default_factory=list)

    def to_dict(self) -> Object:
        return {
            "object": self.title, "why": self.why, "remedy": self.remedy, "details": self.extra,
            "waitsFor": [r.to_dict() for r in self.below],
        }  # fmt: skip


def explain(api: Api, obj: Object, seen: frozenset[str] = frozenset()) -> Reason:
    """The tree of reasons below one object."""
    title = f"{obj['kind']} {obj['metadata']['name']}"
    uid = str(obj["metadata"].get("uid"))
    reason = Reason(title, *_words(obj))
    if not healthy(obj):
        reason.extra = [*_conditions(obj), *_warnings(api, obj)]
    if uid not in seen:
        for kind, children in _references(api, obj):
            groups = _alike(c for c in children if not healthy(c))
            for group in groups[:MOST]:
                below = explain(api, group[0], seen | {uid})
                if len(group) > 1:
                    below.title = f"{len(group)} {group[0]['kind']}s ({_some([c['metadata']['name'] for c in group])})"
                reason.below.append(below)
            if len(groups) > MOST:
                reason.below.append(Reason(f"... and {sum(map(len, groups[MOST:]))} more {kind}"))
    return reason


def render(reason: Reason, width: int | None = None, first: str = "", rest: str = "") -> str:
    """As a tree, root first. width: of the terminal. first: what stands before this line; rest: before those below it."""
    bar = "│  " if reason.below else "   "
    lines = _wrapped(f"{reason.title}: {reason.why}" if reason.why else reason.title, width, first, f"{rest}{bar}  ")
    for line in [*reason.extra, *([f"→ {reason.remedy}"] if reason.remedy else [])]:
        lines += _wrapped(line, width, f"{rest}{bar}", f"{rest}{bar}  ")
    for i, below in enumerate(reason.below):
        last = i == len(reason.below) - 1
        lines.append(render(below, width, f"{rest}{'└─ ' if last else '├─ '}", f"{rest}{'   ' if last else '│  '}"))
    return "\n".join(lines)


def _wrapped(text: str, width: int | None, first: str, rest: str) -> list[str]:
    if width is None:
        return [f"{first}{text}"]
    return textwrap.wrap(text, max(width, 40), initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)


def _alike(objects: Iterable[Object]) -> list[list[Object]]:
    """Those that say the same, together: of 500 machines that fail for one reason, one line says it."""
    groups: dict[tuple[str, bool], list[Object]] = {}
    for obj in sorted(objects, key=lambda o: (len(o["metadata"]["name"]), o["metadata"]["name"])):
        groups.setdefault((message(obj), bool(obj["metadata"].get("deletionTimestamp"))), []).append(obj)
    return list(groups.values())


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def healthy(obj: Object) -> bool:
    return ready(obj) and not obj["metadata"].get("deletionTimestamp")


def _words(obj: Object) -> tuple[str, str]:
    error = (obj.get("status") or {}).get("lastError") or {}
    remedy = str(error.get("remedy") or "")
    if obj["metadata"].get("deletionTimestamp"):
        return f"is being deleted for {age(obj['metadata']['deletionTimestamp'])}: {leaving(obj)}", remedy
    if ready(obj):
        return "Ready", ""
    found = condition(obj, "Ready")
    since = f" for {age(found['lastTransitionTime'])}" if found.get("lastTransitionTime") else ""
    return f"not Ready{since}: {message(obj)}", remedy


def _conditions(obj: Object) -> list[str]:
    """Conditions besides Ready that speak of trouble, and the last error of the provider."""
    status = obj.get("status") or {}
    lines = []
    told = message(obj)
    for c in status.get("conditions") or ():
        bad = c["status"] != ("False" if c["type"] in NEGATIVE else "True")
        if c["type"] not in ("Ready", "Reconciling") and bad and c.get("message") and c["message"] not in told:
            lines.append(f"{c['type']}: {c['message']}")
    error = status.get("lastError")
    if error and error.get("message") not in told:
        code = f" ({error['code']})" if error.get("code") else ""
        lines.append(f"the provider said {age(error.get('at'))} ago: {error['decision']}{code}: {error['message']}")
    if error and error.get("retryAt"):
        lines.append(f"next try at {error['retryAt']}")
    tail = str((status.get("bootstrap") or {}).get("logTail") or "")
    return lines + [f"| {line}" for line in tail.splitlines()[-5:]]


NEGATIVE = {
    "Stalled", "Paused", "NoCapacity", "RepairHalted", "LimitReached", "IdentityChanged", "PluginBroken", "Degraded", "AttachBlocked",
    "MemoryLost", "Deregistered",
}  # fmt: skip
"""Conditions for which True is the trouble; kstatus calls this abnormal-true."""


def _warnings(api: Api, obj: Object) -> list[str]:
    meta = obj["metadata"]
    fields = f"involvedObject.name={meta['name']},involvedObject.kind={obj['kind']},involvedObject.uid={meta.get('uid', '')}"
    events = api.list("events", meta.get("namespace") or "default", fields=fields)
    warnings = sorted((e for e in events if e.get("type") == "Warning"), key=lambda e: str(e.get("lastTimestamp")))
    told = {message(obj)}
    lines = []
    for event in reversed(warnings):
        text = str(event.get("message"))
        if text not in told:
            told.add(text)
            lines.append(f"event {age(event.get('lastTimestamp'))} ago: {event.get('reason')}: {text}")
    return lines[:3]


def _references(api: Api, obj: Object) -> Iterator[tuple[str, list[Object]]]:
    """What this object needs, nearest first."""
    spec, namespace = obj.get("spec") or {}, obj["metadata"].get("namespace", "")
    match obj["kind"]:
        case "Cluster":
            yield "providers", _found(api, "Provider", [spec.get("provider")])
            for kind in ("NodePool", "LoadBalancer", "Volume"):
                yield f"{kind.lower()}s", _of_cluster(api, kind, obj["metadata"]["name"], namespace)
            yield (
                "machines",
                [m for m in _of_cluster(api, "Machine", obj["metadata"]["name"], namespace) if not m["spec"].get("pool")],
            )
        case "NodePool":
            offers = [o.get("provider") for o in spec.get("offers") or ()]
            yield "providers", _found(api, "Provider", offers or [spec.get("provider")])
            yield "clusters", _shallow(_found(api, "Cluster", [spec.get("cluster")], namespace))
            machines = _of_cluster(api, "Machine", str(spec.get("cluster")), namespace)
            yield "machines", [m for m in machines if m["spec"].get("pool") == obj["metadata"]["name"]]
        case "Machine":
            launch = (obj.get("status") or {}).get("launch")
            launches = _found(api, "Launch", [launch], namespace) if launch else _launches_of(api, obj)
            yield "launches", [x for x in launches if (x.get("status") or {}).get("phase") != "Settled"]
            yield "providers", _found(api, "Provider", [spec.get("provider"), *[x["spec"]["provider"] for x in launches]])
        case "Launch":
            yield "providers", _found(api, "Provider", [spec.get("provider")])
        case "LoadBalancer":
            yield (
                "machines",
                _found(api, "Machine", [m["machine"] for m in (obj.get("status") or {}).get("members") or ()], namespace),
            )
            yield "providers", _found(api, "Provider", [(obj.get("status") or {}).get("provider"), spec.get("provider")])
        case "Volume":
            yield "machines", _found(api, "Machine", [(spec.get("attach") or {}).get("machine")], namespace)
            yield "providers", _found(api, "Provider", [(obj.get("status") or {}).get("provider"), spec.get("provider")])


def _found(api: Api, kind: str, names: list[Any], namespace: str = "") -> list[Object]:
    wanted = dict.fromkeys(n for n in names if n and n != "auto")
    return [o for n in wanted if (o := api.find(kind, n, namespace)) is not None]


def _of_cluster(api: Api, kind: str, cluster: str, namespace: str) -> list[Object]:
    return [o for o in api.list(kind, namespace) if (o.get("spec") or {}).get("cluster") == cluster]


def _launches_of(api: Api, machine: Object) -> list[Object]:
    uid = machine["metadata"].get("uid")
    every = api.list("launches", machine["metadata"].get("namespace", ""))
    return [x for x in every if any(m.get("uid") == uid for m in x["spec"]["members"])]


def _shallow(objects: list[Object]) -> list[Object]:
    """A pool's cluster is only a reason when it cannot work at all, not because this pool is not Ready."""
    return [o for o in objects if condition(o, "Stalled").get("status") == "True" or o["metadata"].get("deletionTimestamp")]
