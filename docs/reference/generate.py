"""Write docs/reference/kinds.md, kubeadm.md and cli.md from the code, or with --check say whether they lag behind it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from kubeup.main import COMMANDS, cli
from kubeup_core.kinds import KINDS, Kind
from kubeup_kubeadm import KubeadmConfig
from kubeup_kubeadm.versions import NEWEST, RELEASES

HERE = Path(__file__).parent


def kinds() -> str:
    parts = [
        "# Kinds, fields and defaults",
        "",
        "Written by `generate.py` from the models; `kubectl explain KIND --recursive` says the same. API group",
        "`kubeup.dev/v1alpha1`; the last four are served as Kubernetes has them.",
        "",
    ]
    ours = [k for k in KINDS if not k.builtin]
    for kind in [*ours, *(k for k in KINDS if k.builtin)]:
        parts += [f"## {kind.kind}", "", f"{kind.description}. {_names(kind)}", ""]
        if not kind.builtin:
            parts += ["| field | type | default | meaning |", "|---|---|---|---|"]
            schema = kind.model.model_json_schema(by_alias=True)
            for part in ("spec", "status"):
                parts += _rows(schema["properties"].get(part, {}), schema.get("$defs", {}), part, frozenset())
            parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def kubeadm() -> str:
    schema = KubeadmConfig.model_json_schema(by_alias=True)
    parts = [
        "# Settings of the bootstrapper kubeadm",
        "",
        "Written by `generate.py` from the model. `spec.kubernetes.config` of a Cluster; the how-to is",
        "[Kubernetes with kubeadm](../how-to/kubeadm.md).",
        "",
        "| field | type | default | meaning |",
        "|---|---|---|---|",
        *_rows({"$ref": "#/KubeadmConfig"}, {**schema["$defs"], "KubeadmConfig": schema}, "config", frozenset()),
        "",
        "## Versions",
        "",
        f"`kubeup init` writes {NEWEST}. An upgrade passes each minor version at the newest patch that is known here.",
        "",
        "| version | newest patch | kubeadm's API | kubelets may be older by | packages at the community's place |",
        "|---|---|---|---|---|",
    ]
    for known in RELEASES.values():
        packages = "yes" if known.packages else "no longer"
        parts.append(
            f"| v1.{known.minor} | v1.{known.minor}.{known.latest} | {known.api} | {known.kubelet_lag} minors | {packages} |"
        )
    return "\n".join(parts) + "\n"


def _names(kind: Kind) -> str:
    scope = "Namespaced" if kind.namespaced else "Cluster-scoped"
    short = f"; short `{'`, `'.join(kind.short_names)}`" if kind.short_names else ""
    fixed = f"; immutable: `{'`, `'.join(kind.immutable)}`" if kind.immutable else ""
    return f"{scope}, `{kind.plural}`{short}{fixed}."


def _rows(field: dict[str, Any], defs: dict[str, Any], path: str, seen: frozenset[str]) -> list[str]:
    ref = _ref(field)
    if ref is None or ref in seen:
        return []
    rows: list[str] = []
    schema = defs[ref]
    required = set(schema.get("required", ()))
    for name, inner in schema.get("properties", {}).items():
        default = "required" if name in required else _default(inner)
        rows.append(f"| `{path}.{name}` | {_type(inner, defs)} | {default} | {inner.get('description', '')} |")
        rows += _rows(inner, defs, f"{path}.{name}", seen | {ref})
        item = inner.get("items", {})
        rows += _rows(item, defs, f"{path}.{name}[]", seen | {ref})
    return rows


def _ref(field: dict[str, Any]) -> str | None:
    for part in (field, *field.get("allOf", ()), *field.get("anyOf", ())):
        if "$ref" in part:
            return str(part["$ref"]).rpartition("/")[2]
    return None


def _type(field: dict[str, Any], defs: dict[str, Any]) -> str:
    if "enum" in field:
        return " \\| ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if _ref(field):
        return "object"
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type(p, defs) for p in field["anyOf"] if p.get("type") != "null"))
    if field.get("type") == "array":
        return f"[{_type(field.get('items', {}), defs)}]"
    return str(field.get("type", "any"))


def _default(field: dict[str, Any]) -> str:
    value = field.get("default")
    if value is None:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def commands() -> str:
    from kubeup import errors

    parts = [
        "# Commands",
        "",
        "Written by `generate.py` from the commands' own help.",
        "",
        "```",
        _help(cli, "kubeup"),
        "```",
        "",
    ]
    context = click.Context(cli, info_name="kubeup")
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        parts += [f"## kubeup {name}", "", "```", _help(command, f"kubeup {name}"), "```", ""]
    codes = [line.strip() for line in (errors.__doc__ or "").splitlines() if line.strip()[:1].isdigit()]
    parts += ["## Exit codes", "", "| code | meaning |", "|---|---|"]
    parts += ["| {} | {} |".format(*line.split(None, 1)) for line in codes]
    return "\n".join(parts).rstrip() + "\n"


def _help(command: click.Command, name: str) -> str:
    with click.Context(command, info_name=name, max_content_width=110, terminal_width=110) as context:
        return command.get_help(context).rstrip()


def main() -> int:
    lagging = []
    for file, text in ((HERE / "kinds.md", kinds()), (HERE / "kubeadm.md", kubeadm()), (HERE / "cli.md", commands())):
        if "--check" not in sys.argv:
            file.write_text(text)
        elif not file.exists() or file.read_text() != text:
            lagging.append(file.name)
    if lagging:
        print(f"{', '.join(lagging)} lag behind the code: run python docs/reference/generate.py")
    return 1 if lagging else 0


if __name__ == "__main__":
    sys.exit(main())
