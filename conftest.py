"""Loads the fixtures that tests of all distributions share, from tests/artifacts under the import name `kubeup_artifacts`."""

import importlib.util
import sys
from pathlib import Path

_folder = Path(__file__).parent / "tests" / "artifacts"
_spec = importlib.util.spec_from_file_location(
    "kubeup_artifacts", _folder / "__init__.py", submodule_search_locations=[str(_folder)]
)
assert _spec is not None
assert _spec.loader is not None
if _spec.name not in sys.modules:
    sys.modules[_spec.name] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_spec.name])

pytest_plugins = ["kubeup_artifacts.fixtures"]
