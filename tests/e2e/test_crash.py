"""kill -9 of the real server at random moments while fifty machines come up: exactly fifty, none leaked, none lost."""

import json
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.kubectl, pytest.mark.slow]

FAULTS: list[dict[str, object]] = [
    {"name": "lostReply", "operation": "launch", "times": 2},
    {"name": "lostRequest", "operation": "launch", "times": 2},
    {"name": "staleList", "times": 2},
    {"name": "unreachable", "times": 2},
    {"name": "throttle", "operation": "launch", "times": 2, "seconds": 1},
    {"name": "noCapacity", "place": "sim-1a", "times": 1},
    {"name": "lateRefusal", "times": 2},
    {"name": "rollback", "times": 1, "seconds": 2},
    {"name": "machineLost", "times": 1},
    {"name": "slowDelete", "times": 1, "seconds": 5},
]
FLEET = """
apiVersion: kubeup.dev/v1alpha1
kind: Provider
metadata: {{name: storm}}
spec:
  type: sim
  config: {{account: storm, batchLimit: 20, bootSeconds: [0.2, 1.5], deleteSeconds: 0.3, settle: 1, faults: {faults}}}
---
apiVersion: kubeup.dev/v1alpha1
kind: Cluster
metadata: {{name: fleet}}
spec: {{provider: storm}}
---
apiVersion: kubeup.dev/v1alpha1
kind: NodePool
metadata: {{name: ship}}
spec: {{cluster: fleet, replicas: 50}}
"""


def listing(kubeup: Any) -> list[dict[str, Any]]:
    """Everything at the simulated account that is not over."""
    found: list[dict[str, Any]] = json.loads(kubeup.sim("ls", "--account", "storm", "-o", "json"))
    return [thing for thing in found if thing["phase"] != "Gone"]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: str(f["name"]))
def test_fifty_machines_come_up_exactly_once_however_often_the_server_is_killed(
    kubeup: Any, until: Callable[..., None], fault: dict[str, object]
) -> None:
    seed = random.Random(str(fault["name"]))
    kubeup("apply", "-f", kubeup.write(FLEET.format(faults=json.dumps([fault]))))
    for _ in range(2):
        time.sleep(seed.uniform(0.05, 1.2))  # the random moment is what is tested
        kubeup.kill()
        kubeup("restart")
    until(lambda: len(kubeup.machines(ready=True)) == 50, "fifty Ready machines", 120)
    alive = [m for m in listing(kubeup) if m["kind"] == "Machine" and m["phase"] not in ("Deleting", "Failed")]
    assert len(alive) == 50
    assert {m["id"] for m in alive} == {m["status"]["id"] for m in kubeup.machines()}
    kubeup("down", "--yes")
    assert listing(kubeup) == []
