"""The whole set of files at once, before anything is sent: so that one clear answer names every fault, and nothing is changed.

The server refuses what one object can be wrong in; this finds the same earlier, with file and line, and what only the set shows:
an object that stands twice, a reference to nothing, a provider that is not installed, a config that its plugin refuses.
References that the files do not resolve are asked of the server (`missing`), because they may be there already.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kubeup_core.kinds import KINDS, Kind
from kubeup_core.objects import is_dns_label

from .errors import BadInput
from .manifests import Document

if TYPE_CHECKING:
    from kubeup_core.plugins import Plugins

    from .api import Api
    from .state import State

KNOWN = {k.kind: k for k in KINDS}
WORKLOAD_GROUPS = ("apps", "batch", "autoscaling", "policy", "networking.k8s.io", "rbac.authorization.k8s.io", "storage.k8s.io")


def check(
    documents: list[Document], namespace: str, plugins: tuple[str, ...] = (), state: State | None = None
) -> list[Document]:
    """The documents, with their namespace filled in. Raises BadInput with every fault.

    state  whose server they are for: its `--plugin` files count too; of a server elsewhere, only that one knows its plugins
    """
    from kubeup_core.plugins import discover

    from .daemon import remembered

    installed = None if state and state.context else discover(remembered(state, plugins) if state else plugins)
    problems: list[str] = []
    for d in documents:
        found = list(_shape(d)) or [*_fill_and_validate(d, namespace), *(_plugin(d, installed) if installed else ())]
        problems += [f"{d.where(path)}: {_named(d)}{message}" for path, message in found]
    problems += _twice(documents)
    if problems:
        raise BadInput(problems, "nothing was changed")
    return documents


def implied(api: Api, documents: list[Document], plugins: tuple[str, ...] = ()) -> list[Document]:
    """Providers that exist by being named: declared like the others, so that it is said who acts there before anything is made."""
    from kubeup_core.kinds.provider import AUTO_LABEL
    from kubeup_core.plugins import discover

    declared = {d.name for d in documents if d.kind == "Provider"}
    named = {name: d for d in documents for _, kind, _, name in references(d) if kind == "Provider" and name not in declared}
    absent = {name: d for name, d in named.items() if api.find("Provider", name) is None}
    implicit = discover(plugins).implicit() if absent else ()
    header = {"apiVersion": "kubeup.dev/v1alpha1", "kind": "Provider"}
    return [
        Document(
            {**header, "metadata": {"name": name, "labels": {AUTO_LABEL: "true"}}, "spec": {"type": name}}, d.source, d.line
        )
        for name, d in absent.items()
        if name in implicit
    ]


def missing(api: Api, documents: list[Document]) -> list[str]:
    """References that neither the files nor the server resolve, each as a problem with file and line."""
    declared = {(d.kind, d.namespace, d.name) for d in documents}
    problems = []
    for d in documents:
        for path, kind, space, name in references(d):
            if (kind, space, name) in declared or api.find(kind, name, space) is not None:
                continue
            if kind == "Machine" and _comes_of_a_pool(api, declared, space, name):
                continue
            names = sorted({n for k, s, n in declared if k == kind and s == space} | _names(api, kind, space))
            near = difflib.get_close_matches(name, names, 1)
            there = f"there {'is' if len(names) < 2 else 'are'} {', '.join(names[:8]) or 'none'}"
            hint = f'did you mean "{near[0]}"?' if near else there
            where = f" in namespace {space}" if space not in ("", "default") else ""
            problems.append(
                f"{d.where(path)}: {_named(d)}{path} names the {kind} {name!r}, which does not exist{where}; {hint}"
            )
    return problems


def over_limit(api: Api, documents: list[Document]) -> list[str]:
    """Pools that ask for more machines than their Provider may have (`spec.limits.machines`): better said now than met later."""
    declared = {(d.kind, d.namespace, d.name): d.object for d in documents}

    def spec(kind: str, space: str, name: object) -> dict[str, Any]:
        found = declared.get((kind, space, str(name))) or api.find(kind, str(name), space) or {}
        return found.get("spec") or {}

    asked: dict[str, int] = {}
    problems = []
    for d in documents:
        pool = d.object.get("spec") or {}
        if d.kind != "NodePool" or pool.get("offers"):
            continue
        provider = str(pool.get("provider") or spec("Cluster", d.namespace, pool["cluster"]).get("provider"))
        limit = int((spec("Provider", "", provider).get("limits") or {}).get("machines", 100))
        asked[provider] = asked.get(provider, 0) + int(pool.get("replicas", 1))
        if asked[provider] > limit:
            problems.append(
                f"{d.where('spec.replicas')}: {_named(d)}spec.replicas makes {asked[provider]} machines at Provider {provider}, "
                f"whose limits.machines is {limit}; ask for fewer, or raise that limit in the Provider"
            )
    return problems


def references(d: Document) -> Iterator[tuple[str, str, str, str]]:
    """(path, kind, namespace, name) of what a document refers to."""
    spec: dict[str, Any] = d.object.get("spec") or {}
    if d.namespace not in ("", "default"):
        yield "metadata.namespace", "Namespace", "", d.namespace
    if d.kind == "Provider":
        ref = (spec.get("credentials") or {}).get("secretRef")
        if ref:
            yield "spec.credentials.secretRef", "Secret", ref["namespace"], ref["name"]
    elif isinstance(spec.get("provider"), str) and spec["provider"] != "auto":
        yield "spec.provider", "Provider", "", spec["provider"]
    for i, offer in enumerate(spec.get("offers") or ()):
        yield f"spec.offers[{i}].provider", "Provider", "", offer["provider"]
    if isinstance(spec.get("cluster"), str):
        yield "spec.cluster", "Cluster", d.namespace, spec["cluster"]
    attach = spec.get("attach") or {}
    for field, kind in (("pool", "NodePool"), ("machine", "Machine")):
        if attach.get(field):
            yield f"spec.attach.{field}", kind, d.namespace, attach[field]
    for i, name in enumerate((spec.get("members") or {}).get("machines") or ()):
        yield f"spec.members.machines[{i}]", "Machine", d.namespace, name


def _comes_of_a_pool(api: Api, declared: set[tuple[str, str, str]], space: str, machine: str) -> bool:
    """`web-3` is going to be there when the pool `web` is."""
    pool, _, slot = machine.rpartition("-")
    return slot.isdigit() and (("NodePool", space, pool) in declared or api.find("NodePool", pool, space) is not None)


def _names(api: Api, kind: str, space: str) -> set[str]:
    return {o["metadata"]["name"] for o in api.list(kind, space)}


def _shape(d: Document) -> Iterator[tuple[str, str]]:
    """What must hold before anything else can be said about a document."""
    kind = KNOWN.get(d.kind)
    if not d.kind:
        yield "", "kind is missing"
    elif kind is None and str(d.object.get("apiVersion", "")).partition("/")[0] in WORKLOAD_GROUPS:
        yield "kind", f"a {d.kind} belongs into a Kubernetes cluster: apply it there with kubectl, or name it in spec.manifests"
    elif kind is None:
        near = difflib.get_close_matches(d.kind, KNOWN, 1, 0.5)
        yield "kind", f"there is no kind {d.kind!r}" + (f'; did you mean "{near[0]}"?' if near else "")
    elif d.object.get("apiVersion") != kind.api_version:
        yield "apiVersion", f"apiVersion is {d.object.get('apiVersion')!r}; a {kind.kind} is {kind.api_version!r}"
    meta = d.object.get("metadata")
    if not isinstance(meta, dict) or not isinstance(meta.get("name"), str) or not meta["name"]:
        yield "metadata", "metadata.name is missing, or is not text (put it in quotes)"
    elif kind is not None and not kind.builtin and not is_dns_label(meta["name"]):
        yield "metadata.name", f"{meta['name']!r} cannot be a name: use at most 63 of a-z, 0-9 and '-', not at the ends"


def _fill_and_validate(d: Document, namespace: str) -> Iterator[tuple[str, str]]:
    kind: Kind = KNOWN[d.kind]
    meta = d.object["metadata"]
    if kind.namespaced:
        meta.setdefault("namespace", namespace)
    elif meta.get("namespace"):
        yield "metadata.namespace", f"a {kind.kind} belongs to no namespace; leave it out"
    yield from _faults(kind, d.object)


def _faults(kind: Kind, obj: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What the API would refuse in this object alone, and fields that nobody knows."""
    import re
    from copy import deepcopy

    from kubeup_core.statuses import Invalid, StatusError
    from kubeup_core.validation import admit

    try:
        admitted = admit(kind, deepcopy(obj))
    except Invalid as error:
        for cause in error.causes:
            yield cause.field, _sentence(cause.field, cause.message, "")
    except StatusError as error:
        yield "", error.message
    else:
        for complaint in admitted.unknown:
            quoted = re.search(r'"([^"]+)"', complaint)
            yield quoted[1] if quoted else "", complaint
        for cause in kind.rules(admitted.model, None) if kind.rules else ():
            yield cause.field, _sentence(cause.field, cause.message, "")


