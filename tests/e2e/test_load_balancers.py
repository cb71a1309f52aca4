"""A load balancer where the provider has none: HAProxy under systemd in a machine of a real engine; found by `auto`, healed, gone."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.docker, pytest.mark.kubectl, pytest.mark.slow]

FRONT = """
apiVersion: kubeup.dev/v1alpha1
kind: Provider
metadata: {{name: engine}}
spec: {{type: docker, images: {{debian-12: "{image}"}}}}
---
apiVersion: kubeup.dev/v1alpha1
kind: Cluster
metadata: {{name: fronted}}
spec: {{provider: engine, machine: {{cpu: 1, memory: 256Mi}}}}
---
apiVersion: kubeup.dev/v1alpha1
kind: NodePool
metadata: {{name: web}}
spec: {{cluster: fronted, replicas: 2}}
---
apiVersion: kubeup.dev/v1alpha1
kind: LoadBalancer
metadata: {{name: front}}
spec:
  cluster: fronted
  listeners: [{{port: 2222, targetPort: 22}}]
  health: {{interval: 1s}}
  drain: 5s
"""


def test_a_balancer_on_a_machine_serves_is_healed_with_its_address_and_goes(
    kubeup: Any, until: Callable[..., None], docker_node: Any
) -> None:
    kubeup.env.update(docker_node.env)

    def balancer() -> Any:
        return kubeup.get("loadbalancers", "front")["status"]

    def ready() -> bool:
        state = next((c["status"] for c in balancer().get("conditions", []) if c["type"] == "Ready"), "")
        return bool(state == "True" and balancer()["counts"]["healthy"] == 2)

    def banner() -> bytes:
        with contextlib.suppress(OSError), socket.create_connection((balancer()["address"], 2222), 5) as connection:
            return connection.recv(64)
        return b""

    kubeup("up", "-f", kubeup.write(FRONT.format(image=docker_node.image)))
    until(ready, "both members take traffic")
    first = balancer()
    assert (first["provider"], first["pool"]) == ("haproxy", "front-lb")
    assert banner().startswith(b"SSH-2.0")

    (host,) = [m for m in kubeup.machines() if m["spec"]["role"] == "loadBalancer"]
    docker_node.remove(host["status"]["id"])
    until(lambda: not ready(), "the loss of the machine is seen", 90)
    until(ready, "another machine serves", 120)
    assert balancer()["address"] == first["address"]
    assert banner().startswith(b"SSH-2.0")

    kubeup("down", "--yes")
    assert docker_node.ps(cluster_name="fronted") == []
    assert docker_node.networks(cluster_name="fronted") == []
