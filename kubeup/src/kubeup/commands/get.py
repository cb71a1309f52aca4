"""`kubeup get KIND [NAME]`: for people without kubectl. The tables are the server's own."""

from __future__ import annotations

import click

from ..api import kind_named
from ..connect import existing
from ..output import FORMATS, server_table, show
from ..state import State


@click.command("get")
@click.argument("what", metavar="KIND[/NAME]")
@click.argument("name", required=False)
@click.option("-n", "--namespace", default="default", show_default=True)
@click.option("-A", "--all-namespaces", is_flag=True)
@click.option("-l", "--selector", default="", help="Label selector.")
@click.option("-o", "--output", type=click.Choice([*FORMATS.choices, "wide"]))
@click.pass_obj
def command(
    state: State, what: str, name: str | None, namespace: str, all_namespaces: bool, selector: str, output: str | None
) -> None:
    """List or show objects: kubeup get machines, kubeup get machine/web-0 -o yaml."""
    word, _, slashed = what.partition("/")
    kind, name = kind_named(word), name or slashed
    namespace = "" if all_namespaces or not kind.namespaced else namespace
    with existing(state) as api:
        if output in ("json", "yaml"):
            if name:
                show(api.get(kind, name, namespace), output)
            else:
                show({"apiVersion": "v1", "kind": "List", "items": api.list(kind, namespace, selector)}, output)
            return
        table = api.table(kind, namespace, name, selector)
    if table.get("rows"):
        click.echo(server_table(table, wide=output == "wide", namespaces=all_namespaces and kind.namespaced))
    else:
        click.echo(f"no {kind.plural} found" + (f" in namespace {namespace}" if namespace else ""), err=True)
