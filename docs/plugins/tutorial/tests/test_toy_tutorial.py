"""The tutorial's provider is small, is loaded as `--plugin` loads it, and passes when run the way the tutorial says."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from kubeup_core import Context
from kubeup_core.errors import Unknown
from kubeup_core.plugins import InvalidConfig, discover
from toy_cloud import ToyCloud

HERE = Path(__file__).parents[1]
TOY = HERE / "kubeup_toy.py"


def test_the_provider_is_at_most_150_lines():
    assert len(TOY.read_text().splitlines()) <= 150


def test_the_plugin_option_loads_it_and_it_reaches_the_cloud():
    cloud = ToyCloud("account-7")
    server = cloud.serve()
    try:
        plugins = discover([TOY], found=[])
        assert plugins.broken == ()
        config = plugins.config("toy", {"url": f"http://127.0.0.1:{server.server_address[1]}"})
        made = plugins.find("toy").make(config, Context(installation="i"))
        assert made.identity.key == "toy:account-7"
        assert plugins.implicit() == ("toy",)
    finally:
        server.shutdown()
        server.server_close()


def test_the_entry_point_of_its_pyproject_loads_it():
    assert 'toy = "kubeup_toy"' in (HERE / "pyproject.toml").read_text()
    plugins = discover(found=[EntryPoint("toy", "kubeup_toy", "kubeup")])
    assert set(plugins.providers) == {"toy"}


def test_a_token_in_the_config_is_refused():
    with pytest.raises(InvalidConfig) as error:
        discover([TOY], found=[]).config("toy", {"token": "hunter2"})
    assert "hunter2" not in str(error.value)
    assert "kubectl create secret" in str(error.value)


def test_a_cloud_that_does_not_answer_is_unknown_and_names_no_secret():
    found = discover([TOY], found=[])
    ref = {"namespace": "n", "name": "s", "key": "k"}
    config = found.config("toy", {"url": "http://127.0.0.1:9", "token": ref})
    with pytest.raises(Unknown) as error:
        found.find("toy").make(config, Context(installation="i", secrets={"n/s/k": "hunter2"}))
    assert "hunter2" not in str(error.value)


def test_an_authors_run_passes_and_says_what_is_not_offered():
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-p", "no:xdist", "tests/test_toy_contract.py"],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "not offered: a console (Capabilities.console)" in run.stdout
