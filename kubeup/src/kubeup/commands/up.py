"""`kubeup up -f FILE`: from files to Ready, and a server left behind that keeps it so."""

from __future__ import annotations

import click

from .. import daemon, follow
from ..api import Api, kind_of
from ..checks import check, missing
from ..connect import server
from ..errors import REFUSED, TIMED_OUT, BadInput, CommandError
from ..manifests import Document, load
from ..output import output_option, plural, show
from ..reasons import explain, render
from ..state import State
from .kubeconfig import export_line

ORDER = ("Namespace", "Secret", "Provider", "Cluster")
IDENTITY_SECONDS = 30.0

files_option = click.option(
    "-f",
    "--filename",
    "files",
    multiple=True,
    required=True,
    metavar="FILE",
    help="File, directory, - for stdin, or an https URL.",
)
plugin_option = click.option(
    "--plugin", "plugins", multiple=True, type=click.Path(exists=True), help="Load a provider from a file."
)
namespace_option = click.option("-n", "--namespace", default="default", show_default=True, help="For documents that name none.")


@click.command("up")
@files_option
@namespace_option
@plugin_option
@click.option("--timeout", default="15m", show_default=True, help="How long to wait for Ready, such as 90s, 15m.")
@click.option("--once", is_flag=True, help="Leave no process behind; nobody heals afterwards. Never prompts.")
@output_option
@click.pass_obj
def command(
    state: State, files: tuple[str, ...], namespace: str, plugins: tuple[str, ...], timeout: str, once: bool, output: str | None
) -> None:
    """Bring what files declare to Ready, and leave a server that keeps it so.

    Run it again at any time: it goes on where it stopped, and changes what the files have changed.
    """
    seconds = seconds_of(timeout)
    documents = check(load(files), namespace, plugins)
    say = (lambda _: None) if output else click.echo
    with server(state, once=once, plugins=plugins, say=say) as api:
        apply(api, documents, say)
        reached, picture = _follow(api, documents, seconds, quiet=output is not None)
        if not reached:
            _give_up(api, picture, timeout, once)
    if output:
        show({"ready": True, "kubeconfig": str(state.kubeconfig), "objects": [o for o in picture.wanted.values() if o]}, output)
    else:
        _summary(state, picture, once)


def seconds_of(text: str) -> float:
    from kubeup_core.kinds.nodepool import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--timeout") from None


def apply(api: Api, documents: list[Document], say: object) -> None:
    """Dry-run all of them first, so that a refusal of the last one changes nothing; then Providers, and who they are; then all."""
    assert callable(say)
    documents = sorted(documents, key=lambda d: ORDER.index(d.kind) if d.kind in ORDER else len(ORDER))
    problems = missing(api, documents)
    if problems:
        raise BadInput(problems, "nothing was changed")
    made_here = {d.name for d in documents if d.kind == "Namespace"}
    for d in documents:
        if d.namespace not in made_here:
            _apply(api, d, dry_run=True)
    first = [d for d in documents if d.kind in ("Namespace", "Secret", "Provider")]
    _announce(api, first, say)
    show_principals(api, documents, say)
    _announce(api, [d for d in documents if d not in first], say)


def _announce(api: Api, documents: list[Document], say: object) -> None:
    assert callable(say)
    for d in documents:
        verb = _apply(api, d, dry_run=False)
        say(f"{d.kind.lower()}/{d.name} {verb}")


def _apply(api: Api, d: Document, *, dry_run: bool) -> str:
    from ..api import Refused

    try:
        return api.apply(d.object, dry_run=dry_run)[1]
    except Refused as error:
        path = str(error.causes[0].get("field", "")) if error.causes else ""
        raise CommandError(f"{d.where(path)}: {error.message}", "nothing was changed" if dry_run else "", REFUSED) from error


