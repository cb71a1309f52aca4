"""`kubeup up -f FILE`: from files to Ready, and a server left behind that keeps it so."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from .. import daemon, follow, screen
from ..api import Api
from ..applying import apply
from ..checks import check
from ..connect import server
from ..errors import INTERRUPTED, REFUSED, TIMED_OUT, CommandError
from ..follow import Key, Object, Picture, title
from ..manifests import Document, load
from ..options import files_option, namespace_option, output_option, plugin_option, timeout_option
from ..output import duration, plural, screen_width, show
from ..reasons import explain, render
from ..state import State
from .kubeconfig import export_line, workload
from .status import UNPAUSE


@click.command("up")
@files_option(required=True)
@namespace_option
@plugin_option
@timeout_option("How long to wait for Ready, such as 90s, 15m.")
@click.option("--once", is_flag=True, help="Leave no process behind; nobody heals afterwards. Never prompts.")
@output_option
@click.pass_obj
def command(
    state: State,
    files: tuple[str, ...],
    namespace: str,
    plugins: tuple[str, ...],
    timeout: float,
    once: bool,
    output: str | None,
) -> None:
    """Bring what files declare to Ready, and leave a server that keeps it so.

    Run it again at any time: it goes on where it stopped, and changes what the files have changed.
    """
    documents = check(load(files), namespace, plugins, state)
    say = (lambda _: None) if output else click.echo
    try:
        with server(state, once=once, plugins=plugins, say=say) as api:
            _refuse_paused(api)
            apply(api, documents, say, daemon.remembered(state, plugins))
            picture = _until_ready(api, documents, timeout, once, quiet=output is not None)
            price = _price(api, picture) if not output else 0.0
            clusters = _kubeconfigs(state, api, picture)
    except KeyboardInterrupt:
        raise _interrupted(state, once) from None
    if output:
        show(_facts(state, picture, clusters), output)
    else:
        _summary(state, picture, price, clusters, once)


def _kubeconfigs(state: State, api: Api, picture: Picture) -> dict[str, Path]:
    """Of the Kubernetes clusters among what is Ready now: name -> file."""
    if state.context:
        return {}
    found = [obj for (kind, _, _), obj in picture.there() if kind == "Cluster" and (obj.get("spec") or {}).get("kubernetes")]
    metas = [obj["metadata"] for obj in found]
    return {meta["name"]: workload(state, api, meta["name"], meta["namespace"]) for meta in metas}


def _refuse_paused(api: Api) -> None:
    """Waiting for Ready would be in vain. `kubeup apply` declares all the same."""
    installation = api.find("Installation", "kubeup") or {}
    if (installation.get("spec") or {}).get("paused"):
        raise CommandError(follow.message(installation), UNPAUSE, REFUSED)


def _until_ready(api: Api, documents: list[Document], timeout: float, once: bool, quiet: bool) -> Picture:
    keys = [(d.kind, d.namespace, d.name) for d in documents]
    reached, picture = follow.follow(
        lambda: follow.look(api, keys), lambda p: not p.waiting(), screen.view(_tell, quiet=quiet), timeout
    )
    if not reached:
        _give_up(api, picture, timeout, once)
    return picture


def _tell(key: Key, obj: Object | None) -> tuple[bool, str]:
    if obj is None:
        return False, "is gone"
    return (True, "Ready") if follow.ready(obj) else (False, str(follow.condition(obj, "Ready").get("message") or ""))


def _give_up(api: Api, picture: Picture, timeout: float, once: bool) -> None:
    """Say of each thing that is not Ready why that is; of what only waits for another of them, not twice."""
    waiting = [key for key, _ in picture.waiting()]
    told = ""
    click.echo(err=True)
    for key in sorted(waiting, key=lambda k: k[0] == "Cluster"):
        obj = picture.wanted[key]
        if obj is not None and title(key) not in told and f"{key[0]} {key[2]}" not in told:
            told += render(explain(api, obj), screen_width()) + "\n"
    click.echo(told, err=True)
    goes_on = "run it again to go on" if once else "the server goes on trying; kubeup status shows how far it is"
    raise CommandError(f"not Ready after {duration(timeout)}: {', '.join(map(title, waiting))}", goes_on, TIMED_OUT)


def _interrupted(state: State, once: bool) -> CommandError:
    if once:
        return CommandError(
            "interrupted; what was made stays, and nobody heals it",
            "kubeup up again goes on, kubeup down takes it away",
            INTERRUPTED,
        )
    pid = None if state.context else daemon.running(state)
    who = f"the server (pid {pid}) goes on bringing it up" if pid else "what was applied stays"
    return CommandError(
        f"interrupted; {who}", "kubeup status shows how far it is, kubeup stop ends it, kubeup down takes it away", INTERRUPTED
    )


def _facts(state: State, picture: Picture, clusters: dict[str, Path]) -> dict[str, Any]:
    return {
        "ready": True,
        "kubeconfig": None if state.context else str(state.kubeconfig),
        "clusters": {name: {"kubeconfig": str(file)} for name, file in clusters.items()},
        "machines": {"total": len(picture.machines), "ready": sum(m.ready for m in picture.machines)},
        "objects": [o for o in picture.wanted.values() if o],
    }


def _price(api: Api, picture: Picture) -> float:
    """Per hour, of all machines, where the provider knows it."""
    spaces = {namespace for _, namespace, _ in picture.wanted if namespace}
    names = {m.name for m in picture.machines}
    machines = [m for space in spaces for m in api.list("machines", space) if m["metadata"]["name"] in names]
    return sum(float(((m.get("status") or {}).get("resolved") or {}).get("pricePerHour") or 0) for m in machines)


def _summary(state: State, picture: Picture, price: float, clusters: dict[str, Path], once: bool) -> None:
    kinds: dict[str, int] = {}
    for kind, _, _ in picture.wanted:
        kinds[kind] = kinds.get(kind, 0) + 1
    made = ", ".join(plural(n, _words(kind)) for kind, n in kinds.items())
    machines = f"; {plural(len(picture.machines), 'machine')}" if picture.machines else ""
    click.echo(f"\nReady: {made}{machines}")
    if price:
        click.echo(f"The machines cost {price:.2f} per hour, as their provider lists them.")
    if state.context:
        return
    for name, file in clusters.items():
        click.echo(f"\n{export_line(file)}      # Kubernetes: cluster {name}")
    click.echo(("" if clusters else "\n") + export_line(state.kubeconfig) + ("      # kubeup itself" if clusters else ""))
    pool = next((name for kind, _, name in picture.wanted if kind == "NodePool"), None)
    click.echo("\nTry next:")
    click.echo("  kubeup status")
    for file in clusters.values():
        click.echo(f"  kubectl --kubeconfig {shlex.quote(str(file))} get nodes")
    click.echo("  kubeup get machines" if clusters else "  kubectl get machines -w          (or: kubeup get machines)")
    click.echo(f"  kubectl scale nodepool {pool} --replicas=5" if pool else "  kubectl get all")
    if once:
        click.echo("\nNo server is left behind (--once): nobody heals this until the next `kubeup up`.")
        return
    click.echo(f"\nA server (pid {daemon.running(state)}) goes on healing this.")
    click.echo("kubeup stop ends it, kubeup down takes everything away.")


def _words(kind: str) -> str:
    return {"NodePool": "node pool", "LoadBalancer": "load balancer"}.get(kind, kind.lower())
