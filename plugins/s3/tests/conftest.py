"""A skip when this plugin is not installed, and a store: the real boto3 against moto's server on loopback."""

import importlib.util
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

MISSING = [name for name in ("boto3", "kubeup_s3", "moto") if importlib.util.find_spec(name) is None]
SECRETS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


class Skipped(pytest.Module):
    def collect(self) -> NoReturn:
        pytest.skip(f"not installed: {', '.join(MISSING)}", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return Skipped.from_parent(parent, path=module_path) if MISSING else None


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str) -> str:
    """A new bucket's name."""
    import boto3

    name = f"b{uuid.uuid4().hex}"
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret"
    )
    client.create_bucket(Bucket=name)
    client.close()
    return name


@pytest.fixture
def secrets() -> dict[str, str]:
    return dict(SECRETS)
