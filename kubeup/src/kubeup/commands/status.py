"""`kubeup status`: one screen. Is a server running, what is there, what needs a person."""

from __future__ import annotations

import shutil
import textwrap
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import click

from .. import daemon
from ..api import Api
from ..connect import existing
from ..errors import NO_SERVER, CommandError
from ..follow import Object, Row, machines, message, ready, title
from ..options import output_option
from ..output import age, cut, plural, screen_width, show, table
from ..state import State

KINDS = ("Cluster", "NodePool", "LoadBalancer", "Volume")
TROUBLED = 5
"""Machines that are not Ready and are named, at most."""

UNPAUSE = 'kubectl patch installation kubeup --type=merge -p \'{"spec":{"paused":false}}\''


@click.command("status")
@output_option
@click.pass_obj
def command(state: State, output: str | None) -> None:
    """One screen: the server, the clusters, what needs you."""
    if not state.context and daemon.running(state) is None:
        _without_server(state, output)
        return
    try:
        with existing(state) as api:
            facts = gather(api)
    except CommandError as error:
        if error.code != NO_SERVER or state.context or daemon.running(state) is not None:
            raise
        _without_server(state, output)  # it ended just now
        return
    server = {} if state.context else state.server() or {}
    facts["server"] = {"pid": server.get("pid"), "version": server.get("version"), "started": server.get("started")}
    if output:
        show(facts, output)
    else:
        height = shutil.get_terminal_size().lines - 1 if screen_width() else None
        click.echo("\n".join(screen(state, facts, server, screen_width(), height)))


def _without_server(state: State, output: str | None) -> None:
    if output:
        show({"server": None, "state": str(state.path), "since": last_seen(state), "unattended": unattended(state)}, output)
    else:
        click.echo(not_running(state))


def not_running(state: State) -> str:
    """Whether anything is unattended, and since when."""
    if not state.exists:
        return f"nothing here yet ({state.path})\n  → kubeup init sim -o cluster.yaml, then kubeup up -f cluster.yaml"
    since = last_seen(state)
    when = f" since {since} ({age(since)} ago)" if since else ""
    if not unattended(state):
        return f"server: not running{when}; nothing was left to look after   {state.path}"
    return f"server: not running{when}; what it made is unattended   {state.path}\n  → kubeup restart"


def unattended(state: State) -> bool:
    """Whether something that was made may still be there. A server that stopped in order has said how much."""
    server = state.server() or {}
    return state.exists and not (server.get("stopped") and server.get("left") == 0)


