"""The entry point: `kubeup COMMAND`. Knows the commands by name and imports one only when it is called.

A plugin adds a command through the entry-point group `kubeup.commands`, whose name is the command. Starting imports no FastAPI,
no SDK and no HTTP client (a test holds that), so that help and completion are instant.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from typing import TYPE_CHECKING

import click

from .errors import FAILED, INTERRUPTED, CommandError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

COMMANDS = {
    "up": "Bring what files declare to Ready, and leave a server that keeps it so",
    "down": "Take it all away again, and prove that nothing is left",
    "status": "One screen: the server, the clusters, what needs you",
    "why": "Walk from an object to the reason why it is not Ready",
    "get": "List or show objects",
    "apply": "Declare what files say, and return",
    "delete": "Mark objects for deletion",
    "init": "Write a commented cluster.yaml for a provider",
    "providers": "Installed providers: what they can do, how they are configured",
    "steps": "What kubeup runs on a cluster's machines: a runbook, or a script for one",
    "certificates": "Certificates of a cluster's control planes: whose they are, and when they end",
    "etcd": "Snapshots of a cluster's etcd: take one now, list them, go back to one",
    "leaks": "What lies at the providers under our mark and belongs to no object",
    "kubeconfig": "Where the kubeconfig is; merge it into yours",
    "serve": "Run the server in the foreground",
    "stop": "Stop the background server; machines stay as they are, unattended",
    "restart": "Stop the background server and start it again",
    "logs": "What the background server wrote",
    "backup": "Write a verified copy of the state",
    "completion": "Print the completion script of your shell",
    "version": "Versions of the command, the server and the plugins",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *sorted(set(_added()) - set(COMMANDS))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            module = importlib.import_module(f".commands.{cmd_name}", __package__)
            command: click.Command = module.command
            return command
        added = _added().get(cmd_name)
        if added is None:
            return None
        found: click.Command = added.load()
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS.get(name, "(from a plugin)")) for name in self.list_commands(ctx)])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], self.list_commands(ctx), 1) if args else []
            if near:
                raise click.UsageError(f"{error.message} Did you mean {near[0]!r}?", ctx) from None
            raise


def _added() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group="kubeup.commands")}


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--state", metavar="DIR", envvar="KUBEUP_STATE", help="State directory (XDG data home/kubeup).")
@click.option(
    "--context", metavar="NAME", default="", help="A context of your kubeconfig instead: a remote server. Starts none here."
)
@click.option("-v", "--verbose", is_flag=True, help="Say more; tracebacks for errors.")
@click.pass_context
def cli(ctx: click.Context, state: str | None, context: str, verbose: bool) -> None:
    """kubectl for infrastructure: declare machines, networks, load balancers and volumes; kubeup drives any provider there.

    \b
    kubeup init sim > cluster.yaml     a first file
    kubeup up -f cluster.yaml          from nothing to Ready
    kubeup down -f cluster.yaml        and back to nothing
    """
    from .state import locate

    ctx.obj = locate(state, context)
    ctx.meta["kubeup.verbose"] = verbose


def main(args: list[str] | None = None) -> None:
    """Run, and turn every error into one line, a remedy and an exit code."""
    verbose = "-v" in (sys.argv[1:] if args is None else args) or "--verbose" in (sys.argv[1:] if args is None else args)
    try:
        code = cli.main(args=args, prog_name="kubeup", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except CommandError as error:
        if verbose:
            traceback.print_exc()
        _say(error.message, error.remedy)
        sys.exit(error.code)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "kubeup"
        _say(error.format_message().rstrip("."), f"{path} --help")
        sys.exit(error.exit_code)
    except click.ClickException as error:
        _say(error.format_message(), "")
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; what was applied stays, `kubeup status` shows it", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        if verbose:
            traceback.print_exc()
        _say(f"{type(error).__name__}: {error}", "run it again with -v for the traceback; this should not happen")
        sys.exit(FAILED)


def _say(message: str, remedy: str) -> None:
    click.echo(f"{click.style('error:', fg='red')} {message}", err=True)
    if remedy:
        click.echo(f"  → {remedy}", err=True)
