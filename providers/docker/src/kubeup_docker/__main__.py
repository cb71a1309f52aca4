"""`python -m kubeup_docker image`: makes the image of machines on the spot, for engines with and without a registry.

A Debian with systemd, cloud-init and containerd, by mmdebstrap from the machine's own package sources (node_image.py), handed to the
engine under two names: one with the hash of what it is made of, and the one that the family debian-12 looks for.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from kubeup_core import SupplierError

from . import node_image
from .images import FAMILIES

Make = Callable[[Path, Callable[[str], None]], None]
NAME = FAMILIES["debian-12"][0]


def main(arguments: Sequence[str] | None = None, make: Make = node_image.make) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m kubeup_docker", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("image", help="make the image of machines (family debian-12) on the engine")
    command.add_argument("--host", help="URL of the engine (default: as the docker command finds it)")
    command.add_argument("--name", default=NAME, help="name of the image (default: %(default)s)")
    command.add_argument("--rebuild", action="store_true", help="also when it is there: for newer versions of its packages")
    options = parser.parse_args(arguments)
    problem = image(options.host, options.name, make, _Progress(), rebuild=options.rebuild)
    if problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    sys.stdout.write(f"{options.name} is on the engine\n")
    return 0


def image(
    host: str | None = None,
    name: str = NAME,
    make: Make = node_image.make,
    tell: Callable[[str], None] = lambda what: None,
    *,
    rebuild: bool = False,
) -> str:
    """Why the image is not on the engine, in words for people; "" when it is.

    make  writes the root file system to a path, and tells what it does
    """
    try:
        put_image(host, name, make, tell, rebuild=rebuild)
    except SupplierError as error:
        return f"{error.message}. {error.remedy}".rstrip(". ") + "."
    except FileNotFoundError:
        return (
            "mmdebstrap is not on this machine. On Debian: sudo apt-get install mmdebstrap. Elsewhere: make the image on a Debian "
            f"machine, with --host naming this engine, or with `docker save {NAME}` there and `docker load` here"
        )
    except subprocess.CalledProcessError as error:
        return f"{error.stderr or ''}mmdebstrap failed with exit code {error.returncode}; what it said last stands above"
    return ""


def put_image(host: str | None, name: str, make: Make, tell: Callable[[str], None], *, rebuild: bool = False) -> None:
    """Make the image, unless the one of this recipe is on the engine, and name it."""
    from .client import Engine

    engine = Engine(host, lambda bucket, cost: None)  # before the slow part, so that a wrong host shows at once
    try:
        exact = node_image.name()
        if rebuild or engine.image(exact) is None:
            with tempfile.TemporaryDirectory(prefix="kubeup-image-") as folder:
                tar = Path(folder, "root.tar")
                make(tar, tell)
                tell("handing it to the engine")
                engine.load(tar, exact, node_image.CHANGES)
        else:
            tell(f"{exact} is there already")
        engine.name_image(exact, name)
    finally:
        engine.close()


class _Progress:
    """Lines with the time so far, on stderr."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def __call__(self, what: str) -> None:
        sys.stderr.write(f"{time.monotonic() - self._begun:4.0f} s  {what}\n")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
