"""Declaring a set of documents: all of them are tried first, so that a refusal of the last one changes nothing.

Then Providers, and as whom each of them acts; then the rest. Used by `up` and `apply`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import follow
from .api import Api, Refused
from .checks import implied, missing, over_limit
from .errors import REFUSED, BadInput, CommandError
from .follow import Key, Object
from .manifests import Document
from .screen import Nothing

ORDER = ("Namespace", "Secret", "Provider", "Cluster")
IDENTITY_SECONDS = 15.0
"""How long a Provider may take to say who it is."""
LOADING_SECONDS = 120.0
"""How long it may take until it was asked at all: a busy computer loads the largest of the SDKs for half a minute."""

Say = Callable[[str], Any]


def apply(api: Api, documents: list[Document], say: Say, plugins: tuple[str, ...] = ()) -> None:
    """plugins: those that are files.

    Raises BadInput for what the set shows to be wrong, CommandError for what the API or a Provider refuses.
    """
    documents = sorted(
        [*documents, *implied(api, documents, plugins)], key=lambda d: ORDER.index(d.kind) if d.kind in ORDER else len(ORDER)
    )
    problems = missing(api, documents) or over_limit(api, documents)
    if problems:
        raise BadInput(problems, "nothing was changed")
    made_here = {d.name for d in documents if d.kind == "Namespace"}
    for d in documents:
        if d.namespace not in made_here:
            _apply(api, d, dry_run=True)
    first = [d for d in documents if d.kind in ("Namespace", "Secret", "Provider")]
    _announce(api, first, say)
    show_principals(api, used_providers(documents), say)
    _announce(api, [d for d in documents if d not in first], say)


def show_principals(api: Api, names: list[str], say: Say) -> None:
    """As whom and where each Provider acts, before anything is made there. Raises when one cannot work."""
    keys: list[Key] = [("Provider", "", name) for name in names]
    _, picture = follow.follow(
        lambda: follow.look(api, keys), lambda p: all(map(_settled, p.wanted.values())), Nothing(), IDENTITY_SECONDS
    )
    if not all(map(_asked, picture.wanted.values())):
        _, picture = follow.follow(
            lambda: follow.look(api, keys), lambda p: all(map(_asked, p.wanted.values())), Nothing(), LOADING_SECONDS
        )
    for (_, _, name), obj in picture.wanted.items():
        if obj is None:
            continue
        status = obj.get("status") or {}
        if status.get("identity"):
            who = f", as {status['principal']}" if status.get("principal") else ""
            say(f"provider {name}: {status['identity']}{who}")
        if not follow.ready(obj):
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


def _settled(provider: Object | None) -> bool:
    return provider is None or follow.ready(provider) or follow.condition(provider, "Stalled").get("status") == "True"


def _asked(provider: Object | None) -> bool:
    return provider is None or bool(follow.condition(provider, "Ready"))


def _announce(api: Api, documents: list[Document], say: Say) -> None:
    for d in documents:
        say(f"{follow.title((d.kind, d.namespace, d.name))} {_apply(api, d, dry_run=False)}")


def _apply(api: Api, d: Document, *, dry_run: bool) -> str:
    try:
        return api.apply(d.object, dry_run=dry_run)[1]
    except Refused as error:
        path = str(error.causes[0].get("field", "")) if error.causes else ""
        raise CommandError(f"{d.where(path)}: {error.message}", "nothing was changed" if dry_run else "", REFUSED) from error
