"""The door to the simulated cloud: its codes as decisions, its budget, its points to strike at."""

from collections.abc import Callable
from typing import Any

import pytest
from kubeup_core import errors
from kubeup_core.errors import NoCapacity, NotReady, SupplierError
from kubeup_core.supplier import Context, Scope
from kubeup_sim import CloudError
from kubeup_sim.client import CODES, decision


@pytest.mark.parametrize(("name", "code"), [(name, code) for name, codes in CODES.items() for code in sorted(codes)])
def test_each_code_of_the_vendor_is_one_decision(name: str, code: str) -> None:
    error = decision(CloudError(code, "what happened"))
    assert type(error) is getattr(errors, name)
    assert (error.message, error.code) == ("what happened", code)
    assert error.request_id


def test_a_code_that_nobody_knows_is_an_unknown_outcome() -> None:
    assert type(decision(CloudError("BrandNew", "?"))) is errors.Unknown


def test_only_a_quota_needs_a_person() -> None:
    needs = {code for code in CODES["NoCapacity"] if _no_capacity(code).person}
    assert needs == {"QuotaExceeded"}


def _no_capacity(code: str) -> NoCapacity:
    error = decision(CloudError(code, "none"))
    assert isinstance(error, NoCapacity)
    return error


def test_every_request_is_charged_before_it_is_sent(sim: Any) -> None:
    charged: list[str] = []

    def charge(bucket: str, cost: float) -> None:
        charged.append(bucket)
        if len(charged) > 2:
            raise NotReady("the budget is spent", retry_after=1)

    home = sim.build(context=Context(installation="home", charge=charge), requestsPerSecond=5)
    assert home.capabilities.budgets == {"api": (5, 5)}
    home.machines.observe(Scope(installation="home"))
    with pytest.raises(NotReady):
        home.machines.observe(Scope(installation="home"))
    assert charged == ["api"] * 3
    assert sim.cloud.requests["Machine.list"] == 1


def test_every_request_can_be_struck_before_and_after(sim: Any) -> None:
    home = sim.build()
    points: list[str] = []
    sim.cloud.strike = points.append
    home.machines.observe(Scope(installation="home"))
    home.networks.ensure(sim.network_spec())
    assert points == [
        "before Machine.list",
        "after Machine.list",
        "before Network.list",
        "after Network.list",
        "before Network.create",
        "after Network.create",
    ]


def test_a_region_that_does_not_answer_is_an_unknown_outcome_for_every_request(sim: Any) -> None:
    home = sim.build()
    sim.cloud.console.cut("*")
    acts: list[Callable[[], object]] = [
        lambda: home.machines.launch(sim.launch(home)),
        lambda: home.machines.observe(Scope(installation="home")),
        lambda: home.volumes.ensure(sim.volume_spec()),
        lambda: home.load_balancers.observe(Scope(installation="home")),
    ]
    for act in acts:
        with pytest.raises(errors.Unknown):
            act()
    sim.cloud.console.restore("*")
    assert sim.seen(home) == []


def test_a_zone_that_does_not_answer_takes_no_launch(sim: Any) -> None:
    home = sim.build()
    launch = sim.launch(home, place="sim-1b")
    sim.cloud.console.cut("sim-1b")
    with pytest.raises(SupplierError) as caught:
        home.machines.launch(launch)
    assert isinstance(caught.value, NotReady)
    assert sim.cloud.console.machines() == []
