"""The LoadBalancerSupplier: a wish becomes a configuration on the machine that is lent for it, and what runs there becomes a state.

All that is known lies on that machine, with the mark; so observing is looking at every machine that is lent, and one that does not
answer is neither there nor gone. A call is one script on one machine, run by `hosts.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from kubeup_core import (
    BaseMachines,
    Capabilities,
    Context,
    Host,
    Identity,
    InvalidSpec,
    Launch,
    LoadBalancerSpec,
    LoadBalancerState,
    Mark,
    NotFound,
    NotReady,
    Outcome,
    Phase,
    Problem,
    Ref,
    Result,
    Scope,
    Snapshot,
    SupplierError,
    Suppliers,
    Template,
)

from . import pairs, rendering, states
from .config import HaproxyConfig, HaproxyOverrides, overrides
from .hosts import BUDGET, SCRIPT, Found, Machine, Wanted

WORKERS = 8
"""Machines that are looked at side by side: nearly all of the time is waiting for them."""


def suppliers(config: HaproxyConfig, context: Context) -> Suppliers:
    workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="haproxy")
    return Suppliers(
        identity=Identity(key=f"haproxy:{context.installation}", principal="root on the machines that are lent"),
        capabilities=Capabilities(
            hosts=config.hosts,
            members_by=frozenset({"address"}),
            budgets={BUDGET: (200.0, 50.0)},
            clean=f"{SCRIPT}wipe\n",
        ),
        machines=NoMachines(),
        load_balancers=HaproxyBalancers(context, workers, pair=config.hosts > 1),
        close=lambda: workers.shutdown(wait=False, cancel_futures=True),
    )


def id_of(mark: Mark) -> str:
    """The same on every machine that the balancer ever runs on."""
    return f"haproxy-{mark.maker}"


class HaproxyBalancers:
    def __init__(self, context: Context, workers: ThreadPoolExecutor, *, pair: bool = False) -> None:
        self._context = context
        self._pair = pair
        self._workers = workers

    def ensure(self, want: LoadBalancerSpec) -> LoadBalancerState:
        rendering.check(want)
        settings = overrides(want.overrides)
        if not want.hosts:
            raise NotReady(f"no machine is lent to load balancer {want.name} yet")
        vip = pairs.address(want, settings) if len(want.hosts) > 1 or self._pair else ""
        served: list[tuple[LoadBalancerState, bool]] = []
        errors: list[SupplierError] = []
        for host in want.hosts if vip else want.hosts[:1]:
            try:
                served.append(self._serve(want, settings, host, vip))
            except SupplierError as error:
                errors.append(error)
        if not served:
            raise errors[0]
        return replace(_of_all(served), error=errors[0] if errors else None)

    def _serve(
        self, want: LoadBalancerSpec, settings: HaproxyOverrides, host: Host, vip: str
    ) -> tuple[LoadBalancerState, bool]:
        """One machine of it, and whether the address is there."""
        machine, wanted = Machine(host, self._context.charge), _wanted(want, settings, host, vip)
        found = machine.apply(wanted)
        if found is not None:
            return _state(found, host, want.mark), found.holder
        machine.install(settings.source, settings.packages, "haproxy socat keepalived" if vip else "haproxy socat")
        ref = Ref(id=id_of(want.mark), mark=want.mark)
        return LoadBalancerState(ref=ref, phase=Phase.PENDING, addresses=(vip or host.address,)), False

    def observe(self, scope: Scope) -> Snapshot[LoadBalancerState]:
        hosts = list(self._context.hosts())
        seen = list(zip(hosts, self._workers.map(self._look, hosts), strict=True))
        items: dict[str, list[tuple[LoadBalancerState, bool]]] = {}
        unreachable = False
        for host, found in seen:
            if isinstance(found, SupplierError):
                if host.mark is None:
                    unreachable = True
                elif scope.covers(host.mark):
                    ref = Ref(id=id_of(host.mark), mark=host.mark)
                    silent = LoadBalancerState(ref=ref, phase=Phase.UNKNOWN, addresses=() if self._pair else (host.address,))
                    items.setdefault(ref.id, []).append((silent, False))
            elif found.mark is not None and scope.covers(found.mark):
                state = _state(found, host, found.mark)
                items.setdefault(state.ref.id, []).append((state, found.holder))
        return Snapshot(
            items=tuple(_of_all(found) for found in items.values()),
            unreachable=frozenset({"*"}) if unreachable else frozenset(),
        )

    def delete(self, ref: Ref) -> None:
        """From every machine that it is on: while a machine is replaced there may be two."""
        found = False
        for host in self._context.hosts():
            if host.mark is not None and not host.mark.same(ref.mark):
                continue  # lent to another one, which may not answer just now
            machine = Machine(host, self._context.charge)
            there = machine.look()
            if there.mark is None:
                continue
            if there.mark.same(ref.mark) and ref.id == id_of(there.mark):
                machine.remove(ref.mark)
                found = True
            elif ref.id == id_of(there.mark) or there.mark.same(ref.mark):
                raise NotFound(f"{ref.id} carries another mark")
        if not found and ref.id != id_of(ref.mark):
            raise NotFound(f"there is no {ref.id} with this mark")

    def _look(self, host: Host) -> Found | SupplierError:
        try:
            return Machine(host, self._context.charge).look()
        except SupplierError as error:
            return error


_BEST = (Phase.RUNNING, Phase.PENDING, Phase.PARTIAL, Phase.STOPPED, Phase.UNKNOWN)


def _of_all(states: Sequence[tuple[LoadBalancerState, bool]]) -> LoadBalancerState:
    """One balancer on all its machines: it is what the best of them is, the one that holds their address first."""
    return min(states, key=lambda one: (_BEST.index(one[0].phase), not one[1]))[0]


def _wanted(want: LoadBalancerSpec, settings: HaproxyOverrides, host: Host, vip: str) -> Wanted:
    address = vip or host.address
    config = rendering.render(want, settings, address, elsewhere=bool(vip))
    drains = {m.key: m.drain for m in want.members}
    members = sorted(m.key for m in want.members if m.drain)
    files = {rendering.ca_file(settings): settings.health_ca} if settings.health_ca else {}
    if vip:
        files["keepalived.conf"] = pairs.render(want, host, vip)
    return Wanted(
        mark=want.mark,
        digest=hashlib.sha256(f"{config}\n{sorted(drains.items())}\n{files}".encode()).hexdigest()[:16],
        shape=rendering.shape(want, settings, address, elsewhere=bool(vip)),
        config=config,
        record={"name": want.name, "address": address, "members": drains},
        drains=tuple(f"{rendering.backend(li)}/{key}" for li in want.listeners for key in members),
        files=files,
        vip=vip,
    )


def _state(found: Found, host: Host, mark: Mark) -> LoadBalancerState:
    ref = Ref(id=id_of(mark), mark=mark)
    record: Any = found.record
    if record is None:
        return LoadBalancerState(ref=ref, phase=Phase.PARTIAL, addresses=(host.address,))
    members = states.members(found.now, found.before, record["members"])
    phase = Phase.RUNNING if found.running else Phase.STOPPED
    return LoadBalancerState(ref=ref, phase=phase, addresses=(record["address"],), members=members)


class NoMachines(BaseMachines):
    """Every Provider has to answer; this one lends nothing, it borrows."""

    def check(self, want: Template) -> Sequence[Problem]:
        return (
            Problem(
                path="spec.provider",
                message="a Provider of type haproxy has load balancers only",
                remedy="name a Provider that has machines; haproxy belongs into spec.loadBalancers.provider",
            ),
        )

    def offers(self, want: Template) -> Sequence[Any]:
        return ()

    def launch(self, launch: Launch) -> Sequence[Result]:
        raise InvalidSpec("a Provider of type haproxy has no machines", path="spec.provider", remedy="name one that has")

    def observe(self, scope: Scope) -> Snapshot[Any]:
        return Snapshot(items=())

    def delete(self, refs: Sequence[Ref]) -> Sequence[Result]:
        return tuple(Result(id=ref.id, outcome=Outcome.MADE) for ref in refs)
