"""`kubeup down`: list what goes, ask, delete, and wait for the proof that nothing is left at the provider."""

from __future__ import annotations

import sys

import click

from .. import daemon
from ..api import Api, Refused
from ..connect import server
from ..errors import BAD_INPUT, INTERRUPTED, REFUSED, CommandError
from ..follow import Key, Object, title
from ..manifests import load
from ..options import files_option, namespace_option, output_option, plugin_option, timeout_option
from ..output import plural, screen_width, show, table
from ..state import State
from .delete import wait_until_gone

KINDS = ("Cluster", "NodePool", "Machine", "LoadBalancer", "Volume", "Provider")
"""What down takes, in the order of the list; the controllers bring the deletions into an order that works."""

NAMED = ("Secret", "Namespace")
"""What it takes only when files name it: others may use these, and they cost nothing."""

ROWS = 30


@click.command("down")
@files_option(required=False, help="Only what these files declare, and what belongs to it; else everything.")
@namespace_option
@plugin_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--volumes", is_flag=True, help="The data of volumes too, without asking about it.")
@click.option("--once", is_flag=True, help="Leave no process behind. Never prompts.")
@timeout_option("How long to wait for the proof.")
@output_option
@click.pass_obj
def command(
    state: State,
    files: tuple[str, ...],
    namespace: str,
    plugins: tuple[str, ...],
    yes: bool,
    volumes: bool,
    once: bool,
    timeout: float,
    output: str | None,
) -> None:
    """Take it all away again, and prove that nothing is left.

    The data of volumes is kept, unless --volumes is given or you confirm. What has `protect: true` is refused.
    """
    documents = load(files) if files else []
    if not state.context and not state.exists:
        raise CommandError(f"there is no state in {state.path}", "nothing was made from here", BAD_INPUT)
    say = (lambda _: None) if output else click.echo
    ask = sys.stdin.isatty() and not once and not output
    with server(state, once=once, plugins=plugins, say=say) as api:
        named = {_declared(api, d.kind, d.namespace or namespace, d.name) for d in documents}
        doomed = chosen(api, named if files else None)
        keep: list[Object] = []
        if not doomed:
            say("there is nothing to take down")
        else:
            _refuse_protected(api, doomed)
            say(listing(doomed))
            keep = _agreed(doomed, yes, volumes, ask)
            _delete(api, doomed, keep)
            _wait(api, doomed, timeout, quiet=output is not None)
            say(f"\nGone: {counted(doomed)}.")
            proof = "Complete listings at the providers prove that nothing of it is left"
            say(f"{proof}, but for what was to be kept:" if keep else f"{proof}.")
            for volume in keep:
                say(_kept(volume))
        idle = not state.context and _idle(api)
    if idle and daemon.stop(state):
        say("the server had nothing left to do and was stopped")
    if output:
        show({"gone": [title(_key(o)) for o in doomed if o not in keep], "kept": [title(_key(o)) for o in keep]}, output)


def chosen(api: Api, named: set[Key] | None) -> list[Object]:
    """The objects that would go: those that are named and all that belongs to their clusters and namespaces; None: all."""
    every = {_key(o): o for kind in KINDS for o in api.list(kind)}
    if named is None:
        return [o for o in every.values() if not _auto(o)]
    clusters = {(space, name) for kind, space, name in named if kind == "Cluster"}
    spaces = {name for kind, _, name in named if kind == "Namespace"}
    pools = {key for key in named if key[0] == "NodePool"}

    def goes(key: Key, obj: Object) -> bool:
        spec = obj.get("spec") or {}
        of_pool = key[0] == "Machine" and ("NodePool", key[1], spec.get("pool")) in pools
        return key in named or (key[1], spec.get("cluster")) in clusters or key[1] in spaces or of_pool

    others = [api.find(kind, name, space) for kind, space, name in sorted(named) if kind in NAMED and name != "default"]
    return [o for key, o in every.items() if goes(key, o)] + [o for o in others if o is not None]


def listing(doomed: list[Object]) -> str:
    """What goes, with prices where they are known. The machines of a pool are one line."""
    rows: list[list[str]] = []
    machines: dict[tuple[str, str, str], list[Object]] = {}
    for obj in doomed:
        if obj["kind"] == "Machine":
            space = obj["metadata"].get("namespace", "")
            machines.setdefault((space, obj["spec"]["cluster"], obj["spec"].get("pool") or ""), []).append(obj)
        else:
            rows.append([obj["kind"], title(_key(obj)).partition("/")[2], "", _about(obj)])
    at = next((i for i, row in enumerate(rows) if row[0] in ("LoadBalancer", "Volume", "Provider", *NAMED)), len(rows))
    rows[at:at] = [_group(group) for group in machines.values()]
    shown = rows if len(rows) <= ROWS else [*rows[:ROWS], [f"... and {len(rows) - ROWS} more", "", "", ""]]
    total = sum(_price(o) for o in doomed)
    cost = f", {total:.2f} per hour" if total else ""
    return f"This goes:\n\n{table(['Kind', 'Name', 'Per hour', ''], shown, screen_width())}\n\n{counted(doomed)}{cost}"


def counted(objects: list[Object]) -> str:
    """`1 cluster, 1 node pool, 3 machines`."""
    words = {"NodePool": "node pool", "LoadBalancer": "load balancer"}
    kinds: dict[str, int] = {}
    for obj in objects:
        kinds[obj["kind"]] = kinds.get(obj["kind"], 0) + 1
    return ", ".join(plural(n, words.get(kind, kind.lower())) for kind, n in kinds.items())


