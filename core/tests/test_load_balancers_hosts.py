"""Load balancers out of machines: a plugin without machines is lent some, by a pool that keeps and replaces them.

The plugin here is a stand-in that writes its wish to the disk of each simulated machine, through the same `execute` as a real one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from kubeup_core.controllers import ensure_implicit
from kubeup_core.controllers.balancer_hosts import default_balancer_provider, pool_name
from kubeup_core.controllers.network_rules import rules
from kubeup_core.controllers.ssh_keys import public_key
from kubeup_core.controllers.troubles import Trouble
from kubeup_core.errors import NotFound, NotReady, SupplierError
from kubeup_core.kinds import Cluster, LoadBalancer, Machine, NodePool, Provider
from kubeup_core.plugins import Plugins, ProviderType, discover
from kubeup_core.statuses import StatusError
from kubeup_core.supplier import (
    BaseMachines,
    Capabilities,
    Context,
    Host,
    Identity,
    Launch,
    LoadBalancerSpec,
    LoadBalancerState,
    Mark,
    Phase,
    Ref,
    Scope,
    Snapshot,
    Suppliers,
)
from kubeup_core.testing.harness import Harness
from kubeup_core.testing.rehearsal import NAME as REHEARSAL
from kubeup_core.testing.rehearsal import Rehearsal
from pydantic import BaseModel, ConfigDict, Field


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Overrides(BaseModel):
    model_config = ConfigDict(extra="forbid")
    machine: dict[str, Any] = Field(default_factory=dict)


class NoMachines(BaseMachines):
    def observe(self, scope: Scope) -> Snapshot[Any]:
        return Snapshot(items=())

    def launch(self, launch: Any) -> Any:
        raise AssertionError("nothing is launched here")

    def delete(self, refs: Any) -> Any:
        raise AssertionError("nothing is deleted here")


class Boxes:
    """A LoadBalancerSupplier as a plugin writes one: it knows its hosts only."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def ensure(self, want: LoadBalancerSpec) -> LoadBalancerState:
        for host in want.hosts:
            record = {"mark": asdict(want.mark), "ports": [li.port for li in want.listeners]}
            record["neighbours"] = want.neighbours
            record["members"] = {m.key: "draining" if m.drain else "healthy" for m in want.members}
            _run(host, "box put", json.dumps(record).encode())
        return self._state(want.hosts[0])

    def observe(self, scope: Scope) -> Snapshot[LoadBalancerState]:
        states = [self._state(host) for host in self.context.hosts() if self._has(host)]
        return Snapshot(items=tuple(s for s in states if scope.covers(s.ref.mark)))

    def delete(self, ref: Ref) -> None:
        for host in self.context.hosts():
            if host.mark is not None and host.mark.same(ref.mark):
                _run(host, "box delete")

    @staticmethod
    def _has(host: Host) -> bool:
        return bool(_run(host, "box get"))

    @staticmethod
    def _state(host: Host) -> LoadBalancerState:
        record = json.loads(_run(host, "box get"))
        ref = Ref(id=f"box-{record['mark']['maker'][:8]}", mark=Mark(**record["mark"]))
        return LoadBalancerState(ref=ref, phase=Phase.RUNNING, addresses=(host.address,), members=record["members"])


def _run(host: Host, script: str, stdin: bytes = b"") -> bytes:
    code, output = host.execute(script, stdin)
    if code:
        raise NotReady(f"{script} ended with {code}")
    return output


def builder(hosts: int) -> Callable[[Any, Context], Suppliers]:
    def build(config: Any, context: Context) -> Suppliers:
        return Suppliers(
            identity=Identity(key="boxes", principal="nobody"),
            capabilities=Capabilities(hosts=hosts, members_by=frozenset({"address"})),
            machines=NoMachines(),
            load_balancers=Boxes(context),
        )

    return build


def without_balancers(build: Callable[[Any, Context], Suppliers]) -> Callable[[Any, Context], Suppliers]:
    return lambda config, context: replace(build(config, context), load_balancers=None)


