"""The emulator takes and gives nothing that Google's description of the API does not have."""

from __future__ import annotations

from typing import Any

import pytest
import requests


def disks(place: Any) -> str:
    return f"{place.config.endpoint}/compute/v1/projects/{place.world.project}/zones/us-central1-a/disks"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"sizeGib": "20"}, "no field 'sizeGib'"),
        ({"accessMode": "READ_SOMETIMES"}, "'READ_SOMETIMES' is none of"),
        ({"sizeGb": 20}, "text is wanted"),
        ({"labels": ["a"]}, "an object is wanted"),
    ],
    ids=["field", "enum", "type", "shape"],
)
def test_a_request_in_another_form_than_googles_is_refused(place: Any, more: dict[str, Any], said: str) -> None:
    answer = requests.post(disks(place), json={"name": "data", **more}, timeout=30)
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]
    assert not [path for path in place.world.everything() if path.endswith("/disks/data")]


def test_a_parameter_that_google_does_not_know_is_refused(place: Any) -> None:
    answer = requests.get(disks(place), params={"filtre": "name = a"}, timeout=30)
    assert answer.status_code == 400
    assert "filtre" in answer.json()["error"]["message"]


def test_an_answer_of_its_own_in_another_form_is_its_own_mistake(place: Any) -> None:
    place.world.add("zones/us-central1-a", "disks", {"name": "data", "kind": "compute#disk", "sizeGb": "20"})
    assert requests.get(f"{disks(place)}/data", timeout=30).status_code == 200
    with place.world.lock:
        place.world.items["zones/us-central1-a/disks/data"].body["sizeGib"] = "20"
    answer = requests.get(f"{disks(place)}/data", timeout=30)
    assert answer.status_code == 500
    assert answer.json()["error"]["errors"][0]["reason"] == "emulatorIsWrong"
