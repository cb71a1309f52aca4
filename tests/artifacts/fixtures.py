"""The pytest fixtures for what is outside of Python. The root conftest.py loads them for every test of the workspace.

A test that needs an engine asks for `docker_engine` and nothing else: it gets one, or is skipped with the reason. With CI=true
a missing part is a failure. The Kubernetes fixtures build on first use, which takes minutes and says so on the terminal.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest

from . import node
from .build import CannotBuild, machine_image
from .bundle_inputs import bundle_inputs
from .engine import Engine, NoEngine, shared
from .images import images
from .kubernetes import VERSIONS, binaries
from .registry import registry
from .repository import kubernetes_packages, repository
from .web import Served
from .workload_api import WorkloadApi, workload_api

T = TypeVar("T")


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


@pytest.fixture(scope="session")
def node_image(docker_engine: Engine, request: pytest.FixtureRequest) -> str:
    """The image of machines with systemd: its name on the engine."""
    return built(request, lambda: node.node_image(docker_engine))


@pytest.fixture
def docker_node(docker_engine: Engine, node_image: str) -> Engine:
    """The engine, with the image of machines with systemd as its `.image`."""
    return replace(docker_engine, image=node_image)


@pytest.fixture(scope="session")
def kubernetes_binaries(request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """version ("v1.20.2" or "v1.20.3") -> the folder with kubeadm, kubelet, kubectl and the servers."""
    return lambda version: built(request, lambda: binaries(version))


@pytest.fixture(scope="session", name="workload_api")
def workload_api_fixture(request: pytest.FixtureRequest) -> Iterator[WorkloadApi]:
    """A real API of Kubernetes v1.20.2 with some of its controllers, and no machine: `.kubeconfig`."""
    built(request, lambda: binaries(VERSIONS[0]))
    context = workload_api(VERSIONS[0])
    try:
        api = context.__enter__()
    except CannotBuild as reason:
        unavailable(str(reason))
    try:
        yield api
    finally:
        context.__exit__(None, None, None)


@pytest.fixture(scope="session")
def kubernetes_bundle_inputs(request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """version ("v1.20.2" or "v1.20.3") -> the folder for `kubeup bundle create --from`."""
    return lambda version: built(request, lambda: bundle_inputs(version))


@pytest.fixture(scope="session")
def kubernetes_repository(request: pytest.FixtureRequest) -> Iterator[Served]:
    """A server with the signed Debian repository of all versions, laid out as pkgs.k8s.io, on every address of this machine:
    `.url(address)` for those who reach it as `address`."""
    with repository(built(request, kubernetes_packages)) as served:
        yield served


@pytest.fixture(scope="session")
def kubernetes_registry(request: pytest.FixtureRequest) -> Iterator[Served]:
    """A container registry over HTTP with the images of all versions, on every address of this machine: `.at(address)`."""
    tars = built(request, lambda: {name: tar for version in VERSIONS for name, tar in images(version).items()})
    with registry(tars) as served:
        yield served


def built(request: pytest.FixtureRequest, make: Callable[[], T]) -> T:
    """What `make` makes, with its progress shown in spite of pytest's capturing; or the test skips with the reason."""
    capture: Any = request.config.pluginmanager.getplugin("capturemanager")
    try:
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            return make()
    except CannotBuild as reason:
        unavailable(str(reason))


def unavailable(reason: str) -> NoReturn:
    """Skip, as somebody's machine need not have everything; fail where it must, as nobody reads the skips of CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI=true and a part is missing: {reason}", pytrace=False)
    pytest.skip(reason)
