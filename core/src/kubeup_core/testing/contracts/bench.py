"""What the contract tests work with: two installations at one place, launches, waiting by advancing, and death between requests.

`Context.charge` comes before each API request, so the bench can stop a supplier between any two of them without knowing its
SDK: a `dies_at(n)` is a process killed there, a `broke_at(n)` a budget spent there. Nothing here sleeps: time passes by
`Rig.advance` alone.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from ...errors import Blocked, NotReady, SupplierError, Unknown
from ...supplier import (
    Context,
    Data,
    Launch,
    MachineState,
    Mark,
    Member,
    NetworkSpec,
    Offer,
    Outcome,
    Phase,
    Ref,
    Result,
    Scope,
    Snapshot,
    Suppliers,
    Template,
)
from .checks import ALIVE
from .rig import Rig
from .waiting import Waited, no_sleep_in

T = TypeVar("T")


class Killed(BaseException):
    """The process dies here. No supplier may catch it: a dead process catches nothing."""


@dataclass
class Fuse:
    """Blows at the n-th request from now, and at every one after it."""

    left: int
    error: Callable[[], BaseException]
    blown: bool = False


class Bench:
    """One place with installation A (`bench.a`) and, when asked for, installation B (`bench.b`)."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.installations = (uuid.uuid4().hex[:12], uuid.uuid4().hex[:12])
        self.charges: list[str] = []
        self.fuse: Fuse | None = None
        self._lock = threading.Lock()
        self._built: list[Suppliers] = []
        self._b: Suppliers | None = None
        self._networks: dict[str, Data] = {}
        self._slots: set[str] = set()
        self.kept: dict[str, Any] = {}  # what one test makes once and uses again
        self.a = self._build(self.installations[0])

    @property
    def b(self) -> Suppliers:
        if self._b is None:
            self._b = self._build(self.installations[1])
        return self._b

    def restart(self) -> Suppliers:
        """The process of installation A is new: nothing of the old one's memory is left."""
        self.a = self._build(self.installations[0])
        return self.a

    def context(self, installation: str = "") -> Context:
        return Context(installation=installation or self.installations[0], provider="contracts", charge=self._charge)

    def close(self) -> None:
        for suppliers in self._built:
            suppliers.close()
        self.rig.close()

    # -- time ----------------------------------------------------------------------------------------------------------

    def until(self, look: Callable[[], T | None], what: str) -> T:
        """The first true value of look(), advancing in between."""
        for _ in range(self.rig.patience):
            value = look()
            if value:
                return value
            self.rig.advance()
        raise AssertionError(f"{what}: not so after {self.rig.patience} advances")

    def settle(self) -> None:
        for _ in range(self.rig.settle_steps):
            self.rig.advance()

    def patiently(self, call: Callable[[], T], what: str) -> T:
        """The result of a call that may say NotReady, Blocked or Unknown for a while."""
        last: SupplierError | None = None
        for _ in range(self.rig.patience):
            try:
                return call()
            except (NotReady, Blocked, Unknown) as error:
                last = error
            self.rig.advance()
        raise AssertionError(f"{what} still fails after {self.rig.patience} advances: {last!r}") from last

    def must_not_wait(self, call: Callable[[], T], what: str) -> T:
        """The result of a call, which neither sleeps nor takes longer than Rig.longest_call."""
        box: list[T] = []
        raised: list[BaseException] = []

        def run() -> None:
            try:
                box.append(call())
            except BaseException as error:  # handed on to the test's thread
                raised.append(error)

        thread = threading.Thread(target=run, daemon=True)
        with no_sleep_in(thread, self.rig.wires):
            thread.start()
            thread.join(self.rig.longest_call)
        assert not thread.is_alive(), f"{what} did not come back within {self.rig.longest_call} s: it waits for something"
        if raised and isinstance(raised[0], Waited):
            raise AssertionError(f"{what} sleeps ({raised[0]}); submit and return, the core's clock does the waiting")
        if raised:
            raise raised[0]
        return box[0]

    def together(self, calls: Sequence[Callable[[], T]]) -> list[T | BaseException]:
        """What several threads got that called at the same time."""
        gate = threading.Barrier(len(calls))
        results: list[T | BaseException | None] = [None] * len(calls)

        def run(index: int) -> None:
            gate.wait(30)
            try:
                results[index] = calls[index]()
            except BaseException as error:  # handed on to the test's thread
                results[index] = error

        threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(calls))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(self.rig.longest_call, 30))
        assert not any(thread.is_alive() for thread in threads), "a call did not come back when several threads called"
        return [result for result in results if result is not None]

    # -- requests ------------------------------------------------------------------------------------------------------

    @contextmanager
    def dies_at(self, request: int) -> Iterator[Fuse]:
        """Inside, the process is killed before its request number `request` (from 0); the test goes on after it."""
        with self._fused(Fuse(request, lambda: Killed(f"before request {request}"))) as fuse:
            try:
                yield fuse
            except Killed:
                pass
            except Exception:  # the death may come out wrapped by a thread pool; what matters is what is left at the place
                if not fuse.blown:
                    raise

    @contextmanager
    def broke_at(self, request: int) -> Iterator[Fuse]:
        """Inside, the budget is spent from request number `request` on."""
        with self._fused(Fuse(request, lambda: NotReady("the request budget is spent", retry_after=1))) as fuse:
            yield fuse

    def charged(self, name: str, call: Callable[[], object]) -> None:
        """The call is charged at least once, and as often as requests arrive at the place."""
        requests = self.rig.requests or (lambda: 0)
        charged, sent = len(self.charges), requests()
        call()
        charged, sent = len(self.charges) - charged, requests() - sent
        assert charged >= max(1, sent), f"{name}: Context.charge was called {charged} times for {sent or 'its'} requests"

    @contextmanager
    def _fused(self, fuse: Fuse) -> Iterator[Fuse]:
        self.fuse = fuse
        try:
            yield fuse
        finally:
            self.fuse = None

    def _charge(self, bucket: str, cost: float) -> None:
        with self._lock:
            self.charges.append(bucket)
            fuse = self.fuse
            if fuse is None:
                return
            if fuse.left > 0:
                fuse.left -= 1
                return
            fuse.blown = True
        raise fuse.error()

    # -- machines ------------------------------------------------------------------------------------------------------

    def mark(
        self, kind: str, *, installation: str = "", cluster: str = "cluster-1", maker: str = "", keep: bool = False
    ) -> Mark:
        return Mark(
            installation=installation or self.installations[0],
            cluster=cluster,
            cluster_name="contract",
            kind=kind,
            maker=maker or str(uuid.uuid4()),
            keep=keep,
        )

    def launch(
        self,
        count: int = 0,
        *,
        suppliers: Suppliers | None = None,
        cluster: str = "cluster-1",
        members: tuple[Member, ...] = (),
        offer: Offer | None = None,
        template: Template | None = None,
    ) -> Launch:
        """A new Launch, not submitted. count: members, as many as the rig allows when 0."""
        suppliers = suppliers or self.a
        count = count or max(1, min(self.rig.members, suppliers.capabilities.batch_limit))
        template = template or self.rig.template
        offer = offer or self._offer(suppliers, count)
        mark = self.mark("Machine", installation=self._installation(suppliers), cluster=cluster)
        stem = f"contract-{mark.maker[:6]}"
        return Launch(
            mark=mark,
            token=mark.maker,
            template=template,
            offer=offer,
            role="worker",
            members=members or tuple(Member(name=f"{stem}-{i}", slot=self._slot(offer)) for i in range(count)),
            user_data=b"",
            network=self.network(suppliers),
        )

    def _offer(self, suppliers: Suppliers, count: int) -> Offer:
        """The first; of an inventory, the first with so many slots that no other launch of this test has."""
        offers = self.offers(suppliers)
        return next((o for o in offers if o.slots is None or len(set(o.slots) - self._slots) >= count), offers[0])

    def offers(self, suppliers: Suppliers | None = None) -> Sequence[Offer]:
        machines = (suppliers or self.a).machines
        offers = self.patiently(lambda: machines.offers(self.rig.template), "offers")
        assert offers, f"there is no offer for the rig's template; check says {list(machines.check(self.rig.template))}"
        return offers

    def network(self, suppliers: Suppliers) -> Data:
        """Data of a network for launches of these suppliers; made once per installation."""
        if self.rig.network is not None:
            return self.rig.network
        networks = suppliers.networks
        if networks is None:
            return {}
        installation = self._installation(suppliers)
        if installation not in self._networks:
            mark = self.mark("Network", installation=installation)
            want = NetworkSpec(mark=mark, name=f"contract-{mark.maker[:6]}", overrides=self.rig.overrides)

            def made() -> Data | None:
                state = self.patiently(lambda: networks.ensure(want), "networks.ensure")
                return dict(state.data) or {"": ""} if state.phase == Phase.RUNNING else None

            data = self.until(made, "the network is RUNNING")
            self._networks[installation] = {key: value for key, value in data.items() if key}
        return self._networks[installation]

    def submit(self, launch: Launch, suppliers: Suppliers | None = None) -> Sequence[Result]:
        machines = (suppliers or self.a).machines
        return self.patiently(lambda: machines.launch(launch), "launch")

    def run(self, launch: Launch, suppliers: Suppliers | None = None) -> list[MachineState]:
        """Submit, and wait until every member is RUNNING. By index."""
        for index, result in enumerate(self.submit(launch, suppliers)):
            assert result.outcome not in (Outcome.REFUSED, Outcome.DEAD), f"member {index} of a new launch: {result}"
        return self.running(launch, suppliers)

    def running(self, launch: Launch, suppliers: Suppliers | None = None) -> list[MachineState]:
        """Wait until each member of the launch is seen RUNNING, once. By index."""

        def look() -> list[MachineState] | None:
            seen = [state for state in self.states(launch, suppliers) if state.phase == Phase.RUNNING]
            return seen if {state.ref.mark.index for state in seen} >= set(range(len(launch.members))) else None

        return self.until(look, f"all {len(launch.members)} members of the launch are observed RUNNING")

    def states(self, launch: Launch, suppliers: Suppliers | None = None) -> list[MachineState]:
        """Everything observed of this launch, also the dead, by index."""
        seen = self.snapshot(suppliers).items
        return sorted((s for s in seen if s.ref.mark.maker == launch.mark.maker), key=lambda s: (s.ref.mark.index, s.ref.id))

    def exactly(self, launch: Launch, suppliers: Suppliers | None = None) -> list[MachineState]:
        """All members run, and nothing else is alive of this launch, also after the place has settled."""
        self.running(launch, suppliers)
        self.settle()
        states = [state for state in self.states(launch, suppliers) if state.phase in ALIVE]
        indexes = [state.ref.mark.index for state in states]
        assert indexes == list(range(len(launch.members))), f"alive members by index: {indexes}, wanted one of each"
        return states

    def snapshot(self, suppliers: Suppliers | None = None, **scope: Any) -> Snapshot[MachineState]:
        suppliers = suppliers or self.a
        wanted = Scope(installation=self._installation(suppliers), **scope)
        return self.patiently(lambda: suppliers.machines.observe(wanted), "observe")

    def delete(self, refs: Sequence[Ref], suppliers: Suppliers | None = None) -> Sequence[Result]:
        machines = (suppliers or self.a).machines
        return self.patiently(lambda: machines.delete(refs), "delete")

    def clear(self, suppliers: Suppliers | None = None) -> None:
        """Delete all machines and strays of the installation until an observation shows none."""

        def empty() -> bool:
            seen = self.snapshot(suppliers)
            rest = [item.ref for item in seen.items if item.phase not in (Phase.DELETING, Phase.GONE)] + list(seen.strays)
            if rest:
                self.delete(rest, suppliers)
            return not rest and not seen.unreachable and all(item.phase == Phase.GONE for item in seen.items)

        self.until(empty, "no machine and no stray is left after their deletion")
        self._slots.clear()

    def _build(self, installation: str) -> Suppliers:
        suppliers = self.rig.build(self.context(installation))
        self._built.append(suppliers)
        return suppliers

    def _installation(self, suppliers: Suppliers) -> str:
        return self.installations[1] if suppliers is self._b else self.installations[0]

    def _slot(self, offer: Offer) -> str:
        if offer.slots is None:
            return ""
        free = [slot for slot in offer.slots if slot not in self._slots]
        assert free, f"the rig's offer has too few slots for this test: {offer.slots}"
        self._slots.add(free[0])
        return free[0]
