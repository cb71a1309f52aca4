"""What a person may write in the config of a simulated Provider, and what the plugin registers."""

from typing import Any

import kubeup_sim
import pytest
from kubeup_sim import SimConfig, SimOverrides
from pydantic import ValidationError


def test_no_field_is_needed() -> None:
    config = SimConfig()
    assert (config.account, config.region, config.file) == ("default", "sim-1", None)
    assert config.behaviour() == {}


def test_the_plugin_registers_one_type(monkeypatch: pytest.MonkeyPatch) -> None:
    registered: list[dict[str, Any]] = []

    class Register:
        def provider(self, **what: Any) -> None:
            registered.append(what)

    kubeup_sim.kubeup_register_providers(Register())
    assert registered == [{"type": "sim", "config": SimConfig, "overrides": SimOverrides, "build": kubeup_sim.build}]


@pytest.mark.parametrize(
    "config",
    [
        {"bootSecond": [0, 0]},
        {"bootSeconds": [5, 1]},
        {"bootSeconds": [-1, 1]},
        {"settle": -1},
        {"tokenLife": 0},
        {"batchLimit": 0},
        {"hosts": ["a", "a"]},
        {"attach": "sometimes"},
        {"create": "twice"},
        {"account": "Not A Name"},
        {"quota": {"machine": 1}},
        {"capacity": [{"place": "sim-1a"}]},
        {"faults": [{"name": "lostReply", "times": 0}]},
        {"faults": [{"name": "lostReply", "probability": 2}]},
    ],
)
def test_bad_config_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SimConfig.model_validate(config)


def test_capabilities_say_what_the_account_is_configured_to_do(sim: Any) -> None:
    can = sim.build(batchLimit=7, userDataLimit=0, settle=3, tokenLife=99, attach="launch", access="none").capabilities
    assert (can.batch_limit, can.user_data_limit, can.settle, can.token_life) == (7, 0, 3, 99)
    assert (can.attach, can.access, can.reboot, can.reusable, can.budgets) == ("launch", "none", True, False, {})
    assert can.members_by == {"machine", "address"}


def test_settings_are_taken_by_either_name_and_a_bad_one_changes_nothing(sim: Any) -> None:
    sim.cloud.configure({"boot_seconds": (0, 0)})
    sim.cloud.configure({"bootSeconds": [1, 1], "settle": 2})
    with pytest.raises(ValidationError):
        sim.cloud.configure({"settle": -1})
    assert sim.build().capabilities.settle == 2
    with sim.cloud.state.read():
        assert sim.cloud.settings.boot_seconds == (1, 1)
