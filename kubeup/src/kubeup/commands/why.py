"""`kubeup why NAME`: from an object down to the root cause, and what to do."""

from __future__ import annotations

import click

from ..api import Api
from ..connect import existing
from ..errors import REFUSED, CommandError
from ..follow import Object
from ..options import namespace_option, output_option
from ..output import screen_width, show
from ..reasons import explain, render
from ..state import State

SEARCHED = ("Cluster", "NodePool", "Machine", "LoadBalancer", "Volume", "Provider", "Launch")


@click.command("why")
@click.argument("name", metavar="[KIND/]NAME")
@namespace_option
@output_option
@click.pass_obj
def command(state: State, name: str, namespace: str, output: str | None) -> None:
    """Walk from an object to the reason why it is not Ready: condition, last error, what it waits for, what to do."""
    with existing(state) as api:
        reasons = [explain(api, obj) for obj in find(api, name, namespace)]
    if output:
        show([r.to_dict() for r in reasons], output)
    else:
        click.echo("\n".join(render(r, screen_width()) for r in reasons))


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
