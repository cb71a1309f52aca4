"""Each deliberately broken supplier is found, by the contract test that is meant for it; and each contract test finds one."""

from __future__ import annotations

from pathlib import Path

import pytest
from kubeup_core.plugins import load_file
from kubeup_core.testing import LoadBalancerContract, MachineContract, NetworkContract, Rig, VolumeContract
from kubeup_core.testing.contracts.bench import Bench

broken = load_file(Path(__file__).with_name("broken.py"))
CONTRACTS = {
    "machines": MachineContract,
    "networks": NetworkContract,
    "load_balancers": LoadBalancerContract,
    "volumes": VolumeContract,
}


def run(contract: type, test: str, rig: Rig) -> None:
    bench = Bench(rig)
    try:
        getattr(contract(), test)(bench)
    finally:
        bench.close()


@pytest.mark.parametrize("fault", broken.FAULTS, ids=lambda fault: fault.name)
def test_a_broken_supplier_is_found_by_the_test_that_is_meant_for_it(fault):
    rig = broken.reference.rig_of(Rig, fault.parts, longest_call=fault.longest_call)
    with pytest.raises(AssertionError) as found:
        run(CONTRACTS[fault.contract], fault.found_by, rig)
    assert str(found.value), "the author is told nothing"


def test_every_contract_test_finds_a_broken_supplier():
    every = {name for contract in CONTRACTS.values() for name in dir(contract) if name.startswith("test_")}
    assert every - {fault.found_by for fault in broken.FAULTS} == set()


@pytest.mark.parametrize("name", CONTRACTS)
def test_without_hooks_a_test_is_skipped_as_not_offered_and_never_fails(name):
    place = broken.reference.Place()
    skipped = []
    for test in sorted(n for n in dir(CONTRACTS[name]) if n.startswith("test_")):
        place = broken.reference.Place()
        build = lambda context, place=place: broken.reference.Parts().build(place, context, "a")  # noqa: E731
        try:
            run(CONTRACTS[name], test, Rig(build=build, advance=place.tick, settle_steps=6))
        except pytest.skip.Exception as skip:
            skipped.append(str(skip))
    assert skipped
    assert all(said.startswith("not offered: ") for said in skipped)
