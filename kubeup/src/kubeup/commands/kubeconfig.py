"""`kubeup kubeconfig [CLUSTER]`: where it is, as an export line; `--merge` puts its context into yours, with kubectl's own lock.

Without a name it is kubeup's own API (context `kubeup`); with one it is the API of that Kubernetes cluster (context `kubeup-NAME`),
written anew from the cluster's Secret each time, because its certificate is renewed. Both lie in the state directory.
"""

from __future__ import annotations

import base64
import os
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import yaml

from ..api import Api
from ..connect import existing
from ..errors import BAD_INPUT, NO_SERVER, REFUSED, CommandError
from ..options import namespace_option
from ..state import State

CONTEXT = "kubeup"
OWNER = "kubeup.dev/state"
"""Extension on entries that we wrote, with the state directory: nothing else is ever changed."""


@click.command("kubeconfig")
@click.argument("cluster", required=False)
@namespace_option
@click.option("--merge", is_flag=True, help="Put the context into your kubeconfig; keeps a backup.")
@click.option("--use", is_flag=True, help="With --merge: make it the current context.")
@click.option("--print", "content", is_flag=True, help="Print the kubeconfig itself; it holds a token or a key.")
@click.pass_obj
def command(state: State, cluster: str | None, namespace: str, merge: bool, use: bool, content: bool) -> None:
    """Where a kubeconfig is, as an `export KUBECONFIG=` line; or merge it into yours.

    Without CLUSTER it is the one for kubeup itself, with it the one of that Kubernetes cluster.
    """
    state.local("kubeconfig")
    if use and not merge:
        raise click.UsageError("--use goes with --merge")
    if cluster is None:
        file, context = state.kubeconfig, CONTEXT
        if not file.exists():
            raise CommandError(f"no server has run on {state.path} yet", "kubeup up -f FILE starts one", NO_SERVER)
    else:
        with existing(state) as api:
            file, context = workload(state, api, cluster, namespace), context_of(cluster, namespace)
    if content:
        click.echo(file.read_text(), nl=False)
    elif merge:
        mine = target()
        backup = merge_into(mine, yaml.safe_load(file.read_text()), str(state.path), use)
        click.echo(f"context {context} is in {mine}" + (f" (before: {backup})" if backup else ""))
    else:
        click.echo(export_line(file))


def export_line(file: Path) -> str:
    return f"export KUBECONFIG={shlex.quote(str(file))}"


def context_of(cluster: str, namespace: str) -> str:
    return "-".join([CONTEXT, *([namespace] if namespace != "default" else []), cluster])


def workload(state: State, api: Api, cluster: str, namespace: str) -> Path:
    """Write the kubeconfig of a Kubernetes cluster into the state directory. Raises when there is none, with what to wait for."""
    found = api.find("Cluster", cluster, namespace)
    if found is None:
        names = ", ".join(sorted(c["metadata"]["name"] for c in api.list("Cluster", namespace))) or "none"
        raise CommandError(f"there is no Cluster {cluster!r} in namespace {namespace}; there is {names}", "", BAD_INPUT)
    if not found["spec"].get("kubernetes"):
        raise CommandError(
            f"Cluster {cluster} has plain machines and no Kubernetes, so it has no kubeconfig of its own",
            "kubeup kubeconfig, without a name, is the one for kubeup itself",
            BAD_INPUT,
        )
    secret = api.find("Secret", str((found.get("status") or {}).get("kubeconfigSecret") or f"{cluster}-kubeconfig"), namespace)
    value = ((secret or {}).get("data") or {}).get("value")
    if not value:
        raise CommandError(
            f"Cluster {cluster} has no kubeconfig yet: its endpoint is not known", f"kubeup why cluster/{cluster}", REFUSED
        )
    file = state.path / context_of(cluster, namespace).replace(CONTEXT, "kubeconfig", 1)
    _write(
        file, yaml.safe_dump(_named(yaml.safe_load(base64.b64decode(value)), context_of(cluster, namespace)), sort_keys=False)
    )
    return file


def _named(config: dict[str, Any], context: str) -> dict[str, Any]:
    """One cluster, user and context, all by our name, whatever they are called in the Secret."""
    entries = {
        plural: [{"name": context, singular: config[plural][0][singular]}]
        for plural, singular in (("clusters", "cluster"), ("users", "user"))
    }
    link = [{"name": context, "context": {"cluster": context, "user": context}}]
    return {"apiVersion": "v1", "kind": "Config", **entries, "contexts": link, "current-context": context}


def target() -> Path:
    """The file that kubectl would write: the first of KUBECONFIG, else ~/.kube/config."""
    first = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    return Path(first).expanduser() if first else Path.home() / ".kube" / "config"


def merge_into(file: Path, ours: dict[str, Any], owner: str, use: bool) -> Path | None:
    """Put our cluster, user and context in; returns the backup. Raises when a name is taken by an entry that is not ours."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _kubectl_lock(file):
        text = file.read_text() if file.exists() else ""
        try:
            config = yaml.safe_load(text) or {}
            assert isinstance(config, dict)
        except (yaml.YAMLError, AssertionError):
            raise CommandError(
                f"{file} is not a kubeconfig", "repair it, or point KUBECONFIG to another file", BAD_INPUT
            ) from None
        for plural, singular in (("clusters", "cluster"), ("users", "user"), ("contexts", "context")):
            _put(config, plural, singular, ours[plural][0], owner, file)
        config.setdefault("apiVersion", "v1")
        config.setdefault("kind", "Config")
        if use:
            config["current-context"] = ours["contexts"][0]["name"]
        config.setdefault("current-context", "")
        new = yaml.safe_dump(config, sort_keys=False)
        if new == text:
            return None
        backup = _backup(file, text)
        _write(file, new)
        return backup


def _put(config: dict[str, Any], plural: str, singular: str, entry: dict[str, Any], owner: str, file: Path) -> None:
    entry = {"name": entry["name"], singular: dict(entry[singular])}
    entry[singular]["extensions"] = [{"name": OWNER, "extension": {"state": owner}}]
    entries = config.get(plural) or []
    config[plural] = entries
    for i, old in enumerate(entries):
        if old.get("name") != entry["name"]:
            continue
        marks = (old.get(singular) or {}).get("extensions") or ()
        if not any(mark.get("name") == OWNER for mark in marks):
            raise CommandError(
                f"{file} has a {singular} {entry['name']!r} that kubeup did not write",
                "rename it (kubectl config rename-context), or use the export line of `kubeup kubeconfig`",
                REFUSED,
            )
        entries[i] = entry
        return
    entries.append(entry)


@contextmanager
def _kubectl_lock(file: Path) -> Iterator[None]:
    """client-go's lock: FILE.lock, made with O_EXCL, removed after (tools/clientcmd, lockFile)."""
    lock = Path(f"{file}.lock")
    try:
        os.close(os.open(lock, os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise CommandError(
            f"{lock} exists: kubectl is writing, or was killed while it did", f"try again; else rm {lock}"
        ) from None
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _backup(file: Path, text: str) -> Path | None:
    if not text:
        return None
    backup = Path(f"{file}.kubeup-backup")
    _write(backup, text)
    return backup


def _write(file: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "w") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        os.replace(name, os.path.realpath(file))
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
