"""What the tests of this plugin share: plans to render, and a skip when it is not installed."""

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

MISSING = [name for name in ("kubeup_kubeadm",) if importlib.util.find_spec(name) is None]


class Skipped(pytest.Module):
    def collect(self) -> NoReturn:
        pytest.skip(f"not installed: {', '.join(MISSING)} (pip install -e plugins/kubeadm)", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """The modules beside this one import what may not be there."""
    return Skipped.from_parent(parent, path=module_path) if MISSING else None


CA = """-----BEGIN CERTIFICATE-----
MIIBgDCCASegAwIBAgIUFllBmH1Zk8AFr7jryORVKYH9K7owCgYIKoZIzj0EAwIw
FTETMBEGA1UEAwwKa3ViZXJuZXRlczAgFw0yNjExMjMwMjE3MzdaGA8yMTI2MTAz
MDAyMTczN1owFTETMBEGA1UEAwwKa3ViZXJuZXRlczBZMBMGByqGSM49AgEGCCqG
SM49AwEHA0IABHtiNEdy5ZOXEBuEf6+yLK4vqiidSVGkWzuwCsiUy6TbeRYIOnTs
mgbdj7PY3/AL8zzfU6xs5PIwZa1EGBCl/jajUzBRMB0GA1UdDgQWBBTpPFc7lEGL
zMBqHtrzi15RbitvAzAfBgNVHSMEGDAWgBTpPFc7lEGLzMBqHtrzi15RbitvAzAP
BgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0cAMEQCIFfgxb82vLbyUWENl85z
c/rhnuGOxlweyX3xWmTOAPTJAiARcHnJfyS0gIP0Cd8DfidQfPpZkU/DSNllVmHg
u3L6Zw==
-----END CERTIFICATE-----
"""


@pytest.fixture
def plan() -> Callable[..., object]:
    """A ClusterPlan that is complete; fields may be given."""
    from kubeup_core.bootstrapper import ClusterPlan

    def make(version: str = "v1.36.4", **given: object) -> ClusterPlan:
        whole = {"name": "demo", "host": "10.0.0.10", "ca": CA, **given}
        return ClusterPlan(version=version, **whole)

    return make


@pytest.fixture
def node() -> Callable[..., object]:
    """A NodePlan: a worker unless told otherwise."""
    from kubeup_core.bootstrapper import NodePlan

    def make(role: str = "worker", **given: object) -> NodePlan:
        return NodePlan(**{"name": "demo-1", "role": role, "address": "10.0.0.11", **given})

    return make


@pytest.fixture
def secrets() -> object:
    from kubeup_core.bootstrapper import Secrets

    pki = {name: f"-----BEGIN PRIVATE KEY-----\n{name}\n" for name in ("ca.key", "etcd/ca.key", "front-proxy-ca.key", "sa.key")}
    return Secrets(pki={**pki, "ca.crt": CA}, token="abcdef.0123456789abcdef")


@pytest.fixture(scope="session")
def node_image(docker_engine) -> str:
    """The docker provider's image of machines, made once per recipe and kept in the cache of artifacts: its name on the engine."""
    pytest.importorskip("kubeup_docker")
    from kubeup_artifacts.build import artifact
    from kubeup_artifacts.system import find
    from kubeup_docker import __main__ as command
    from kubeup_docker import node_image as recipe

    name = recipe.name()
    if not docker_engine.call("GET", f"/images/{name}/json", fine=(200, 404)).get("Id"):
        if find("mmdebstrap") is None:
            pytest.skip("mmdebstrap is not installed (apt-get install mmdebstrap)")
        root = artifact("node", {"tag": recipe.tag()}, lambda path: recipe.make(path, print))
        command.put_image(docker_engine.host, name, lambda path, tell: shutil.copyfile(root, path), print)
    return name
