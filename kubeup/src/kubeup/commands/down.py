"""`kubeup down`: list what goes, ask, delete, and wait for the proof that nothing is left at the provider."""

from __future__ import annotations

import sys
from typing import Any

import click

from .. import daemon
from ..api import Api, Refused, kind_named
from ..connect import server
from ..errors import BAD_INPUT, REFUSED, CommandError
from ..manifests import load
from ..output import plural, table
from ..state import State
from .delete import wait_until_gone
from .up import namespace_option, plugin_option, seconds_of

Object = dict[str, Any]
Key = tuple[str, str, str]
KINDS = ("LoadBalancer", "NodePool", "Machine", "Volume", "Cluster", "Provider")
"""What down takes, in the order of the list; the controllers bring the deletions into an order that works."""


@click.command("down")
@click.option(
    "-f", "--filename", "files", multiple=True, metavar="FILE", help="Only what these files declare; else everything."
)
@namespace_option
@plugin_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--volumes", is_flag=True, help="Data volumes too, without asking.")
@click.option("--once", is_flag=True, help="Leave no process behind. Never prompts.")
@click.option("--timeout", default="15m", show_default=True, help="How long to wait for the proof.")
@click.pass_obj
def command(
    state: State,
    files: tuple[str, ...],
    namespace: str,
    plugins: tuple[str, ...],
    yes: bool,
    volumes: bool,
    once: bool,
    timeout: str,
) -> None:
    """Take it all away again, and prove that nothing is left.

    Data volumes are listed and kept, unless --volumes is given or you confirm. What has `protect: true` is refused.
    """
    seconds = seconds_of(timeout)
    if not state.exists:
        raise CommandError(f"there is no state in {state.path}", "nothing was made from here", BAD_INPUT)
    with server(state, once=once, plugins=plugins) as api:
        doomed = chosen(api, files, namespace)
        if not doomed:
            click.echo("there is nothing to take down")
        else:
            _refuse_protected(doomed)
            click.echo(listing(doomed))
            keep = _ask(doomed, yes, volumes, interactive=sys.stdin.isatty() and not once)
            keys = _delete(api, [o for o in doomed if o not in keep], keep)
            wait_until_gone(api, keys, seconds)
            click.echo(
                f"gone: {plural(len(keys), 'object')}, and a complete listing at each provider shows that nothing of them is left"
            )
            for o in keep:
                click.echo(_kept(o))
        idle = _idle(api)
    if idle and daemon.stop(state):
        click.echo("the server has nothing left to do and was stopped")


def chosen(api: Api, files: tuple[str, ...], namespace: str) -> list[Object]:
    """The objects that would go: those of the files and all that belongs to their clusters, or everything."""
    every = {_key(o): o for kind in KINDS for o in api.list(kind_named(kind))}
    if not files:
        return [o for o in every.values() if not _auto(o)]
    named = set()
    for d in load(files):
        space = (d.namespace or namespace) if kind_named(d.kind).namespaced else ""
        named.add((kind_named(d.kind).kind, space, d.name))
    clusters = {(space, name) for kind, space, name in named if kind == "Cluster"}

    def goes(key: Key, obj: Object) -> bool:
        return key in named or (key[1], (obj.get("spec") or {}).get("cluster")) in clusters

    return [o for key, o in every.items() if goes(key, o)]


def listing(doomed: list[Object]) -> str:
    """What goes, with prices where they are known."""
    rows, total = [], 0.0
    for obj in doomed:
        price = ((obj.get("status") or {}).get("resolved") or {}).get("pricePerHour")
        total += float(price or 0)
        rows.append([obj["kind"], obj["metadata"]["name"], _where(obj), f"{float(price):.3f}/h" if price else ""])
    shown = rows if len(rows) <= 40 else [*rows[:40], [f"... and {len(rows) - 40} more", "", "", ""]]
    text = f"This goes:\n{table(['Kind', 'Name', 'Where', 'Price'], shown)}"
    return text + (
        f"\n{plural(len(doomed), 'object')}, {total:.2f} per hour" if total else f"\n{plural(len(doomed), 'object')}"
    )


def _refuse_protected(doomed: list[Object]) -> None:
    protected = [o for o in doomed if (o.get("spec") or {}).get("protect")]
    if protected:
        names = ", ".join(f"{o['kind'].lower()}/{o['metadata']['name']}" for o in protected)
        first = protected[0]
        patch = f'kubectl patch {first["kind"].lower()} {first["metadata"]["name"]} --type=merge -p \'{{"spec":{{"protect":false}}}}\''
        raise CommandError(f"protected: {names}; nothing was deleted", patch, REFUSED)


def _ask(doomed: list[Object], yes: bool, volumes: bool, interactive: bool) -> list[Object]:
    """The volumes that stay. Raises when nobody agrees."""
    data = [o for o in doomed if o["kind"] == "Volume"]
    if not yes:
        if not interactive:
            raise CommandError("nobody is here to ask", "say --yes to take it down without a question", BAD_INPUT)
        if not click.confirm("Take it down?", default=False):
            raise click.Abort
    if not data or volumes:
        return []
    if interactive and not yes and click.confirm(f"And the data of {plural(len(data), 'volume')}?", default=False):
        return []
    return data


def _delete(api: Api, doomed: list[Object], keep: list[Object]) -> list[Key]:
    """Mark all for deletion. A kept volume's cluster is told to retain it by marking the volume first."""
    for volume in keep:
        _retain(api, volume)
    keys = []
    for obj in doomed:
        kind, space, name = _key(obj)
        try:
            api.delete(kind_named(kind), name, space)
        except Refused as error:
            raise CommandError(f"{kind.lower()}/{name}: {error.message}", "", REFUSED) from error
        keys.append((kind, space, name))
    return keys


def _retain(api: Api, volume: Object) -> None:
    from ..api import path

    kind, space, name = _key(volume)
    body = {"spec": {"onDelete": "Retain"}}
    api.request("PATCH", path(kind_named(kind), space, name), body=body, kind="application/merge-patch+json")


def _kept(volume: Object) -> str:
    status = volume.get("status") or {}
    if not status.get("id"):
        return f"kept: nothing, volume/{volume['metadata']['name']} had no disk yet"
    disk = f"{status['id']} ({volume['spec']['size']}) at {status.get('provider')}"
    return f"kept: the data of volume/{volume['metadata']['name']} stays as {disk}; --volumes would have taken it too"


def _idle(api: Api) -> bool:
    """Nothing is left that a server would have to care for."""
    kinds = ("Cluster", "NodePool", "Machine", "LoadBalancer", "Volume", "Launch")
    return not any(api.list(kind_named(kind)) for kind in kinds) and all(_auto(p) for p in api.list(kind_named("Provider")))


def _auto(obj: Object) -> bool:
    return obj["kind"] == "Provider" and "kubeup.dev/auto" in (obj["metadata"].get("labels") or {})


def _key(obj: Object) -> Key:
    return obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _where(obj: Object) -> str:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    resolved = status.get("resolved") or {}
    return "/".join(str(p) for p in (resolved.get("provider") or spec.get("provider") or "", resolved.get("zone") or "") if p)
