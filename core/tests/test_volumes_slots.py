"""Slots of a pool: which place a machine fills, and which machine fills a place. Pure."""

from __future__ import annotations

from kubeup_core.controllers.slots import free, machine_in, slot_of
from kubeup_core.kinds import Machine


def machine(number: int, slot: int | None = None, *, deleting: bool = False) -> Machine:
    metadata = {"name": f"web-{number}", "creationTimestamp": f"2027-01-01T00:00:{number:02}Z"}
    if slot is not None:
        metadata["labels"] = {"kubeup.dev/slot": str(slot)}  # type: ignore[assignment]
    if deleting:
        metadata["deletionTimestamp"] = "2027-01-01T01:00:00Z"
    return Machine.model_validate({"metadata": metadata, "spec": {"cluster": "demo", "pool": "web"}})


def test_the_label_says_the_slot_and_without_it_the_name_does() -> None:
    assert slot_of(machine(7, 2)) == 2
    assert slot_of(machine(7)) == 7


def test_new_machines_fill_empty_slots_from_below() -> None:
    there = [machine(0, 0), machine(2, 2)]
    assert free(there, there, 4, 2) == [1, 3]


def test_with_surge_the_slots_of_outdated_machines_are_taken_over() -> None:
    old = [machine(0, 0), machine(1, 1)]
    assert free(old, [], 2, 1) == [0]
    assert free([*old, machine(2, 0)], [machine(2, 0)], 2, 1) == [1]


def test_an_empty_slot_comes_before_that_of_an_outdated_machine() -> None:
    assert free([machine(0, 0)], [], 2, 1) == [1]


def test_what_is_more_than_the_pool_has_slots_gets_higher_ones() -> None:
    there = [machine(0, 0)]
    assert free(there, there, 1, 2) == [1, 2]


def test_the_holder_keeps_a_slot_as_long_as_it_stays() -> None:
    old, new = machine(0, 0), machine(3, 0)
    assert machine_in(0, 2, [new, old], "web-3") is new
    assert machine_in(0, 2, [new, old], None) is old


def test_a_machine_on_its_way_out_gives_its_slot_to_its_successor() -> None:
    old, new = machine(0, 0, deleting=True), machine(3, 0)
    assert machine_in(0, 2, [old, new], "web-0") is new
    assert machine_in(0, 2, [old], "web-0") is old


def test_after_a_scale_down_higher_machines_stand_in_for_empty_slots() -> None:
    there = [machine(1, 1), machine(4, 4)]
    assert machine_in(0, 2, there, None) is there[1]
    assert machine_in(1, 2, there, None) is there[0]


def test_a_slot_that_nothing_fills_is_empty() -> None:
    assert machine_in(3, 2, [machine(0, 0)], None) is None