def with_addresses(
    build: Callable[[Any, Context], Suppliers], launches: list[Launch], access: str = "execute"
) -> Callable[[Any, Context], Suppliers]:
    """The simulator as a place whose machines ask for their address; what it is asked for is kept."""

    class Recorded:
        def __init__(self, machines: Any) -> None:
            self.machines = machines

        def __getattr__(self, name: str) -> Any:
            return getattr(self.machines, name)

        def launch(self, launch: Launch) -> Any:
            launches.append(launch)
            return self.machines.launch(launch)

    def built(config: Any, context: Context) -> Suppliers:
        made = build(config, context)
        capabilities = replace(made.capabilities, addresses=True, access=access)
        return replace(made, capabilities=capabilities, machines=Recorded(made.machines))  # type: ignore[arg-type]

    return built


def plugins(hosts: int = 1, own: bool = False, launches: list[Launch] | None = None, access: str = "execute") -> Plugins:
    """own: the simulator keeps its load balancers. launches: it takes wishes for addresses, and these are its launches."""
    found = dict(discover().providers)
    if launches is not None:
        found["sim"] = replace(found["sim"], build=with_addresses(found["sim"].build, launches, access))
    if not own:
        found["sim"] = replace(found["sim"], build=without_balancers(found["sim"].build))
    found["boxes"] = ProviderType(
        type="boxes", config=Config, overrides=Overrides, build=builder(hosts),
        distribution="kubeup-boxes", version="1", contract=1,
    )  # fmt: skip
    return Plugins({name: found[name] for name in ("sim", "boxes")})


