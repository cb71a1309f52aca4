"""The image of machines with systemd, which the docker provider's own recipe makes: made once per recipe, kept in the cache of
artifacts, and put onto the engine that asks. For tests (`fixtures.py`) and for the benchmark of clusters."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from .build import CannotBuild, artifact, machine_image
from .engine import Engine, shared
from .system import advice, find


def node_image(engine: Engine) -> str:
    """Its name on the engine. Raises CannotBuild."""
    from kubeup_docker import __main__ as command
    from kubeup_docker import node_image as recipe

    name = recipe.name()
    if not engine.call("GET", f"/images/{name}/json", fine=(200, 404)).get("Id"):
        if find("mmdebstrap") is None:
            raise CannotBuild(advice(["mmdebstrap"]))
        root = artifact("node", {"tag": recipe.tag()}, lambda path: recipe.make(path, print))
        command.put_image(engine.host, name, lambda path, tell: shutil.copyfile(root, path), print)
    return name


@contextmanager
def node_engine() -> Iterator[Engine]:
    """An engine that has the image of machines as its `.image`: the one that answers, or one of our own for as long as this lasts.

    Raises CannotBuild, NoEngine.
    """
    plain = machine_image()
    with shared(plain, "kubeup-test/machine:" + plain.stem.rpartition("-")[2]) as engine:
        yield replace(engine, image=node_image(engine))
