"""The core's Reach, this executor and a real sshd together: the cluster's own key pair, and keys that are pinned on the way."""

from pathlib import Path

import pytest
from kubeup_core.controllers.access import Finished, Reach, not_reached
from kubeup_core.controllers.ssh_keys import KNOWN_HOSTS, ensure_ssh_keys, values
from kubeup_core.executor import HostKeyChanged, HostKeyUnknown
from kubeup_core.kinds import Cluster, Machine, Provider, Secret
from kubeup_core.kinds.machine import AccessStatus
from kubeup_core.testing.harness import Harness

pytest.importorskip("kubeup_sim", reason="machines come from the simulator (pip install -e providers/sim)")


@pytest.fixture
def h(tmp_path: Path):
    with Harness(tmp_path / "state", cloud={"boot_seconds": (1, 1)}) as harness:
        harness.demo(1)
        harness.ready(1)
        yield harness


def machine_at(h: Harness, host, **access: object) -> Machine:
    """The machine, as a supplier would describe it that is reached at this sshd."""
    machine = h.machines()[0].model_copy(deep=True)
    given = {"kind": "ssh", "address": "127.0.0.1", "port": host.port, "user": host.access().user, **access}
    machine.status.access = AccessStatus(**given)
    return machine


def test_a_machine_is_reached_with_the_clusters_key_and_kept_to_its_first_host_key(h, sshd):
    env = h.manager.env
    host = sshd(authorized=ensure_ssh_keys(env, h.get(Cluster, "demo")))
    machine, reach = machine_at(h, host), Reach(env, "machine")
    with pytest.raises(HostKeyUnknown):
        reach.run(machine, "true")
    h.edit(Provider, "sim", spec={"access": {"hostKeys": "firstUse"}})
    h.settle()
    assert reach.run(machine, "id -u; cat; exit 4", b"input") == Finished(4, b"0\ninput")
    assert values(h.get(Secret, "demo-ssh"))[KNOWN_HOSTS] == f"{machine.uid} {host.host_key} {machine.name}\n"
    host.stop()
    host.new_host_keys()
    host.start()
    with pytest.raises(HostKeyChanged) as caught:
        reach.run(machine, "true")
    assert not_reached(caught.value, machine).reason == "HostKeyChanged"


def test_a_key_that_the_supplier_tells_needs_no_pinning(h, sshd):
    env = h.manager.env
    host = sshd(authorized=ensure_ssh_keys(env, h.get(Cluster, "demo")))
    assert Reach(env, "machine").run(machine_at(h, host, host_key=host.host_key), "echo hello") == Finished(0, b"hello\n")
    assert KNOWN_HOSTS not in values(h.get(Secret, "demo-ssh"))


def test_a_jump_host_of_the_provider_is_gone_through(h, sshd):
    env = h.manager.env
    public = ensure_ssh_keys(env, h.get(Cluster, "demo"))
    jump, host = sshd(authorized=public), sshd(authorized=public)
    h.edit(Provider, "sim", spec={"access": {"via": f"127.0.0.1:{jump.port}", "viaHostKey": jump.host_key}})
    h.settle()
    machine = machine_at(h, host, host_key=host.host_key)
    assert Reach(env, "machine").run(machine, "echo through") == Finished(0, b"through\n")
    assert (jump.connections(), host.connections()) == (1, 1)
