"""`kubeup certificates CLUSTER`: the certificates that control planes made for themselves, as kubeup read them there.

What is shown is the Cluster's status: the command itself never talks to a machine. They are renewed by the server; how to ask for it
is an annotation, which is told below the table.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from ..connect import existing
from ..errors import BAD_INPUT, REFUSED, CommandError
from ..options import namespace_option
from ..output import table
from ..state import State

REQUEST = "kubeup.dev/renew-certificates"


@click.command("certificates")
@click.argument("cluster")
@namespace_option
@click.pass_obj
def command(state: State, cluster: str, namespace: str) -> None:
    """Certificates of a cluster's control planes: whose they are, and when they end."""
    with existing(state) as api:
        found = api.find("Cluster", cluster, namespace)
    if found is None:
        raise CommandError(f"there is no Cluster {namespace}/{cluster}", "kubeup get clusters -n NAMESPACE lists them", REFUSED)
    if not found["spec"].get("kubernetes"):
        raise CommandError(f"Cluster {cluster} is a plain set of machines and has no certificates", "", BAD_INPUT)
    status = found.get("status") or {}
    plane = status.get("controlPlane") or {}
    rows = [row for record in plane.get("certificates") or () for row in rows_of(record, datetime.now(UTC))]
    if not rows:
        click.echo(f"no certificate of cluster {cluster} has been read yet")
        return
    click.echo(table(("machine", "certificate", "expires", "left", "renewed by"), rows))
    told = next((c for c in status.get("conditions") or () if c["type"] == "CertificatesExpiring"), None)
    if told is not None:
        click.echo(told["message"], err=True)
    click.echo(f"to have new ones now: kubectl annotate cluster {cluster} -n {namespace} {REQUEST}=$(date +%s) --overwrite")


def rows_of(record: dict[str, Any], now: datetime) -> list[tuple[str, ...]]:
    """One for each certificate of a machine, the first end first."""
    rows: list[tuple[str, ...]] = []
    for certificate in sorted(record.get("certificates") or (), key=lambda c: (c["ends"], c["name"])):
        left = (datetime.fromisoformat(certificate["ends"]) - now).days
        whose = "kubeup" if certificate.get("renewed", True) else "the kubelet"
        rows.append((record["machine"], certificate["name"], certificate["ends"][:10], f"{left} days", whose))
    return rows