def _plugin(d: Document, installed: Plugins) -> Iterator[tuple[str, str]]:
    from kubeup_core.plugins import InvalidConfig, PluginError

    spec = d.object.get("spec") or {}
    if d.kind == "Provider" and isinstance(spec.get("type"), str):
        try:
            installed.config(spec["type"], spec.get("config") or {})
        except InvalidConfig as error:
            yield from ((p.path, _sentence(p.path, p.message, p.remedy)) for p in error.problems)
        except PluginError as error:
            yield "spec.type", _sentence("", error.message, error.remedy)
    for type_, value in (spec.get("overrides") or {}).items():
        if type_ in installed.providers and isinstance(value, dict):
            try:
                installed.overrides(type_, value, f"spec.overrides.{type_}")
            except InvalidConfig as error:
                yield from ((p.path, _sentence(p.path, p.message, p.remedy)) for p in error.problems)


def _sentence(path: str, message: str, remedy: str) -> str:
    return "; ".join(part for part in (f"{path}: {message}" if path and path not in message else message, remedy) if part)


def _twice(documents: list[Document]) -> list[str]:
    seen: dict[tuple[str, str, str], Document] = {}
    problems = []
    for d in documents:
        key = (d.kind, d.namespace, d.name)
        if d.name and key in seen:
            problems.append(f"{d.where('metadata')}: {_named(d)}stands twice; first at {seen[key].where()}")
        seen.setdefault(key, d)
    return problems


def _named(d: Document) -> str:
    return f"{d.kind} {d.name}: " if d.kind and d.name else ""
