"""What is taken off a machine: by LEAVE, before another attempt, and when a step with keys fails. On a machine made of a folder
(`conftest.Machine`); what kubeadm, containerd and the kernel would do there is done by stand-ins."""

import os
import subprocess

import pytest
from kubeup_core.bootstrapper import Task
from kubeup_kubeadm import documents

FOREIGN = "-A POSTROUTING -s 172.17.0.0/16 -j MASQUERADE"
RULES = """*nat
:KUBE-SERVICES - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-A POSTROUTING -s 10.244.0.0/16 -m comment --comment flanneld -j MASQUERADE
:CNI-HOSTPORT-DNAT - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A CNI-DN-1234 -p tcp -j DNAT
-A POSTROUTING -s 10.244.0.0/16 -m comment --comment kubeup -j MASQUERADE
"""
OWN = f"{FOREIGN}\n-A INPUT -m comment --comment mine -j ACCEPT\nCOMMIT\n"
PLANTED = (
    "/etc/kubernetes/kubelet.conf", "/etc/kubernetes/pki/ca.key", "/etc/kubernetes/manifests/etcd.yaml", "/etc/kubernetes/tmp/x",
    "/var/lib/kubelet/config.yaml", "/var/lib/etcd/member/snap", "/var/lib/etcd.20261128T120000Z/member/snap",
    "/var/lib/kubeup/joined", "/var/lib/kubeup/joining", "/var/lib/kubeup/bundle/v1.36.4/bin/kubeadm",
    "/run/kubeup/pki/ca.key", "/run/kubeup/kubeadm.yaml", "/usr/local/lib/kubeup/kubeup-routes",
    "/etc/systemd/system/kubeup-routes.service", "/etc/cni/net.d/10-kubeup.conflist", "/etc/cni/net.d/10-flannel.conflist",
    "/etc/cni/net.d/10-calico.conflist", "/etc/cni/net.d/05-cilium.conflist", "/run/flannel/subnet.env",
    "/run/cni-ipam-state/kubeup/10.244.1.2", "/var/lib/cni/networks/cbr0/10.244.1.3", "/run/netns/cni-1234",
)  # fmt: skip
THEIRS = ("/etc/cni/net.d/87-podman.conflist", "/run/netns/vpn", "/etc/kubeup/resolv.conf", "/var/lib/kubeup/done/machine")

CTR = """shift 2
case "$1 $2" in
    "tasks ls") ls /var/lib/fake/tasks ;;
    "tasks kill") echo "killed $5" >>/var/lib/fake/told; touch /var/lib/fake/ending ;;
    "tasks delete") [ ! -e /var/lib/fake/ending ] && rm /var/lib/fake/tasks/$4 ;;
    "containers ls") ls /var/lib/fake/containers ;;
    "containers delete") [ ! -e /var/lib/fake/tasks/$3 ] && rm /var/lib/fake/containers/$3 ;;
esac"""

IP = """case "$*" in
    "link delete "*) rm /var/lib/fake/links/$3 ;;
    "-4 route flush proto 77") : >/var/lib/fake/routes ;;
    *) exit 1 ;;
esac"""


@pytest.fixture
def member(machine):
    """A machine that is a Node, as far as a folder can be one."""
    for path in PLANTED + THEIRS:
        machine.file(path, "x")
    for name in ("pod", "etcd"):
        machine.file(f"/var/lib/fake/tasks/{name}")
        machine.file(f"/var/lib/fake/containers/{name}")
    machine.file("/var/lib/fake/containers/ended")
    for link in ("cni0", "flannel.1", "eth0"):
        machine.file(f"/var/lib/fake/links/{link}")
    machine.file("/var/lib/fake/routes", "10.244.2.0/24\n")
    root = machine.root
    mounts = ("/var/lib/kubelet/pods/1/volumes/token", "/run/netns/cni-1234", "/var/lib/kubelet/pods/1", "/mnt/data")
    machine.file("/proc/mounts", "".join(f"tmpfs {root}{path} tmpfs rw 0 0\n" for path in mounts))
    machine.command("ctr", CTR)
    machine.command("sleep", "rm -f /var/lib/fake/ending")
    machine.command("kubeadm", ":")
    machine.command(
        "systemctl",
        "case $* in *is-active*) [ ! -e /var/lib/fake/down ] ;; *'start containerd') rm -f /var/lib/fake/down ;; esac",
    )
    machine.command("umount", ":")
    machine.command("timeout", 'shift; exec "$@"')
    machine.command("ip", IP)
    for tables in ("iptables", "ip6tables"):
        machine.file(f"/var/lib/fake/{tables}", RULES + OWN)
        machine.command(f"{tables}-save", f"cat /var/lib/fake/{tables}")
        machine.command(f"{tables}-restore", f"cat >/var/lib/fake/new; mv /var/lib/fake/new /var/lib/fake/{tables}")
    return machine


def listed(machine, folder: str) -> list[str]:
    return sorted(path.name for path in machine.path(folder).iterdir())


