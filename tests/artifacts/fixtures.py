"""The pytest fixtures for what is outside of Python. The root conftest.py loads them for every test of the workspace.

A test that needs an engine asks for `docker_engine` and nothing else: it gets one, or is skipped with the reason. With CI=true
a missing part is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NoReturn

import pytest

from .build import CannotBuild, machine_image
from .engine import Engine, NoEngine, shared


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[Engine]:
    """A real Docker engine (.host, .env), the name of a loaded image for machines (.image), and what is in it (.ps())."""
    try:
        image = machine_image()
        context = shared(image, "kubeup-test/machine:" + image.stem.rpartition("-")[2])
        engine = context.__enter__()
    except (CannotBuild, NoEngine) as reason:
        unavailable(str(reason))
    try:
        yield engine
    finally:
        context.__exit__(None, None, None)


def unavailable(reason: str) -> NoReturn:
    """Skip, as somebody's machine need not have everything; fail where it must, as nobody reads the skips of CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI=true and a part is missing: {reason}", pytrace=False)
    pytest.skip(reason)