def last_seen(state: State) -> str | None:
    """When the last server stopped, or when it was last alive if it never said good-bye (a reboot, kill -9)."""
    server = state.server()
    if server is None:
        return None
    if server.get("stopped"):
        return str(server["stopped"])
    beat = (state.path / "server.json").stat().st_mtime
    return datetime.fromtimestamp(int(beat), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def gather(api: Api) -> Object:
    """All that the screen shows, as data."""
    objects = [o for kind in KINDS for o in api.list(kind)]
    used = _providers_of(objects)
    providers = [p for p in api.list("providers") if not _auto(p) or p["metadata"]["name"] in used]
    every = machines(api, {_key(o): o for o in objects if o["kind"] == "Cluster"})
    installation = api.find("Installation", "kubeup") or {}
    paused = bool((installation.get("spec") or {}).get("paused"))
    return {
        "paused": message(installation) if paused else None,
        "providers": [_line(p) for p in providers],
        "objects": [_line(o) for o in objects],
        "machines": {
            "total": len(every),
            "ready": sum(m.ready for m in every),
            "states": dict(Counter(m.state for m in every).most_common()),
        },
        "troubled": [_trouble(m) for m in every if not m.ready],
    }


def screen(state: State, facts: Object, server: Object, width: int | None, height: int | None) -> list[str]:
    """Lines; no more and no wider than the terminal, where there is one. What needs a person comes before what is well."""
    first = [_head(state, server)]
    if facts["paused"]:
        first += [f"PAUSED: {facts['paused']}", f"  → {UNPAUSE}"]
    last = _foot(facts)
    room = None if height is None else max(height - len(first) - len(last) - 2, 3)
    return [cut(line, width) for line in [*first, *_table(facts["providers"] + facts["objects"], width, room), *last]]


def _table(objects: list[Object], width: int | None, room: int | None) -> list[str]:
    """Below each object that is not Ready the reason, as long as there is room for it."""
    if not objects:
        return []
    reasons = [_reason(o, width) for o in objects]
    if room is not None and len(objects) + sum(map(len, reasons)) > room:
        reasons = [lines[:1] for lines in reasons]
    shown = list(zip(objects, reasons, strict=True))
    if room is not None and len(objects) + sum(map(len, reasons)) > room:
        shown = sorted(shown, key=lambda pair: bool(pair[0]["ready"]))
        while sum(1 + len(lines) for _, lines in shown) > room - 1 and len(shown) > 1:
            shown.pop()
    rows = [[o["kind"], o["name"], "yes" if o["ready"] else "NO", o["about"]] for o, _ in shown]
    head, *told = table(["Kind", "Name", "Ready", ""], rows).splitlines()
    lines = ["", head]
    for line, (_, reason) in zip(told, shown, strict=True):
        lines += [line, *reason]
    if len(shown) < len(objects):
        well = sum(o["ready"] for o in objects) - sum(o["ready"] for o, _ in shown)
        lines.append(f"... and {len(objects) - len(shown)} more, {well} of them Ready")
    return lines


def _reason(obj: Object, width: int | None) -> list[str]:
    if not obj["message"]:
        return []
    text = " ".join(str(obj["message"]).split())
    return textwrap.wrap(
        text, (width or 10_000) - 6, max_lines=3, placeholder=" …", initial_indent="    ", subsequent_indent="    "
    )


def _head(state: State, server: Object) -> str:
    if state.context:
        return f"server: context {state.context}"
    since = f"for {age(server.get('started')) or '0s'}"
    return f"server: running {since}, pid {server.get('pid')}, version {server.get('version')}   {state.path}"


def _foot(facts: Object) -> list[str]:
    """Machines in numbers, those that are not Ready, and what to type next."""
    found = facts["machines"]
    if not facts["objects"] and not found["total"]:
        return ["", "nothing is declared", "  → kubeup init sim -o cluster.yaml, then kubeup up -f cluster.yaml"]
    others = {state: n for state, n in found["states"].items() if state != "Ready"}
    rest = f" ({', '.join(f'{n} {state}' for state, n in others.items())})" if others else ""
    lines = ["", f"{plural(found['total'], 'machine')}, {found['ready']} Ready{rest}"]
    troubled = facts["troubled"]
    lines += [f"  {m['name']}: {m['state']}" + (f", {m['message']}" if m["message"] else "") for m in troubled[:TROUBLED]]
    if len(troubled) > TROUBLED:
        lines.append(f"  ... and {len(troubled) - TROUBLED} more")
    not_ready = [o for o in facts["providers"] + facts["objects"] if not o["ready"]]
    if not_ready:
        name, _, inner = not_ready[0]["name"].rpartition("/")
        lines.append(f"  → kubeup why {not_ready[0]['kind'].lower()}/{inner}" + (f" -n {name}" if name else ""))
    return lines


def _trouble(m: Row) -> Object:
    return {"name": m.name, "cluster": m.cluster, "state": m.state, "message": m.message}


def _line(obj: Object) -> Object:
    deleting = bool(obj["metadata"].get("deletionTimestamp"))
    text = ("is being deleted: " if deleting else "") + ("" if ready(obj) else message(obj))
    name = title(_key(obj)).partition("/")[2]
    return {
        "kind": obj["kind"], "name": name, "ready": ready(obj) and not deleting, "about": _about(obj), "message": text.rstrip(": "),
    }  # fmt: skip


def _about(obj: Object) -> str:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    match obj["kind"]:
        case "Provider":
            return str(status.get("identity") or spec.get("type"))
        case "Cluster":
            return f"at {spec.get('provider')}"
        case "NodePool":
            return f"{status.get('ready', 0)} of {plural(int(spec.get('replicas') or 0), 'machine')}"
        case "LoadBalancer":
            return str(status.get("address") or "")
        case "Volume":
            at = f" at {status['attachedTo']}" if status.get("attachedTo") else ""
            return f"{status.get('size') or spec.get('size')}{at}"
    return ""


def _providers_of(objects: list[Object]) -> set[str]:
    """Names of the Providers that are in use, or are asked for."""
    used: set[str] = set()
    for obj in objects:
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        named: list[Any] = [spec.get("provider"), status.get("provider"), *(status.get("providers") or ())]
        used.update(str(n) for n in [*named, *(o.get("provider") for o in spec.get("offers") or ())] if n)
    return used


def _auto(provider: Object) -> bool:
    return "kubeup.dev/auto" in (provider["metadata"].get("labels") or {})


def _key(obj: Object) -> tuple[str, str, str]:
    return obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
