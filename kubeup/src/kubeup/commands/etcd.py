"""`kubeup etcd snapshot|list|restore`: one more snapshot of a cluster's etcd now, those that there are, and the way back to one.

The server does it, by the annotation that this sets; where they are kept is in the Cluster. What is shown is the Cluster's status: the
command itself never talks to a machine or to a store.
"""

from __future__ import annotations

import secrets
import sys
import time
from typing import Any

import click

from ..api import Api
from ..connect import existing
from ..errors import BAD_INPUT, REFUSED, TIMED_OUT, CommandError
from ..options import namespace_option, timeout_option
from ..output import age, table
from ..state import State

REQUEST = "kubeup.dev/snapshot-etcd"
RESTORE = "kubeup.dev/restore-etcd"
CONDITION = "EtcdSnapshots"
INTERVAL = 0.5


@click.group("etcd")
def command() -> None:
    """Snapshots of a Kubernetes cluster's etcd."""


@command.command("snapshot")
@click.argument("cluster")
@namespace_option
@timeout_option("How long to wait for it.")
@click.pass_obj
def snapshot(state: State, cluster: str, namespace: str, timeout: float) -> None:
    """Take one more now, and say where it is."""
    with existing(state) as api:
        found = _cluster(api, cluster, namespace)
        _refuse_plain(found)
        to = (found["spec"].get("etcd") or {}).get("snapshots", {}).get("to")
        if not to:
            remedy = "set it to file:///DIRECTORY or s3://BUCKET/PREFIX, and apply"
            raise CommandError(
                f"Cluster {cluster} has no place for snapshots: spec.etcd.snapshots.to is not set", remedy, BAD_INPUT
            )
        token = secrets.token_hex(8)
        api.patch("Cluster", cluster, namespace, {"metadata": {"annotations": {REQUEST: token}}})
        newest = _await(api, cluster, namespace, token, timeout)
    click.echo(f"{newest['name']} ({_size(newest['size'])}) is in {to}")


@command.command("list")
@click.argument("cluster")
@namespace_option
@click.pass_obj
def list_(state: State, cluster: str, namespace: str) -> None:
    """The newest few, and when the next is due."""
    with existing(state) as api:
        found = _cluster(api, cluster, namespace)
        _refuse_plain(found)
    status = found.get("status") or {}
    etcd = status.get("etcd") or {}
    rows = [(s["name"], age(s["at"]), _size(s["size"])) for s in etcd.get("snapshots") or ()]
    click.echo(table(("name", "age", "size"), rows) if rows else f"no snapshot of cluster {cluster} is known")
    if etcd.get("next"):
        click.echo(f"the next is due at {etcd['next']}")
    told = _condition(status)
    if told.get("status") == "False":
        click.echo(f"the last try failed: {told['message']}", err=True)


@command.command("restore")
@click.argument("cluster")
@click.argument("name", metavar="[SNAPSHOT]", required=False)
@namespace_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@timeout_option("How long to wait until the cluster is Ready again.")
@click.pass_obj
def restore(state: State, cluster: str, name: str | None, namespace: str, yes: bool, timeout: float) -> None:
    """Go back to a snapshot: what was written after it is lost.

    One control plane gets it, the others are made anew; so are all when none is left. SNAPSHOT is a name that `list` shows; without
    one it is the newest.
    """
    with existing(state) as api:
        found = _cluster(api, cluster, namespace)
        _refuse_plain(found)
        known = ((found.get("status") or {}).get("etcd") or {}).get("snapshots") or []
        chosen = name or (known[0]["name"] if known else "")
        if not chosen:
            raise CommandError(f"no snapshot of cluster {cluster} is known", "name one, as the store has it", BAD_INPUT)
        _agree(cluster, chosen, next((age(s["at"]) for s in known if s["name"] == chosen), ""), yes)
        request = f"{chosen} {secrets.token_hex(8)}"
        api.patch("Cluster", cluster, namespace, {"metadata": {"annotations": {RESTORE: request}}})
        _await_restored(api, cluster, namespace, request, timeout)
    click.echo(f"{chosen} is restored, and cluster {cluster} is Ready")


def _agree(cluster: str, name: str, old: str, yes: bool) -> None:
    what = f"everything that was written to cluster {cluster} after {name}{f' ({old} ago)' if old else ''} will be lost"
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError(what, "say --yes", BAD_INPUT)
    click.confirm(f"{what[0].upper()}{what[1:]}. Restore it?", abort=True)


def _await_restored(api: Api, cluster: str, namespace: str, request: str, seconds: float) -> None:
    """Prints what it waits for, each time that is another sentence."""
    deadline, last = time.monotonic() + seconds, ""
    while True:
        status = _cluster(api, cluster, namespace).get("status") or {}
        state = (status.get("controlPlane") or {}).get("restore") or {}
        mine = state.get("request") == request
        if mine and state.get("refused"):
            raise CommandError(f"nothing was restored: {state['refused']}", "", REFUSED)
        ready: dict[str, Any] = next((c for c in status.get("conditions") or () if c["type"] == "Ready"), {})
        if mine and state.get("done") and ready.get("status") == "True":
            return
        told = str(ready.get("message") or "")
        if mine and told != last:
            click.echo(told)
            last = told
        if time.monotonic() > deadline:
            remedy = f"the server goes on; kubeup why cluster/{cluster} -n {namespace} says what it waits for"
            raise CommandError(f"not Ready after {seconds:.0f} s: {told}", remedy, TIMED_OUT)
        time.sleep(INTERVAL)


def _await(api: Api, cluster: str, namespace: str, token: str, seconds: float) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while True:
        status = _cluster(api, cluster, namespace).get("status") or {}
        etcd = status.get("etcd") or {}
        if etcd.get("request") == token and etcd.get("snapshots"):
            newest: dict[str, Any] = etcd["snapshots"][0]
            return newest
        told = _condition(status)
        if told.get("reason") == "InvalidSpec":
            raise CommandError(told["message"], "correct spec.etcd.snapshots; it is then taken by itself", BAD_INPUT)
        if time.monotonic() > deadline:
            why = f": {told['message']}" if told.get("status") == "False" else ""
            raise CommandError(f"no snapshot was taken in {seconds:.0f} s{why}", "the server goes on trying", TIMED_OUT)
        time.sleep(INTERVAL)


def _refuse_plain(cluster: dict[str, Any]) -> None:
    if not cluster["spec"].get("kubernetes"):
        raise CommandError(f"Cluster {cluster['metadata']['name']} is a plain set of machines and has no etcd", "", BAD_INPUT)


def _cluster(api: Api, name: str, namespace: str) -> dict[str, Any]:
    found = api.find("Cluster", name, namespace)
    if found is None:
        raise CommandError(f"there is no Cluster {namespace}/{name}", "kubeup get clusters -n NAMESPACE lists them", REFUSED)
    return found


def _condition(status: dict[str, Any]) -> dict[str, Any]:
    conditions: list[dict[str, Any]] = status.get("conditions") or []
    return next((c for c in conditions if c["type"] == CONDITION), {})


def _size(size: int) -> str:
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size} bytes"
