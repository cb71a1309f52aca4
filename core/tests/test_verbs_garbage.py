"""Whatever a client sends, the answer is an object or an error of the API, never a traceback, and an error stores nothing."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from kubeup_core.statuses import StatusError
from kubeup_core.verbs import Options

JUNK: list[Any] = [
    None, True, False, 0, -1, 1.5, 10**25, "", "x", "x" * 70, [], {}, [None], [[]], [5], ["a", "a"], {"": ""}, {"a": None},
    {"k": [1, {"type": "Ready"}]}, [{"type": "Ready"}, {"type": 5}], "\u0000", "$patch", {"$patch": "replace"}, [{}],
    {"$patch": 5, "$retainKeys": 7}, {"f:x": {}}, [{"manager": "m", "operation": "Apply", "fieldsV1": {"f:spec": {"f:a": {}}}}],
]  # fmt: skip
KINDS = ["Cluster", "NodePool", "Machine", "LoadBalancer", "Volume", "Provider", "Secret", "Event", "Lease", "Namespace"]
HOWS = ["merge", "json", "strategic", "apply", "create", "update"]


def mutated(dice: random.Random, obj: Any) -> Any:
    """The object with one to three of its values, or a new one, replaced by junk."""
    result = copy.deepcopy(obj)
    for _ in range(dice.randint(1, 3)):
        at = result
        while isinstance(at, dict) and at:
            key = dice.choice([*at, "status", "new"])
            if dice.random() < 0.4 or not isinstance(at.get(key), dict):
                at[key] = copy.deepcopy(dice.choice(JUNK))
                break
            at = at[key]
    return result


def operations(dice: random.Random) -> list[Any]:
    paths = ["/spec", "/metadata/name", "/metadata/managedFields", "/status/conditions/-", "/data/a", "/", "", "/spec/x/y", 5]
    return [
        {"op": dice.choice(["add", "remove", "replace", "move", "copy", "test", "x"]), "path": dice.choice(paths),
         "from": dice.choice(paths), "value": dice.choice(JUNK)}
        for _ in range(dice.randint(1, 3))
    ]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_garbage_is_refused_in_an_orderly_way(api: Any, kind: str) -> None:
    dice = random.Random(kind)
    made = api.create({**api.obj(kind), **({"status": {}} if kind == "Machine" else {})})
    for i in range(150):
        how = dice.choice(HOWS)
        options = {
            "dry_run": dice.random() < 0.3,
            "field_validation": dice.choice(["Ignore", "Warn", "Strict"]),
            "subresource": dice.choice(["", "", "status"]) if api.kind(kind).has_status else "",
        }
        if how == "create":
            body = mutated(dice, api.obj(kind, f"n{i}"))
            options["subresource"] = ""
        elif how == "update":
            body = mutated(dice, made)
        else:
            body = operations(dice) if how == "json" else mutated(dice, {**made, "metadata": {}})
        before, refusal = api.store.rv(), None
        k, space = api.kind(kind), "default" if api.kind(kind).namespaced else ""
        try:
            if how == "create":
                api.verbs.create(k, space, body, api.actor, Options(**options))
            elif how == "update":
                api.verbs.update(k, space, "demo", body, api.actor, Options(**options))
            else:
                manager = dice.choice(["m1", "m2"]) if how == "apply" else ""
                force = how == "apply" and dice.random() < 0.5
                options |= {"field_manager": manager, "force": force}
                api.verbs.patch(k, space, "demo", body, how, api.actor, Options(**options))
        except StatusError as error:
            refusal = error
        if refusal is not None:
            assert refusal.code < 500, refusal
            assert api.store.rv() == before
        made = api.get(kind, "demo")
