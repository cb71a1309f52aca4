"""Options that several commands have, so that they mean the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

Option = Callable[[Callable[..., Any]], Callable[..., Any]]


def files_option(*, required: bool, help: str = "File, directory, - for stdin, or an https URL.") -> Option:
    return click.option("-f", "--filename", "files", multiple=True, required=required, metavar="FILE", help=help)


plugin_option = click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="Load a provider from a Python file.",
)
namespace_option = click.option("-n", "--namespace", default="default", show_default=True, help="For what names none.")
output_option = click.option("-o", "--output", "output", type=click.Choice(["json", "yaml"]), help="For programs.")


class Seconds(click.ParamType[float]):
    """`90s`, `15m`, `1h30m` -> seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        import re

        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?", str(value))
        if not value or found is None:
            self.fail(f"{value!r} is not a duration; write 90s, 15m or 1h30m", param, ctx)
        hours, minutes, seconds = (float(part or 0) for part in found.groups())
        return hours * 3600 + minutes * 60 + seconds


def timeout_option(help: str) -> Option:
    return click.option("--timeout", default="15m", show_default=True, type=Seconds(), metavar="DURATION", help=help)