class Disks:
    """What is on the simulated machines, by id; a machine that is replaced takes its disk along."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.broken: SupplierError | None = None

    def __call__(self, machine: Any, script: str, stdin: bytes) -> tuple[int, bytes]:
        if self.broken is not None:
            raise self.broken
        if script == "box put":
            self.files[machine.id] = stdin
        if script == "box delete":
            self.files.pop(machine.id, None)
        return 0, self.files.get(machine.id, b"")


Make = Callable[..., Harness]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Harness] = []

    def new(
        hosts: int = 1,
        own: bool = False,
        cloud: Mapping[str, Any] | None = None,
        launches: list[Launch] | None = None,
        access: str = "execute",
    ) -> Harness:
        h = Harness(tmp_path, cloud={"boot_seconds": (1, 1), **(cloud or {})}, plugins=plugins(hosts, own, launches, access))
        made.append(h)
        h.disks = Disks()  # type: ignore[attr-defined]
        h.cloud.guest.on("^box ", h.disks)  # type: ignore[attr-defined]
        h.provider()
        ensure_implicit(h.client, h.plugins)
        h.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": {"provider": "sim"}})
        h.apply({"kind": "NodePool", "metadata": {"name": "web"}, "spec": {"cluster": "demo", "replicas": 2}})
        return h

    yield new
    for h in made:
        h.close()


def balancer(h: Harness, name: str = "front", **spec: Any) -> None:
    spec = {"cluster": "demo", "listeners": [{"port": 80, "targetPort": 8080}], **spec}
    h.apply({"kind": "LoadBalancer", "metadata": {"name": name}, "spec": spec})


def ready(h: Harness, name: str = "front") -> bool:
    found = h.find(LoadBalancer, name)
    return found is not None and found.status.is_true("Ready") and found.status.counts.healthy == 2


def files(h: Harness) -> dict[str, Any]:
    return {id_: json.loads(text) for id_, text in h.disks.files.items()}  # type: ignore[attr-defined]


def hosts(h: Harness) -> list[Machine]:
    return [m for m in h.machines() if m.spec.role == "loadBalancer"]


# -- living ----------------------------------------------------------------------------------------------------------------


def test_without_balancers_of_its_own_a_cluster_gets_them_out_of_machines(make: Make) -> None:
    h = make()
    balancer(h)
    h.until(lambda: ready(h))
    status, (host,) = h.get(LoadBalancer, "front").status, hosts(h)
    assert (status.provider, status.pool) == ("boxes", "front-lb")
    assert status.address in [a.address for a in host.status.addresses]
    record = files(h)[host.status.id or ""]
    assert record["ports"] == [80]
    assert set(record["members"]) == {"web-0", "web-1"}


def test_a_provider_that_needs_no_config_is_there_by_itself(make: Make) -> None:
    h = make(own=True)
    balancer(h, provider="boxes")
    h.until(lambda: ready(h))
    assert h.get(Provider, "boxes").labels == {"kubeup.dev/auto": "true"}
    assert h.get(LoadBalancer, "front").status.provider == "boxes"


def test_a_clusters_own_load_balancers_come_first(make: Make) -> None:
    h = make(own=True)
    balancer(h)
    h.until(lambda: ready(h))
    assert h.get(LoadBalancer, "front").status.provider == "sim"
    assert hosts(h) == []
    assert default_balancer_provider(h.manager.env, h.get(Cluster, "demo")) == "sim"


def test_the_choice_for_a_cluster_is_a_provider_or_the_reason_why_there_is_none(make: Make) -> None:
    h = make()
    h.settle()
    cluster = h.get(Cluster, "demo")
    assert default_balancer_provider(h.manager.env, cluster) == "boxes"
    named = cluster.model_copy(deep=True)
    named.spec.load_balancers.provider = "elsewhere"
    assert default_balancer_provider(h.manager.env, named) == "elsewhere"
    h.delete(Provider, "boxes")
    h.settle()
    found = default_balancer_provider(h.manager.env, cluster)
    assert isinstance(found, Trouble)
    assert found.reason == "NotOffered"
    assert "kubeup-haproxy" in found.message


def test_the_address_is_told_as_soon_as_the_machine_has_one(make: Make) -> None:
    h = make()
    h.disks.broken = NotReady("it boots")  # type: ignore[attr-defined]
    balancer(h)
    h.until(lambda: h.get(LoadBalancer, "front").status.address is not None, 120)
    assert not ready(h)
    assert h.condition(LoadBalancer, "front", "Ready")[1] == "NotReady"
    h.disks.broken = None  # type: ignore[attr-defined]
    h.until(lambda: ready(h))


def test_it_says_that_its_address_is_that_of_one_machine(make: Make) -> None:
    h = make()
    balancer(h)
    h.until(lambda: ready(h))
    assert h.condition(LoadBalancer, "front", "AddressFixed")[:2] == ("False", "FollowsMachine")


def test_the_machine_is_small_unless_the_overrides_say_more(make: Make) -> None:
    h = make()
    balancer(h)
    h.until(lambda: ready(h))
    machine = h.get(NodePool, "front-lb").spec.machine
    assert (machine.cpu, machine.memory, machine.disk) == (1, "512Mi", "8Gi")
    h.edit(LoadBalancer, "front", spec={"overrides": {"boxes": {"machine": {"cpu": 4}}, "sim": {"labels": {"a": "b"}}}})
    h.settle()
    spec = h.get(NodePool, "front-lb").spec
    assert (spec.machine.cpu, spec.machine.memory) == (4, "512Mi")
    assert spec.overrides == {"sim": {"labels": {"a": "b"}}}


def test_a_machine_that_cannot_be_read_is_refused_with_its_path(make: Make) -> None:
    h = make()
    balancer(h, overrides={"boxes": {"machine": {"memory": "much"}}})
    h.settle()
    _, reason, message = h.condition(LoadBalancer, "front", "Ready")
    assert reason == "InvalidOverrides"
    assert message.startswith("spec.overrides.boxes.machine.memory")
    assert h.find(NodePool, "front-lb") is None


def test_hosts_are_not_members(make: Make) -> None:
    h = make()
    balancer(h, members={"selector": {"kubeup.dev/cluster": "demo"}})
    h.until(lambda: ready(h))
    assert set(files(h)[hosts(h)[0].status.id or ""]["members"]) == {"web-0", "web-1"}


def test_listeners_are_open_on_the_hosts_and_not_on_the_members(make: Make) -> None:
    h = make()
    balancer(h)
    h.until(lambda: ready(h))
    found = rules(h.get(Cluster, "demo"), [h.get(LoadBalancer, "front")])
    from_outside = {(r.to_role, r.low) for r in found if r.from_role == "*"}
    assert from_outside == {("loadBalancer", 80)}
    assert ("loadBalancer", "plain") in {(r.from_role, r.to_role) for r in found}


def test_a_re_check_writes_nothing_and_neither_does_a_restart(make: Make) -> None:
    h = make()
    balancer(h)
    h.until(lambda: ready(h))
    h.settle()
    before = h.writes.copy()
    h.advance(1800)
    assert h.writes - before == {}
    h.crash()
    h.settle()
    h.advance(60)
    assert h.writes - before == {}


# -- what befalls its machine ------------------------------------------------------------------------------------------------


def test_a_machine_that_dies_is_replaced_and_the_balancer_is_made_on_the_new_one(make: Make) -> None:
    h = make()
    balancer(h)
    h.until(lambda: ready(h))
    first, address = hosts(h)[0], h.get(LoadBalancer, "front").status.address
    h.cloud.console.lose(first.name)
    h.until(lambda: [m.uid for m in hosts(h)] not in ([], [first.uid]) and not ready(h))
    h.until(lambda: ready(h) and [m.uid for m in hosts(h) if m.uid != first.uid] != [])
    (second,) = [m for m in hosts(h) if not m.deleting]
    status = h.get(LoadBalancer, "front").status
    assert second.status.id in files(h)
    assert status.address in [a.address for a in second.status.addresses]
    assert status.address == address or any("AddressChanged" in m for m in h.messages("front"))


def test_a_template_that_changes_replaces_the_machine(make: Make) -> None:
    h = make()
    balancer(h)
    h.until(lambda: ready(h))
    first = hosts(h)[0]
    h.edit(LoadBalancer, "front", spec={"overrides": {"boxes": {"machine": {"cpu": 2}}}})
    h.until(lambda: ready(h) and len(hosts(h)) == 1 and hosts(h)[0].uid != first.uid)
    assert hosts(h)[0].status.id in files(h)


def test_where_machines_may_ask_for_an_address_the_successor_asks_for_its_predecessors(make: Make) -> None:
    launches: list[Launch] = []
    h = make(launches=launches)
    balancer(h, exposure="internal")
    h.until(lambda: ready(h))
    h.settle()
    assert h.condition(LoadBalancer, "front", "AddressFixed")[:2] == ("True", "HandedOn")
    first, address = hosts(h)[0], h.get(LoadBalancer, "front").status.address
    h.cloud.console.lose(first.name)
    h.until(lambda: hosts(h)[0].deleting)
    began = h.clock.awake()
    h.until(lambda: [m.uid for m in hosts(h)] not in ([], [first.uid]))
    assert h.clock.awake() - began < 10  # it does not wait for the balancer that ran on it
    assert [m.uid for m in hosts(h) if m.uid == first.uid] == []  # an address is free when nobody has it any more
    h.until(lambda: ready(h))
    asked = [member.address for launch in launches if launch.role == "loadBalancer" for member in launch.members]
    assert (asked[0], asked[-1]) == ("", address)
    assert {member.address for launch in launches if launch.role == "plain" for member in launch.members} == {""}


def test_a_new_machine_counts_only_when_the_balancer_was_made_on_it(make: Make) -> None:
    h = make()
    balancer(h)
    h.until(lambda: ready(h))
    first = hosts(h)[0]
    h.cloud.console.lose(first.name)
    h.until(lambda: not ready(h))
    h.disks.broken = NotReady("it boots")  # type: ignore[attr-defined]
    h.until(lambda: any(m.status.is_true("Ready") for m in hosts(h) if m.uid != first.uid))
    h.advance(60)
    assert not ready(h)
    assert h.get(LoadBalancer, "front").status.counts.healthy == 0
    h.disks.broken = None  # type: ignore[attr-defined]
    h.until(lambda: ready(h))


def test_a_changed_template_waits_for_the_address_too(make: Make) -> None:
    launches: list[Launch] = []
    h = make(launches=launches)
    balancer(h, exposure="internal")
    h.until(lambda: ready(h))
    h.settle()
    first, address = hosts(h)[0], h.get(LoadBalancer, "front").status.address
    h.edit(LoadBalancer, "front", spec={"overrides": {"boxes": {"machine": {"cpu": 2}}}})
    h.until(lambda: bool(hosts(h)) and hosts(h)[0].uid != first.uid)
    assert len(hosts(h)) == 1
    h.until(lambda: ready(h))
    assert launches[-1].members[0].address == address


def test_a_host_that_is_reached_by_ssh_accepts_the_clusters_key_in_a_plain_cluster_too(make: Make) -> None:
    launches: list[Launch] = []
    h = make(launches=launches, access="ssh")
    balancer(h)
    h.until(lambda: ready(h))
    (launch,) = [launch for launch in launches if launch.role == "loadBalancer"][:1]
    public = public_key(h.manager.env, h.get(Cluster, "demo"))
    assert public
    assert public.encode() in launch.user_data
    assert b"PRIVATE" not in launch.user_data
    assert {launch.user_data for launch in launches if launch.role == "plain"} == {b""}


def test_an_address_of_choice_is_asked_for_where_machines_can_have_one(make: Make) -> None:
    launches: list[Launch] = []
    h = make(launches=launches)
    balancer(h, address="10.0.0.77")
    h.until(lambda: ready(h))
    assert [m.address for launch in launches if launch.role == "loadBalancer" for m in launch.members] == ["10.0.0.77"]


def test_an_address_of_choice_is_refused_where_machines_cannot_have_one(make: Make) -> None:
    h = make()
    balancer(h, address="10.0.0.77")
    h.settle()
    _, reason, message = h.condition(LoadBalancer, "front", "Ready")
    assert reason == "AddressNotOffered"
    assert "10.0.0.77" in message
    assert hosts(h) == []


def test_the_api_of_a_kubernetes_cluster_stands_behind_a_machine_that_is_no_node(tmp_path: Path) -> None:
    rehearsal = Rehearsal()
    with Harness(tmp_path, cloud={"boot_seconds": (1, 1)}, plugins=rehearsal.plugins(plugins())) as h:
        h.cloud.guest.on("^box ", Disks())
        rehearsal.follow(h)
        h.provider()
        ensure_implicit(h.client, h.plugins)
        kubernetes = {"version": "v1.34.1", "bootstrapper": REHEARSAL}
        spec = {"provider": "sim", "kubernetes": kubernetes, "controlPlane": {"replicas": 3}}
        h.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": spec})
        h.until(lambda: h.find(LoadBalancer, "demo-api") is not None and h.condition(Cluster, "demo", "Ready")[0] == "True")
        (host,) = hosts(h)
        endpoint = h.get(Cluster, "demo").status.endpoint
        assert endpoint is not None
        assert endpoint.host == h.get(LoadBalancer, "demo-api").status.address
        assert endpoint.host in [a.address for a in host.status.addresses]
        assert h.condition(Machine, host.name, "Bootstrapped") == ("", "", "")
        assert host.name not in rehearsal.joined
        assert len(rehearsal.joined) == 3
        h.delete(Cluster, "demo")
        h.until(lambda: h.find(Cluster, "demo") is None)
        assert h.rented() == []


def test_while_its_machine_is_away_members_wait_for_the_drain_time_only(make: Make) -> None:
    h = make()
    balancer(h, drain="60s")
    h.until(lambda: ready(h))
    h.disks.broken = NotReady("no answer")  # type: ignore[attr-defined]
    began = h.clock.awake()
    h.delete(Machine, "web-1")
    h.until(lambda: "web-1" not in h.rented())
    assert 59 <= h.clock.awake() - began < 120


def test_two_hosts_need_a_flat_network(make: Make) -> None:
    h = make(hosts=2, cloud={"flat": False})
    balancer(h)
    h.settle()
    _, reason, message = h.condition(LoadBalancer, "front", "Ready")
    assert reason == "NetworkNotFlat"
    assert "one flat segment" in message
    assert hosts(h) == []


def test_two_hosts_on_a_flat_network_are_lent_together(make: Make) -> None:
    h = make(hosts=2, cloud={"flat": True})
    balancer(h, address="10.0.0.250")
    h.until(lambda: ready(h))
    assert {m.status.id for m in hosts(h)} == set(files(h))
    assert h.condition(LoadBalancer, "front", "AddressFixed") == ("", "", "")


def test_two_hosts_without_an_address_to_share_are_refused_with_what_to_do(make: Make) -> None:
    h = make(hosts=2, cloud={"flat": True})
    balancer(h)
    h.settle()
    _, reason, message = h.condition(LoadBalancer, "front", "Ready")
    assert reason == "AddressNeeded"
    assert "set spec.address to a free one of their network" in message
    assert hosts(h) == []


def test_a_pair_that_serves_goes_on_with_one_while_the_other_is_replaced(make: Make) -> None:
    h = make(hosts=2, cloud={"flat": True, "boot_seconds": (300, 300)})
    balancer(h, address="10.0.0.250")
    h.until(lambda: ready(h))
    lost = hosts(h)[0]
    h.cloud.console.lose(lost.name)
    h.until(lambda: lost.uid not in {m.uid for m in hosts(h)} and len(hosts(h)) == 2)
    h.edit(LoadBalancer, "front", spec={"listeners": [{"port": 81, "targetPort": 8080}]})
    h.advance(60)
    alive = next(m for m in hosts(h) if m.status.is_true("Ready"))
    assert files(h)[alive.status.id]["ports"] == [81], "the one that is left is kept up to date"
    assert not all(m.status.is_true("Ready") for m in hosts(h))
    h.until(lambda: ready(h) and all(m.status.is_true("Ready") for m in hosts(h)))
    assert {files(h)[m.status.id]["ports"][0] for m in hosts(h)} == {81}


def test_one_of_a_pair_that_nobody_reaches_is_a_neighbour_until_it_is_gone(make: Make) -> None:
    """It may hold the address that they share."""
    h = make(hosts=2, cloud={"flat": True, "boot_seconds": (300, 300)})
    balancer(h, address="10.0.0.250")
    h.until(lambda: ready(h))
    lost, alive = hosts(h)
    both = [next(a.address for a in m.status.addresses if a.type == "InternalIP") for m in (lost, alive)]
    told = lambda: files(h)[alive.status.id]["neighbours"]  # noqa: E731
    assert told() == both
    h.edit(NodePool, "front-lb", spec={"paused": True})
    h.cloud.console.stop(lost.name)
    h.until(lambda: not next(m for m in hosts(h) if m.uid == lost.uid).status.is_true("Ready"))
    h.edit(LoadBalancer, "front", spec={"listeners": [{"port": 81, "targetPort": 8080}]})
    h.until(lambda: files(h)[alive.status.id]["ports"] == [81])
    assert told() == both
    h.edit(NodePool, "front-lb", spec={"paused": False})
    h.delete(Machine, lost.name)
    h.until(lambda: lost.uid not in {m.uid for m in hosts(h)} and ready(h))
    h.until(lambda: all(m.status.is_true("Ready") for m in hosts(h)) and len(told()) == 2)
    assert told()[0] == both[1], "the older one comes first"
    assert both[0] not in told()


def test_machines_without_a_way_in_are_refused(make: Make) -> None:
    h = make(cloud={"access": "none"})
    balancer(h)
    h.settle()
    _, reason, message = h.condition(LoadBalancer, "front", "Ready")
    assert reason == "NoAccess"
    assert "Provider sim offers no way into its machines" in message


# -- the pool ----------------------------------------------------------------------------------------------------------------


def test_a_pool_of_that_name_that_is_somebody_elses_is_left_alone(make: Make) -> None:
    h = make()
    h.apply({"kind": "NodePool", "metadata": {"name": "front-lb"}, "spec": {"cluster": "demo", "replicas": 1}})
    balancer(h)
    h.settle()
    assert h.condition(LoadBalancer, "front", "Ready")[1] == "PoolTaken"
    h.delete(LoadBalancer, "front")
    h.until(lambda: h.find(LoadBalancer, "front") is None, 120)
    assert not h.get(NodePool, "front-lb").deleting


def test_nobody_else_makes_a_pool_for_load_balancers(make: Make) -> None:
    h = make()
    with pytest.raises(StatusError, match=r"made by kubeup"):
        h.apply({"kind": "NodePool", "metadata": {"name": "x"}, "spec": {"cluster": "demo", "role": "loadBalancer"}})


def test_a_long_name_gives_a_pool_of_its_own() -> None:
    def named(name: str) -> str:
        spec: dict[str, Any] = {"cluster": "demo", "listeners": [{"port": 1}]}
        return pool_name(LoadBalancer.model_validate({"metadata": {"name": name}, "spec": spec}))

    assert named("front") == "front-lb"
    long = [named("b" * 60 + end) for end in ("x", "y")]
    assert long[0] != long[1]
    assert all(len(name) <= 45 for name in long)


# -- the end -----------------------------------------------------------------------------------------------------------------


def test_the_balancer_goes_first_and_its_machines_after_it(make: Make) -> None:
    h = make()
    balancer(h)
    h.until(lambda: ready(h))
    h.delete(LoadBalancer, "front")
    h.until(lambda: files(h) == {})
    assert len(hosts(h)) == 1
    assert not hosts(h)[0].deleting
    h.until(lambda: h.find(LoadBalancer, "front") is None)
    assert (hosts(h), h.find(NodePool, "front-lb")) == ([], None)
    assert h.rented() == ["web-0", "web-1"]


def test_one_whose_machine_does_not_answer_goes_with_the_machine(make: Make) -> None:
    h = make()
    balancer(h)
    h.until(lambda: ready(h))
    h.disks.broken = NotReady("no answer")  # type: ignore[attr-defined]
    h.delete(LoadBalancer, "front")
    h.until(lambda: h.find(LoadBalancer, "front") is None, 300)
    assert h.rented() == ["web-0", "web-1"]


def test_one_whose_machine_is_gone_already_can_be_deleted(make: Make) -> None:
    h = make()
    balancer(h)
    h.until(lambda: ready(h))
    h.edit(NodePool, "front-lb", spec={"paused": True})
    h.cloud.console.lose(hosts(h)[0].name)
    h.disks.files.clear()  # type: ignore[attr-defined]
    h.settle()
    h.edit(NodePool, "front-lb", spec={"paused": False})
    h.delete(LoadBalancer, "front")
    h.until(lambda: h.find(LoadBalancer, "front") is None, 300)
    assert hosts(h) == []


def test_a_cluster_goes_with_all_of_it(make: Make) -> None:
    h = make()
    balancer(h)
    h.until(lambda: ready(h))
    h.delete(Cluster, "demo")
    h.until(lambda: h.find(Cluster, "demo") is None)
    assert (h.rented(), h.all(LoadBalancer), h.all(NodePool)) == ([], [], [])


def test_another_provider_in_the_spec_moves_it_off_its_machines(make: Make) -> None:
    h = make(own=True)
    balancer(h, provider="boxes")
    h.until(lambda: ready(h))
    h.edit(LoadBalancer, "front", spec={"provider": "sim"})
    h.until(lambda: ready(h) and h.get(LoadBalancer, "front").status.provider == "sim")
    assert (files(h), hosts(h), h.get(LoadBalancer, "front").status.pool) == ({}, [], None)


def test_not_found_of_a_machine_is_no_word_about_the_balancer(make: Make) -> None:
    """The machine vanished, and the listing does not know it yet."""
    h = make()
    balancer(h)
    h.until(lambda: ready(h))
    h.disks.broken = NotFound("there is no such machine")  # type: ignore[attr-defined]
    h.advance(120)
    assert len(hosts(h)) == 1
    h.disks.broken = None  # type: ignore[attr-defined]
    h.until(lambda: ready(h))
