"""`kubeup leaks [PROVIDER]`: what lies at providers under this installation's mark and belongs to no object; away with it, if asked.

What the sweeper has found stands in the Installation's status; this shows it, and `--delete` says there what a person decided. Volumes
that were kept on purpose are listed apart and never deleted. Marks of other installations are not looked at.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from ..api import Api
from ..connect import existing
from ..errors import BAD_INPUT, REFUSED, TIMED_OUT, CommandError
from ..options import output_option, timeout_option
from ..output import plural, screen_width, show, table
from ..state import State

INTERVAL = 0.5
NAME = "kubeup"


@click.command("leaks")
@click.argument("provider", required=False)
@click.option("--delete", "delete", is_flag=True, help="Delete them. Never volumes.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@timeout_option("With --delete, how long to wait until they are gone.")
@output_option
@click.pass_obj
def command(state: State, provider: str | None, delete: bool, yes: bool, timeout: float, output: str | None) -> None:
    """List what carries this installation's mark and belongs to no object, as the providers' listings show it."""
    with existing(state) as api:
        names = _names(api, provider)
        unknown, kept = _found(api, names)
        if output:
            show({"unknown": unknown, "keptVolumes": kept}, output)
        else:
            _print(unknown, kept)
        doomed = [one for one in unknown if one["kind"] != "Volume"]
        if delete and doomed:
            _delete(api, names, doomed, yes, timeout, quiet=output is not None)


def _names(api: Api, provider: str | None) -> set[str] | None:
    """All Providers that are the same account, engine or inventory as this one, which then have the same resources. None: all."""
    if provider is None:
        return None
    there = {p["metadata"]["name"]: (p.get("status") or {}).get("identity") for p in api.list("Provider")}
    if provider not in there:
        raise CommandError(f"there is no Provider {provider!r}; there is {', '.join(sorted(there)) or 'none'}", "", BAD_INPUT)
    return {name for name, identity in there.items() if name == provider or (identity and identity == there[provider])}


def _found(api: Api, names: set[str] | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    status = (api.find("Installation", NAME) or {}).get("status") or {}
    mine = [
        [one for one in status.get(field) or () if names is None or one["provider"] in names]
        for field in ("unknownResources", "keptVolumes")
    ]
    return mine[0], mine[1]


def _print(unknown: list[dict[str, Any]], kept: list[dict[str, Any]]) -> None:
    for title, these in (
        ("Nothing here ever asked for these, so this store has lost memory of them", unknown),
        ("Volumes that were kept on purpose (onDelete: Retain)", kept),
    ):
        if these:
            rows = [[one["provider"], one["kind"], one["id"], one.get("cluster", "")] for one in these]
            click.echo(f"{title}:\n\n{table(['Provider', 'Kind', 'ID', 'Cluster'], rows, screen_width())}\n")
    if not unknown and not kept:
        click.echo("nothing: everything that carries this installation's mark belongs to an object")
    elif unknown:
        click.echo("kubeup leaks --delete takes them away, but for volumes; a volume is yours to look into first.")


def _delete(api: Api, names: set[str] | None, doomed: list[dict[str, Any]], yes: bool, seconds: float, *, quiet: bool) -> None:
    every = [one for one in _found(api, None)[0] if one["kind"] != "Volume"]
    if len(every) != len(doomed):
        others = ", ".join(sorted({one["provider"] for one in every} - (names or set())))
        raise CommandError(
            f"there is more of it at {others}, and it can only be deleted all at once",
            "kubeup leaks --delete, without a name",
            REFUSED,
        )
    if not yes:
        if not sys.stdin.isatty():
            raise CommandError(f"{plural(len(doomed), 'resource')} would be deleted", "say --yes", BAD_INPUT)
        click.confirm(f"Delete {plural(len(doomed), 'resource')}?", abort=True)
    spec = (api.find("Installation", NAME) or {}).get("spec") or {}
    api.patch("Installation", NAME, "", {"spec": {"unknownResources": "Delete", "paused": False}})
    try:
        _await(api, {one["id"] for one in doomed}, seconds)
    finally:
        api.patch("Installation", NAME, "", {"spec": {"unknownResources": spec.get("unknownResources") or "Pause"}})
    if not quiet:
        click.echo(f"gone: {plural(len(doomed), 'resource')}")


def _await(api: Api, ids: set[str], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while left := {one["id"] for one in _found(api, None)[0]} & ids:
        if time.monotonic() > deadline:
            raise CommandError(f"still there: {', '.join(sorted(left)[:5])}", "run it again; kubeup logs tells more", TIMED_OUT)
        time.sleep(INTERVAL)
