"""Loads the fixtures that tests of all distributions share, from tests/artifacts under the import name `kubeup_artifacts`,
and the places of tests/emulators under `kubeup_emulators`."""

import importlib.util
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest


def _load(name: str, folder: Path) -> None:
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
    assert spec is not None
    assert spec.loader is not None
    if name not in sys.modules:
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])


_load("kubeup_artifacts", Path(__file__).parent / "tests" / "artifacts")
_load("kubeup_emulators", Path(__file__).parent / "tests" / "emulators")

pytest_plugins = ["kubeup_artifacts.fixtures"]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: Any, call: Any) -> Generator[None, Any, None]:
    """With CI=true a missing part is a failure, whoever skipped for it: nobody reads the skips there. What a provider does not
    offer stays a skip."""
    report = (yield).get_result()
    if os.environ.get("CI") == "true" and report.skipped and "not offered" not in str(report.longrepr):
        report.outcome, report.longrepr = "failed", f"CI=true and a part is missing: {report.longrepr}"
