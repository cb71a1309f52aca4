"""`kubeup leaks [PROVIDER]`: what lies at providers under this installation's mark and belongs to no object; away with it, if asked.

What the sweeper has found stands in the Installation's status; this shows it, and `--delete` says there what a person decided. Volumes
that were kept on purpose are listed apart and never deleted. So is what carries the mark of another installation: the server looks
for it now, when it is asked by the annotation `kubeup.dev/look-around`.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import click
from kubeup_core.inprocess import MANAGER
from kubeup_core.kinds.provider import LOOK_AROUND
from kubeup_core.objects import IN_USE

from ..api import Api
from ..connect import existing
from ..errors import BAD_INPUT, TIMED_OUT, CommandError
from ..options import output_option, timeout_option
from ..output import plural, screen_width, show, table
from ..state import State

INTERVAL = 0.5
LOOK_SECONDS = 60.0
"""How long a look at a place may take."""
NAME = "kubeup"


@click.command("leaks")
@click.argument("provider", required=False)
@click.option("--delete", "delete", is_flag=True, help="Delete them. Never volumes.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@timeout_option("With --delete, how long to wait until they are gone.")
@output_option
@click.pass_obj
def command(state: State, provider: str | None, delete: bool, yes: bool, timeout: float, output: str | None) -> None:
    """List what carries this installation's mark and belongs to no object, as the providers' listings show it.

    What other installations have there is listed apart, and never touched.
    """
    with existing(state) as api:
        names = _names(api, provider)
        around = _look_around(api, names, provider)
        unknown, kept = _found(api, names)
        if output:
            show({"unknown": unknown, "keptVolumes": kept, "around": around}, output)
        else:
            _print(unknown, kept)
            _print_others(around)
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
            rows = [[one["provider"], one["kind"], one["id"], one.get("cluster", ""), _price([one])] for one in these]
            click.echo(f"{title}:\n\n{table(['Provider', 'Kind', 'ID', 'Cluster', 'Per hour'], rows, screen_width())}\n")
            if len(these) > 1 and (total := _price(these)):
                click.echo(f"Together {total} per hour, as far as the provider lists prices.\n")
    if not unknown and not kept:
        click.echo("nothing: everything that carries this installation's mark belongs to an object")
    elif unknown:
        click.echo("kubeup leaks --delete takes them away, but for volumes; a volume is yours to look into first.")


def _print_others(around: dict[str, dict[str, Any]]) -> None:
    """One line for each cluster and kind."""
    groups: dict[tuple[str, str, str, str], list[dict[str, Any]]] = {}
    for provider, seen in sorted(around.items()):
        for one in seen["foreign"]:
            groups.setdefault((provider, one["installation"], one.get("cluster", ""), one["kind"]), []).append(one)
    if groups:
        rows = [[*key, len(these), _price(these)] for key, these in groups.items()]
        head = ["Provider", "Installation", "Cluster", "Kind", "Count", "Per hour"]
        click.echo(f"\nOf other installations, which are never touched from here:\n\n{table(head, rows, screen_width())}")
    for provider, seen in sorted(around.items()):
        if seen.get("message"):
            click.echo(f"\n{provider}: what others have there could not be seen: {seen['message']}")
        elif seen["count"] > len(seen["foreign"]):
            click.echo(f"\n{provider}: only the first {len(seen['foreign'])} of {seen['count']} are listed")


def _price(these: list[dict[str, Any]]) -> str:
    known = [float(one["pricePerHour"]) for one in these if one.get("pricePerHour") is not None]
    return f"${sum(known):.4f}" if known else ""


def _look_around(api: Api, names: set[str] | None, named: str | None) -> dict[str, dict[str, Any]]:
    """By Provider, what the server has seen there of other installations: one Provider of each account or place that is used."""
    asked: dict[str, str] = {}
    for p in sorted(api.list("Provider"), key=lambda p: p["metadata"]["name"] != named):
        name, identity = p["metadata"]["name"], (p.get("status") or {}).get("identity")
        wanted = IN_USE in (p["metadata"].get("finalizers") or ()) if names is None else name in names
        if wanted and identity and identity not in asked:
            asked[identity] = name
    token = f"{time.time():.3f}"
    for name in asked.values():
        api.patch("Provider", name, "", {"metadata": {"annotations": {LOOK_AROUND: token}}})
    deadline, found = time.monotonic() + LOOK_SECONDS, {}
    while left := [name for name in asked.values() if name not in found]:
        for name in left:
            around = ((api.find("Provider", name) or {}).get("status") or {}).get("around") or {}
            if around.get("asked") == token:
                found[name] = {"foreign": [], "count": 0, **around}
            elif time.monotonic() > deadline:
                found[name] = {"foreign": [], "count": 0, "message": "no answer within a minute; kubeup logs tells more"}
        if len(found) < len(asked):
            time.sleep(INTERVAL)
    return found


def _delete(api: Api, names: set[str] | None, doomed: list[dict[str, Any]], yes: bool, seconds: float, *, quiet: bool) -> None:
    """What lies at other Providers stays; the sweeper pauses again for it, if that is what it was told to do."""
    if not yes:
        if not sys.stdin.isatty():
            raise CommandError(f"{plural(len(doomed), 'resource')} would be deleted", "say --yes", BAD_INPUT)
        click.confirm(f"Delete {plural(len(doomed), 'resource')}?", abort=True)
    installation = api.find("Installation", NAME) or {}
    spec = installation.get("spec") or {}
    before: dict[str, Any] = {
        "unknownResources": spec.get("unknownResources") or "Pause",
        "unknownResourcesAt": spec.get("unknownResourcesAt") or [],
    }
    if _paused_by_a_person(installation):
        before["paused"] = True
    asked = {"unknownResources": "Delete", "unknownResourcesAt": sorted(names or ()), "paused": False}
    api.patch("Installation", NAME, "", {"spec": asked})
    try:
        _await(api, {one["id"] for one in doomed}, seconds)
    finally:
        api.patch("Installation", NAME, "", {"spec": before})
    if not quiet:
        click.echo(f"gone: {plural(len(doomed), 'resource')}")


def _paused_by_a_person(installation: dict[str, Any]) -> bool:
    """And not by the server, for what it has found or because its store was restored: that pause ends with the deletion."""
    owners = [
        entry["manager"]
        for entry in installation.get("metadata", {}).get("managedFields") or ()
        if "f:paused" in (entry.get("fieldsV1") or {}).get("f:spec", {})
    ]
    return bool((installation.get("spec") or {}).get("paused")) and MANAGER not in owners


def _await(api: Api, ids: set[str], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while left := {one["id"] for one in _found(api, None)[0]} & ids:
        if time.monotonic() > deadline:
            raise CommandError(f"still there: {', '.join(sorted(left)[:5])}", "run it again; kubeup logs tells more", TIMED_OUT)
        time.sleep(INTERVAL)