@pytest.fixture
def leave(plan, node, step):
    return step(Task.LEAVE, "leave", plan(), node())


def test_nothing_of_kubernetes_stays_on_a_machine_that_leaves_and_all_else_does(member, leave):
    member.does(leave)
    assert [path for path in PLANTED if member.there(path)] == []
    assert [path for path in THEIRS if not member.there(path)] == []
    assert not member.there("/etc/kubernetes")
    assert listed(member, "/var/lib/fake/links") == ["eth0"]
    assert member.read("/var/lib/fake/routes") == ""
    for tables in ("iptables", "ip6tables"):
        assert member.read(f"/var/lib/fake/{tables}") == "*nat\n" + OWN
    assert listed(member, "/var/lib/fake/tasks") == listed(member, "/var/lib/fake/containers") == []
    assert sorted(member.read("/var/lib/fake/told").split()) == ["etcd", "killed", "killed", "pod"]


def test_what_is_mounted_for_pods_is_unmounted_from_the_inside_out_and_before_it_is_removed(member, leave):
    member.command("umount", "case $2 in *kubelet*) [ -e /var/lib/kubelet/config.yaml ] || echo late >>/var/lib/calls ;; esac")
    member.does(leave)
    unmounted = [call.removeprefix(f"umount -l {member.root}") for call in member.calls if call.startswith("umount")]
    unmounted = [call.removeprefix("umount -l ") for call in unmounted]
    assert unmounted == ["/var/lib/kubelet/pods/1/volumes/token", "/var/lib/kubelet/pods/1", "/run/netns/cni-1234"]
    assert "late" not in member.calls


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_a_volume_that_cannot_be_unmounted_keeps_its_data_and_the_step_says_so(member, leave):
    volume = member.path("/var/lib/kubelet/pods/1/volumes/data")
    volume.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", volume], check=True)
    try:
        (volume / "precious").touch()
        assert "something is still mounted below /var/lib/kubelet" in member.fails(leave)
        assert (volume / "precious").exists()
    finally:
        subprocess.run(["umount", volume], check=True)
    member.does(leave)


def test_the_services_are_stopped_first_and_do_not_come_back(member, leave):
    member.does(leave)
    said = [call.removeprefix("systemctl ") for call in member.calls if call.startswith("systemctl")]
    assert said[0] == "stop kubeup-routes"
    assert said.index("stop kubelet") < said.index("disable kubelet kubeup-routes") < said.index("daemon-reload")
    assert "kubeadm reset --force --cri-socket unix:///run/containerd/containerd.sock" in member.calls


def test_a_containerd_that_is_down_is_started_so_that_its_containers_can_be_ended(member, leave):
    member.file("/var/lib/fake/down")
    member.does(leave)
    assert listed(member, "/var/lib/fake/tasks") == listed(member, "/var/lib/fake/containers") == []


@pytest.mark.parametrize("group", ["/sys/fs/cgroup/kubepods.slice/pod1", "/sys/fs/cgroup/memory/kubepods/pod1"])
def test_what_a_containerd_that_does_not_start_left_running_is_killed_by_its_cgroup(group, member, leave):
    member.command("systemctl", "case $* in *is-active*|*start*) exit 1 ;; esac")
    with subprocess.Popen(["sleep", "600"]) as process, subprocess.Popen(["sleep", "600"]) as other:
        member.file(f"{group}/cgroup.procs", f"0\n{process.pid}\n")
        member.file("/sys/fs/cgroup/docker/1/kubepods/pod2/cgroup.procs", f"{other.pid}\n")
        try:
            member.does(leave)
            assert process.wait(10) == -9
            assert other.poll() is None, "it belongs to a machine that this one only carries"
        finally:
            process.kill()
            other.kill()


def test_leaving_succeeds_without_any_of_the_tools(member, leave):
    for name in ("kubeadm", "ctr", "ip", "iptables-save", "ip6tables-save", "umount"):
        member.without(name)
    member.command("systemctl", "exit 1")
    member.does(leave)
    assert [path for path in PLANTED if member.there(path)] == []


def test_a_second_leaving_has_nothing_to_do_and_succeeds(member, leave):
    member.does(leave)
    member.does(leave)


# -- keys -------------------------------------------------------------------------------------------------------------------

WAYS = pytest.mark.parametrize(("task", "name"), [(Task.INIT, "init"), (Task.JOIN, "join")])


@pytest.fixture
def begins(machine, plan, node, secrets, step):
    """init or join of a control plane on a machine that has what it takes."""
    machine.command("kubeadm", "exit 0")
    machine.command("timeout", 'while [ "$1" != kubeadm ]; do shift; done; exec "$@"')
    return lambda task, name: step(task, name, plan("v1.36.4"), node("controlPlane"), secrets)


