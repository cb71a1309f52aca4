"""Label and field selectors."""

from __future__ import annotations

from typing import Any

import pytest
from kubeup_core.kinds.builtins import EVENT, NAMESPACE
from kubeup_core.kinds.machine import KIND as MACHINE
from kubeup_core.selectors import compile_selectors, name_in
from kubeup_core.statuses import BadRequest

LABELS = {"app": "web", "tier": "front", "n": "5", "example.com/x": "y", "empty": "", "in": "side"}


def matches(text: str, labels: dict[str, str] | None = LABELS) -> bool:
    test = compile_selectors(MACHINE, text, "")
    return test is None or test({"metadata": {"labels": labels} if labels is not None else {}})


@pytest.mark.parametrize(
    "text",
    [
        "", "app=web", "app==web", "app = web", "app!=db", "missing!=x", "app in (web,db)", "app in(web)", "app notin (db)",
        "missing notin (db)", "app", "!missing", "! missing", "n>4", "n<6", "example.com/x=y", "empty=", "empty in ()",
        "app=web,tier=front", "app=web, tier in (front, back) ,!missing", "in", "in=side", "in in (side)",
    ],
)  # fmt: skip
def test_selects(text: str) -> None:
    assert matches(text)


@pytest.mark.parametrize(
    "text",
    ["app=db", "app!=web", "app in (db)", "app notin (web)", "missing", "!app", "n>5", "n<5", "app>1", "missing=x",
     "missing in (x)", "app=web,tier=back", "app="],
)  # fmt: skip
def test_does_not_select(text: str) -> None:
    assert not matches(text)


def test_an_object_without_labels_matches_only_what_asks_for_none() -> None:
    assert matches("!app", None)
    assert matches("app!=web", None)
    assert not matches("app", None)


@pytest.mark.parametrize(
    "text",
    ["app in", "app in (", "app in web", "=web", "app=web,", ",", "app=web tier=x", "!app=web", "app=a b", "a/b/c=d", "n>x",
     "app=web,,tier=x", "app=-x-", "()", "app notin"],
)  # fmt: skip
def test_a_selector_that_cannot_be_read_is_a_bad_request(text: str) -> None:
    with pytest.raises(BadRequest):
        matches(text)


def test_fields_select_by_name_and_namespace() -> None:
    obj = {"metadata": {"name": "a", "namespace": "n"}}
    for text, wanted in (
        ("metadata.name=a", True), ("metadata.name==a", True), ("metadata.name!=a", False), ("metadata.name=b", False),
        ("metadata.name=a,metadata.namespace=n", True), ("metadata.namespace!=n", False),
    ):  # fmt: skip
        test = compile_selectors(MACHINE, "", text)
        assert test is not None
        assert test(obj) is wanted, text


def test_events_select_by_what_they_are_about() -> None:
    event: Any = {"metadata": {"name": "e"}, "involvedObject": {"kind": "Machine", "name": "m"}, "reason": "Made"}
    text = "involvedObject.name=m,involvedObject.kind=Machine,involvedObject.uid=,reason=Made,regarding.name=m"
    test = compile_selectors(EVENT, "", text)
    assert test is not None
    assert test(event)
    phase = compile_selectors(NAMESPACE, "", "status.phase=Active")
    assert phase is not None
    assert not phase({"status": {"phase": "Terminating"}})


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(BadRequest, match=r"field label not supported: spec\.cluster"):
        compile_selectors(MACHINE, "", "spec.cluster=x")
    with pytest.raises(BadRequest):
        compile_selectors(MACHINE, "", "metadata.name")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("metadata.name=a", "a"),
        ("metadata.name==a", "a"),
        ("metadata.name!=a", None),
        ("metadata.namespace=a", None),
        ("", None),
    ],
)
def test_the_name_that_a_field_selector_asks_for(text: str, name: str | None) -> None:
    assert name_in(text) == name
