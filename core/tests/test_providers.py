"""Providers: usable, or a reason with what to do; and gone only when nothing made with them is left."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from kubeup_core.controllers import ensure_implicit
from kubeup_core.errors import Denied, NotReady
from kubeup_core.kinds import Cluster, Machine, NodePool, Provider, Secret
from kubeup_core.objects import IN_USE
from kubeup_core.plugin_config import SecretRef
from kubeup_core.plugins import Plugins, ProviderType, discover
from kubeup_core.supplier import BaseMachines, Capabilities, Context, Identity, Scope, Snapshot, Suppliers
from kubeup_core.testing.harness import Harness
from pydantic import BaseModel, ConfigDict

Make = Callable[..., Harness]


class FakeConfig(BaseModel):
    model_config = ConfigDict(extra="forbid")
    region: str = "here"
    token: SecretRef | None = None


class NoOverrides(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NoMachines(BaseMachines):
    def observe(self, scope: Scope) -> Snapshot[Any]:
        return Snapshot(items=())

    def launch(self, launch: Any) -> Any:
        raise AssertionError("nothing is launched here")

    def delete(self, refs: Any) -> Any:
        raise AssertionError("nothing is deleted here")


class Builder:
    """A plugin's build: counts, and does what a test says."""

    def __init__(self) -> None:
        self.contexts: list[Context] = []
        self.closed = 0
        self.error: Exception | None = None
        self.probed = 0

    def __call__(self, config: Any, context: Context) -> Suppliers:
        self.contexts.append(context)
        if self.error is not None:
            raise self.error
        return Suppliers(
            identity=Identity(key=f"fake/{config.region}", principal="tester"),
            capabilities=Capabilities(budgets={"api": (2, 1)}),
            machines=NoMachines(),
            probe=self.probe,
            close=self.close,
        )

    def probe(self) -> Any:
        self.probed += 1
        return ()

    def close(self) -> None:
        self.closed += 1


def plugins(**builders: Any) -> Plugins:
    """Those that are installed, and fakes."""
    found = dict(discover().providers)
    for name, build in builders.items():
        found[name] = ProviderType(
            type=name,
            config=FakeConfig,
            overrides=NoOverrides,
            build=build,
            distribution=f"kubeup-{name}",
            version="1",
            contract=1,
        )
    return Plugins(found)


def fake(h: Harness, name: str = "fake", **config: Any) -> None:
    h.apply({"kind": "Provider", "metadata": {"name": name}, "spec": {"type": name, "config": config}})


def test_a_provider_becomes_usable_and_says_as_whom_it_acts(harness: Make) -> None:
    h = harness()
    h.provider()
    h.settle()
    assert h.condition(Provider, "sim", "Ready")[:2] == ("True", "Usable")
    status = h.get(Provider, "sim").status
    assert status.identity == "sim:default/sim-1"
    assert status.plugin is not None
    assert status.plugin.distribution == "kubeup-sim"
    assert status.capabilities is not None
    assert status.capabilities["batch_limit"] == 1000


def test_a_type_that_is_not_installed_names_the_exact_line_that_installs_it(harness: Make) -> None:
    h = harness()
    h.apply({"kind": "Provider", "metadata": {"name": "up"}, "spec": {"type": "upcloud"}})
    h.settle()
    status, reason, message = h.condition(Provider, "up", "Ready")
    assert (status, reason) == ("False", "NotInstalled")
    assert "-m pip install kubeup-upcloud" in message


def test_a_wrong_config_is_a_condition_with_the_path_and_nothing_is_built(harness: Make) -> None:
    h = harness()
    h.provider(bootSecond=3)
    h.settle()
    status, reason, message = h.condition(Provider, "sim", "Ready")
    assert (status, reason) == ("False", "InvalidConfig")
    assert "spec.config.bootSecond" in message
    assert "bootSeconds" in message
    assert h.get(Provider, "sim").status.identity is None


