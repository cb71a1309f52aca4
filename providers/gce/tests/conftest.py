"""One emulator for all tests of this distribution, and no way out: a name other than this machine's cannot be looked up."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from kubeup_core import (
    Context,
    Launch,
    LBMember,
    Listener,
    LoadBalancerSpec,
    MachineState,
    Mark,
    Member,
    NetworkSpec,
    Scope,
    Suppliers,
    Template,
    VolumeSpec,
)
from kubeup_emulators.gce import Emulator, World
from kubeup_gce import GceConfig, build

GiB = 1024**3
_LOOK_UP = socket.getaddrinfo


def _only_here(host: Any, *args: Any, **kwargs: Any) -> Any:
    if host not in (None, "localhost", "127.0.0.1", b"localhost", b"127.0.0.1"):
        raise AssertionError(f"a test wanted to leave this machine, for {host}")
    return _LOOK_UP(host, *args, **kwargs)


@pytest.fixture(autouse=True)
def _nothing_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """For each test by itself: other distributions' tests run in the same process, and look names up."""
    monkeypatch.setattr(socket, "getaddrinfo", _only_here)


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    made = Emulator()
    yield made
    made.stop()


class Place:
    """A project of its own, and what an installation does in it."""

    def __init__(self, emulator: Emulator, **config: Any) -> None:
        self.world: World = emulator.world()
        self.config = GceConfig(project=self.world.project, region="us-central1", endpoint=emulator.url, **config)
        self.charges: list[str] = []
        self.suppliers: Suppliers = self.build()

    def build(self, installation: str = "home", **context: Any) -> Suppliers:
        values = {"charge": lambda bucket, amount: self.charges.append(bucket), **context}
        return build(self.config, Context(installation=installation, **values))

    def mark(self, kind: str, **more: Any) -> Mark:
        values = {"installation": "home", "cluster": "c-1", "cluster_name": "demo", "maker": str(uuid.uuid4()), **more}
        return Mark(kind=kind, **values)

    def template(self, **more: Any) -> Template:
        return Template(**{"cpu": 2, "memory": 4 * GiB, "disk": 20 * GiB, "arch": "amd64", "image": "debian-12", **more})

    def network(self, **more: Any) -> Any:
        """A running one, with its spec."""
        want = NetworkSpec(**{"mark": self.mark("Network"), "name": "demo", **more})
        assert self.suppliers.networks is not None
        for _ in range(60):
            state = self.suppliers.networks.ensure(want)
            if state.phase == "Running":
                return want, state
            self.world.advance()
        raise AssertionError("the network does not come up")

    def launch(self, count: int = 1, zone: str = "us-central1-a", **more: Any) -> Launch:
        """Not submitted. In a network that is made once."""
        if not hasattr(self, "_data"):
            self._data = dict(self.network()[1].data)
        mark = self.mark("Machine")
        template = more.pop("template", None) or self.template()
        offer = next(o for o in self.suppliers.machines.offers(template) if o.place == zone)
        members = tuple(Member(name=f"w-{mark.maker[:4]}-{i}") for i in range(count))
        values = {"members": members, "role": "worker", "network": self._data, **more}
        return Launch(mark=mark, token=mark.maker, template=template, offer=offer, **values)

    def run(self, launch: Launch) -> list[MachineState]:
        self.suppliers.machines.launch(launch)
        for _ in range(10):
            self.world.advance()
        return self.of(launch)

    def of(self, launch: Launch) -> list[MachineState]:
        seen = self.suppliers.machines.observe(Scope(installation="home")).items
        return sorted((s for s in seen if s.ref.mark.maker == launch.mark.maker), key=lambda s: s.ref.mark.index)

    def volume_spec(self, **more: Any) -> VolumeSpec:
        mark = self.mark("Volume")
        return VolumeSpec(
            **{"mark": mark, "token": mark.maker, "name": "data", "size": 10 * GiB, "place": "us-central1-a", **more}
        )

    def volume(self, **more: Any) -> Any:
        want = self.volume_spec(**more)
        assert self.suppliers.volumes is not None
        for _ in range(30):
            state = self.suppliers.volumes.ensure(want)
            if state.phase == "Running":
                return want, state
            self.world.advance()
        raise AssertionError("the volume does not come up")

    def balancer_spec(self, members: list[MachineState] | None = None, drain: float = 30.0, **more: Any) -> LoadBalancerSpec:
        if not hasattr(self, "_data"):
            self._data = dict(self.network()[1].data)
        values = {
            "mark": self.mark("LoadBalancer"),
            "name": "front",
            "internal": False,
            "listeners": (Listener(port=80, target=80, drain=drain),),
            "members": tuple(self.member(state) for state in members or []),
            "network": self._data,
            **more,
        }
        return LoadBalancerSpec(**values)

    def member(self, state: MachineState, *, drain: bool = False) -> LBMember:
        return LBMember(key=state.name, ref=state.ref, address=state.internal[0], place=state.place, drain=drain)

    def balancer(self, want: LoadBalancerSpec) -> Any:
        assert self.suppliers.load_balancers is not None
        for _ in range(60):
            state = self.suppliers.load_balancers.ensure(want)
            if state.phase == "Running":
                return state
            self.world.advance()
        raise AssertionError("the load balancer does not come up")


@pytest.fixture
def place(emulator: Emulator) -> Iterator[Place]:
    made = Place(emulator)
    yield made
    made.suppliers.close()
