"""`kubeup delete`: mark objects for deletion, as kubectl does. `kubeup down` is this with a list, a question and a proof."""

from __future__ import annotations

import click

from .. import follow, screen
from ..api import Api
from ..connect import existing
from ..errors import TIMED_OUT, CommandError
from ..follow import Key, Object, title
from ..manifests import load
from ..options import files_option, namespace_option, timeout_option
from ..state import State


@click.command("delete")
@click.argument("what", metavar="[KIND[/NAME]]", required=False)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@files_option(required=False, help="Delete what files declare.")
@namespace_option
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until it is gone.")
@timeout_option("How long to wait.")
@click.pass_obj
def command(
    state: State, what: str | None, names: tuple[str, ...], files: tuple[str, ...], namespace: str, wait: bool, timeout: float
) -> None:
    """Mark objects for deletion: kubeup delete machine web-0, kubeup delete volume/data, kubeup delete -f FILE."""
    if bool(files) == bool(what):
        raise click.UsageError("give either KIND and names, or -f FILE")
    documents = load(files) if files else []
    with existing(state) as api:
        keys = [_key(api, d.kind, d.name, d.namespace or namespace) for d in documents] or _keys(
            api, str(what), names, namespace
        )
        for key in keys:
            there = api.delete(key[0], key[2], key[1])
            click.echo(f"{title(key)} " + ("is being deleted" if there else "is not there"))
        if wait:
            wait_until_gone(api, keys, timeout)


def _keys(api: Api, what: str, names: tuple[str, ...], namespace: str) -> list[Key]:
    word, _, slashed = what.partition("/")
    wanted = [n for n in (slashed, *names) if n]
    if not wanted:
        raise click.UsageError(f"which of the {api.kind(word).plural}? Give at least one name")
    return [_key(api, word, n, namespace) for n in wanted]


def _key(api: Api, word: str, name: str, namespace: str) -> Key:
    kind = api.kind(word)
    return kind.kind, namespace if kind.namespaced else "", name


def wait_until_gone(api: Api, keys: list[Key], seconds: float, quiet: bool = False) -> None:
    """Raises when something is still there after so many seconds, with the words of what it waits for."""
    done, picture = follow.follow(
        lambda: follow.look(api, keys), lambda p: not p.there(), screen.view(_tell, quiet=quiet), seconds
    )
    if not done:
        left = "; ".join(f"{title(key)} {follow.leaving(obj)}" for key, obj in picture.there())
        raise CommandError(f"still there: {left}", "the server goes on; kubeup why NAME says what it waits for", TIMED_OUT)


def _tell(key: Key, obj: Object | None) -> tuple[bool, str]:
    return (True, "gone") if obj is None else (False, follow.leaving(obj))