def _group(group: list[Object]) -> list[str]:
    names = sorted((o["metadata"]["name"] for o in group), key=lambda name: (len(name), name))
    price = sum(map(_price, group))
    many = f"{names[0]} ... {names[-1]} ({len(names)})" if len(names) > 3 else ", ".join(names)
    places = sorted({_about(o) for o in group} - {""})
    return ["Machine", many, f"{price:.3f}" if price else "", ", ".join(places[:3]) + (" ..." if len(places) > 3 else "")]


def _price(obj: Object) -> float:
    return float(((obj.get("status") or {}).get("resolved") or {}).get("pricePerHour") or 0)


def _about(obj: Object) -> str:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    resolved = status.get("resolved") or {}
    match obj["kind"]:
        case "Machine":
            return str(resolved.get("zone") or resolved.get("provider") or "")
        case "Cluster":
            return f"at {spec.get('provider')}"
        case "NodePool":
            return plural(int(spec.get("replicas") or 0), "replica")
        case "Volume":
            return f"{status.get('size') or spec.get('size')} of data" + (f", id {status['id']}" if status.get("id") else "")
        case "LoadBalancer":
            return str(status.get("address") or "")
    return ""


def _refuse_protected(api: Api, doomed: list[Object]) -> None:
    """The API refuses each of them too; asked beforehand, so that nothing of the rest has gone by then."""
    protected = [o for o in doomed if (o.get("spec") or {}).get("protect")]
    if protected:
        names = ", ".join(title(_key(o)) for o in protected)
        kind, space, name = _key(protected[0])
        where = f" -n {space}" if space not in ("", "default") else ""
        patch = f'kubectl patch {kind.lower()} {name}{where} --type=merge -p \'{{"spec":{{"protect":false}}}}\''
        raise CommandError(f"protected: {names}; nothing was deleted", f"if you mean it: {patch}", REFUSED)
    for obj in doomed:
        if obj["kind"] in ("Cluster", "Volume", *NAMED):
            _remove(api, obj, dry_run=True)


def _agreed(doomed: list[Object], yes: bool, volumes: bool, ask: bool) -> list[Object]:
    """The volumes whose data stays. Raises when nobody agrees to the rest."""
    data = [o for o in doomed if o["kind"] == "Volume" and o["spec"].get("onDelete") != "Retain"]
    kept = [o for o in doomed if o["kind"] == "Volume" and o["spec"].get("onDelete") == "Retain"]
    if not yes:
        if not ask:
            raise CommandError(
                "nobody is here to ask; nothing was deleted", "say --yes to take it down without a question", BAD_INPUT
            )
        if not click.confirm("Take it down?", default=False):
            raise CommandError("not confirmed; nothing was deleted")
        if data and not volumes:
            volumes = click.confirm(f"And the data of {plural(len(data), 'volume')}, for ever?", default=False)
    return kept if volumes else kept + data


def _delete(api: Api, doomed: list[Object], keep: list[Object]) -> None:
    """Mark all for deletion. Volumes that are kept are told so first: their disks then stay when their objects go."""
    for volume in keep:
        kind, space, name = _key(volume)
        api.patch(kind, name, space, {"spec": {"onDelete": "Retain"}})
    for obj in doomed:
        if not (obj["kind"] == "Machine" and obj["spec"].get("pool")):  # a pool takes its machines with it
            _remove(api, obj)


def _remove(api: Api, obj: Object, *, dry_run: bool = False) -> None:
    kind, space, name = _key(obj)
    try:
        api.delete(kind, name, space, dry_run=dry_run)
    except Refused as error:
        also = "; nothing was deleted" if dry_run else ""
        raise CommandError(f"{title((kind, space, name))}: {error.message}{also}", "", REFUSED) from error


def _wait(api: Api, doomed: list[Object], timeout: float, quiet: bool) -> None:
    keys = [_key(o) for o in doomed if o["kind"] != "Machine" or not o["spec"].get("pool")]
    try:
        wait_until_gone(api, keys, timeout, quiet)
    except KeyboardInterrupt:
        raise CommandError(
            "interrupted; what was marked for deletion goes on going", "kubeup status shows what is left", INTERRUPTED
        ) from None


def _kept(volume: Object) -> str:
    status, name = volume.get("status") or {}, volume["metadata"]["name"]
    if not status.get("id"):
        return f"  nothing of volume/{name}, which had no disk yet"
    return f"  the data of volume/{name}: {status['id']} at {status.get('provider')}, {status.get('size')}"


def _idle(api: Api) -> bool:
    """Nothing is left that a server would have to care for."""
    kinds = ("clusters", "nodepools", "machines", "loadbalancers", "volumes", "launches")
    return not any(api.count(kind) for kind in kinds) and all(_auto(p) for p in api.list("providers"))


def _auto(obj: Object) -> bool:
    return obj["kind"] == "Provider" and "kubeup.dev/auto" in (obj["metadata"].get("labels") or {})


def _declared(api: Api, word: str, namespace: str, name: str) -> Key:
    kind = api.kind(word)
    return kind.kind, namespace if kind.namespaced else "", name


def _key(obj: Object) -> Key:
    return obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
