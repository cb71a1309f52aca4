"""Machines with systemd, on a real engine: that they boot, are told apart, keep their addresses and disks, and run user-data once."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from types import SimpleNamespace

import pytest
from kubeup_core import InvalidSpec, MachineState, Outcome, Phase, Scope, Template, Unknown, VolumeSpec
from kubeup_docker import client
from kubeup_docker.images import FAMILIES

pytestmark = [pytest.mark.docker, pytest.mark.slow]

USER_DATA = b"""#cloud-config
write_files:
- {path: /etc/said, content: "by user-data"}
runcmd:
- [sh, -c, "echo once >> /etc/count"]
"""
BOOTED = "timeout 29 cloud-init status --wait >/dev/null; timeout 20 systemctl is-system-running --wait; cloud-init status"


def observed(place, maker: str) -> dict[int, MachineState]:
    items = place.machines.observe(Scope(installation=place.installation)).items
    return {state.ref.mark.index: state for state in items if state.ref.mark.maker == maker}


def run(place, machine: MachineState, script: str, stdin: bytes = b"", timeout: float = 30) -> str:
    *output, code = place.machines.execute(machine.ref, script, stdin, timeout)
    said = b"".join(output).decode(errors="replace")
    assert code == 0, f"{script}: exit code {code}: {said}"
    return said


def boot(place, machine: MachineState) -> None:
    """Wait, in calls that each have a limit, until the machine has finished starting."""
    for _ in range(6):
        try:
            *_, code = place.machines.execute(machine.ref, BOOTED, b"", 30)
        except Unknown:
            continue
        if code == 0:
            return
    raise AssertionError(place.machines.console(machine.ref, 4000))


def big(place) -> Template:
    return place.template(cpu=1, memory=2**30)


@pytest.fixture(scope="module")
def up(shared_place, node_image: str) -> SimpleNamespace:
    """Two machines of one launch, with a network and a disk at the first; they have booted.

    .place .machines (by index) .network .volume (its state) .look() observes again
    """
    place = shared_place
    network = dict(place.networks.ensure(place.network_spec()).data)
    mark = place.mark("Volume")
    volume = place.volumes.ensure(VolumeSpec(mark=mark, token="t", name="data", size=64 * 2**20))
    launch = place.launch(2, name="node", network=network, want=big(place), image=node_image, user_data=USER_DATA)
    first, second = launch.members
    launch = replace(launch, members=(replace(first, volumes=(volume.ref.id,)), second))
    results = place.machines.launch(launch)
    assert [r.outcome for r in results] == [Outcome.MADE] * 2
    machines = observed(place, launch.mark.maker)
    for machine in machines.values():
        boot(place, machine)
    return SimpleNamespace(
        place=place, launch=launch, machines=machines, network=network, volume=volume,
        look=lambda: observed(place, launch.mark.maker),
    )  # fmt: skip


def test_a_machine_boots_without_a_failed_unit_and_containerd_answers(up) -> None:
    for machine in up.machines.values():
        said = run(up.place, machine, "systemctl --failed --no-legend; systemctl is-active ssh containerd; ctr version >&2")
        assert said.startswith("active\nactive\n"), said
        assert "Server:" in said


def test_user_data_ran_and_is_not_shown_by_the_engine(up) -> None:
    for machine in up.machines.values():
        assert run(up.place, machine, "cat /etc/said /etc/count") == "by user-dataonce\n"
        assert "by user-data" not in repr(up.place.engine.call("GET", f"/containers/{machine.ref.id}/json"))


def test_machines_are_told_apart_by_name_machine_id_and_host_keys(up) -> None:
    script = f"{up.place.suppliers.capabilities.whoami}; cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub"
    said = [run(up.place, machine, script).splitlines() for machine in up.machines.values()]
    assert sorted(lines[0] for lines in said) == ["node-0", "node-1"]
    assert len({lines[1] for lines in said}) == len({lines[2].split()[1] for lines in said}) == 2
    assert all(len(lines[1]) == 32 for lines in said)


def test_machines_resolve_each_other_and_so_do_pods(up) -> None:
    """A pod, here a network namespace behind a bridge of the machine's, does not reach the engine's 127.0.0.11."""
    first, second = up.machines[0], up.machines[1]
    assert second.internal[0] in run(up.place, first, "getent hosts node-1")
    pod = """
        ip netns add pod; ip link add p0 type veth peer name p1 netns pod
        ip address add 10.99.0.1/24 dev p0; ip link set p0 up
        ip netns exec pod sh -c 'ip address add 10.99.0.2/24 dev p1; ip link set p1 up; ip route add default via 10.99.0.1'
        ip netns exec pod unshare -m sh -c 'mount --bind /etc/kubeup/resolv.conf /etc/resolv.conf; getent hosts node-1'
        result=$?; ip netns delete pod; exit $result
    """
    assert "127.0.0.11" not in run(up.place, first, "cat /etc/kubeup/resolv.conf")
    assert second.internal[0] in run(up.place, first, pod)


def test_a_machine_may_do_what_a_kubelet_and_its_pods_do(up) -> None:
    script = """
        set -e; echo 1 > /proc/sys/net/ipv4/ip_forward; iptables -t nat -S >/dev/null
        mkdir -p /var/tmp/o/a /var/tmp/o/b /var/tmp/o/w /var/tmp/o/m
        mount -t overlay overlay -o lowerdir=/var/tmp/o/a,upperdir=/var/tmp/o/b,workdir=/var/tmp/o/w /var/tmp/o/m
        touch /var/tmp/o/m/x; umount /var/tmp/o/m; ls /var/tmp/o/b; findmnt -no PROPAGATION /; ls /dev/kmsg; id -u
    """
    assert run(up.place, up.machines[1], script).split() == ["x", "shared,slave", "/dev/kmsg", "0"]


def test_the_addresses_are_written_down_and_kept_when_a_machine_is_stopped_and_started(up) -> None:
    before = up.look()[1]
    assert len(before.internal) == 1
    up.place.engine.call("POST", f"/containers/{before.ref.id}/stop?t=30")
    stopped = up.look()[1]
    assert (stopped.phase, stopped.internal) == (Phase.STOPPED, before.internal)
    up.place.engine.call("POST", f"/containers/{before.ref.id}/start")
    after = up.look()[1]
    assert (after.phase, after.internal) == (Phase.RUNNING, before.internal)
    assert after.boot_id not in ("", before.boot_id)
    boot(up.place, after)
    assert run(up.place, after, "hostname -I").split() == list(before.internal)
    assert run(up.place, after, "cat /etc/count") == "once\n"  # user-data is for the first boot


def test_systemd_ends_in_order_when_the_engine_stops_a_machine(up) -> None:
    machine = up.look()[1]
    up.place.engine.call("POST", f"/containers/{machine.ref.id}/stop?t=60")
    try:
        state = up.place.engine.call("GET", f"/containers/{machine.ref.id}/json")["State"]
        assert state["ExitCode"] == 130  # systemd's own in a container; 137 would be the engine's patience at its end
        assert "Reached target" in up.place.machines.console(machine.ref, 8000)
    finally:
        up.place.engine.call("POST", f"/containers/{machine.ref.id}/start")
        boot(up.place, up.look()[1])


def test_the_console_is_the_boots_log_without_the_colours(up) -> None:
    said = up.place.machines.console(up.machines[0].ref, 100_000)
    assert "systemd" in said
    assert "cloud-init" in said
    assert "\x1b[" not in said


def test_many_megabytes_go_in_through_execute(up) -> None:
    large = b"kubeup\n" * 2**23
    assert run(up.place, up.machines[0], "sha256sum", large).split()[0] == hashlib.sha256(large).hexdigest()


def test_what_is_on_a_disk_outlives_its_machine_and_grows_with_it(up, node_image: str) -> None:
    place = up.place
    mark = place.mark("Volume")
    want = VolumeSpec(mark=mark, token="t", name="keep", size=32 * 2**20)
    volume = place.volumes.ensure(want)
    launches = [
        place.launch(1, name="db", network=up.network, want=big(place), image=node_image, volumes=(volume.ref.id,))
        for _ in range(2)
    ]
    place.machines.launch(launches[0])
    first = observed(place, launches[0].mark.maker)[0]
    assert first.volumes == (volume.ref.id,)
    boot(place, first)
    mount = f"mkdir -p /data && mount -o loop {volume.device} /data"
    run(place, first, f"mkfs.ext4 -q {volume.device} && {mount} && echo precious > /data/file && umount /data")
    refused = place.machines.launch(launches[1])[0]
    assert refused.outcome is Outcome.REFUSED  # two machines on one file system would destroy it
    assert refused.error is not None
    assert "is attached to db-0" in refused.error.message

    assert place.volumes.ensure(replace(want, size=48 * 2**20)).size == 48 * 2**20
    assert run(place, first, f"stat -c %s {volume.device}").strip() == str(48 * 2**20)
    place.machines.delete([first.ref])

    place.machines.launch(launches[1])
    second = observed(place, launches[1].mark.maker)[0]
    boot(place, second)
    said = run(place, second, f"{mount} && cat /data/file && umount /data && stat -c %s {volume.device}")
    assert said.split() == ["precious", str(48 * 2**20)]
    place.machines.delete([second.ref])
    place.volumes.delete(volume.ref)


def test_a_machine_that_was_made_and_not_yet_given_its_user_data_is_finished_by_the_same_launch(
    up, node_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = up.place
    launch = place.launch(1, name="half", network=up.network, want=big(place), image=node_image, user_data=USER_DATA)
    with monkeypatch.context() as patch:
        patch.setattr(client.Engine, "put", lambda engine, id, tar: (_ for _ in ()).throw(Unknown("the reply is lost")))
        assert place.machines.launch(launch)[0].outcome is Outcome.PENDING
        assert observed(place, launch.mark.maker)[0].phase is Phase.PARTIAL
    made = place.machines.launch(launch)[0]
    assert made.outcome is Outcome.MADE
    machine = observed(place, launch.mark.maker)[0]
    boot(place, machine)
    assert run(place, machine, "cat /etc/said") == "by user-data"
    place.machines.delete([machine.ref])


def test_nothing_of_a_machine_stays_behind_it(up, node_image: str) -> None:
    place = up.place
    launch = place.launch(1, name="gone", network=up.network, want=big(place), image=node_image)
    place.machines.launch(launch)
    machine = observed(place, launch.mark.maker)[0]
    scratch = [
        m["Name"] for m in place.engine.call("GET", f"/containers/{machine.ref.id}/json")["Mounts"] if m["Type"] == "volume"
    ]
    assert len(scratch) == 1  # /var
    place.machines.delete([machine.ref])
    assert observed(place, launch.mark.maker) == {}
    place.engine.call("GET", f"/volumes/{scratch[0]}", fine=(404,))


def test_an_engine_on_which_systemd_cannot_run_refuses_before_anything_is_made(up, node_image: str) -> None:
    place = up.place
    launcher = place.machines._launcher
    before, launcher._limits = launcher._limits, replace(launcher._limits, rootless=True)
    try:
        with pytest.raises(InvalidSpec, match="rootless") as caught:
            place.machines.launch(place.launch(1, network=up.network, image=node_image))
    finally:
        launcher._limits = before
    assert "runs as root" in caught.value.remedy


def test_what_a_launch_would_refuse_is_a_problem_of_the_template_once_the_image_is_known(up, node_image: str) -> None:
    machines = up.place.machines
    machines._images.ensure(node_image)
    want = up.place.template(image=node_image)
    assert machines.check(want) == []
    before, machines._limits = machines._limits, replace(machines._limits, withheld=frozenset({"SYS_ADMIN"}))
    try:
        (problem,) = machines.check(want)
        assert machines.offers(want) == ()
    finally:
        machines._limits = before
    assert problem.path == "spec.machine.image"
    assert "SYS_ADMIN" in problem.message


def test_an_image_without_systemd_refuses_user_data_instead_of_forgetting_it(up) -> None:
    place = up.place
    with pytest.raises(InvalidSpec, match="does not run user-data") as caught:
        place.machines.launch(place.launch(1, network=up.network, user_data=USER_DATA))
    assert "python -m kubeup_docker image" in caught.value.remedy


def test_a_member_of_kubernetes_is_refused_on_a_plain_image_before_that_is_pulled(up) -> None:
    launch = replace(up.place.launch(1, network=up.network, image=FAMILIES["debian-12"][-1]), role="worker")
    with pytest.raises(InvalidSpec, match="image debian:12 runs no Kubernetes") as caught:
        up.place.machines.launch(launch)
    assert "python -m kubeup_docker image" in caught.value.remedy
    assert not up.place.machines._images._pulls
