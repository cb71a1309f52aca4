"""A simulated account with a clock that a test turns by hand, and short ways to ask kubeup's suppliers for things."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubeup_core.runtime.clock import FakeClock
from kubeup_core.supplier import (
    Context,
    Launch,
    LBMember,
    Listener,
    LoadBalancerSpec,
    MachineState,
    Mark,
    Member,
    NetworkSpec,
    Offer,
    Ref,
    Result,
    Scope,
    Suppliers,
    Template,
    VolumeSpec,
)
from kubeup_sim import Cloud, SimConfig, build

GIB = 1024**3
NUMBERS = itertools.count()


class Sim:
    """The account, and what an installation does with it. In memory, unless a file is given."""

    def __init__(self, file: Path | None = None, account: str = "default") -> None:
        self.clock = FakeClock()
        name = None if file else f"test-{next(NUMBERS)}"
        self.where = str(file) if file else f"memory:{name}"
        self.cloud = Cloud(clock=self.clock, name=name, file=file, account=account)
        self.account = account
        self.config: dict[str, Any] = {}

    def build(self, installation: str = "home", context: Context | None = None, **config: Any) -> Suppliers:
        """Suppliers of an installation, with what `self.config` says and what is given."""
        values = {"file": self.where, "account": self.account, **self.config, **config}
        return build(SimConfig.model_validate(values), context or Context(installation=installation))

    def mark(self, kind: str, installation: str = "home", **more: Any) -> Mark:
        mark = {"cluster": "c-1", "cluster_name": "demo", "maker": str(uuid.uuid4()), **more}
        return Mark(installation=installation, kind=kind, **mark)

    def template(self, **more: Any) -> Template:
        return Template(**{"cpu": 2, "memory": 4 * GIB, "disk": 20 * GIB, "arch": "amd64", "image": "debian-12", **more})

    def offer(self, suppliers: Suppliers, place: str = "", **more: Any) -> Offer:
        """The cheapest, in a place."""
        return next(o for o in suppliers.machines.offers(self.template(**more)) if place in ("", o.place))

    def launch(self, suppliers: Suppliers, count: int = 1, place: str = "", installation: str = "home", **more: Any) -> Launch:
        """Not submitted."""
        mark = self.mark("Machine", installation)
        template = self.template(spot=more.pop("spot", False))
        offer = more.pop("offer", None) or next(o for o in suppliers.machines.offers(template) if place in ("", o.place))
        slots = offer.slots or [""] * count
        members = tuple(Member(name=f"w-{mark.maker[:4]}-{i}", slot=slots[i]) for i in range(count))
        values = {"members": members, "role": "worker", "user_data": b"#!/bin/sh\n", **more}
        return Launch(mark=mark, token=mark.maker, template=template, offer=offer, **values)

    def run(self, suppliers: Suppliers, count: int = 1, place: str = "", **more: Any) -> list[MachineState]:
        """Launched, and running: time passes."""
        launch = self.launch(suppliers, count, place, **more)
        suppliers.machines.launch(launch)
        self.clock.advance(10)
        return [s for s in self.seen(suppliers, launch.mark.installation) if s.ref.mark.maker == launch.mark.maker]

    def seen(self, suppliers: Suppliers, installation: str = "home", doubt: tuple[Ref, ...] = ()) -> list[MachineState]:
        return list(suppliers.machines.observe(Scope(installation=installation, doubt=doubt)).items)

    def network_spec(self, **more: Any) -> NetworkSpec:
        return NetworkSpec(**{"mark": self.mark("Network"), "name": "demo", **more})

    def network(self, suppliers: Suppliers, **more: Any) -> tuple[NetworkSpec, Any]:
        """A spec and its running network: time passes."""
        want = self.network_spec(**more)
        suppliers.networks.ensure(want)
        self.clock.advance(1)
        return want, suppliers.networks.ensure(want)

    def balancer_spec(self, members: list[MachineState] | None = None, drain: float = 30.0, **more: Any) -> LoadBalancerSpec:
        values = {
            "mark": self.mark("LoadBalancer"),
            "name": "front",
            "internal": False,
            "listeners": (Listener(port=80, target=8080, drain=drain),),
            "members": tuple(self.member(state) for state in members or []),
            **more,
        }
        return LoadBalancerSpec(**values)

    def member(self, state: MachineState, *, drain: bool = False) -> LBMember:
        return LBMember(key=state.name, ref=state.ref, address=state.internal[0], drain=drain)

    def volume_spec(self, **more: Any) -> VolumeSpec:
        mark = self.mark("Volume")
        values = {"mark": mark, "token": mark.maker, "name": "data", "size": GIB, "place": "sim-1a", **more}
        return VolumeSpec(**values)

    def volume(self, suppliers: Suppliers, **more: Any) -> tuple[VolumeSpec, Any]:
        """A spec and its volume, ready: time passes."""
        want = self.volume_spec(**more)
        suppliers.volumes.ensure(want)
        self.clock.advance(1)
        return want, suppliers.volumes.ensure(want)

    def outcomes(self, results: Any) -> list[str]:
        return [str(result.outcome.value) for result in results]

    def errors(self, results: Any) -> list[Any]:
        return [result.error for result in results if isinstance(result, Result) and result.error is not None]


@pytest.fixture
def sim() -> Iterator[Sim]:
    made = Sim()
    yield made
    made.cloud.close()


@pytest.fixture
def new_sim(tmp_path: Path) -> Iterator[Callable[..., Sim]]:
    """Makes further ones; `new_sim(file=...)` in a file."""
    made: list[Sim] = []

    def make(**options: Any) -> Sim:
        made.append(Sim(**options))
        return made[-1]

    yield make
    for each in made:
        each.cloud.close()
