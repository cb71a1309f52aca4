"""`kubeup init PROVIDER`: write a commented cluster.yaml. The neutral part is the same for all; that is the point of it."""

from __future__ import annotations

import os
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click
import yaml

from ..errors import BAD_INPUT, CommandError
from ..options import plugin_option

if TYPE_CHECKING:
    from kubeup_core.hookspecs import ModelClass

SIMULATOR = "sim"

TEMPLATE = """\
# Written by `kubeup init {type}`. Bring it up:  kubeup up -f {file}      and down again:  kubeup down -f {file}
# Every field: kubectl explain cluster.spec --recursive   (after the first `up`)
{provider}apiVersion: kubeup.dev/v1alpha1
kind: Cluster
metadata:
  name: {name}
spec:
  provider: {ref}            # the one line that you swap, for another of: kubeup providers
{kubernetes}  # protect: true            # the API itself then refuses to delete it
"""

POOL = """\
---
apiVersion: kubeup.dev/v1alpha1
kind: NodePool
metadata:
  name: {name}-pool
spec:
  cluster: {name}
  replicas: {replicas}                # kubectl scale nodepool {name}-pool --replicas=5 works too, and nothing scales it back
  machine:                   # nominal minimums; the provider picks the cheapest type that has them
    cpu: {cpu}
    memory: {memory}
  # repair:                  # machines that fail or vanish are replaced, unless too many of them do at once
  #   maxUnhealthy: 40%
  # update:                  # a changed `machine` is rolled out
  #   maxSurge: 1
  #   maxUnavailable: 0
  # overrides:               # what only one place knows; ignored where another is in use
  #   {type}: {{}}
"""

KUBERNETES = """\
  kubernetes:
    version: {version}       # change it to upgrade: control planes first, then the pools, gated on their health
  controlPlane:
    replicas: {control_planes}              # 1, 3 or 5
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
@click.option(
    "--kubernetes",
    metavar="[VERSION]",
    is_flag=False,
    flag_value="newest",
    help="A Kubernetes cluster of this version (vX.Y.Z; without one the newest that is known), not plain machines.",
)
@click.option(
    "--with",
    "others",
    metavar="FILE",
    multiple=True,
    type=click.Path(exists=True),
    help="What is applied with it (a file or directory): PROVIDER may be the name of a Provider there, and none is written.",
)
@click.option("--control-planes", default="1", show_default=True, type=click.Choice(["1", "3", "5"]), help="With --kubernetes.")
@plugin_option
def command(
    provider: str,
    name: str,
    output: Path | None,
    replicas: int,
    kubernetes: str | None,
    others: tuple[str, ...],
    control_planes: str,
    plugins: tuple[str, ...],
) -> None:
    """Write a commented cluster.yaml for a provider, to standard output or to -o FILE."""
    from kubeup_core.objects import is_dns_label

    if not is_dns_label(name) or len(name) > 40:
        raise CommandError(
            f"{name!r} cannot be a name", "use at most 40 of a-z, 0-9 and '-', starting with a letter", BAD_INPUT
        )
    section = _kubernetes(kubernetes, control_planes, plugins) if kubernetes else ""
    type_ = _declared(provider, others, plugins) if others else None
    text = render(type_ or provider, name, replicas, str(output or "cluster.yaml"), plugins, section, provider if type_ else "")
    if kubernetes and (type_ or provider) == SIMULATOR:
        click.echo(
            "note: simulated machines run no Kubernetes; its steps are pretended, and the cluster never gets Ready", err=True
        )
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        with output.open("x") as file:
            file.write(text)
    except FileExistsError:
        raise CommandError(f"{output} is there already", "choose another -o, or remove it first", BAD_INPUT) from None
    click.echo(f"wrote {output}; bring it up with: kubeup up -f {output}")


def _kubernetes(version: str, control_planes: str, plugins: tuple[str, ...]) -> str:
    """The lines that make it a Kubernetes cluster."""
    from kubeup_core.plugins import PluginError, discover

    if version == "newest":
        try:
            version = discover(plugins).bootstrapper("kubeadm").build().newest()
        except PluginError as error:
            raise CommandError(error.message, error.remedy, BAD_INPUT) from error
    if not re.fullmatch(r"v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?", version):
        raise CommandError(f"{version!r} is not a version", "write it in full, as in v1.34.1, or: newest", BAD_INPUT)
    return KUBERNETES.format(version=version, control_planes=control_planes)


def _declared(provider: str, files: tuple[str, ...], plugins: tuple[str, ...]) -> str:
    """The type of the Provider of this name in these files, or the name itself where that is a type that needs no config."""
    from kubeup_core.plugins import discover

    from ..manifests import load

    documents = [
        d for file in files if file != os.devnull for d in load((file,))
    ]  # kube-up.sh names it where nothing is with it
    types = {d.name: str((d.object.get("spec") or {}).get("type")) for d in documents if d.kind == "Provider"}
    installed = discover(plugins)
    if provider in types:
        return types[provider]
    if provider in installed.implicit():
        return provider
    there = f"declared there: {', '.join(sorted(types)) or 'no Provider'}"
    if provider in installed.providers:
        raise CommandError(
            f"{provider} needs a config, so it has no Provider by itself; {there}",
            f"declare a Provider of this type in such a file and give its name; kubeup init {provider} writes one",
            BAD_INPUT,
        )
    raise CommandError(
        f"{provider!r} is no Provider and no installed type; {there}",
        f"declare a Provider of this name in such a file, or install the type: pip install kubeup-{provider}",
        BAD_INPUT,
    )


def render(
    type_: str, name: str, replicas: int, file: str, plugins: tuple[str, ...] = (), kubernetes: str = "", ref: str = ""
) -> str:
    """The text for one provider type. Raises when it is not installed, with the line that installs it.

    ref  the Provider to name, which is declared elsewhere; without it the type's own, written down where it needs a config
    """
    from kubeup_core.plugins import PluginError, discover

    installed = discover(plugins)
    try:
        chosen = installed.find(type_)
    except PluginError as error:
        raise CommandError(error.message, error.remedy, BAD_INPUT) from error
    config = "" if ref or type_ in installed.implicit() else _config(chosen.config)
    alone = bool(kubernetes) and replicas == 0  # without a pool the control planes run workloads
    text = (TEMPLATE if alone else TEMPLATE + POOL).format(
        type=type_,
        name=name,
        file=file,
        replicas=replicas,
        cpu=2 if kubernetes else 1,
        memory="2Gi" if kubernetes else "256Mi" if type_ == "docker" else "1Gi",
        kubernetes=kubernetes,
        ref=ref or (f"my-{type_}" if config else type_),
        provider=PROVIDER.format(type=type_, config=config) if config else "",
    )
    return _aligned(text)


def _aligned(text: str) -> str:
    """Comments behind a value, one below the other, however long the values are."""
    return re.sub(r"^( *[^#\n]*\S) {2,}# ", lambda line: f"{line[1]:<28} # ", text, flags=re.MULTILINE)


def _config(model: ModelClass) -> str:
    """The example that the model's JSON schema gives, else its required fields."""
    if examples := model.model_json_schema().get("examples"):
        return textwrap.indent(yaml.safe_dump(examples[0], sort_keys=False).rstrip(), "    ")
    lines = []
    for name, info in model.model_fields.items():
        if not info.is_required():
            continue
        about = f"  # {info.description}" if info.description else ""
        lines.append(f"    {info.alias or name}: CHANGE-ME{about}")
    return "\n".join(lines)
