# ruff: noqa: T201  (this is a command: its output goes to a person)
"""`python -m kubeup_sim`: what happens to a simulated account behind kubeup's back, by hand.

python -m kubeup_sim ls                                      everything that exists there
python -m kubeup_sim kill NAME                               delete a machine out of band
python -m kubeup_sim fault lostReply --operation launch      plant a fault
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pydantic import ValidationError

from .cloud import FAULTS, Cloud, open_cloud

ON_A_MACHINE = {
    "kill": "delete it: it stops, and is gone after a while",
    "lose": "it vanishes at once",
    "stop": "it stops and stays",
    "start": "a stopped one runs again",
    "crash": "it reboots by itself",
    "unplug": "it runs, and nothing reaches it",
    "plug": "it can be reached again",
    "sicken": "what it serves does not answer",
    "cure": "what it serves answers again",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 no such thing, 2 wrong usage."""
    where = argparse.Namespace(file=None, account="default", region="sim-1")
    options = _parser().parse_args(arguments, where)
    cloud = open_cloud(options.file, options.account, options.region)
    try:
        options.run(cloud, options)
    except (LookupError, ValidationError, RuntimeError) as error:
        print(f"error: {_plain(error)}", file=sys.stderr)
        return 1
    finally:
        cloud.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    where = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    where.add_argument("--file", help="the account's file; absent: $KUBEUP_SIM_FILE, or the one in the data home")
    where.add_argument("--account", help="absent: default")
    where.add_argument("--region", help="absent: sim-1")
    text = "A simulated account, behind kubeup's back"
    parser = argparse.ArgumentParser(prog="python -m kubeup_sim", description=text, parents=[where])
    commands = _Commands(parser.add_subparsers(required=True, metavar="COMMAND"), where)
    ls = commands.add_parser("ls", help="everything that exists")
    ls.add_argument("-o", "--output", choices=("table", "json"), default="table")
    ls.set_defaults(run=_ls)
    for verb, text in ON_A_MACHINE.items():
        command = commands.add_parser(verb, help=f"a machine: {text}")
        command.add_argument("name", help="id, host name or full name")
        command.set_defaults(run=lambda cloud, options, verb=verb: getattr(cloud.console, verb)(options.name))
    notice = commands.add_parser("notice", help="a machine is taken away after so many seconds, and says so")
    notice.add_argument("name")
    notice.add_argument("seconds", type=float)
    notice.set_defaults(run=lambda cloud, options: cloud.console.notice(options.name, options.seconds))
    retag = commands.add_parser("retag", help="change tags of a machine: KEY=VALUE, or KEY= to remove one")
    retag.add_argument("name")
    retag.add_argument("tags", nargs="+", metavar="KEY=VALUE")
    retag.set_defaults(run=lambda cloud, options: cloud.console.retag(options.name, _tags(options.tags)))
    add = commands.add_parser("add", help="a machine that kubeup did not make, with any tags")
    add.add_argument("name")
    add.add_argument("tags", nargs="*", metavar="KEY=VALUE")
    add.set_defaults(run=lambda cloud, options: print(cloud.console.add(options.name, _given(options.tags))))
    for verb, text in (("cut", "a zone, a host or '*' answers no more"), ("restore", "it answers again")):
        place = commands.add_parser(verb, help=text)
        place.add_argument("place")
        place.set_defaults(run=lambda cloud, options, verb=verb: getattr(cloud.console, verb)(options.place))
    release = commands.add_parser("release", help="a volume that hangs attaching or detaching is done")
    release.add_argument("id")
    release.set_defaults(run=lambda cloud, options: cloud.console.release_volume(options.id))
    _fault_commands(commands)
    return parser


class _Commands:
    """Subcommands that take the options of the whole command, too: they may stand before or after it."""

    def __init__(self, commands: Any, where: argparse.ArgumentParser) -> None:
        self._commands, self._where = commands, where

    def add_parser(self, name: str, **options: Any) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = self._commands.add_parser(name, parents=[self._where], **options)
        return parser


def _fault_commands(commands: _Commands) -> None:
    text = "\n".join(f"  {name:13} {kind.text}" for name, kind in FAULTS.items())
    fault = commands.add_parser(
        "fault", help="plant a fault", epilog=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    fault.add_argument("name")
    fault.add_argument("--operation", default="", help="glob of requests: launch, list, delete, create, attach ...")
    fault.add_argument("--kind", default="*", help="glob: Machine, Disk, Network, LoadBalancer, Volume")
    fault.add_argument("--place", default="*", help="glob of zones or hosts")
    fault.add_argument("--machine-type", default="*")
    fault.add_argument("--times", type=int, default=1, help="how often; 0: always")
    fault.add_argument("--probability", type=float, default=1.0)
    fault.add_argument("--seconds", type=float)
    fault.add_argument("--when", choices=("before", "after"), default="after")
    fault.set_defaults(run=_fault)
    commands.add_parser("faults", help="what is planted, and how often it struck").set_defaults(run=_faults)
    commands.add_parser("clear", help="no fault strikes any more").set_defaults(run=lambda cloud, _: cloud.faults.clear())


def _ls(cloud: Cloud, options: argparse.Namespace) -> None:
    lines = cloud.console.everything()
    if options.output == "json":
        print(json.dumps([asdict(line) for line in lines], indent=2))
        return
    rows = [("KIND", "ID", "NAME", "PHASE", "PLACE", "INSTALLATION", "CLUSTER")]
    for line in lines:
        cluster = line.tags.get("kubeup/cluster-name", "")
        rows.append((line.kind, line.id, line.name, line.phase, line.place, line.installation, cluster))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _fault(cloud: Cloud, options: argparse.Namespace) -> None:
    id = cloud.faults.add(
        options.name,
        operation=options.operation,
        kind=options.kind,
        place=options.place,
        machine_type=options.machine_type,
        times=options.times or None,
        probability=options.probability,
        seconds=options.seconds,
        when=options.when,
    )
    print(f"{id} planted; it strikes kubeup's next requests")


def _faults(cloud: Cloud, _: argparse.Namespace) -> None:
    for record in cloud.faults.all():
        left = "always" if record.times is None else f"{record.times - record.taken} left"
        print(
            f"{record.id}  {record.name} on {record.kind}.{record.operation} in {record.place}: struck {record.taken}, {left}"
        )


def _tags(words: Sequence[str]) -> dict[str, str | None]:
    tags: dict[str, str | None] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise LookupError(f"{word!r} is no tag: write KEY=VALUE, or KEY= to remove it")
        tags[key] = value or None
    return tags


def _given(words: Sequence[str]) -> dict[str, str]:
    return {key: value for key, value in _tags(words).items() if value is not None}


def _plain(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
    return str(error.args[0]) if error.args else str(error)


if __name__ == "__main__":
    sys.exit(main())
