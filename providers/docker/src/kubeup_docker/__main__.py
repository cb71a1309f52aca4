"""`python -m kubeup_docker image`: makes the image of debian-12 on the spot, for engines without a registry.

A minimal Debian by mmdebstrap from the machine's own package sources, handed to the engine as an image. Takes half a minute.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from kubeup_core import SupplierError

from .images import FAMILIES

SUITE = "bookworm"
PACKAGES = ("ca-certificates", "iproute2", "procps")
LEFT_OUT = ("doc", "info", "locale", "man")


def main(arguments: Sequence[str] | None = None, make: Callable[[Path], None] | None = None) -> int:
    """The exit code. `make` writes the root file system to a path; by default mmdebstrap does."""
    parser = argparse.ArgumentParser(prog="python -m kubeup_docker", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    image = commands.add_parser("image", help="make the image of debian-12 on the engine")
    image.add_argument("--host", help="URL of the engine (default: as the docker command finds it)")
    image.add_argument("--name", default=FAMILIES["debian-12"][0], help="name of the image (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        put_image(options.host, options.name, make or debian)
    except SupplierError as error:
        return _complain(f"{error.message}. {error.remedy}".rstrip(". ") + ".")
    except FileNotFoundError:
        return _complain("mmdebstrap is not on this machine. On Debian: sudo apt-get install mmdebstrap")
    except subprocess.CalledProcessError as error:
        return _complain(f"mmdebstrap failed with exit code {error.returncode}; what it said stands above")
    sys.stdout.write(f"{options.name} is on the engine\n")
    return 0


def put_image(host: str | None, name: str, make: Callable[[Path], None]) -> None:
    """Make a root file system and hand it to the engine under a name."""
    from .client import Engine

    engine = Engine(host, lambda bucket, cost: None)  # before the slow part, so that a wrong host shows at once
    try:
        with tempfile.TemporaryDirectory(prefix="kubeup-image-") as folder:
            tar = Path(folder, "root.tar")
            make(tar)
            engine.load(tar, name)
    finally:
        engine.close()


def debian(tar: Path) -> None:
    """A minimal Debian without documentation. Each machine gets its own machine-id: none is baked in."""
    command = shutil.which("mmdebstrap")
    if command is None:
        raise FileNotFoundError("mmdebstrap")
    clean = 'rm -f "$1/etc/machine-id" "$1/etc/hostname" "$1/etc/resolv.conf"'
    excludes = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in LEFT_OUT]
    included = f"--include={','.join(PACKAGES)}"
    options = ["--quiet", "--variant=essential", "--format=tar", included, f"--customize-hook={clean}", *excludes]
    subprocess.run([command, *options, SUITE, str(tar)], check=True)


def _complain(message: str) -> int:
    sys.stderr.write(f"{message}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
