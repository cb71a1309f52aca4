"""What one host refuses or lacks is said of that host: the others go on. The real core and supplier, hosts behind `Doors.run`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubeup_core import Context, Denied, Mark, NotReady, Ref, SupplierError, VolumeSpec
from kubeup_core.executor import HostKeyChanged
from kubeup_core.kinds import Provider
from kubeup_core.testing.harness import Harness
from kubeup_ssh import SshConfig, build
from kubeup_ssh.doors import Doors

GiB = 2**30


class Rack:
    """Hosts h1, h2, h3. wrong: what h1 does at a call, instead of what it should."""

    def __init__(self) -> None:
        self.claims: dict[str, str] = {}
        self.calls: list[tuple[str, str]] = []
        self.wrong: Callable[[str], tuple[int, bytes] | None] = lambda verb: None

    def run(self, doors: Any, host: Any, script: str, stdin: bytes = b"", timeout: float = 30.0) -> tuple[int, bytes]:
        call = script.rstrip().rpartition("\n")[2]
        verb = call.split()[0]
        self.calls.append((host.name, verb))
        answer = self.wrong(verb) if host.name == "h1" else None
        if answer is not None:
            return answer
        match verb:
            case "look":
                sizes = f"cpu 4\nmemory {8 * GiB}\ndisk {80 * GiB}\narch x86_64\nos debian-12\nroom {GiB}"
                claim = f"== claim\n{self.claims[host.name]}" if host.name in self.claims else ""
                return 0, f"== host\n{sizes}\nboot b\naddress 10.0.0.1\n{claim}".encode()
            case "claim":
                self.claims.setdefault(host.name, call.removeprefix("claim ").strip("'") + "\n" + stdin.decode())
            case "lookup":
                return 0, b"made" if host.name in self.claims else b"absent"
            case "release":
                self.claims.pop(host.name, None)
        return 0, b""

    def claimed(self, host: str) -> int:
        return self.calls.count((host, "claim"))


@pytest.fixture
def rack(monkeypatch: pytest.MonkeyPatch) -> Rack:
    found = Rack()
    monkeypatch.setattr(Doors, "run", lambda doors, *args, **more: found.run(doors, *args, **more))
    monkeypatch.setattr(Doors, "prepare", lambda doors, host: None)
    return found


@pytest.fixture
def harness(rack: Rack, tmp_path: Path) -> Iterator[Callable[..., Harness]]:
    """harness(replicas, **host): a pool of so many on the rack."""
    made: list[Harness] = []

    def make(replicas: int, **host: Any) -> Harness:
        h = Harness(tmp_path)
        made.append(h)
        hosts = [{"name": f"h{n}", "address": f"10.0.0.{n}", **host} for n in (1, 2, 3)]
        h.apply(
            {"kind": "Provider", "metadata": {"name": "rack"}, "spec": {"type": "ssh", "config": {"hosts": hosts}}},
            {"kind": "Cluster", "metadata": {"name": "demo"}, "spec": {"provider": "rack"}},
            {
                "kind": "NodePool",
                "metadata": {"name": "w"},
                "spec": {"cluster": "demo", "replicas": replicas, "machine": {"cpu": 1, "memory": "1Gi", "disk": "1Gi"}},
            },
        )
        return h

    yield make
    for one in made:
        one.close()


REFUSALS = [HostKeyChanged("h1 presents another key", code="HostKeyChanged"), Denied("h1: sudo asks", code="SudoRefused")]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda error: error.code)
def test_a_host_that_refuses_between_look_and_claim_leaves_the_others_in_use(
    harness: Callable[..., Harness], rack: Rack, refusal: SupplierError
) -> None:
    shut = False

    def wrong(verb: str) -> tuple[int, bytes] | None:
        nonlocal shut
        shut = shut or verb == "claim"
        if shut:
            raise refusal
        return None

    rack.wrong = wrong
    h = harness(2)
    h.ready(2, 120)
    assert set(rack.claims) == {"h2", "h3"}
    assert h.condition(Provider, "rack", "Ready")[0] == "True"


@pytest.mark.parametrize("zone", [{}, {"zone": "rack-b"}], ids=["alone", "zone"])
def test_a_host_without_room_is_left_alone_for_a_while_and_its_zone_is_used(
    harness: Callable[..., Harness], rack: Rack, zone: dict[str, str]
) -> None:
    rack.wrong = lambda verb: (46, b"No space left on device") if verb == "claim" else None
    h = harness(3, **zone)
    h.advance(50)
    assert set(rack.claims) == {"h2", "h3"}
    assert rack.claimed("h1") == 1
    h.advance(60)
    assert rack.claimed("h1") == 2


@pytest.mark.parametrize("zone", [{}, {"zone": "rack-b"}], ids=["alone", "zone"])
def test_a_host_that_is_never_ready_does_not_close_its_zone(
    harness: Callable[..., Harness], rack: Rack, zone: dict[str, str]
) -> None:
    def wrong(verb: str) -> tuple[int, bytes] | None:
        if verb == "claim":
            raise NotReady("h1 is busy", retry_after=1.0)
        return None

    rack.wrong = wrong
    h = harness(1, **zone)
    h.until(lambda: set(rack.claims) == {"h2"}, 120)


def test_volumes_and_deletions_of_a_host_that_refuses_say_so_of_that_host_alone(rack: Rack) -> None:
    def wrong(verb: str) -> tuple[int, bytes] | None:
        raise REFUSALS[0]

    rack.wrong = wrong
    made = build(SshConfig.model_validate({"hosts": ["h1"]}), Context(installation="one"))
    mark = Mark(installation="one", cluster="c", cluster_name="c", kind="Volume", maker="m")
    ref = Ref(id="h1/data", mark=mark)
    volumes = made.volumes
    assert volumes is not None
    want = VolumeSpec(mark=mark, token="m", name="data", size=4096, place="h1")
    try:
        for act in (
            lambda: volumes.ensure(want),
            lambda: volumes.attach(ref, ref),
            lambda: volumes.detach(ref, ref),
            lambda: volumes.delete(ref),
        ):
            with pytest.raises(NotReady, match="presents another key"):
                act()
        (result,) = made.machines.delete([ref])
        assert not isinstance(result.error, Denied)
        with pytest.raises(NotReady):
            made.machines.reboot(ref)
    finally:
        made.close()
