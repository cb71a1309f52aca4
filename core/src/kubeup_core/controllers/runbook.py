"""The steps that kubeup runs on machines, to be read or to be run by hand: what `kubeup steps` prints.

Made from objects alone, with the plans, the bootstrapper and the template's own files that the controllers use, so that it cannot say
something else than they do. Keys and tokens are placeholders, so nothing in a runbook is secret, and it is text all through. A script
asks for what they stand for: for keys in the files that it names, for the token in the variable TOKEN.
"""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ..bootstrapper import Bootstrapper, File, Secrets, Step, Task
from ..kinds import Cluster, Machine
from ..objects import Resource
from ..runtime.cache import Cache
from .certificates import FILES, secret_name
from .machine_files import named, own_files
from .plans import cluster_plan, control_planes, node_plan

T = TypeVar("T")

TOKEN = "abcdef.0123456789abcdef"
"""Stands for a bootstrap token: kubeup makes one that lives for minutes when a machine joins."""

MAKE_TOKEN = "make one on a control plane with: kubeadm token create"

_NAMED = re.compile(r"\((\S+ of Secret \S+)\)\n")

BRINGS_UP = (Task.PREPARE, Task.INIT, Task.JOIN)


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """One task on one machine, or on several that have the same steps."""

    task: Task
    machines: tuple[Machine, ...]
    steps: tuple[Step, ...]


class Objects:
    """What controllers read, out of objects that somebody has fetched."""

    def __init__(self, objects: Iterable[Resource]) -> None:
        self.cache = Cache()
        self._shared: dict[type, object] = {}
        for obj in objects:
            self.cache.put(obj)

    def shared(self, cls: type[T]) -> T:
        found = self._shared.setdefault(cls, cls())
        assert isinstance(found, cls)
        return found


@dataclass(frozen=True)
class Runbook:
    """For one cluster. objects: its Machines, NodePools, LoadBalancers and the Secret of its authority, as far as there are any."""

    bootstrapper: Bootstrapper
    cluster: Cluster
    objects: Objects
    pki: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pki", _placeholders(self.cluster.name))

    def machines(self) -> list[Machine]:
        """In the order in which they are brought up."""
        planes = control_planes(self.objects, self.cluster)
        workers = [m for m in self.objects.cache.list(Machine, self.cluster.namespace) if m.spec.role == "worker"]
        return [*planes, *sorted((m for m in workers if m.spec.cluster == self.cluster.name), key=lambda m: m.name)]

    def chapters(self, machines: Sequence[Machine], task: Task | None = None) -> list[Chapter]:
        """task: absent, all that brings a machine up. Raises InvalidSpec where the bootstrapper does."""
        found: list[Chapter] = []
        for each in (task,) if task is not None else BRINGS_UP:
            of = [(m, self._steps(m, each)) for m in machines]
            for steps in dict.fromkeys(steps for _, steps in of if steps):
                found.append(Chapter(task=each, machines=tuple(m for m, theirs in of if theirs == steps), steps=steps))
        return found

    def _steps(self, machine: Machine, task: Task) -> tuple[Step, ...]:
        planes = control_planes(self.objects, self.cluster)
        first = bool(planes) and machine.uid == planes[0].uid
        if task in (Task.INIT, Task.JOIN) and (task is Task.INIT) != first:
            return ()
        plane = machine.spec.role == "controlPlane"
        if task in (Task.SETTLE, Task.RENEW, Task.SNAPSHOT, Task.RESTORE) and not plane:
            return ()
        plan = cluster_plan(self.objects, self.cluster, machine)
        node = node_plan(self.objects, self.cluster, machine, first=first)
        match task:
            case Task.INIT:
                secrets = Secrets(pki=self.pki)
            case Task.JOIN:
                secrets = Secrets(pki=self.pki if plane else {}, token=TOKEN)
            case _:
                secrets = Secrets()
        own = own_files(self.objects, self.cluster, machine, reveal=False) if task is Task.PREPARE else ()
        return (*own, *self.bootstrapper.steps(task, plan, node, secrets))


