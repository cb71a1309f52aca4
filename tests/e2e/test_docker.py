"""The main job on real machines: containers on a real Docker engine, and `docker ps` agrees at each step."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.docker, pytest.mark.kubectl, pytest.mark.slow]

BOXES = """
apiVersion: kubeup.dev/v1alpha1
kind: Provider
metadata: {{name: engine}}
spec: {{type: docker, images: {{debian-12: "{image}"}}}}
---
apiVersion: kubeup.dev/v1alpha1
kind: Cluster
metadata: {{name: local}}
spec: {{provider: engine}}
---
apiVersion: kubeup.dev/v1alpha1
kind: NodePool
metadata: {{name: box}}
spec: {{cluster: local, replicas: 2, machine: {{cpu: 1, memory: 64Mi}}}}
"""


def test_a_pool_of_containers_comes_up_heals_scales_rolls_and_goes(
    kubeup: Any, until: Callable[..., None], docker_engine: Any
) -> None:
    kubeup.env.update(docker_engine.env)
    engine = replace(docker_engine, only=kubeup.marked)

    def containers() -> list[dict[str, Any]]:
        return [c for c in engine.ps() if c["State"] == "running"]

    out = kubeup("up", "-f", kubeup.write(BOXES.format(image=engine.image)))
    assert "2 machines" in out
    assert len(containers()) == 2
    assert {m["status"]["id"] for m in kubeup.machines()} == {c["Id"] for c in containers()}
    assert all(m["status"]["addresses"] for m in kubeup.machines())
    info, facts = engine.call("GET", "/info"), kubeup.get("provider", "engine")["status"]["capabilities"]["facts"]
    assert (facts["engine"], facts["kernel"]) == (f"Docker {info['ServerVersion']}", info["KernelVersion"])
    assert facts["cgroups"] == f"v{info['CgroupVersion']}"
    assert facts["systemdMachines"] == "yes"
    assert set(facts["capabilitiesWithheld"].split(",")).isdisjoint({"SYS_ADMIN", "NET_ADMIN"})
    assert "inotifyInstances" in facts

    gone = containers()[0]["Id"]
    engine.remove(gone)
    until(lambda: len(containers()) == 2 and gone not in {c["Id"] for c in containers()}, "a new container")
    until(lambda: len(kubeup.machines(ready=True)) == 2, "two Ready machines")

    kubeup.kubectl("scale", "nodepool", "box", "--replicas=3")
    until(lambda: len(containers()) == 3 and len(kubeup.machines(ready=True)) == 3, "three containers")

    before = {c["Id"] for c in containers()}
    kubeup.kubectl("patch", "nodepool", "box", "--type=merge", "-p", '{"spec":{"machine":{"memory":"96Mi"}}}')
    until(lambda: len(containers()) == 3 and not before & {c["Id"] for c in containers()}, "all replaced", 120)

    kubeup("down", "--yes")
    assert engine.ps() == []
    assert engine.networks() == []


def test_the_example_of_containers_is_the_quickstart_with_another_provider() -> None:
    from pathlib import Path

    text = Path(__file__).parents[2].joinpath("docs/examples/containers.yaml").read_text()
    cluster, pool = yaml.safe_load_all(text)
    assert cluster["spec"] == {"provider": "docker"}
    assert pool["spec"]["replicas"] == 3
