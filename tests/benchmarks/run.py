"""Prints figures: `run.py [start] [store] [machines] [clusters] [hosts] [aws]`. The last three take minutes and are made when named."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import aws
import bench
import clusters
import hosts

PARTS = {
    "start": bench.start,
    "store": bench.store,
    "machines": bench.machines,
    "clusters": clusters.clusters,
    "hosts": hosts.hosts,
    "aws": aws.aws,
}
USUAL = ("start", "store", "machines")


def main() -> None:
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}")
    for name in sys.argv[1:] or USUAL:
        print(f"\n{(PARTS[name].__doc__ or name).strip()}")
        for title, figure in PARTS[name]():
            print(f"  {title:<48} {figure}", flush=True)


if __name__ == "__main__":
    main()
