"""`kubeup delete`: mark objects for deletion, as kubectl does. `kubeup down` is this with a list, a question and a proof."""

from __future__ import annotations

import click

from .. import follow
from ..api import Api, kind_named, kind_of
from ..connect import existing
from ..errors import TIMED_OUT, CommandError
from ..manifests import load
from ..state import State
from .up import namespace_option, seconds_of


@click.command("delete")
@click.argument("what", metavar="[KIND[/NAME]]", required=False)
@click.argument("names", nargs=-1)
@click.option("-f", "--filename", "files", multiple=True, metavar="FILE", help="Delete what files declare.")
@namespace_option
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until it is gone.")
@click.option("--timeout", default="15m", show_default=True, help="How long to wait.")
@click.pass_obj
def command(
    state: State, what: str | None, names: tuple[str, ...], files: tuple[str, ...], namespace: str, wait: bool, timeout: str
) -> None:
    """Mark objects for deletion: kubeup delete machine web-0, kubeup delete volume/data, kubeup delete -f FILE."""
    seconds = seconds_of(timeout)
    keys = _keys(what, names, files, namespace)
    with existing(state) as api:
        for kind, space, name in keys:
            gone = not api.delete(kind_named(kind), name, space)
            click.echo(f"{kind.lower()}/{name} " + ("is not there" if gone else "is being deleted"))
        if wait:
            wait_until_gone(api, keys, seconds)


def _keys(what: str | None, names: tuple[str, ...], files: tuple[str, ...], namespace: str) -> list[tuple[str, str, str]]:
    if bool(files) == bool(what):
        raise click.UsageError("give either KIND and names, or -f FILE")
    if files:
        documents = load(files)
        return [_key(kind_of(d.object).kind, d.name, d.namespace or namespace) for d in documents]
    word, _, slashed = str(what).partition("/")
    wanted = [n for n in (slashed, *names) if n]
    if not wanted:
        raise click.UsageError(f"which {kind_named(word).plural}? Give at least one name")
    return [_key(kind_named(word).kind, n, namespace) for n in wanted]


def _key(kind: str, name: str, namespace: str) -> tuple[str, str, str]:
    return kind, namespace if kind_named(kind).namespaced else "", name


def wait_until_gone(api: Api, keys: list[tuple[str, str, str]], seconds: float) -> None:
    """Raises when something is still there after so many seconds, with the words of what it waits for."""

    def left(picture: follow.Picture) -> list[str]:
        there = [(k, n, o) for (k, _, n), o in picture.wanted.items() if o is not None]
        return [f"{k.lower()}/{n}: {follow.message(o)}" for k, n, o in there]

    def draw(picture: follow.Picture) -> list[str]:
        return follow.machine_lines(picture.machines) + [f"waiting for {line}" for line in left(picture)]

    done, picture = follow.follow(lambda: follow.look(api, keys), lambda p: not left(p), draw, seconds)
    if not done:
        raise CommandError(
            "still there: " + "; ".join(left(picture)), "the server goes on; kubeup why NAME says what it waits for", TIMED_OUT
        )
