"""NetworkContract: what every NetworkSupplier must do."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from ...errors import SupplierError
from ...supplier import NetworkSpec, Phase, Rule, Suppliers
from .bench import Bench
from .checks import not_offered, offered
from .ensured import EnsuredContract


class NetworkContract(EnsuredContract):
    """Subclass it, name it Test..., write `supply`."""

    def supplier(self, suppliers: Suppliers) -> Any:
        if suppliers.networks is None:
            not_offered("networks (Suppliers.networks)")
        return suppliers.networks

    def wish(self, bench: Bench, suppliers: Suppliers | None = None, cluster: str = "cluster-1") -> NetworkSpec:
        suppliers = suppliers or bench.a
        self.supplier(suppliers)
        installation = bench.installations[0 if suppliers is bench.a else 1]
        mark = bench.mark("Network", installation=installation, cluster=cluster)
        return NetworkSpec(
            mark=mark,
            name=f"contract-{mark.maker[:6]}",
            rules=(Rule(from_role="*", to_role="*", protocol="tcp", low=22, high=22),),
            overrides=bench.rig.overrides,
        )

    def test_a_running_network_has_a_fabric_and_data(self, bench: Bench) -> None:
        """The fabric decides which machines reach each other; the data goes to every launch, as text."""
        want = self.wish(bench)
        made = self.made(bench, want)
        assert made.fabric, "NetworkState.fabric is empty"
        assert all(isinstance(k, str) and isinstance(v, str) for k, v in made.data.items()), f"data is not text: {made.data}"
        seen = self.exactly(bench, want)
        assert (seen.fabric, dict(seen.data)) == (made.fabric, dict(made.data)), "observe and ensure differ"

    def test_a_named_network_is_used_and_never_deleted(self, bench: Bench) -> None:
        """What overrides name belongs to somebody: kubeup works in it and leaves it there."""
        existing = offered(bench.rig.existing_network, "a network that is there already (Rig.existing_network)")
        everything = offered(bench.rig.everything, "a listing of everything at the place (Rig.everything)")
        overrides, name = existing()
        want = self.wish(bench)
        want = NetworkSpec(mark=want.mark, name=want.name, rules=want.rules, overrides={**want.overrides, **overrides})
        made = self.made(bench, want)
        self.removed(bench, made.ref)
        assert name in set(everything()), "the network that overrides name was deleted"

    def test_deleting_a_network_spares_the_machines_in_it(self, bench: Bench) -> None:
        """Blocked until they are gone; never at their cost."""
        self.supplier(bench.a)
        launch = bench.launch(1)
        bench.run(launch)
        network = next(iter(self.snapshot(bench).items), None)
        if network is None:
            not_offered("machines in a network of its own (Rig.network is given)")
        for _ in range(bench.rig.settle_steps + 1):
            with suppress(SupplierError):
                self.supplier(bench.a).delete(network.ref)
            bench.rig.advance()
        assert [state.phase for state in bench.states(launch)] == [Phase.RUNNING], "the machine went with its network"
