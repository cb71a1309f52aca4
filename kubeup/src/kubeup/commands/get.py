"""`kubeup get KIND [NAME]`: for people without kubectl. The tables are the server's own."""

from __future__ import annotations

import click

from ..connect import existing
from ..errors import USAGE, CommandError
from ..options import namespace_option
from ..output import server_table, show
from ..state import State


@click.command("get")
@click.argument("what", metavar="KIND[/NAME]")
@click.argument("name", required=False)
@namespace_option
@click.option("-A", "--all-namespaces", is_flag=True, help="Of all namespaces.")
@click.option("-l", "--selector", default="", help="Label selector.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml", "wide", "name"]), help="Another form.")
@click.pass_obj
def command(
    state: State, what: str, name: str | None, namespace: str, all_namespaces: bool, selector: str, output: str | None
) -> None:
    """List or show objects: kubeup get machines, kubeup get machine/web-0 -o yaml."""
    word, _, slashed = what.partition("/")
    name = name or slashed
    if name and (selector or all_namespaces):
        raise CommandError("a name goes with neither --selector nor --all-namespaces", "leave one of them out", USAGE)
    with existing(state) as api:
        kind = api.kind(word)
        namespace = "" if all_namespaces or not kind.namespaced else namespace
        if output in ("json", "yaml"):
            items = [api.get(word, name, namespace)] if name else api.list(word, namespace, selector)
            for item in items:
                item["metadata"].pop("managedFields", None)  # as kubectl, for whom they are not
            show(items[0] if name else {"apiVersion": "v1", "kind": "List", "items": items}, output)
            return
        table = api.table(word, namespace, name or "", selector)
    rows = table.get("rows") or []
    if output == "name":
        for row in rows:
            click.echo(f"{kind.singular}/{row['object']['metadata']['name']}")
    elif rows:
        click.echo(server_table(table, wide=output == "wide", namespaces=all_namespaces and kind.namespaced))
    else:
        click.echo(f"no {kind.plural} found" + (f" in namespace {namespace}" if namespace else ""), err=True)
