"""What the tests of this provider share: a skip when it is not installed, and machines on the real engine."""

import importlib.util
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn
from urllib.parse import quote

import pytest

MISSING = [name for name in ("docker", "kubeup_docker") if importlib.util.find_spec(name) is None]


class Skipped(pytest.Module):
    def collect(self) -> NoReturn:
        pytest.skip(f"not installed: {', '.join(MISSING)} (pip install -e providers/docker)", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """The modules beside this one import what may not be there."""
    return Skipped.from_parent(parent, path=module_path) if MISSING else None


@pytest.fixture
def place(docker_engine) -> Iterator[SimpleNamespace]:
    """An installation of its own on the real engine, taken away afterwards.

    .suppliers .machines .networks .volumes; .rebuild() as after a restart; .launch(count, ...) a launch that was not submitted
    """
    yield from _place(docker_engine)


@pytest.fixture(scope="module")
def shared_place(docker_engine) -> Iterator[SimpleNamespace]:
    """As `place`, for all tests of a module: machines that take a while to boot are looked at from several sides."""
    yield from _place(docker_engine)


def _place(docker_engine) -> Iterator[SimpleNamespace]:
    from kubeup_core import Context, Launch, Mark, Member, NetworkSpec, Template
    from kubeup_docker import DockerConfig, build

    installation = uuid.uuid4().hex[:12]
    built = []

    def rebuild(**config: object):
        context = Context(installation=installation, images={"debian-12": docker_engine.image})
        built.append(build(DockerConfig(host=docker_engine.host, **config), context))
        place.suppliers, place.machines, place.networks = built[-1], built[-1].machines, built[-1].networks
        place.volumes = built[-1].volumes
        return built[-1]

    def mark(kind: str, maker: str = "") -> Mark:
        maker = maker or str(uuid.uuid4())
        return Mark(installation=installation, cluster="c1", cluster_name="demo", kind=kind, maker=maker)

    def template(cpu: float = 1, memory: int = 2**27, arch: str = "", **overrides: object) -> Template:
        return Template(cpu=cpu, memory=memory, disk=2**30, arch=arch, image="debian-12", overrides=overrides)

    def network(**given: object) -> NetworkSpec:
        return NetworkSpec(**{"mark": mark("Network"), "name": "demo", **given})

    def launch(
        count: int = 1, name: str = "box", network: dict[str, str] | None = None, want: Template | None = None, image: str = "",
        user_data: bytes = b"", volumes: tuple[str, ...] = (),
    ):  # fmt: skip
        from dataclasses import replace

        want = want or template()
        offer = replace(place.machines.offers(template())[0], **({"image": image} if image else {}))
        return Launch(
            mark=mark("Machine"), token="t", template=want, offer=offer, role="plain", network=network or {"network": place.network},
            members=tuple(Member(name=f"{name}-{i}", volumes=volumes) for i in range(count)), user_data=user_data,
        )  # fmt: skip

    def ps() -> list[dict]:
        return docker_engine.ps(installation=installation)

    place = SimpleNamespace(
        engine=docker_engine, installation=installation, rebuild=rebuild, mark=mark, template=template, launch=launch, ps=ps,
        network_spec=network, network="none",
    )  # fmt: skip
    rebuild()
    yield place
    for container in ps():
        docker_engine.remove(container["Id"])
    for bridge in docker_engine.networks(installation=installation):
        docker_engine.call("DELETE", f"/networks/{bridge['Id']}", fine=(204, 404))
    for volume in volumes_of(docker_engine, installation):
        docker_engine.call("DELETE", f"/volumes/{volume}", fine=(204, 404))
    for suppliers in built:
        suppliers.close()


def volumes_of(engine, installation: str) -> list[str]:
    """Names of all volumes with this installation's label."""
    wanted = quote(json.dumps({"label": [f"kubeup.dev/installation={installation}"]}))
    return [volume["Name"] for volume in engine.call("GET", f"/volumes?filters={wanted}")["Volumes"] or ()]


@pytest.fixture(scope="session")
def pretender(docker_engine) -> str:
    """The small image of plain machines, saying that it runs user-data: for tests that look at everything but that."""
    from kubeup_artifacts.build import machine_image

    name = docker_engine.image.replace("/machine:", "/pretender:")
    if not docker_engine.call("GET", f"/images/{name}/json", fine=(200, 404)).get("Id"):
        repository, tag = name.rsplit(":", 1)
        label = quote("LABEL dev.kubeup.user-data=nothing")
        with machine_image().open("rb") as file:
            docker_engine.call("POST", f"/images/create?fromSrc=-&repo={quote(repository)}&tag={tag}&changes={label}", file)
    return name


@pytest.fixture
def settled() -> Callable[..., None]:
    """Wait for something that the engine does by itself, a short while at most."""
    import time

    def wait(look: Callable[[], object]) -> None:
        until = time.monotonic() + 60
        while not look():
            assert time.monotonic() < until, "the engine did not come there"
            time.sleep(0.02)

    return wait