def test_a_plugin_that_breaks_is_off_and_stops_no_other(harness: Make) -> None:
    build = Builder()
    build.error = AttributeError("a bug")
    h = harness(plugins=plugins(fake=build))
    fake(h)
    h.demo(2)
    h.ready(2)
    assert h.condition(Provider, "fake", "PluginBroken")[0] == "True"
    assert "AttributeError" in h.condition(Provider, "fake", "Ready")[2]


def test_a_plugin_whose_build_returns_nonsense_is_broken(harness: Make) -> None:
    h = harness(plugins=plugins(fake=lambda config, context: None))
    fake(h)
    h.settle()
    assert h.condition(Provider, "fake", "PluginBroken")[0] == "True"


def test_secrets_are_resolved_and_a_change_of_one_rebuilds(harness: Make) -> None:
    build = Builder()
    h = harness(plugins=plugins(fake=build))
    fake(h, token={"namespace": "default", "name": "cloud", "key": "token"})
    h.settle()
    assert h.condition(Provider, "fake", "Ready")[1] == "SecretMissing"
    h.apply({"kind": "Secret", "metadata": {"name": "cloud"}, "data": {"token": base64.b64encode(b"first-value").decode()}})
    h.settle()
    assert h.condition(Provider, "fake", "Ready")[0] == "True"
    h.edit(Secret, "cloud", data={"token": base64.b64encode(b"two").decode()})
    h.settle()
    assert [context.secrets["default/cloud/token"] for context in build.contexts] == ["first-value", "two"]
    assert build.closed == 1
    assert "first-value" not in repr(build.contexts[0])


def test_an_unchanged_provider_is_built_once_and_probed_hourly(harness: Make) -> None:
    build = Builder()
    h = harness(plugins=plugins(fake=build))
    fake(h)
    h.settle()
    h.advance(3500)
    assert (len(build.contexts), build.probed) == (1, 1)
    h.advance(1000)
    assert (len(build.contexts), build.probed) == (1, 2)


def test_the_budget_of_requests_is_what_the_plugin_says(harness: Make) -> None:
    build = Builder()
    h = harness(plugins=plugins(fake=build))
    fake(h)
    h.settle()
    charge = build.contexts[0].charge
    charge("api", 1)
    charge("api", 1)
    with pytest.raises(NotReady):
        charge("api", 1)
    h.advance(1)
    charge("api", 1)


def test_implicit_providers_are_made_once_and_never_replace_a_persons_own(harness: Make) -> None:
    h = harness()
    h.provider()
    made = ensure_implicit(h.client, h.plugins)
    assert "sim" not in made
    assert "haproxy" in made
    assert h.get(Provider, "haproxy").labels["kubeup.dev/auto"] == "true"
    assert ensure_implicit(h.client, h.plugins) == []


def test_a_provider_of_the_environment_comes_to_be_when_something_names_it(harness: Make) -> None:
    build = Builder()
    found = plugins(fake=build)
    h = harness(plugins=replace(found, providers={**found.providers, "fake": replace(found.find("fake"), ambient=True)}))
    assert "fake" not in ensure_implicit(h.client, h.plugins)
    h.demo(0)
    h.settle()
    assert build.contexts == [], "nobody is spoken to whom nobody asked for"
    h.apply({"kind": "Cluster", "metadata": {"name": "far"}, "spec": {"provider": "fake"}})
    h.settle()
    assert h.get(Provider, "fake").labels["kubeup.dev/auto"] == "true"
    assert h.condition(Provider, "fake", "Ready")[:2] == ("True", "Usable")


def test_denied_stops_creating_still_deletes_and_goes_on_when_a_check_succeeds(harness: Make) -> None:
    h = harness()
    h.demo(2)
    h.ready(2)
    h.cloud.faults.add("denied", operation="launch", times=1)
    h.edit(NodePool, "workers", spec={"replicas": 3})
    h.until(lambda: h.condition(Provider, "sim", "CredentialsValid")[0] == "False")
    h.advance(60)
    assert len(h.rented()) == 2
    h.delete(Machine, "workers-0")
    h.until(lambda: len(h.rented()) == 1)
    h.ready(3)
    assert h.condition(Provider, "sim", "CredentialsValid")[0] == "True"


