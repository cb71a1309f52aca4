"""The runtime: queue, cache, calls in threads, observation and proofs of absence, the manager with real threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from kubeup_core.bootstrap import bootstrap
from kubeup_core.controllers import all_controllers
from kubeup_core.errors import Denied, NoCapacity, NotReady, Unknown
from kubeup_core.errors import Place as Reach
from kubeup_core.inprocess import InProcess
from kubeup_core.kinds import Cluster, Machine, NodePool, Provider
from kubeup_core.kinds.builtins import Event as EventObject
from kubeup_core.kinds.cluster import ClusterSpec
from kubeup_core.kinds.machine import MachineSpec, MachineStatus
from kubeup_core.kinds.nodepool import NodePoolSpec
from kubeup_core.kinds.provider import ProviderSpec
from kubeup_core.objects import ObjectMeta
from kubeup_core.plugins import Plugins, discover
from kubeup_core.runtime.budgets import Budget, Budgets, Meter
from kubeup_core.runtime.cache import Cache, CachedClient
from kubeup_core.runtime.calls import Calls, Dropped, InProgress
from kubeup_core.runtime.clock import FakeClock, SystemClock
from kubeup_core.runtime.controller import Controller, Env, Key, Result
from kubeup_core.runtime.inventory import Inventory
from kubeup_core.runtime.manager import Manager
from kubeup_core.runtime.places import Place, Places
from kubeup_core.runtime.queue import Queue
from kubeup_core.store import Store
from kubeup_core.supplier import Capabilities, Identity, MachineState, Mark, Phase, Ref, Scope, Snapshot, Suppliers
from kubeup_core.verbs import Verbs

A, B = ("machine", Key("default", "a")), ("machine", Key("default", "b"))
SECONDS = 60.0
"""How long a test waits for a thread before it fails; passing tests wait for no time at all."""


# -- queue ---------------------------------------------------------------------------------------------------------------


def test_an_item_that_is_added_twice_is_worked_on_once() -> None:
    queue = Queue(FakeClock())
    queue.add(A)
    queue.add(A)
    assert queue.poll() == A
    assert queue.poll() is None


def test_an_item_that_is_being_worked_on_is_not_handed_out_again_before_it_is_done() -> None:
    queue = Queue(FakeClock())
    queue.add(A)
    assert queue.poll() == A
    queue.add(A)
    assert queue.poll() is None
    queue.done(A)
    assert queue.poll() == A


def test_the_earlier_of_two_times_counts() -> None:
    clock = FakeClock()
    queue = Queue(clock)
    queue.add(A, 10)
    queue.add(A, 3)
    queue.add(A, 20)
    clock.advance(3)
    assert queue.poll() == A
    queue.done(A)
    clock.advance(30)
    assert queue.poll() is None


def test_a_wait_of_a_rounding_error_still_lets_time_pass() -> None:
    clock = FakeClock()
    clock.advance(100_000)
    queue = Queue(clock)
    queue.add(A, 1e-12)
    assert queue.poll() is None
    clock.advance(0.01)
    assert queue.poll() == A


def test_failures_are_repeated_later_and_later_and_success_starts_anew() -> None:
    queue = Queue(FakeClock())
    waits = [queue.retry(A) for _ in range(12)]
    assert waits == sorted(waits)
    assert waits[-1] < 200
    queue.forget(A)
    assert queue.retry(A) == waits[0]


def test_mere_periodic_looks_do_not_count_as_something_in_flight() -> None:
    queue = Queue(FakeClock())
    queue.add(A, 600, slow=True)
    assert queue.next_due() is None
    assert queue.next_due(slow=True) == 600
    queue.add(B, 5)
    assert queue.next_due() == 5


# -- cache ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(tmp_path: Path) -> Any:
    store = Store(tmp_path / "state.db")
    verbs = Verbs(store, clock=FakeClock())
    bootstrap(verbs, now=0)
    yield InProcess(verbs, inline=True)
    store.close()


def machine(name: str = "m", finalizers: list[str] | None = None) -> Machine:
    return Machine(metadata=ObjectMeta(name=name, namespace="default", finalizers=finalizers), spec=MachineSpec(cluster="demo"))


def test_a_write_is_in_the_cache_before_it_returns_even_when_the_watch_is_slow(client: InProcess) -> None:
    cache = Cache()
    written = CachedClient(client, cache).create(machine())
    assert cache.get(Machine, "m", "default") == written
    assert cache.by(Machine, "cluster", "default/demo") == [written]


def test_a_change_of_ones_own_is_told_with_what_it_replaced(client: InProcess) -> None:
    """The watch need not decode again what its own process has just written."""
    cache = Cache()
    writer = CachedClient(client, cache)
    old = writer.create(machine())
    changed = cache.copy(old)
    changed.status.state = "Ready"
    new = writer.update_status(changed)
    event = cache.known(Machine, "default", "m", int(new.metadata.resource_version or 0))
    assert event is not None
    assert (event.type, event.object, event.old) == ("MODIFIED", new, old)
    assert cache.known(Machine, "default", "m", int(old.metadata.resource_version or 0)) is None


def test_an_older_state_never_replaces_a_newer_one(client: InProcess) -> None:
    cache = Cache()
    writer = CachedClient(client, cache)
    old = writer.create(machine())
    changed = cache.copy(old)
    changed.status.state = "Ready"
    new = writer.update_status(changed)
    assert not cache.put(old)
    assert cache.get(Machine, "m", "default") == new


def test_an_object_whose_last_finalizer_was_dropped_does_not_come_back(client: InProcess) -> None:
    cache = Cache()
    writer = CachedClient(client, cache)
    writer.create(machine(finalizers=["kubeup.dev/machine"]))
    writer.delete(Machine, "m", "default")
    deleting = cache.get(Machine, "m", "default")
    assert deleting is not None
    assert deleting.deleting
    last = cache.copy(deleting)
    last.metadata.finalizers = None
    writer.update(last)
    assert cache.get(Machine, "m", "default") is None
    assert not cache.put(deleting), "a watch that is behind must not bring it back"


# -- calls ---------------------------------------------------------------------------------------------------------------


@dataclass
class FakeMachines:
    """Shows what a test put there."""

    items: list[MachineState] = field(default_factory=list)
    unreachable: frozenset[str] = frozenset()
    error: Exception | None = None
    scopes: list[Scope] = field(default_factory=list)

    def observe(self, scope: Scope) -> Snapshot[MachineState]:
        self.scopes.append(scope)
        if self.error is not None:
            raise self.error
        return Snapshot(items=tuple(self.items), unreachable=self.unreachable)


class Bench:
    """Calls and inventory over one place."""

    def __init__(self, *, inline: bool, settle: float = 0.0) -> None:
        self.clock = FakeClock()
        self.woken: list[tuple[str, Key]] = []
        self.called = threading.Semaphore(0)
        self.places = Places(self.clock)
        self.machines = FakeMachines()
        suppliers = Suppliers(
            identity=Identity(key="acct", principal="me"),
            capabilities=Capabilities(settle=settle),
            machines=cast(Any, self.machines),
        )
        provider = Provider(metadata=ObjectMeta(name="p"), spec=ProviderSpec(type="sim"))
        self.place = Place("p", provider, built=suppliers, fault=("", ""), held=True)
        self.places.put(self.place)
        self.calls = Calls(self.clock, self.places, self.wake, inline=inline)
        self.inventory = Inventory(self.clock, self.places, self.calls, self.wake, "inst")

    def wake(self, controller: str, key: Key, after: float = 0.0) -> None:
        self.woken.append((controller, key))
        self.called.release()

    def do(self, fn: Callable[[], Any], target: str = "t", token: str = "", **options: Any) -> Any:
        return self.calls.do(self.place, target, "verb", fn, wake=A, token=token, **options)

    def ended(self) -> None:
        assert self.called.acquire(timeout=SECONDS), "the call has not ended"

    def observe(self, seconds: float = 1.0) -> None:
        self.clock.advance(seconds)
        self.inventory.reconcile(Key("machines", "acct"))


def test_a_call_leaves_the_reconcile_and_its_value_is_there_at_the_next() -> None:
    bench = Bench(inline=False)
    with pytest.raises(InProgress):
        bench.do(lambda: 42)
    bench.ended()
    assert bench.woken == [A]
    assert bench.do(lambda: 43) == 42
    bench.calls.close()


def test_what_is_not_a_supplier_error_arrives_as_unknown() -> None:
    bench = Bench(inline=True)
    with pytest.raises(Unknown) as caught:
        bench.do(lambda: cast(Any, None).parse())
    assert isinstance(caught.value.__cause__, AttributeError)
    assert bench.place.last_unknown == bench.clock.awake()


def test_a_result_of_another_token_is_dropped() -> None:
    bench = Bench(inline=False)
    with pytest.raises(InProgress):
        bench.do(lambda: "old", token="1")
    bench.ended()
    with pytest.raises(InProgress):
        bench.do(lambda: "new", token="2")
    bench.ended()
    assert bench.do(lambda: "", token="2") == "new"
    bench.calls.close()


def test_an_abandoned_call_is_unknown_once_and_holds_its_target_until_it_returns() -> None:
    bench = Bench(inline=False)
    release = threading.Event()
    with pytest.raises(InProgress):
        bench.do(lambda: release.wait(SECONDS), limit=60)
    bench.clock.advance(61)
    with pytest.raises(Unknown):
        bench.do(lambda: "second", limit=60)
    with pytest.raises(InProgress):
        bench.do(lambda: "second", limit=60)
    assert bench.calls.busy(bench.place, "t")
    with pytest.raises(InProgress):
        bench.do(lambda: "another target", target="u")
    bench.ended()
    release.set()
    bench.ended()
    assert not bench.calls.busy(bench.place, "t")
    with pytest.raises(InProgress):
        bench.do(lambda: "second", limit=60)
    bench.calls.close()


def test_a_call_to_no_place_leaves_the_reconcile_and_its_error_arrives_as_it_is() -> None:
    bench = Bench(inline=False)

    def ask(fn: Callable[[], Any], verb: str = "verb", token: str = "") -> Any:
        return bench.calls.background("workload/x", "the API of x", verb, fn, wake=A, token=token, limit=30)

    with pytest.raises(InProgress):
        ask(lambda: 42)
    bench.ended()
    assert ask(lambda: 43) == 42
    with pytest.raises(InProgress):
        ask(lambda: _raise(KeyError("x")))
    bench.ended()
    with pytest.raises(KeyError):
        ask(lambda: 43)
    with pytest.raises(InProgress):
        ask(lambda: "old", token="1")
    bench.ended()
    with pytest.raises(InProgress):
        ask(lambda: "new", token="2")
    bench.ended()
    assert ask(lambda: "", token="2") == "new"
    bench.calls.close()


def test_a_call_to_no_place_that_hangs_is_abandoned_and_holds_up_nobody_else() -> None:
    bench = Bench(inline=False)
    release = threading.Event()

    def ask(pool: str, fn: Callable[[], Any]) -> Any:
        return bench.calls.background(pool, f"the API of {pool}", "list", fn, wake=A, limit=30)

    with pytest.raises(InProgress):
        ask("a", lambda: release.wait(SECONDS))
    with pytest.raises(InProgress):
        ask("b", lambda: "b answers")
    bench.ended()
    assert ask("b", lambda: "") == "b answers"
    bench.clock.advance(31)
    with pytest.raises(Unknown, match="the API of a did not answer list within 30 s"):
        ask("a", lambda: "")
    with pytest.raises(InProgress):
        ask("a", lambda: "a answers")
    bench.ended()
    assert ask("a", lambda: "") == "a answers"
    release.set()
    bench.calls.close()


def test_results_that_nobody_will_ask_for_are_dropped_with_their_pool() -> None:
    bench = Bench(inline=False)

    def ask(fn: Callable[[], Any]) -> Any:
        return bench.calls.background("a", "a", "list", fn, wake=A)

    with pytest.raises(InProgress):
        ask(lambda: "old")
    bench.ended()
    bench.calls.end("a")
    with pytest.raises(InProgress):
        ask(lambda: "new")
    bench.ended()
    assert ask(lambda: "") == "new"
    bench.calls.close()


def test_a_decision_that_is_no_longer_so_is_dropped_right_before_the_call() -> None:
    bench = Bench(inline=True)
    with pytest.raises(Dropped):
        bench.do(lambda: pytest.fail("it was called"), guard=lambda: False)


def test_errors_are_noted_on_the_place_and_shared() -> None:
    bench = Bench(inline=True)
    with pytest.raises(Denied):
        bench.do(lambda: _raise(Denied("no")))
    assert not bench.place.may_create
    assert bench.place.may_delete
    with pytest.raises(NoCapacity):
        bench.do(lambda: _raise(NoCapacity("full", scope=Reach(place="a", machine_type="big"))))
    cooldowns = bench.places.cooldowns
    assert cooldowns.covering("acct", "a", "big", False) is not None
    assert cooldowns.covering("acct", "b", "big", False) is None
    bench.clock.advance(301)
    assert cooldowns.covering("acct", "a", "big", False) is None


def test_a_lack_of_one_slot_covers_an_offer_when_all_its_slots_lack() -> None:
    bench = Bench(inline=True)
    cooldowns = bench.places.cooldowns
    cooldowns.note("acct", NoCapacity("full", scope=Reach(slot="h1")))
    assert cooldowns.slots("acct") == {"h1"}
    assert cooldowns.covering("acct", "zone", "host", False, ("h1",)) is not None
    assert cooldowns.covering("acct", "zone", "host", False, ("h1", "h2")) is None
    assert cooldowns.covering("acct", "zone", "host", False, ()) is None
    assert cooldowns.covering("acct", "zone", "host", False) is None
    bench.clock.advance(301)
    assert cooldowns.slots("acct") == set()


def _raise(error: Exception) -> None:
    raise error


def test_a_budget_refuses_at_once_and_says_when_there_is_enough_again() -> None:
    clock = FakeClock()
    budget = Budget(clock)
    budget.charge("api", 100)
    budget.limit({"api": (10, 2)}, requests_per_second=None)
    budget.charge("api", 10)
    with pytest.raises(NotReady) as caught:
        budget.charge("api", 4)
    assert caught.value.retry_after == 2
    clock.advance(2)
    budget.charge("api", 4)
    budget.charge("other", 1000)


def test_what_a_place_throttles_is_left_alone_by_everybody_and_its_bucket_fills_up_from_nothing() -> None:
    clock = FakeClock()
    budget = Budget(clock)
    budget.limit({"write": (10, 2), "read": (10, 2)})
    budget.charge("read", 1)
    budget.charge("write", 1)
    budget.throttled(5)
    with pytest.raises(NotReady) as caught:
        budget.charge("write", 1)
    assert caught.value.retry_after == 5
    budget.charge("read", 1)
    clock.advance(5)
    with pytest.raises(NotReady) as caught:
        budget.charge("write", 1)
    assert caught.value.retry_after == 0.5
    clock.advance(0.5)
    budget.charge("write", 1)


def test_a_meter_takes_nothing_from_its_provider_when_the_account_has_nothing_left() -> None:
    clock = FakeClock()
    shared = Budgets().of("account", clock)
    shared.limit({"api": (2, 1)})
    meter = Meter(clock)
    meter.own.limit({}, requests_per_second=3)
    meter.charge("api", 1)
    meter.shared = shared
    meter.charge("api", 2)
    clock.advance(1)
    meter.shared.charge("api", 1)
    with pytest.raises(NotReady, match="api"):
        meter.charge("api", 1)
    meter.charge("other", 1)
    meter.charge("other", 1)
    meter.charge("other", 1)
    with pytest.raises(NotReady):
        meter.charge("other", 1)


# -- inventory -----------------------------------------------------------------------------------------------------------


def mark(maker: str = "launch", index: int = 0) -> Mark:
    return Mark(installation="inst", cluster="c", cluster_name="demo", kind="Machine", maker=maker, index=index)


def state(id: str = "i-1", phase: Phase = Phase.RUNNING, maker: str = "launch") -> MachineState:
    return MachineState(ref=Ref(id=id, mark=mark(maker)), phase=phase, place="a", name="m", machine_type="t")


def absent(bench: Bench, **options: Any) -> bool | None:
    return bench.inventory.absent(bench.place, "machines", mark(), id="i-1", **options)


def test_absence_takes_three_observations_begun_after_the_question() -> None:
    bench = Bench(inline=True)
    bench.observe()
    answers = [absent(bench)]
    for _ in range(3):
        bench.observe()
        answers.append(absent(bench))
    assert answers == [None, None, None, True]


def test_the_places_own_word_that_an_id_is_gone_is_proof() -> None:
    bench = Bench(inline=True, settle=300)
    assert absent(bench) is None
    bench.machines.items = [state("i-1", Phase.GONE)]
    bench.observe()
    assert absent(bench) is True


def test_that_an_earlier_one_of_the_same_mark_is_gone_proves_nothing_of_this_one() -> None:
    bench = Bench(inline=True, settle=300)
    assert absent(bench) is None
    bench.machines.items = [state("i-0", Phase.GONE)]
    answers = []
    for _ in range(4):
        bench.observe()
        answers.append(absent(bench))
    assert answers == [None] * 4
    bench.machines.items.append(state("i-1"))
    bench.observe()
    assert absent(bench) is False


def test_absence_takes_the_settle_time_as_well() -> None:
    bench = Bench(inline=True, settle=300)
    absent(bench)
    for _ in range(10):
        bench.observe(10)
        assert absent(bench) is None
    bench.observe(250)
    assert absent(bench) is True


def test_a_clock_jump_starts_every_window_anew() -> None:
    bench = Bench(inline=True)
    absent(bench)
    bench.observe()
    bench.observe()
    bench.clock.jump(8 * 3600)
    bench.observe()
    assert absent(bench) is None
    bench.observe()
    bench.observe()
    assert absent(bench) is True


def test_a_thing_that_is_seen_again_is_not_absent_and_a_later_doubt_starts_anew() -> None:
    bench = Bench(inline=True)
    absent(bench)
    bench.observe()
    bench.observe()
    bench.machines.items = [state()]
    bench.observe()
    assert absent(bench) is False
    bench.machines.items = []
    bench.observe()
    assert absent(bench) is None


def test_nothing_is_concluded_about_a_place_that_did_not_answer() -> None:
    bench = Bench(inline=True)
    bench.machines.unreachable = frozenset({"a"})
    for _ in range(10):
        bench.observe()
        assert absent(bench, place_name="a") is None
    bench.machines.unreachable = frozenset({"b"})
    for _ in range(4):
        bench.observe()
        answer = absent(bench, place_name="a")
    assert answer is True


def test_a_failed_observation_counts_for_nothing() -> None:
    bench = Bench(inline=True)
    absent(bench)
    bench.machines.error = Unknown("lost")
    for _ in range(10):
        bench.observe()
    assert absent(bench) is None
    assert bench.inventory.failing(bench.place, "machines") == "lost"


def test_what_is_doubted_is_looked_up_by_id_as_well() -> None:
    bench = Bench(inline=True)
    bench.inventory.want(bench.place, "machines")
    absent(bench)
    bench.observe()
    assert bench.machines.scopes[-1].doubt == (Ref(id="i-1", mark=mark()),)


def test_an_id_that_carries_another_mark_now_is_not_ours() -> None:
    bench = Bench(inline=True)
    bench.machines.items = [state(maker="somebody-elses-launch")]
    absent(bench)
    for _ in range(3):
        bench.observe()
    assert absent(bench) is True
    assert bench.inventory.state(bench.place, "machines", mark(), "i-1") is None


def test_the_owner_of_what_changed_is_woken_and_nobody_else() -> None:
    bench = Bench(inline=True)
    bench.inventory.on_change("machines", lambda m: ("machine", Key("default", m.maker)))
    bench.machines.items = [state("i-1", maker="x"), state("i-2", maker="y")]
    bench.observe()
    bench.woken.clear()
    bench.observe()
    assert bench.woken == []
    bench.machines.items = [state("i-1", Phase.STOPPED, maker="x"), state("i-2", maker="y")]
    bench.observe()
    assert bench.woken == [("machine", Key("default", "x"))]


def test_a_living_thing_wins_over_its_dead_namesake() -> None:
    bench = Bench(inline=True)
    bench.machines.items = [state("i-1", Phase.RUNNING), state("i-0", Phase.GONE)]
    bench.observe()
    found = bench.inventory.state(bench.place, "machines", mark())
    assert found is not None
    assert found.ref.id == "i-1"


# -- manager -------------------------------------------------------------------------------------------------------------


class Failing(Controller):
    """Raises for one name, works for the others."""

    name = "failing"
    kind = Machine
    seen: list[str]

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.seen = []

    def reconcile(self, key: Key) -> Result:
        self.seen.append(key.name)
        if key.name == "bad":
            raise ValueError("a bug")
        return Result()


def test_an_exception_in_one_reconcile_is_told_at_its_object_backed_off_and_stops_nobody(client: InProcess) -> None:
    clock = FakeClock()
    made: list[Failing] = []

    def controllers(env: Env) -> list[Controller]:
        made.append(Failing(env))
        return list(made)

    manager = Manager(client, plugins=Plugins({}), installation="i", controllers=controllers, clock=clock, inline=True)
    client.create(machine("bad"))
    manager.prepare()
    manager.step()
    client.create(machine("good"))
    manager.step()
    assert made[0].seen == ["bad", "good"]
    assert [type(error) for _, error in manager.failed] == [ValueError]
    clock.advance(1)
    manager.step()
    assert made[0].seen == ["bad", "good", "bad"]
    (event,), _ = client.list(EventObject, "default")
    assert (event.reason, event.involved_object.name) == ("InternalError", "bad")
    assert "failed on this with ValueError" in (event.message or "")
    assert "a bug" not in (event.message or "")
    manager.stop()


class Slow(Controller):
    """Writes the status of an object that goes away while it decides."""

    name = "slow"
    kind = Machine

    def reconcile(self, key: Key) -> Result:
        if (found := self.env.cache.get(Machine, key.name, key.namespace)) is not None:
            self.env.client.delete(Machine, key.name, key.namespace)
            self.env.client.update_status(found.model_copy(update={"status": MachineStatus(state="Pending")}))
        return Result()


def test_an_object_that_goes_away_under_its_controller_is_no_error(client: InProcess, caplog: pytest.LogCaptureFixture) -> None:
    manager = Manager(
        client, plugins=Plugins({}), installation="i", controllers=lambda env: [Slow(env)], clock=FakeClock(), inline=True
    )
    client.create(machine("gone"))
    manager.prepare()
    manager.step()
    assert client.find(Machine, "gone", "default") is None
    assert manager.failed == []
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    manager.stop()


def test_a_pool_comes_up_with_real_threads_and_a_real_clock(tmp_path: Path) -> None:
    pytest.importorskip("kubeup_sim", reason="the simulated cloud is not installed: pip install kubeup-sim")
    clock = SystemClock()
    store = Store(tmp_path / "state.db")
    verbs = Verbs(store, clock=clock)
    bootstrap(verbs, now=clock.wall())
    client = InProcess(verbs)
    manager = Manager(client, plugins=discover(), installation=store.installation, controllers=all_controllers, clock=clock)
    done = threading.Event()
    config = {"file": f"memory:{tmp_path}", "bootSeconds": [0, 0], "networkSeconds": 0}
    client.create(Provider(metadata=ObjectMeta(name="sim"), spec=ProviderSpec(type="sim", config=config)))
    client.create(Cluster(metadata=ObjectMeta(name="demo", namespace="default"), spec=ClusterSpec(provider="sim")))
    pool = NodePoolSpec(cluster="demo", replicas=30)
    client.create(NodePool(metadata=ObjectMeta(name="workers", namespace="default"), spec=pool))

    def look(event: Any) -> None:
        if event.object.status.ready == 30:
            done.set()

    end = client.watch(NodePool, str(store.rv()), look)
    manager.start()
    try:
        assert done.wait(60), [m.status.state for m in client.list(Machine)[0]]
        assert len(client.list(Machine)[0]) == 30
        assert manager.failed == []
    finally:
        end()
        manager.stop()
        store.close()
