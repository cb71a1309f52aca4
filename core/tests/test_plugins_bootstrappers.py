"""Bootstrappers introduce themselves through the same door as providers: what is found, and what is refused with which words."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from textwrap import dedent

import pytest
from kubeup_core.bootstrapper import ClusterPlan, NodePlan, Secrets, Task
from kubeup_core.bootstrapping.job import pack
from kubeup_core.controllers import bootstraps
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
        def certificates(self, cluster): return ""
        def etcd_list(self, cluster): return "true"
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


# -- the one that the documentation writes -------------------------------------------------------------------------------

DOCS = Path(__file__).parents[2] / "docs" / "plugins"


def test_the_bootstrapper_of_the_documentation_works():
    plugins = discover([DOCS / "tutorial" / "kubeup_toy_bootstrapper.py"], found=[])
    assert plugins.broken == ()
    toyd = plugins.bootstrapper("toyd").made
    cluster, node = ClusterPlan(name="demo", version=toyd.newest(), host="192.0.2.1"), NodePlan(name="m", role="controlPlane")
    secrets = Secrets(pki={"ca.key": "PEM"}, token="abcdef.0123456789abcdef")
    for task in Task:
        steps = toyd.steps(task, cluster, node, secrets)
        assert pack(steps) == pack(toyd.steps(task, cluster, node, secrets))
        for step in steps:
            assert "0123456789abcdef" not in step.script
            subprocess.run(["sh", "-n"], input=f"{step.script}\n{step.check}\n".encode(), check=True)
    assert toyd.check(cluster) == []
    assert toyd.etcd_members(b'[{"id": "1", "name": "m", "address": "192.0.2.1"}]')[0].name == "m"


def test_code_on_the_page_is_in_the_bootstrapper():
    code = (DOCS / "tutorial" / "kubeup_toy_bootstrapper.py").read_text()
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "bootstrapper.md").read_text(), re.S)
    assert len(blocks) == 2
    for block in blocks:
        assert block in code


def test_each_reason_on_the_page_is_one_that_the_core_gives():
    source = "".join(path.read_text() for path in Path(bootstraps.__file__).parent.glob("*.py"))
    table = (DOCS / "bootstrapper.md").read_text().split("## What people see")[1]
    reasons = re.findall(r"`([A-Z]\w+)`", table)
    assert len(reasons) > 20
    for reason in reasons:
        assert f'"{reason}"' in source or reason in ("Reachable", "Bootstrapped", "NodeHealthy"), reason