def test_denied_at_the_first_use_is_looked_at_again_every_five_minutes(harness: Make) -> None:
    build = Builder()
    build.error = Denied("no such key")
    h = harness(plugins=plugins(fake=build))
    fake(h)
    h.settle(10)
    assert h.condition(Provider, "fake", "CredentialsValid")[0] == "False"
    build.error = None
    h.advance(400)
    assert h.condition(Provider, "fake", "Ready")[0] == "True"
    assert len(build.contexts) == 2


def test_another_identity_freezes_a_provider_and_its_return_thaws_it(harness: Make) -> None:
    """An honest, complete and empty listing of the wrong account must re-create nothing."""
    h = harness()
    h.demo(3)
    h.ready(3)
    before = {m.uid for m in h.machines()}
    h.edit(Provider, "sim", spec={"config": {"account": "another"}})
    h.advance(600)
    assert h.condition(Provider, "sim", "IdentityChanged")[0] == "True"
    assert "sim:default/sim-1" in h.condition(Provider, "sim", "Ready")[2]
    assert {m.uid for m in h.machines()} == before
    assert {m.status.state for m in h.machines()} == {"Ready"}
    h.edit(NodePool, "workers", spec={"replicas": 5})
    h.delete(Machine, "workers-0")
    h.advance(600)
    assert len(h.rented()) == 3
    h.edit(Provider, "sim", spec={"config": {"account": "default"}})
    h.ready(5)
    assert len(h.rented()) == 5
    assert h.condition(Provider, "sim", "IdentityChanged") == ("", "", "")


def test_another_identity_after_a_restart_freezes_too(harness: Make) -> None:
    h = harness()
    h.demo(2)
    h.ready(2)
    h.edit(Provider, "sim", spec={"config": {"account": "another"}})
    h.crash()
    h.advance(600)
    assert h.condition(Provider, "sim", "IdentityChanged")[0] == "True"
    assert len(h.machines()) == 2
    assert len(h.rented()) == 2


def test_a_provider_and_its_secret_stay_while_anything_made_with_them_exists(harness: Make) -> None:
    build = Builder()
    h = harness(plugins=plugins(fake=build))
    h.apply({"kind": "Secret", "metadata": {"name": "cloud"}, "data": {"token": "eA=="}})
    fake(h, token={"namespace": "default", "name": "cloud", "key": "token"})
    h.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": {"provider": "fake"}})
    h.settle()
    assert IN_USE in h.get(Provider, "fake").finalizers
    assert IN_USE in h.get(Secret, "cloud").finalizers
    h.delete(Secret, "cloud")
    h.delete(Provider, "fake")
    h.settle(60)
    assert "Cluster demo" in h.condition(Provider, "fake", "Ready")[2]
    h.delete(Cluster, "demo")
    h.until(lambda: h.find(Provider, "fake") is None and h.find(Secret, "cloud") is None)


def test_a_provider_that_nothing_uses_goes_at_once(harness: Make) -> None:
    h = harness()
    h.provider()
    h.settle()
    h.delete(Provider, "sim")
    h.step()
    assert h.find(Provider, "sim") is None


def test_everything_deleted_at_once_in_the_worst_order_leaves_nothing(harness: Make) -> None:
    h = harness()
    h.demo(3)
    h.ready(3)
    h.delete(Provider, "sim")
    h.delete(Cluster, "demo")
    h.delete(NodePool, "workers")
    h.until(lambda: not h.all(Provider) and not h.all(Cluster) and not h.all(NodePool))
    assert h.cloud.console.everything() == []


