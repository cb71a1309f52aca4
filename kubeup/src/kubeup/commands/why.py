"""`kubeup why [NAME]`: from an object, or from all that is not Ready, down to the root cause, and what to do."""

from __future__ import annotations

import click
from kubeup_core.kinds.provider import AUTO_LABEL

from ..api import Api
from ..connect import existing
from ..errors import REFUSED, CommandError
from ..follow import Object
from ..options import namespace_option, output_option
from ..output import screen_width, show
from ..reasons import Reason, explain, healthy, render
from ..state import State

TOPS = ("Cluster", "NodePool", "LoadBalancer", "Volume", "Machine", "Provider")
SEARCHED = ("Cluster", "NodePool", "Machine", "LoadBalancer", "Volume", "Provider", "Launch")


@click.command("why")
@click.argument("name", metavar="[[KIND/]NAME]", required=False)
@namespace_option
@output_option
@click.pass_obj
def command(state: State, name: str | None, namespace: str, output: str | None) -> None:
    """Walk from an object to the reason why it is not Ready: condition, last error, what it waits for, what to do.

    Without a name: from everything that is not Ready, in all namespaces.
    """
    with existing(state) as api:
        reasons = [explain(api, obj) for obj in find(api, name, namespace)] if name else troubled(api)
    if output:
        show([r.to_dict() for r in reasons], output)
    elif not reasons:
        click.echo("everything is Ready")
    else:
        click.echo("\n".join(render(r, screen_width()) for r in reasons))


def troubled(api: Api) -> list[Reason]:
    """What is not Ready, from the top: what a tree shows already has none of its own."""
    reasons: list[Reason] = []
    told: set[tuple[str, str]] = set()
    for kind in TOPS:
        for obj in api.list(kind):
            meta, spec = obj["metadata"], obj.get("spec") or {}
            space = str(meta.get("namespace"))
            if healthy(obj) or AUTO_LABEL in (meta.get("labels") or {}):
                continue
            if kind in ("NodePool", "Machine") and (space, spec.get("cluster")) in told:
                continue
            if any(f"{kind} {meta['name']}:" in render(reason) for reason in reasons):
                continue
            reasons.append(explain(api, obj))
            if kind == "Cluster":
                told.add((space, meta["name"]))
    return reasons


def find(api: Api, name: str, namespace: str) -> list[Object]:
    """Objects of that name: of one kind when it is given, else of every kind that has one."""
    word, slash, rest = name.partition("/")
    kinds = [api.kind(k) for k in ([word] if slash else SEARCHED)]
    wanted = rest if slash else name
    found = [o for k in kinds if (o := api.find(k.kind, wanted, namespace if k.namespaced else "")) is not None]
    if not found:
        raise CommandError(
            f"there is nothing named {wanted!r} in namespace {namespace}", "kubeup status lists what there is", REFUSED
        )
    return found
