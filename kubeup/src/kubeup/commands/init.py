"""`kubeup init PROVIDER`: write a commented cluster.yaml. The neutral part is the same for all; that is the point of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import BAD_INPUT, CommandError
from ..options import plugin_option

TEMPLATE = """\
# Written by `kubeup init {type}`. Bring it up:  kubeup up -f {file}      and down again:  kubeup down -f {file}
# Every field: kubectl explain cluster.spec --recursive   (after the first `up`)
{provider}apiVersion: kubeup.dev/v1alpha1
kind: Cluster
metadata:
  name: {name}
spec:
  provider: {ref}            # the one line that you swap: {others}
  # protect: true            # the API itself then refuses to delete it
---
apiVersion: kubeup.dev/v1alpha1
kind: NodePool
metadata:
  name: {name}-pool
spec:
  cluster: {name}
  replicas: {replicas}                # kubectl scale nodepool {name}-pool --replicas=5 works too, and nothing scales it back
  machine:                   # nominal minimums; the provider picks the cheapest type that has them
    cpu: 1
    memory: {memory}
  # repair:                  # machines that fail or vanish are replaced, unless too many of them do at once
  #   maxUnhealthy: 40%
  # update:                  # a changed `machine` is rolled out
  #   maxSurge: 1
  #   maxUnavailable: 0
  # overrides:               # what only one place knows; ignored where another is in use
  #   {type}: {{}}
"""

PROVIDER = """\
apiVersion: kubeup.dev/v1alpha1
kind: Provider
metadata:
  name: my-{type}
spec:
  type: {type}
  config:
{config}
---
"""


@click.command("init")
@click.argument("provider", default="sim")
@click.option("--name", default="demo", show_default=True, help="Name of the cluster.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="File to write; refuses to overwrite.")
@click.option("--replicas", default=3, show_default=True, type=click.IntRange(min=0), help="Machines in the pool.")
@plugin_option
def command(provider: str, name: str, output: Path | None, replicas: int, plugins: tuple[str, ...]) -> None:
    """Write a commented cluster.yaml for a provider, to standard output or to -o FILE."""
    from kubeup_core.objects import is_dns_label

    if not is_dns_label(name) or len(name) > 40:
        raise CommandError(
            f"{name!r} cannot be a name", "use at most 40 of a-z, 0-9 and '-', starting with a letter", BAD_INPUT
        )
    text = render(provider, name, replicas, str(output or "cluster.yaml"), plugins)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        with output.open("x") as file:
            file.write(text)
    except FileExistsError:
        raise CommandError(f"{output} is there already", "choose another -o, or remove it first", BAD_INPUT) from None
    click.echo(f"wrote {output}; bring it up with: kubeup up -f {output}")


def render(type_: str, name: str, replicas: int, file: str, plugins: tuple[str, ...] = ()) -> str:
    """The text for one provider type. Raises when it is not installed, with the line that installs it."""
    from kubeup_core.plugins import PluginError, discover

    installed = discover(plugins)
    try:
        chosen = installed.find(type_)
    except PluginError as error:
        raise CommandError(error.message, error.remedy, BAD_INPUT) from error
    others = " | ".join(sorted(t for t in installed.providers if t != type_)) or "the name of any other Provider"
    needed = {field: info for field, info in chosen.config.model_fields.items() if info.is_required()}
    return TEMPLATE.format(
        type=type_,
        name=name,
        file=file,
        replicas=replicas,
        memory="256Mi" if type_ == "docker" else "1Gi",
        others=others,
        ref=f"my-{type_}" if needed else type_,
        provider=PROVIDER.format(type=type_, config=_config(needed)) if needed else "",
    )


def _config(fields: dict[str, Any]) -> str:
    lines = []
    for name, info in fields.items():
        about = f"  # {info.description}" if info.description else ""
        lines.append(f"    {info.alias or name}: CHANGE-ME{about}")
    return "\n".join(lines)
