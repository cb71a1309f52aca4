"""kill -9 of the real server at random moments while fifty machines come up: exactly fifty, none leaked, none lost."""

import json
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.kubectl, pytest.mark.slow]

FAULTS = [None, "lostReply", "staleList", "throttle", "noCapacity"]
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


@pytest.mark.parametrize("fault", FAULTS)
def test_fifty_machines_come_up_exactly_once_however_often_the_server_is_killed(
    kubeup: Any, until: Callable[..., None], fault: str | None
) -> None:
    seed = random.Random(f"crash-{fault}")
    faults = [{"name": fault, "times": 2}] if fault else []
    kubeup("apply", "-f", kubeup.write(FLEET.format(faults=json.dumps(faults))))
    for _ in range(4):
        time.sleep(seed.uniform(0.05, 1.2))  # the random moment is what is tested
        kubeup.kill()
        kubeup("restart")
    until(lambda: len(kubeup.machines(ready=True)) == 50, "fifty Ready machines", 120)
    there = [m for m in json.loads(kubeup.sim("ls", "--account", "storm", "-o", "json")) if m["kind"] == "Machine"]
    alive = [m for m in there if m["phase"] not in ("Gone", "Deleting")]
    assert len(alive) == 50
    assert {m["id"] for m in alive} == {m["status"]["id"] for m in kubeup.machines()}
    kubeup("down", "--yes")
    left = [m for m in json.loads(kubeup.sim("ls", "--account", "storm", "-o", "json")) if m["phase"] != "Gone"]
    assert left == []
