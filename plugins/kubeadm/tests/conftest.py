"""What the tests of this plugin share: plans to render, and a skip when it is not installed."""

import importlib.util
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
