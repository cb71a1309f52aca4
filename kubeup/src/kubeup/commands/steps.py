"""`kubeup steps CLUSTER`: what kubeup runs on machines, as a runbook to read or a script to run by hand ("the hard way").

Made by the core's own runbook from what the API says; keys and tokens are placeholders, so nothing that is printed is secret.
"""

from __future__ import annotations

import difflib
from typing import Any

import click
from kubeup_core.bootstrapper import Step, Task
from kubeup_core.controllers.runbook import Chapter, Objects, Runbook, script, shown
from kubeup_core.errors import SupplierError
from kubeup_core.kinds import Cluster, LoadBalancer, Machine, NodePool, Secret
from kubeup_core.objects import Resource
from kubeup_core.plugins import PluginError, discover

from ..api import Api
from ..connect import existing
from ..errors import BAD_INPUT, REFUSED, CommandError
from ..options import namespace_option
from ..output import plural
from ..state import State

TITLES = {
    Task.PREPARE: "Prepare",
    Task.INIT: "Begin the cluster",
    Task.JOIN: "Join the cluster",
    Task.SETTLE: "After another control plane has joined",
    Task.UPGRADE: "Upgrade in place",
    Task.RENEW: "Renew certificates",
    Task.SNAPSHOT: "Take a snapshot of etcd",
    Task.RESTORE: "Restore etcd from a snapshot",
    Task.LEAVE: "Clean the machine",
}
WORTH = 10
"""Lines that are worth to be said only once."""

SHOWN = 5
"""Machines that a heading names."""


@click.command("steps")
@click.argument("cluster")
@namespace_option
@click.option("--machine", metavar="NAME", help="Only of this machine.")
@click.option(
    "--task", type=click.Choice([task.value for task in Task]), help="Instead of all that brings a machine into the cluster."
)
@click.option("--as-script", is_flag=True, help="A shell script that does it; for one machine.")
@click.pass_obj
def command(state: State, cluster: str, namespace: str, machine: str | None, task: str | None, as_script: bool) -> None:
    """Print the steps that kubeup runs on a cluster's machines.

    With --as-script they can be run by hand. Keys and tokens are not printed: it is said where they come from, and a script that
    joins takes the token as TOKEN=...
    """
    with existing(state) as api:
        book = _runbook(api, cluster, namespace)
    machines = _chosen(book, machine)
    if as_script and len(machines) > 1:
        names = ", ".join(m.name for m in machines)
        raise CommandError(
            f"a script is for one machine, and there are {len(machines)}", f"--machine with one of {names}", BAD_INPUT
        )
    try:
        chapters = book.chapters(machines, Task(task) if task else None)
    except SupplierError as error:
        raise CommandError(error.message, error.remedy, REFUSED) from None
    if not chapters:
        raise CommandError(f"the task {task} has no steps on {', '.join(m.name for m in machines)}", "", BAD_INPUT)
    version = book.cluster.spec.kubernetes.version if book.cluster.spec.kubernetes else ""
    if as_script:
        click.echo(script(chapters, f"Machine {machines[0].name} of Kubernetes cluster {cluster}, {version}"), nl=False)
    else:
        common = _common([step.script for chapter in chapters for step in chapter.steps])
        click.echo(_prelude(common) + "\n".join(_text(chapter, common) for chapter in chapters), nl=False)


def _runbook(api: Api, name: str, namespace: str) -> Runbook:
    found = api.find("Cluster", name, namespace)
    if found is None:
        raise CommandError(f"there is no Cluster {namespace}/{name}", "kubeup get clusters -n NAMESPACE lists them", REFUSED)
    cluster = Cluster.model_validate(found)
    if cluster.spec.kubernetes is None:
        raise CommandError(f"Cluster {name} is a plain set of machines: nothing is run on them", "", BAD_INPUT)
    objects: list[Resource] = []
    for kind in (Machine, NodePool, LoadBalancer):
        objects += [kind.model_validate(o) for o in api.list(kind.__name__, namespace)]
    secret: dict[str, Any] | None = api.find("Secret", f"{name}-ca", namespace)
    if secret is not None:
        objects.append(Secret.model_validate(secret))
    try:
        bootstrapper = discover().bootstrapper(cluster.spec.kubernetes.bootstrapper).made
    except PluginError as error:
        raise CommandError(error.message, error.remedy, REFUSED) from None
    return Runbook(bootstrapper, cluster, Objects(objects))


def _chosen(book: Runbook, name: str | None) -> list[Machine]:
    machines = book.machines()
    if not machines:
        remedy = "wait a moment, or see `kubeup why cluster/" + book.cluster.name + "`"
        raise CommandError(f"Cluster {book.cluster.name} has no machines yet", remedy, REFUSED)
    if name is None:
        return machines
    found = [m for m in machines if m.name == name]
    if not found:
        names = ", ".join(m.name for m in machines)
        raise CommandError(f"Cluster {book.cluster.name} has no machine {name} for Kubernetes; there is {names}", "", BAD_INPUT)
    return found


def _common(scripts: list[str]) -> str:
    """The longest run of lines that all of them have, when it is long enough to be worth saying only once; else ""."""
    lines = scripts[0].splitlines()
    for other in scripts[1:] if len(scripts) > 1 else ():
        theirs = other.splitlines()
        match = difflib.SequenceMatcher(None, lines, theirs, autojunk=False).find_longest_match()
        lines = lines[match.a : match.a + match.size]
    return "\n".join(lines).strip("\n") if len(scripts) > 1 and len(lines) >= WORTH else ""


def _prelude(common: str) -> str:
    if not common:
        return ""
    return "\n".join(["# What every script has", "", *_block(common), "", ""])


def _text(chapter: Chapter, common: str) -> str:
    names = [m.name for m in chapter.machines]
    more = f" and {plural(len(names) - SHOWN, 'other')}" if len(names) > SHOWN else ""
    lines = [f"# {TITLES[chapter.task]}: {', '.join(names[:SHOWN])}{more}", ""]
    for number, step in enumerate(chapter.steps, 1):
        lines += [f"## {number}. {step.name}: {step.title}", "", *_step(step, common)]
    return "\n".join(lines)


def _step(step: Step, common: str) -> list[str]:
    lines: list[str] = []
    for file in step.files:
        lines += [f"File {file.path}, mode {file.mode:o}:", "", *_block(shown(file)), ""]
    if step.check:
        lines += ["Nothing to do when this succeeds:", "", *_block(_short(step.check, common)), ""]
    lines += ["As root, with `set -eu`:", "", *_block(_short(step.script, common)), ""]
    if step.remedy:
        lines += [f"If it fails: {step.remedy}", ""]
    return lines


def _short(script: str, common: str) -> str:
    return script.replace(common, "# ... what every script has ...") if common else script


def _block(text: str) -> list[str]:
    return [f"    {line}".rstrip() for line in text.strip("\n").splitlines()]
