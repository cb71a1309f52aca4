"""What docs/plugins says is what the code is: signatures, errors, the rig's hooks, and code quoted from the tutorial."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest
from kubeup_core import errors, hookspecs
from kubeup_core.supplier import CONTRACT
from kubeup_core.testing import Rig

DOCS = Path(__file__).parents[2] / "docs" / "plugins"
HOOKS = [name for name in dir(hookspecs) if name.startswith("kubeup_")]
ERRORS = [name for name in errors.__all__ if name not in ("Place", "SupplierError")]


def page(name: str) -> str:
    return (DOCS / name).read_text()


def signature(function: object, name: str) -> str:
    return f"def {name}{inspect.signature(function)}:".replace("'", "")


@pytest.mark.parametrize("hook", HOOKS)
def test_each_hook_is_documented_with_its_exact_signature(hook):
    assert signature(getattr(hookspecs, hook), hook) in page("hooks.md")


def test_the_registering_call_is_documented_with_its_exact_signature():
    assert signature(hookspecs.ProviderRegister.provider, "provider") in page("hooks.md")


def test_the_registering_call_of_executors_is_documented_with_its_exact_signature():
    assert signature(hookspecs.ExecutorRegister.executor, "executor") in page("hooks.md")


def test_the_registering_call_of_bootstrappers_is_documented_with_its_exact_signature():
    assert signature(hookspecs.BootstrapperRegister.bootstrapper, "bootstrapper") in page("hooks.md")


def test_the_registering_call_of_snapshot_stores_is_documented_with_its_exact_signature():
    assert signature(hookspecs.SnapshotStoreRegister.snapshot_store, "snapshot_store") in page("hooks.md")


def test_the_contract_version_is_the_current_one():
    assert f"KUBEUP_CONTRACT = {CONTRACT}\n" in page("hooks.md")


def test_each_error_is_in_the_table_and_no_other():
    table = page("index.md").split("## The errors")[1]
    assert re.findall(r"^\| `(\w+)` \|", table, re.M) == [name for name in _in_order() if name in ERRORS]


def test_each_field_and_hook_of_the_rig_is_in_the_tables_and_no_other():
    assert re.findall(r"^\| `(\w+)` \|", page("testing.md"), re.M) == [field.name for field in fields(Rig)]


def test_code_that_is_quoted_from_the_tutorial_is_in_it():
    toy = (DOCS / "tutorial" / "kubeup_toy.py").read_text()
    quoted = [block for block in re.findall(r"```python\n(.*?)```", page("index.md"), re.S) if "oy" in block]
    assert len(quoted) >= 3
    for block in quoted:
        assert block in toy


def test_links_lead_to_files():
    for name in ("index.md", "hooks.md", "testing.md"):
        for link in re.findall(r"\]\(([^)#]+)", page(name)):
            assert (DOCS / link).exists(), f"{name}: {link}"


def _in_order() -> list[str]:
    """The errors as their tree at the top of errors.py has them."""
    return re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
