"""`kubeup providers [TYPE]`: what is installed, what is switched off and why, and the settings of one type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..errors import BAD_INPUT, CommandError
from ..options import output_option, plugin_option
from ..output import show, table

if TYPE_CHECKING:
    from kubeup_core.plugins import Plugins, ProviderType


@click.command("providers")
@click.argument("type_", metavar="[TYPE]", required=False)
@plugin_option
@output_option
def command(type_: str | None, plugins: tuple[str, ...], output: str | None) -> None:
    """Installed providers; with TYPE its capabilities' fields and the schema of its config and overrides."""
    from kubeup_core.plugins import PluginError, discover

    installed = discover(plugins)
    if type_ is None:
        _all(installed, output)
        return
    try:
        chosen = installed.find(type_)
    except PluginError as error:
        raise CommandError(error.message, error.remedy, BAD_INPUT) from error
    _one(chosen, output)


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
