"""`kubeup status`: one screen. Is a server running, what is there, what needs a person."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from .. import daemon
from ..api import Api, kind_named
from ..connect import existing
from ..follow import condition, message, ready
from ..output import age, output_option, plural, show, table
from ..state import State

Object = dict[str, Any]
KINDS = ("Cluster", "NodePool", "LoadBalancer", "Volume")


@click.command("status")
@output_option
@click.pass_obj
def command(state: State, output: str | None) -> None:
    """One screen: the server, the clusters, what needs you."""
    if daemon.running(state) is None:
        facts: Object = {"server": None, "state": str(state.path), "since": last_seen(state)}
        if output:
            show(facts, output)
        else:
            click.echo(not_running(state))
        return
    with existing(state) as api:
        facts = gather(api)
    server = state.server() or {}
    facts["server"] = {"pid": server.get("pid"), "version": server.get("version"), "started": server.get("started")}
    if output:
        show(facts, output)
    else:
        click.echo(screen(state, facts, server))


def not_running(state: State) -> str:
    """Whether anything is unattended, and since when."""
    if not state.exists:
        return f"nothing here yet ({state.path}); kubeup init sim -o cluster.yaml, then kubeup up -f cluster.yaml"
    since = last_seen(state)
    when = f" since {since} ({age(since)} ago)" if since else ""
    return f"server: not running{when}; what it made is unattended\n  → kubeup restart"


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
    providers = api.list(kind_named("Provider"))
    used = [p for p in providers if (p.get("status") or {}).get("machines") or not _auto(p)]
    objects = {kind: api.list(kind_named(kind)) for kind in KINDS}
    machines = api.list(kind_named("Machine"))
    installation = api.find(kind_named("Installation"), "kubeup") or {}
    return {
        "paused": bool((installation.get("spec") or {}).get("paused")),
        "installation": message(installation) if installation and (installation.get("spec") or {}).get("paused") else None,
        "providers": [_line(p) for p in used],
        "objects": [_line(o) for kind in KINDS for o in objects[kind]],
        "machines": {"total": len(machines), "ready": sum(map(ready, machines))},
        "troubled": [_line(m) for m in machines if not ready(m)][:10],
    }


def screen(state: State, facts: Object, server: Object) -> str:
    lines = [
        f"server: running, pid {server.get('pid')}, version {server.get('version')}, since {age(server.get('started'))}   {state.path}"
    ]
    if facts["paused"]:
        lines.append(f"PAUSED: {facts['installation']}")
        lines.append('  → kubectl patch installation kubeup --type=merge -p \'{"spec":{"paused":false}}\'')
    rows = [
        [o["kind"], o["name"], "yes" if o["ready"] else "no", o["about"], o["message"]]
        for o in facts["providers"] + facts["objects"]
    ]
    if rows:
        lines += ["", table(["Kind", "Name", "Ready", "", ""], rows)]
    machines = facts["machines"]
    lines += ["", f"{plural(machines['total'], 'machine')}, {machines['ready']} Ready"]
    lines += [f"  {m['name']}: {m['message']}" for m in facts["troubled"]]
    troubled = [o for o in facts["providers"] + facts["objects"] if not o["ready"]]
    if troubled:
        lines.append(f"  → kubeup why {troubled[0]['kind'].lower()}/{troubled[0]['name']}")
    if not rows and not machines["total"]:
        lines.append("nothing is declared; kubeup up -f FILE")
    return "\n".join(lines)


def _line(obj: Object) -> Object:
    is_ready = ready(obj) and not obj["metadata"].get("deletionTimestamp")
    text = "" if is_ready else "is being deleted" if obj["metadata"].get("deletionTimestamp") else message(obj)
    namespace = obj["metadata"].get("namespace")
    name = obj["metadata"]["name"] if namespace in (None, "default") else f"{namespace}/{obj['metadata']['name']}"
    return {"kind": obj["kind"], "name": name, "ready": is_ready, "about": _about(obj), "message": text}


def _about(obj: Object) -> str:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    match obj["kind"]:
        case "Provider":
            return f"{spec.get('type')}, {plural(status.get('machines') or 0, 'machine')}"
        case "Cluster":
            counts = status.get("machines") or {}
            return f"{spec.get('provider')}, {counts.get('ready', 0)} of {plural(counts.get('total', 0), 'machine')}"
        case "NodePool":
            return f"{status.get('ready', 0)} of {spec.get('replicas', 0)}"
        case "LoadBalancer":
            return status.get("address") or ""
        case "Volume":
            return f"{status.get('size') or spec.get('size')}, {status.get('attachedTo') or status.get('state') or ''}"
    return ""


def _auto(provider: Object) -> bool:
    return (
        "kubeup.dev/auto" in (provider["metadata"].get("labels") or {})
        and condition(provider, "Ready").get("status") != "False"
    )
