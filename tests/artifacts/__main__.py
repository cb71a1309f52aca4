"""Makes artifacts by hand, outside of pytest, and prints where they are: what a person or a make target uses.

python tests/artifacts machine|binaries|images|bundle|repository [VERSION]
python tests/artifacts serve [VERSION]      a registry and the repository, until interrupted
python tests/artifacts local|local-down     a Kubernetes cluster on this machine's Docker engine, and away again
"""

from __future__ import annotations

import importlib.util
import signal
import sys
from contextlib import suppress
from pathlib import Path

PACKAGE = "kubeup_artifacts"


def main(arguments: list[str]) -> int:
    from kubeup_artifacts import build, bundle_inputs, images, kubernetes, local, registry, repository

    what, version = (*arguments, kubernetes.VERSIONS[0])[:2]
    makers = {
        "machine": lambda: [build.machine_image()],
        "binaries": lambda: [kubernetes.binaries(version)],
        "images": lambda: [f"{name} {tar}" for name, tar in images.images(version).items()],
        "bundle": lambda: [bundle_inputs.bundle_inputs(version)],
        "repository": lambda: [repository.kubernetes_packages()],
    }
    try:
        if what == "serve":
            tars, packages = images.images(version), repository.kubernetes_packages()
            with registry.registry(tars) as one, repository.repository(packages) as other, suppress(KeyboardInterrupt):
                print(
                    f"registry of {version}: {one.url()}\nrepository: {other.url()}/{repository.folder(version)}/", flush=True
                )
                signal.pause()
            return 0
        if what in ("local", "local-down"):
            return local.up() if what == "local" else local.down()
        if what not in makers:
            print(__doc__, file=sys.stderr)
            return 2
        for line in makers[what]():
            print(line)
    except build.CannotBuild as reason:
        print(reason, file=sys.stderr)
        return 1
    return 0


def load() -> None:
    """Make this folder importable under its name, as the root conftest.py does under pytest."""
    folder = Path(__file__).resolve().parent
    spec = importlib.util.spec_from_file_location(PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)])
    assert spec is not None
    assert spec.loader is not None
    sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[PACKAGE])


if __name__ == "__main__":
    load()
    sys.exit(main(sys.argv[1:] or ["help"]))
