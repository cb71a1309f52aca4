"""LoadBalancerContract: what every LoadBalancerSupplier must do."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from ...supplier import Host, LBMember, Listener, LoadBalancerSpec, Suppliers
from .bench import Bench
from .checks import not_offered
from .ensured import EnsuredContract

_NO_TRAFFIC = (None, "draining", "unused")


class LoadBalancerContract(EnsuredContract):
    """Subclass it, name it Test..., write `supply`."""

    def supplier(self, suppliers: Suppliers) -> Any:
        if suppliers.load_balancers is None:
            not_offered("load balancers (Suppliers.load_balancers)")
        return suppliers.load_balancers

    def wish(self, bench: Bench, suppliers: Suppliers | None = None, cluster: str = "cluster-1") -> LoadBalancerSpec:
        suppliers = suppliers or bench.a
        self.supplier(suppliers)
        installation = bench.installations[0 if suppliers is bench.a else 1]
        mark = bench.mark("LoadBalancer", installation=installation, cluster=cluster)
        return LoadBalancerSpec(
            mark=mark,
            name=f"contract-{mark.maker[:6]}",
            internal=False,
            listeners=(Listener(port=6443, target=6443, drain=0.0),),
            members=self._members(bench, suppliers),
            network=bench.network(suppliers),
            hosts=self._hosts(bench, suppliers),
            overrides=bench.rig.overrides,
        )

    def test_addresses_stay_once_they_are_given(self, bench: Bench) -> None:
        """They are in certificates."""
        want = self.wish(bench)
        given: list[tuple[str, ...]] = []

        def step() -> bool:
            state = self.ensure(bench, want)
            given.extend([state.addresses] if state.addresses else [])
            return bool(state.phase == "Running")

        bench.until(step, "the load balancer is RUNNING")
        assert given, "a running load balancer has no address"
        changed = replace(want, listeners=(*want.listeners, Listener(port=443, target=443)), members=want.members[:1])
        given += [self.made(bench, changed).addresses, self.exactly(bench, changed).addresses]
        given.append(self.ensure(bench, changed).addresses)
        assert len(set(given)) == 1, f"the addresses changed: {given}"

    def test_members_get_traffic(self, bench: Bench) -> None:
        """Every key is one that the core gave; each member comes into service, or is on its way or unhealthy."""
        want = self.wish(bench)
        self.made(bench, want)
        keys = {member.key for member in want.members}

        def all_in() -> bool:
            state = self.ensure(bench, want)
            assert set(state.members) <= keys, f"members {set(state.members)}, wanted {keys}"
            return all(state.members.get(key) in ("initial", "healthy", "unhealthy") for key in keys)

        bench.until(all_in, "all members are in the load balancer")

    def test_observation_says_how_the_members_are(self, bench: Bench) -> None:
        """Health changes without anybody asking for a change, so it is observation that tells of it."""
        want = self.wish(bench)
        self._in_service(bench, want)
        keys = {member.key for member in want.members}

        def seen() -> bool:
            state = self.exactly(bench, want)
            assert set(state.members) <= keys, f"members {set(state.members)}, wanted {keys}"
            return set(state.members) == keys and not set(state.members.values()) & {"draining", "unused"}

        bench.until(seen, "observation shows all members")

    def test_a_draining_member_gets_no_new_traffic(self, bench: Bench) -> None:
        """The machine is deleted once it is drained; every connection made in between is cut."""
        want = self.wish(bench)
        self._in_service(bench, want)
        leaving = replace(want.members[0], drain=True)
        self._goes(bench, replace(want, members=(leaving, *want.members[1:])), leaving.key)

    def test_a_member_that_is_left_out_gets_no_traffic(self, bench: Bench) -> None:
        """Ensure has the whole wish each time: what is not in it goes."""
        want = self.wish(bench)
        self._in_service(bench, want)
        self._goes(bench, replace(want, members=want.members[1:]), want.members[0].key)

    def _in_service(self, bench: Bench, want: LoadBalancerSpec) -> None:
        """Every member is in; and, where the rig can tell, gets traffic."""
        state = self.made(bench, want)
        bench.until(
            lambda: set(self.ensure(bench, want).members) == {member.key for member in want.members},
            "all members are in the load balancer",
        )
        if bench.rig.traffic is not None:
            keys, traffic = {member.key for member in want.members}, bench.rig.traffic
            bench.until(lambda: set(traffic(state.ref)) == keys, "all members get traffic")

    def _goes(self, bench: Bench, want: LoadBalancerSpec, key: str) -> None:
        """The member is out for good, and no other has gone with it."""

        def out() -> bool:
            state = self.ensure(bench, want)
            if state.members.get(key) not in _NO_TRAFFIC:
                return False
            traffic: Collection[str] = bench.rig.traffic(state.ref) if bench.rig.traffic else ()
            assert key not in traffic, f"{key} is {state.members.get(key)} and still gets new connections"
            others = {member.key for member in want.members if member.key != key}
            missing = {other for other in others if state.members.get(other) in _NO_TRAFFIC}
            assert not missing, f"{missing} went along with {key}"
            return True

        bench.until(out, f"{key} is draining, unused or absent")
        bench.settle()
        assert out(), f"{key} came back"

    def _members(self, bench: Bench, suppliers: Suppliers) -> tuple[LBMember, ...]:
        if bench.rig.balancer_members is not None:
            return tuple(bench.rig.balancer_members())
        kept = f"members of {bench.installations[0 if suppliers is bench.a else 1]}"
        if kept not in bench.kept:
            states = [bench.run(bench.launch(1, suppliers=suppliers), suppliers)[0] for _ in range(2)]
            bench.kept[kept] = tuple(
                LBMember(key=state.name, ref=state.ref, address=next(iter(state.internal), ""), place=state.place)
                for state in states
            )
        members: tuple[LBMember, ...] = bench.kept[kept]
        return members

    def _hosts(self, bench: Bench, suppliers: Suppliers) -> tuple[Host, ...]:
        if suppliers.capabilities.hosts == 0:
            return ()
        if bench.rig.hosts is None:
            not_offered("machines to lend to the load balancer (Rig.hosts)")
        return tuple(bench.rig.hosts())