def test_an_uninstalled_plugin_lets_nothing_go_and_says_how_to_install_it(harness: Make) -> None:
    h = harness()
    h.demo(2)
    h.ready(2)
    h.stop()
    installed, h.plugins = h.plugins, Plugins({})
    h.start()
    h.delete(Provider, "sim")
    h.delete(Cluster, "demo")
    h.advance(600)
    assert len(h.machines()) == 2
    assert (
        "-m pip install kubeup-sim" in h.condition(Provider, "sim", "Ready")[2] + h.condition(Machine, "workers-0", "Ready")[2]
    )
    assert len(h.cloud.console.machines()) == 2
    h.stop()
    h.plugins = installed
    h.start()
    h.until(lambda: not h.all(Provider))
    assert h.cloud.console.everything() == []


def test_two_providers_of_one_account_are_observed_once(harness: Make) -> None:
    h = harness()
    h.demo(1)
    h.provider("again")
    h.apply(
        {"kind": "Cluster", "metadata": {"name": "other"}, "spec": {"provider": "again"}},
        {"kind": "NodePool", "metadata": {"name": "more"}, "spec": {"cluster": "other"}},
    )
    h.ready(2)
    h.advance(60)
    before = h.cloud.requests["Machine.list"]
    h.advance(300)
    assert h.cloud.requests["Machine.list"] - before <= 12


def test_a_paused_provider_is_observed_but_not_changed(harness: Make) -> None:
    h = harness()
    h.demo(2)
    h.ready(2)
    h.edit(Provider, "sim", spec={"paused": True})
    h.edit(NodePool, "workers", spec={"replicas": 0})
    h.cloud.console.stop("workers-0")
    h.advance(120)
    assert len(h.rented()) == 2
    assert h.condition(Provider, "sim", "Ready")[1] == "Paused"
    h.edit(Provider, "sim", spec={"paused": False})
    h.ready(0)


def test_a_probe_that_finds_a_problem_says_it_with_its_remedy(harness: Make) -> None:
    from kubeup_core.supplier import Problem

    class Troubled(Builder):
        def __call__(self, config: Any, context: Context) -> Suppliers:
            found = (Problem(path="", message="the engine is too old", remedy="upgrade it"),)
            return replace(super().__call__(config, context), probe=lambda: found)

    h = harness(plugins=plugins(fake=Troubled()))
    fake(h)
    h.settle()
    assert h.condition(Provider, "fake", "Ready") == ("True", "Problem", "the engine is too old; upgrade it")


# -- budgets -------------------------------------------------------------------------------------------------------------


def test_providers_of_one_account_share_its_budget_and_a_rebuild_does_not_refill_it(harness: Make) -> None:
    build = Builder()
    h = harness(plugins=plugins(fake=build))
    for name in ("one", "two"):
        h.apply({"kind": "Provider", "metadata": {"name": name}, "spec": {"type": "fake"}})
    h.settle()
    one, two = (context.charge for context in build.contexts)
    one("api", 2)
    with pytest.raises(NotReady):
        two("api", 1)
    h.edit(Provider, "one", "", spec={"images": {"debian-12": "another"}})
    h.step()
    assert len(build.contexts) == 3
    with pytest.raises(NotReady):
        build.contexts[2].charge("api", 1)


def test_who_is_throttled_keeps_all_others_of_the_account_from_asking(harness: Make) -> None:
    h = harness(cloud={"boot_seconds": (0, 0)})
    h.demo(1)
    h.ready(1)
    h.cloud.faults.add("throttle", kind="Machine", operation="launch", seconds=60)
    h.edit(NodePool, "workers", spec={"replicas": 2})
    h.until(lambda: h.cloud.faults.all()[0].taken)
    sent = h.cloud.requests.total()
    h.apply({"kind": "NodePool", "metadata": {"name": "others"}, "spec": {"cluster": "demo", "replicas": 2}})
    h.advance(50)
    assert h.cloud.requests.total() == sent
    h.until(lambda: len([m for m in h.machines() if m.status.state == "Ready"]) == 4)