def show_principals(api: Api, documents: list[Document], say: object) -> None:
    """As whom and where each Provider acts, before anything is asked of it. Raises when one cannot work at all."""
    assert callable(say)
    from kubeup_core.kinds import Provider

    from ..api import kind_for

    names = used_providers(documents)
    kind = kind_for(Provider)

    def settled(picture: follow.Picture) -> bool:
        return all(o is not None and (follow.ready(o) or follow.condition(o, "Stalled").get("status") == "True" or
                   follow.condition(o, "Ready").get("status") == "False") for o in picture.wanted.values())  # fmt: skip

    keys = [("Provider", "", n) for n in names if api.find(kind, n) is not None]
    _, picture = follow.follow(lambda: follow.look(api, keys), settled, lambda _: [], IDENTITY_SECONDS)
    for (_, _, name), obj in picture.wanted.items():
        status = (obj or {}).get("status") or {}
        if obj is not None and status.get("identity"):
            say(f"provider {name}: {status['identity']}, as {status.get('principal') or 'nobody in particular'}")
        if obj is not None and follow.condition(obj, "Ready").get("status") == "False":
            raise CommandError(f"provider {name}: {follow.message(obj)}", f"kubeup why provider/{name}", REFUSED)


def used_providers(documents: list[Document]) -> list[str]:
    names: dict[str, None] = {}
    for d in documents:
        spec = d.object.get("spec") or {}
        if d.kind == "Provider":
            names[d.name] = None
        for value in [spec.get("provider"), *[o.get("provider") for o in spec.get("offers") or ()]]:
            if isinstance(value, str) and value != "auto":
                names[value] = None
    return list(names)


def keys_of(documents: list[Document]) -> list[tuple[str, str, str]]:
    return [(d.kind, d.namespace if kind_of(d.object).namespaced else "", d.name) for d in documents]


def _follow(api: Api, documents: list[Document], seconds: float, quiet: bool) -> tuple[bool, follow.Picture]:
    keys = keys_of(documents)

    def draw(picture: follow.Picture) -> list[str]:
        if quiet:
            return []
        waiting = [f"{name}: {why}" for name, why in picture.waiting()]
        return follow.machine_lines(picture.machines) + waiting

    return follow.follow(lambda: follow.look(api, keys), lambda p: not p.waiting(), draw, seconds)


def _give_up(api: Api, picture: follow.Picture, timeout: str, once: bool) -> None:
    name, _ = picture.waiting()[0]
    key = next(k for k in picture.wanted if f"{k[0].lower()}/{k[2]}" == name)
    obj = picture.wanted[key]
    if obj is not None:
        click.echo(render(explain(api, obj)), err=True)
    goes_on = "run it again to go on" if once else "the server goes on trying; kubeup status shows how far it is"
    raise CommandError(f"not Ready after {timeout}: {', '.join(n for n, _ in picture.waiting())}", goes_on, TIMED_OUT)


def _summary(state: State, picture: follow.Picture, once: bool) -> None:
    kinds: dict[str, int] = {}
    for kind, _, _ in picture.wanted:
        kinds[kind] = kinds.get(kind, 0) + 1
    made = ", ".join(plural(n, _words(kind)) for kind, n in kinds.items())
    click.echo(f"\nReady: {made}; {plural(len(picture.machines), 'machine')}")
    price = sum(float(((m.get("status") or {}).get("resolved") or {}).get("pricePerHour") or 0) for m in picture.machines)
    if price:
        click.echo(f"price: {price:.2f} per hour for the machines, as the provider lists it")
    click.echo(f"\n{export_line(state)}")
    pool = next((name for kind, _, name in picture.wanted if kind == "NodePool"), None)
    click.echo("\nTry next:")
    click.echo("  kubeup status")
    click.echo("  kubectl get machines -w          (or: kubeup get machines)")
    click.echo(f"  kubectl scale nodepool {pool} --replicas=5" if pool else "  kubectl get all")
    if once:
        click.echo("\nNo server is left behind (--once): nobody heals this until the next `kubeup up`.")
        return
    click.echo(
        f"\nA server (pid {daemon.running(state)}) goes on healing this; kubeup stop ends it, kubeup down removes it all."
    )


def _words(kind: str) -> str:
    return {"NodePool": "node pool", "LoadBalancer": "load balancer"}.get(kind, kind.lower())
