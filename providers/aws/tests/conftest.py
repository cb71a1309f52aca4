"""What the tests of this provider share: a skip when it is not installed, and an account of its own behind the strict layer."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

MISSING = [name for name in ("boto3", "kubeup_aws", "moto") if importlib.util.find_spec(name) is None]


class Skipped(pytest.Module):
    def collect(self) -> NoReturn:
        pytest.skip(f"not installed: {', '.join(MISSING)}", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return Skipped.from_parent(parent, path=module_path) if MISSING else None


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may find those of a person."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")


@pytest.fixture
def account() -> Iterator[object]:
    from kubeup_artifacts.strict_aws import StrictAws

    aws = StrictAws()
    yield aws
    aws.close()