@WAYS
def test_keys_are_kubeadms_alone_once_it_is_done(task, name, machine, begins):
    machine.does(begins(task, name))
    assert not machine.there("/run/kubeup/pki")
    assert not machine.there("/run/kubeup/kubeadm.yaml")
    assert machine.path("/etc/kubernetes/pki/ca.key").stat().st_mode & 0o777 == 0o600
    assert machine.path("/etc/kubernetes/pki/ca.crt").stat().st_mode & 0o777 == 0o644
    assert machine.read("/var/lib/kubeup/joined") == machine.read("/var/lib/kubeup/joining")


@WAYS
@pytest.mark.parametrize("broken", ["kubeadm fails", "another cluster's"])
def test_no_key_stays_in_memory_when_the_step_fails(broken, task, name, machine, begins):
    if broken == "kubeadm fails":
        machine.command("kubeadm", "exit 1")
    else:
        machine.file("/etc/kubernetes/kubelet.conf", "theirs")
    machine.fails(begins(task, name))
    assert not machine.there("/run/kubeup/pki")
    assert not machine.there("/run/kubeup/kubeadm.yaml")
    assert not machine.there("/var/lib/kubeup/joined")


@WAYS
def test_no_key_stays_in_memory_when_the_step_is_stopped(task, name, machine, begins):
    machine.command("kubeadm", "kill -TERM $(cat /var/lib/shell)")
    stopped = begins(task, name)
    for file in stopped.files:
        machine.file(file.path, file.content.decode(), file.mode)
    code, text = machine.sh("echo $$ >/var/lib/shell\n" + stopped.script)
    assert code == 143, text
    assert not machine.there("/run/kubeup/pki")


@WAYS
def test_keys_of_a_failed_attempt_are_gone_when_the_machine_leaves(task, name, machine, begins, leave):
    machine.command("kubeadm", "exit 1")
    machine.fails(begins(task, name))
    assert machine.there("/etc/kubernetes/pki/ca.key")
    machine.file("/run/kubeup/pki/ca.key", "of a step that the machine's end cut short")
    machine.does(leave)
    assert list(machine.root.rglob("*.key")) == []


# -- another attempt ------------------------------------------------------------------------------------------------------

HALF_WAY = """case $1 in
    init | join) mkdir -p /etc/kubernetes/manifests /var/lib/etcd/member
        echo x >/etc/kubernetes/admin.conf; echo x >/etc/kubernetes/kubelet.conf; echo x >/etc/kubernetes/manifests/etcd.yaml
        echo x >/var/lib/etcd/member/snap; kill -KILL $PPID ;;
esac"""

CLEAN = """case $1 in
    init | join) [ ! -e /var/lib/etcd ] && [ -z "$(ls -A /etc/kubernetes/manifests; cat /etc/kubernetes/*.conf)" ] ;;
esac"""


@WAYS
def test_another_attempt_cleans_what_a_killed_kubeadm_left_and_goes_on(task, name, machine, begins):
    machine.command("kubeadm", HALF_WAY)
    attempt = begins(task, name)
    machine.run(attempt)
    assert machine.there("/var/lib/etcd/member/snap")
    assert not machine.there("/var/lib/kubeup/joined")
    machine.file("/etc/cni/net.d/10-kubeup.conflist", "of the first attempt's pod range")
    machine.command("kubeadm", CLEAN)
    assert "an earlier attempt was interrupted: cleans up" in machine.does(attempt)
    assert not machine.there("/etc/cni/net.d/10-kubeup.conflist")
    assert "systemctl try-restart kubeup-routes" in machine.calls, "it writes the configuration anew"
    assert "kubeadm reset --force --cri-socket unix:///run/containerd/containerd.sock" in machine.calls
    assert machine.there("/etc/kubernetes/pki/ca.key")
    assert machine.there("/var/lib/kubeup/joined")


def test_a_control_plane_that_joins_again_takes_its_former_node_away_first(machine, begins, plan):
    machine.file("/etc/kubernetes/admin.conf", "x")
    machine.file("/var/lib/kubeup/joining", f"{documents.ca_hash(plan().ca)}\n")
    machine.command("kubectl", "exit 1")
    machine.command("timeout", 'while [ "$1" != kubeadm ] && [ "$1" != kubectl ]; do shift; done; exec "$@"')
    machine.does(begins(Task.JOIN, "join"))
    asked = [call for call in machine.calls if call.startswith("kubectl")]
    assert len(asked) == 1
    assert asked[0].endswith("delete node demo-1 --wait=false")


@WAYS
@pytest.mark.parametrize(
    "theirs",
    ["/etc/kubernetes/kubelet.conf", "/etc/kubernetes/bootstrap-kubelet.conf", "/etc/kubernetes/admin.conf",
     "/etc/kubernetes/manifests/own.yaml", "/var/lib/etcd/member/snap"],
)  # fmt: skip
def test_whatever_shows_another_cluster_is_not_touched(theirs, task, name, machine, begins):
    machine.file(theirs, "theirs")
    assert machine.fails(begins(task, name)).startswith("kubeup: this machine belongs to another Kubernetes cluster")
    assert machine.read(theirs) == "theirs"
    assert not [call for call in machine.calls if call.startswith("kubeadm")]