def script(chapters: Sequence[Chapter], about: str) -> str:
    """A shell script for one machine that does what the runner does: each step's check, files and script, in order, as root."""
    parts = [
        "#!/bin/sh",
        f"# {about}",
        "# Run it as root on that machine. It stops at the first step that fails, and can be run again.",
        "set -eu",
        "umask 022",
        '[ "$(id -u)" = 0 ] || { echo "run this as root" >&2; exit 1; }',
        "cd /",
        "work=$(mktemp -d)",
        """trap 'rm -rf "$work"' EXIT""",
    ]
    steps = [step for chapter in chapters for step in chapter.steps]
    if any(_needs_token(file) for step in steps for file in step.files):
        parts[3:3] = [
            "# It joins with a token that it is given, as in TOKEN=abcdef.0123456789abcdef sh THIS-FILE",
            f"TOKEN=${{TOKEN:?{MAKE_TOKEN}}}",
            "printf '%s\\n' \"$TOKEN\" | grep -Eqx '[a-z0-9]{6}\\.[a-z0-9]{16}' ||",
            f"""    {{ echo 'TOKEN is not a bootstrap token; {MAKE_TOKEN}' >&2; exit 1; }}""",
        ]
    for number, step in enumerate(steps, 1):
        parts += [
            "",
            f"# {number} of {len(steps)}: {step.name}",
            f"echo {shlex.quote(f'[{number}/{len(steps)}] {step.title}')}",
        ]
        body = [*(_put(f) for f in step.files), *_text("step", step.script), 'sh -eu "$work/step" </dev/null']
        if step.check:
            parts += [*_text("check", step.check), 'if ! sh -eu "$work/check" </dev/null >/dev/null 2>&1; then', *body, "fi"]
        else:
            parts += body
    return "\n".join([*parts, ""])


def shown(file: File) -> str:
    """A file of a step, for people: its content, or where it comes from."""
    if file.source:
        return f"a copy of {file.source} (sha256 {file.sha256})"
    try:
        text = file.content.decode()
        return text.replace(TOKEN, "(a bootstrap token)") if _needs_token(file) else text
    except UnicodeDecodeError:
        return f"{len(file.content)} bytes that are no text"


def _text(name: str, text: str) -> list[str]:
    """A file beside the script, because a heredoc as standard input could be eaten by what runs."""
    return [f"cat >\"$work/{name}\" <<'KUBEUP_TEXT'", text.rstrip("\n"), "KUBEUP_TEXT"]


def _placeholders(cluster: str) -> dict[str, str]:
    """Name under the PKI folder -> where to find what belongs there."""
    found = {}
    for what, names in FILES.items():
        for name, key in zip(names, ("tls.crt", "tls.key"), strict=True):
            found[name] = named(key, secret_name(cluster, what))
    return found


def _needs_token(file: File) -> bool:
    return file.secret and TOKEN.encode() in file.content


def _put(file: File) -> str:
    path, folder = shlex.quote(file.path), shlex.quote(file.path.rpartition("/")[0] or "/")
    if file.source:
        return (
            f"echo {shlex.quote(f'{file.sha256}  {file.path}')} | sha256sum -c --quiet - || {{ echo "
            f"{shlex.quote(f'copy {file.source} of the machine that kubeup runs on to {file.path} first')} >&2; exit 1; }}"
        )
    if file.secret and (found := _NAMED.fullmatch(file.content.decode(errors="replace"))):
        return f"[ -s {path} ] || {{ echo {shlex.quote(f'put {found[1]} into {file.path} first')} >&2; exit 1; }}"
    fill = f""" | sed "s/{TOKEN}/$TOKEN/\"""" if _needs_token(file) else ""
    encoded = base64.encodebytes(file.content).decode().rstrip("\n")
    put = f"base64 -d <<'KUBEUP_FILE'{fill} >{path}\n{encoded}\nKUBEUP_FILE\nchmod {file.mode:o} {path}"
    return f"mkdir -p {folder}\n" + (f"(\numask 077\n{put}\n)" if file.secret else put)
