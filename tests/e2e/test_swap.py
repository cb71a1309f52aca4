"""One file, and only the line with the provider changes: docs/examples/anywhere.yaml on sim, docker, aws and gce, with real processes.

The simulator is ours; the engine is a real one; AWS is moto's server behind the tests' strict layer, GCE the emulator. What a place has
to be told beforehand (which image, where its API is) is in a Provider of the type's own name, which the file does not know of.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.kubectl, pytest.mark.slow]

FILE = (Path(__file__).parents[2] / "docs/examples/anywhere.yaml").read_text()
LINE = "  provider: sim #"
assert FILE.count(LINE) == 1


@dataclass
class Somewhere:
    """provider: the object that says what the place has to be told. there: all that it has, by its own means."""

    there: Callable[[], list[str]]
    provider: str = ""
    env: dict[str, str] = field(default_factory=dict)


@contextmanager
def sim(request: pytest.FixtureRequest) -> Iterator[Somewhere]:
    kubeup = request.getfixturevalue("kubeup")
    yield Somewhere(there=kubeup.at_provider)


@contextmanager
def docker(request: pytest.FixtureRequest) -> Iterator[Somewhere]:
    engine, kubeup = request.getfixturevalue("docker_node"), request.getfixturevalue("kubeup")

    def there() -> list[str]:
        ours = replace(engine, only=kubeup.marked)
        return [str(one) for listed in (ours.ps, ours.networks, ours.volumes) for one in listed()]

    yield Somewhere(there, f'{{type: docker, images: {{debian-12: "{engine.image}"}}}}', engine.env)


@contextmanager
def aws(request: pytest.FixtureRequest) -> Iterator[Somewhere]:
    """An account in which time passes: a step each quarter of a second."""
    from kubeup_artifacts.strict_aws import StrictAws

    account, ended = StrictAws(), threading.Event()

    def run() -> None:
        while not ended.wait(0.25):
            account.advance()

    clock = threading.Thread(target=run, daemon=True)
    clock.start()
    env = {
        "AWS_ENDPOINT_URL": account.url, "AWS_REGION": account.region, "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret", "AWS_CONFIG_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    before = account.everything()
    try:
        yield Somewhere(lambda: sorted(account.everything() - before), "{type: aws, config: {settle: 2}}", env)
    finally:
        ended.set()
        clock.join(10)
        account.close()


@contextmanager
def gce(request: pytest.FixtureRequest) -> Iterator[Somewhere]:
    from kubeup_emulators.gce import Emulator

    emulator = Emulator()
    world = emulator.world("my-project")
    world.real_time()
    world.duration = 0.3
    config = f'{{project: my-project, region: us-central1, settle: 2, endpoint: "{emulator.url}"}}'
    nowhere = {f"{scheme}_PROXY": "http://127.0.0.1:9" for scheme in ("HTTP", "HTTPS")}
    env = {**nowhere, "NO_PROXY": "127.0.0.1,localhost", "NO_GCE_CHECK": "true"}
    try:
        yield Somewhere(world.everything, f"{{type: gce, config: {config}}}", env)
    finally:
        emulator.stop()


@pytest.mark.parametrize("place", [sim, docker, aws, gce], ids=lambda place: place.__name__)
def test_only_the_line_of_the_provider_changes(
    kubeup: Any, until: Callable[..., None], request: pytest.FixtureRequest, place: Any
) -> None:
    name = place.__name__
    file = kubeup.write(FILE.replace(LINE, f"  provider: {name} #"))
    with place(request) as somewhere:
        kubeup.env.update(somewhere.env)
        if somewhere.provider:
            kubeup("apply", "-f", kubeup.write(provider(name, somewhere.provider), "provider.yaml"))
        kubeup("up", "-f", file, "--timeout", "5m", seconds=320)

        machines = [m for m in kubeup.machines(ready=True) if m["spec"]["role"] != "loadBalancer"]
        assert sorted(m["spec"]["pool"] for m in machines) == ["back", "front", "front"]
        assert {m["status"]["resolved"]["provider"] for m in machines} == {name}
        assert all(m["status"]["addresses"] for m in machines)
        (disk,) = kubeup.get("volumes.kubeup.dev")["items"]
        (back,) = [m["metadata"]["name"] for m in machines if m["spec"]["pool"] == "back"]
        assert (disk["status"]["state"], disk["status"]["attachedTo"]) == ("Attached", back)
        # It is Ready when the first of them takes traffic.
        until(lambda: door(kubeup)["status"]["counts"]["healthy"] == 2, "both members take traffic", 60)
        assert door(kubeup)["status"].get("address") or door(kubeup)["status"]["hostname"]
        assert somewhere.there()

        kubeup("down", "-f", file, "--yes", "--volumes", "--timeout", "5m", seconds=320)
        assert somewhere.there() == []


def door(kubeup: Any) -> Any:
    (balancer,) = kubeup.get("loadbalancers.kubeup.dev")["items"]
    return balancer


def provider(name: str, spec: str) -> str:
    made = {"apiVersion": "kubeup.dev/v1alpha1", "kind": "Provider", "metadata": {"name": name}, "spec": yaml.safe_load(spec)}
    return yaml.safe_dump(made)
