"""Bootstrappers introduce themselves through the same door as providers: what is found, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from kubeup_core.plugins import BadBuild, InvalidConfig, NotInstalled, Plugins, SwitchedOff, discover

GOOD = """
    from pydantic import BaseModel, ConfigDict
    from kubeup_core import hookimpl

    class Config(BaseModel):
        model_config = ConfigDict(extra="forbid")
        pause: str = "pause:3.2"

    class Toy:
        def check(self, cluster): return []
        def newest(self): return "v1.0.0"
        def hops(self, have, want): return () if have == want else (want,)
        def steps(self, task, cluster, node, secrets=None): return []
        def addons(self, cluster): return []
        def etcd_list(self): return "true"
        def etcd_members(self, output): return []
        def etcd_remove(self, member): return "true"

    @hookimpl
    def kubeup_register_bootstrappers(register):
        register.bootstrapper(name="toy", config=Config, build=Toy)
"""


@pytest.fixture
def found(tmp_path: Path):
    """found(source, ...): what discover finds in plugin files with these sources."""

    def discovered(*sources: str) -> Plugins:
        files = []
        for number, source in enumerate(sources):
            files.append(tmp_path / f"plugin{number}.py")
            files[-1].write_text(dedent(source))
        return discover(files, found=[])

    return discovered


def test_a_bootstrapper_is_found_and_built_once(found):
    plugins = found(GOOD)
    assert plugins.broken == ()
    toy = plugins.bootstrapper("toy")
    assert toy.made is toy.made
    assert toy.made.newest() == "v1.0.0"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (GOOD.replace('name="toy"', 'name="To y"'), "not a DNS label"),
        (GOOD.replace('"forbid"', '"allow"'), "config: Config accepts unknown fields"),
        (GOOD.replace(' = "pause:3.2"', ""), "has no default"),
        (GOOD.replace("build=Toy", "build=None"), "build is not callable"),
        (GOOD + "        register.bootstrapper(name='toy', config=Config, build=Toy)\n", "registers bootstrapper toy twice"),
    ],
)
def test_a_bootstrapper_that_cannot_be_used_is_off_with_a_reason(found, source, reason):
    plugins = found(source)
    assert plugins.bootstrappers == {}
    assert reason in plugins.broken[0].reason


def test_a_bootstrapper_that_two_packages_register_stays_with_the_first(found):
    plugins = found(GOOD, GOOD)
    assert plugins.bootstrapper("toy").distribution.endswith("plugin0.py")
    assert "registers toy, which" in plugins.broken[0].reason


def test_a_bootstrapper_that_lacks_a_method_says_whose_fault_it_is(found):
    toy = found(GOOD.replace("def etcd_list", "def etcd_lst")).bootstrapper("toy")
    with pytest.raises(BadBuild, match=r"it lacks etcd_list.*tell its author"):
        _ = toy.made


def test_a_bootstrapper_that_is_not_installed_gives_the_install_line(found):
    with pytest.raises(
        NotInstalled, match=r"no bootstrapper 'kubeadm' is installed \(installed: toy\).*pip install kubeup-kubeadm"
    ):
        found(GOOD).bootstrapper("kubeadm")


def test_a_bootstrapper_whose_plugin_is_off_says_why(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("raise RuntimeError('boom')")
    with pytest.raises(SwitchedOff, match="boom"):
        discover([file], found=[]).bootstrapper(str(file))


def test_its_config_is_checked_with_the_path_of_the_field(found):
    with pytest.raises(InvalidConfig, match=r"spec\.kubernetes\.config\.puase"):
        found(GOOD).bootstrapper_config("toy", {"puase": "x"})
