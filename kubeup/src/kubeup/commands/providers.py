"""`kubeup providers [TYPE]`: what is installed, what is switched off and why, and the settings of one type.

`kubeup providers hosts [PROVIDER]`: the hosts of inventories, as the Providers' statuses tell them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..connect import existing
from ..errors import BAD_INPUT, CommandError
from ..options import output_option, plugin_option
from ..output import show, table
from ..state import State

if TYPE_CHECKING:
    from kubeup_core.plugins import Plugins, ProviderType

    from ..api import Api


@click.command("providers")
@click.argument("type_", metavar="[TYPE | hosts]", required=False)
@click.argument("provider", required=False)
@plugin_option
@output_option
@click.pass_obj
def command(state: State, type_: str | None, provider: str | None, plugins: tuple[str, ...], output: str | None) -> None:
    """Installed providers; with TYPE its capabilities' fields and the schema of its config and overrides.

    `hosts` lists the hosts of all inventories, or of one PROVIDER, with their states.
    """
    from kubeup_core.plugins import PluginError, discover

    if type_ == "hosts":
        with existing(state) as api:
            _hosts(api, provider, output)
        return
    if provider is not None:
        raise CommandError(f"one TYPE, not {type_} and {provider}", "kubeup providers hosts PROVIDER lists hosts", BAD_INPUT)

    installed = discover(plugins)
    if type_ is None:
        _all(installed, output)
        return
    try:
        chosen = installed.find(type_)
    except PluginError as error:
        raise CommandError(error.message, error.remedy, BAD_INPUT) from error
    _one(chosen, output)


def _hosts(api: Api, provider: str | None, output: str | None) -> None:
    there = {p["metadata"]["name"]: p for p in api.list("Provider")}
    if provider is not None and provider not in there:
        names = ", ".join(sorted(there)) or "none"
        raise CommandError(f"there is no Provider {provider!r}; there is {names}", "", BAD_INPUT)
    found = [
        {"provider": name, **host}
        for name, p in sorted(there.items())
        if provider in (None, name)
        for host in (p.get("status") or {}).get("hosts") or ()
    ]
    if output:
        show({"hosts": found}, output)
        return
    if not found:
        click.echo("no Provider has hosts" if provider is None else f"Provider {provider} has no hosts, or has not looked yet")
        return
    rows = [
        [h["provider"], h["name"], h["state"], h.get("machine") or "", h.get("zone") or "", _size(h.get("facts") or {})]
        for h in found
    ]
    click.echo(table(["Provider", "Host", "State", "Machine", "Zone", "Size"], rows))
    for host in found:
        if host.get("message"):
            click.echo(f"\n{host['name']}: {host['message']}")


def _size(facts: dict[str, str]) -> str:
    if not facts:
        return ""
    return f"{facts['cpu']} cores, {facts['memory']}, {facts['disk']} {facts['arch']}, {facts['os']}"


def _all(installed: Plugins, output: str | None) -> None:
    implicit = set(installed.implicit())
    if output:
        show({"providers": [_facts(p, implicit) for p in installed.providers.values()], "off": _off(installed)}, output)
        return
    rows = [
        [p.type, p.source, p.contract, "yes" if p.type in implicit else "needs config"]
        for p in sorted(installed.providers.values(), key=lambda p: p.type)
    ]
    click.echo(table(["Type", "Plugin", "Contract", "Ready to use"], rows))
    for broken in _off(installed):
        click.echo(f"\noff: {broken['name']} ({broken['plugin']}): {broken['reason']}", err=True)
        if broken["remedy"]:
            click.echo(f"  → {broken['remedy']}", err=True)


def _one(chosen: ProviderType, output: str | None) -> None:
    schemas = {"config": chosen.config.model_json_schema(), "overrides": chosen.overrides.model_json_schema()}
    if output:
        show({"type": chosen.type, "plugin": chosen.source, "contract": chosen.contract, **schemas}, output)
        return
    click.echo(f"{chosen.type}  ({chosen.source}, contract {chosen.contract})")
    for title, model in (("spec.config", chosen.config), (f"overrides.{chosen.type}", chosen.overrides)):
        click.echo(f"\n{title}:")
        rows = [[f"  {name}", kind, default, about] for name, kind, default, about in _fields(model.model_json_schema())]
        click.echo(table(["  Field", "Type", "Default", "Meaning"], rows) if rows else "  (no fields)")


def _fields(schema: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    required = set(schema.get("required", ()))
    rows = []
    for name, field in schema.get("properties", {}).items():
        default = "required" if name in required else _default(field.get("default"))
        rows.append((name, _type(field), default, str(field.get("description", ""))))
    return rows


def _type(field: dict[str, Any]) -> str:
    if "enum" in field:
        return "|".join(map(str, field["enum"]))
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type(part) for part in field["anyOf"] if part.get("type") != "null"))
    if field.get("type") == "array":
        return f"[{_type(field.get('items', {}))}]"
    return str(field.get("type", "any"))


def _default(value: Any) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _facts(p: ProviderType, implicit: set[str]) -> dict[str, Any]:
    distribution = {"distribution": p.distribution, "version": p.version}
    return {"type": p.type, **distribution, "contract": p.contract, "implicit": p.type in implicit}


def _off(installed: Plugins) -> list[dict[str, str]]:
    return [
        {"name": b.name, "plugin": f"{b.distribution} {b.version}".strip(), "reason": b.reason, "remedy": b.remedy}
        for b in installed.broken
    ]
