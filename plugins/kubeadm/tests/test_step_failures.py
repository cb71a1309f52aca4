"""What a person sees when a step fails: for each step what is broken, and the sentence that the Machine's status ends with. On a
machine made of a folder (`conftest.Machine`); `test_failures.py` does the same on real containers where real tools are the point."""

import re
from collections.abc import Callable

import pytest
from kubeup_core.bootstrapper import Archive, Peer, Task

BUNDLE = Archive(path="/bundles/k.tar", sha256="ab" * 32)
FAILURES: list[tuple] = []


def failure(task: Task, step: str, sentence: str, version: str = "v1.36.4", **given: object) -> Callable:
    """Registers what breaks a healthy machine, as a function. sentence: how the words begin, a regular expression."""

    def register(broken: Callable) -> Callable:
        FAILURES.append(pytest.param(task, step, version, given, broken, sentence, id=f"{step}-{broken.__name__}"))
        return broken

    return register


def healthy(machine, version: str) -> None:
    """All that the steps need, and all of it works."""
    for tool in ("conntrack", "iptables", "socat", "ethtool", "mount", "python3", "kubectl", "apt-mark", "dpkg", "openssl"):
        machine.command(tool, ":")
    machine.command("apt-get", ":")
    machine.command("apt-cache", f"echo 'kubeadm | {version[1:]}-1.1 | url'")
    machine.command("kubeadm", f"case $1 in version) echo {version} ;; config) echo registry.k8s.io/pause:3.10 ;; esac")
    machine.command("kubelet", f"echo Kubernetes {version}")
    machine.command("containerd", "echo containerd github.com/containerd/containerd/v2 v2.1.4 abc")
    machine.command(
        "ctr",
        'case "$*" in *"images ls"*) echo there ;; *"containers ls"*) echo one ;; *"tasks ls"*) echo one 1 RUNNING ;; esac',
    )
    machine.command("curl", 'case "$*" in *healthz*) printf ok ;; *health*) echo \'{"health":"true"}\' ;; *) echo ok ;; esac')
    for sysctl in ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"):
        machine.file(f"/proc/sys/{sysctl}", "1\n")
    for plugin in ("bridge", "host-local", "loopback", "portmap"):
        machine.file(f"/opt/cni/bin/{plugin}", "", 0o755)
    machine.file("/etc/kubernetes/manifests/etcd.yaml", "  image: registry.k8s.io/etcd:3.6.4-0\n")
    for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        machine.file(f"/etc/kubernetes/manifests/{name}.yaml", "x")
    machine.file("/var/lib/kubeup/etcd-snapshot.db", "x")
    for folder in ("keyrings", "sources.list.d", "preferences.d"):
        machine.path(f"/etc/apt/{folder}").mkdir(parents=True)


# -- PREPARE ----------------------------------------------------------------------------------------------------------------


@failure(Task.PREPARE, "machine", "systemd does not run here; kubelet and containerd are its services")
def no_systemd(machine):
    machine.path("/run/systemd/system").rmdir()


@failure(Task.PREPARE, "machine", "the operating system 'alpine ' is not supported")
def another_system(machine):
    machine.file("/etc/os-release", "ID=alpine\n")


@failure(Task.PREPARE, "machine", r"the kernel is 3\.10\.0; 4\.0 or newer is needed")
def an_old_kernel(machine):
    machine.command("uname", "case $1 in -r) echo 3.10.0 ;; *) echo x86_64 ;; esac")


@failure(Task.PREPARE, "machine", r"the disk under /var/lib is 95 % full; from 90 % on the kubelet throws pods out")
def a_disk_that_is_nearly_full(machine):
    machine.command("df", "printf 'a\\nb 100000000 0 90000000 95%% /\\n'")


@failure(Task.PREPARE, "machine", "/var/lib has only 1 MiB free; the images and containers of a Node need at least")
def a_full_disk(machine):
    machine.command("df", "printf 'a\\nb 100 0 1024 5%% /\\n'")


@failure(Task.PREPARE, "bundle", "the bundle cannot be unpacked: it is truncated, or not a tar archive", bundle=BUNDLE)
def no_archive(machine):
    machine.file(f"/var/lib/kubeup/bundle-{BUNDLE.sha256[:12]}.tar", "nonsense")


@failure(Task.PREPARE, "system", "cannot install socat ethtool: the package repositories do not answer or do not have them")
def tools_that_no_repository_has(machine):
    machine.without("socat")
    machine.without("ethtool")
    machine.command("apt-get", "exit 100")


@failure(
    Task.PREPARE, "system", "the bundle's packages do not install; it needs conntrack with all they depend on", bundle=BUNDLE
)
def packages_of_a_bundle_that_do_not_install(machine):
    machine.without("conntrack")
    machine.file("/var/lib/kubeup/bundle/v1.36.4/debs/conntrack.deb")
    machine.command("dpkg", "exit 1")


@failure(
    Task.PREPARE, "system", "the kernel has no /proc/sys/net/bridge/bridge-nf-call-iptables: the module br_netfilter is missing"
)
def no_bridge_netfilter(machine):
    machine.path("/proc/sys/net/bridge/bridge-nf-call-iptables").unlink()


@failure(Task.PREPARE, "system", "/proc/sys/net/ipv4/ip_forward cannot be set to 1: it is read-only here")
def a_read_only_sysctl(machine):
    machine.path("/proc/sys/net/ipv4/ip_forward").unlink()
    machine.path("/proc/sys/net/ipv4/ip_forward").mkdir()
    machine.command("cat", 'case $1 in */ip_forward) echo 0 ;; *) exec /bin/cat "$@" ;; esac')


@failure(Task.PREPARE, "system", "the kernel has no /proc/net/ip_vs: the module ip_vs is missing", config={"proxyMode": "ipvs"})
def no_ipvs(machine):
    machine.command("modprobe", "exit 1")


@failure(Task.PREPARE, "system", "the kernel makes no link of the type vxlan: the module vxlan is missing", cni="flannel")
def no_vxlan(machine):
    machine.command("ip", "exit 2")


@failure(Task.PREPARE, "kubernetes", "the bundle has no kubelet", bundle=BUNDLE)
def a_bundle_without_a_binary(machine):
    machine.file("/var/lib/kubeup/bundle/v1.36.4/bin/kubeadm", "#!/bin/sh\necho v1.36.4\n", 0o755)


@failure(Task.PREPARE, "kubernetes", "kubeadm in the bundle is v1.36.3, but v1.36.4 was asked for", bundle=BUNDLE)
def a_bundle_of_another_version(machine):
    machine.file("/var/lib/kubeup/bundle/v1.36.4/bin/kubeadm", "#!/bin/sh\necho v1.36.3\n", 0o755)


@failure(Task.PREPARE, "kubernetes", "kubeadm of the bundle does not run on this machine", bundle=BUNDLE)
def a_bundle_of_another_architecture(machine):
    machine.file("/var/lib/kubeup/bundle/v1.36.4/bin/kubeadm", "#!/bin/sh\nexit 126\n", 0o755)


@failure(Task.PREPARE, "kubernetes", "kubeadm on this machine is v1.36.3, but v1.36.4 was asked for", bundle=BUNDLE)
def another_kubeadm_before_the_bundles(machine):
    bundled(machine)
    machine.command("kubeadm", "echo v1.36.3")


@failure(
    Task.PREPARE, "kubernetes", "kubelet is not installed, but spec.kubernetes.source is preinstalled", source="preinstalled"
)
def an_image_without_the_kubelet(machine):
    machine.without("kubelet")


@failure(Task.PREPARE, "kubernetes", "the repository's key cannot be fetched from https://pkgs.k8s.io/.*/Release.key")
def no_repository(machine):
    machine.command("curl", "exit 6")


@failure(Task.PREPARE, "kubernetes", r"the packages kubeadm=1.36.4-\* kubelet=1.36.4-\* kubectl=1.36.4-\* do not install")
def a_package_whose_dependencies_are_nowhere(machine):
    repository(machine)
    machine.command("apt-get", 'case "$*" in *install*) exit 100 ;; esac')


@failure(
    Task.PREPARE,
    "kubernetes",
    "kubeadm on this machine is v1.30.0 after the installation, but v1.36.4 was asked for: another one",
)
def another_kubeadm_before_the_package(machine):
    repository(machine)
    machine.command("kubeadm", "echo v1.30.0")


@failure(Task.PREPARE, "containerd", "cannot install containerd: the package repositories do not answer or do not have it")
def no_package_of_containerd(machine):
    machine.without("containerd")
    machine.command("apt-get", "exit 100")


@failure(Task.PREPARE, "containerd", "cannot install containerd.io: add Docker's repository to the image")
def no_package_of_containerd_on_rhel(machine):
    machine.file("/etc/os-release", "ID=rocky\nID_LIKE='rhel centos fedora'\n")
    machine.without("containerd")
    machine.command("dnf", "exit 1")


@failure(Task.PREPARE, "containerd", "the bundle's containerd does not install", bundle=BUNDLE)
def a_containerd_of_a_bundle_that_does_not_install(machine):
    machine.without("containerd")
    machine.file("/var/lib/kubeup/bundle/v1.36.4/debs/containerd_2.deb")
    machine.command("dpkg", "exit 1")


@failure(Task.PREPARE, "containerd", "containerd github.com 1.7.1 is too old: Kubernetes v1.37.0 needs containerd 2", "v1.37.0")
def an_old_containerd(machine):
    machine.command("containerd", "echo containerd github.com 1.7.1")


@failure(Task.PREPARE, "containerd", "the version of containerd is not understood: nonsense")
def a_strange_containerd(machine):
    machine.command("containerd", "echo nonsense")


@failure(Task.PREPARE, "containerd", "kubeadm does not tell the pause image of v1.36.4")
def a_kubeadm_that_knows_no_pause(machine):
    machine.command("kubeadm", "exit 1")


@failure(Task.PREPARE, "containerd", "containerd does not start: bad plugin")
def a_containerd_that_does_not_start(machine):
    machine.command("systemctl", 'case "$*" in *restart*) exit 1 ;; esac')
    machine.command("journalctl", "echo bad plugin")


@failure(Task.PREPARE, "containerd", "containerd runs but does not answer on /run/containerd/containerd.sock")
def a_containerd_that_is_silent(machine):
    machine.command("ctr", "exit 1")


@failure(Task.PREPARE, "kubelet", "kubelet is not installed, so it cannot become a service")
def no_kubelet(machine):
    machine.without("kubelet")


@failure(Task.PREPARE, "kubelet", "the kubelet's service cannot be enabled")
def a_service_that_cannot_be_enabled(machine):
    machine.command("systemctl", 'case "$*" in *enable*) exit 1 ;; esac')


@failure(
    Task.PREPARE,
    "images",
    "pause.tar of the bundle is not an image archive that containerd takes, or the disk is full",
    bundle=BUNDLE,
)
def a_broken_image_archive(machine):
    machine.file("/var/lib/kubeup/bundle/v1.36.4/images/pause.tar", "x")
    machine.command("ctr", "exit 1")


@failure(Task.PREPARE, "images", "kubeadm does not accept its configuration: unknown field")
def a_configuration_that_kubeadm_refuses(machine):
    machine.command("kubeadm", "echo unknown field; exit 1")


@failure(
    Task.PREPARE, "images", "the bundle has no image registry.k8s.io/pause:3.10; imageRepository and images in", bundle=BUNDLE
)
def a_bundle_without_an_image(machine):
    machine.command("ctr", ":")


@failure(Task.PREPARE, "images", "cannot pull registry.k8s.io/pause:3.10: the registry does not answer or does not have it")
def a_registry_that_does_not_answer(machine):
    machine.command("ctr", 'case "$*" in *pull*) exit 1 ;; esac')


# -- INIT and JOIN ----------------------------------------------------------------------------------------------------------


@failure(
    Task.INIT,
    "clock",
    r"this machine's clock is 600 seconds behind of kubeup's \(2027-01-15T07:50:00Z here, 2027-01-15T08:00:00Z there\)",
)
def a_clock_ten_minutes_behind(machine):
    machine.file("/var/lib/kubeup/clock", "1800000000 1799999400\n")


@failure(Task.INIT, "clock", "this machine's clock is 600 seconds ahead of kubeup's")
def a_clock_ten_minutes_ahead(machine):
    machine.file("/var/lib/kubeup/clock", "1800000000 1800000600\n")


@failure(Task.INIT, "clock", "this machine's clock is .* seconds behind the moment at which the cluster's CA became valid")
def a_clock_of_the_factory(machine):
    machine.command("date", 'case "$*" in "-u +%s") echo 86400 ;; *) echo 1970-01-02T00:00:00Z ;; esac')


@failure(Task.INIT, "network", "the CNI plugin portmap is not in /opt/cni/bin: install containernetworking-plugins")
def no_cni_plugin(machine):
    machine.path("/opt/cni/bin/portmap").unlink()


@failure(Task.INIT, "network", "python3 is not installed; the pod network's agent needs it")
def no_python(machine):
    machine.without("python3")


def bare(machine) -> None:
    """No Node yet."""
    for manifest in list(machine.path("/etc/kubernetes/manifests").iterdir()):
        manifest.unlink()


@failure(Task.INIT, "init", r"kubeadm init failed \(exit code 1\)")
def an_init_that_fails(machine):
    bare(machine)
    machine.command("kubeadm", "echo '[ERROR Port-6443]: Port 6443 is in use'; exit 1")


@failure(Task.INIT, "init", "kubeadm init did not come to an end within 300 seconds")
def an_init_that_takes_too_long(machine):
    bare(machine)
    machine.command("timeout", "exit 124")


@failure(Task.INIT, "init", "kubeadm init did not come to an end within 300 seconds")
def an_init_that_does_not_listen_when_its_time_is_over(machine):
    bare(machine)
    machine.command("timeout", "echo 310 >/proc/uptime; exit 137")
    machine.command("date", 'read -r now </proc/uptime; echo "$now"')


@failure(Task.INIT, "init", r"kubeadm init failed \(exit code 137\)")
def an_init_that_is_killed(machine):
    bare(machine)
    machine.command("timeout", "exit 137")


@failure(
    Task.JOIN,
    "reach",
    "the API cannot be reached from this machine: 10.0.0.10:6443 does not answer within 10 seconds: a firewall",
)
def an_endpoint_behind_a_firewall(machine):
    machine.command("curl", "exit 28")


@failure(Task.JOIN, "join", r"kubeadm join failed \(exit code 1\)")
def a_join_that_fails(machine):
    bare(machine)
    machine.command("kubeadm", "exit 1")


@failure(Task.JOIN, "join", "kubeadm join did not come to an end within 300 seconds")
def a_join_that_does_not_listen_when_its_time_is_over(machine):
    an_init_that_does_not_listen_when_its_time_is_over(machine)


@failure(Task.INIT, "ready", "the API server of this machine does not answer /readyz within 120 seconds")
def an_api_server_that_does_not_answer(machine):
    machine.command("curl", "exit 7")


@failure(Task.INIT, "ready", "the etcd of this machine is not healthy after 120 seconds")
def an_etcd_that_is_not_healthy(machine):
    machine.command("curl", 'case "$*" in *readyz*) : ;; *) echo \'{"health":"false"}\' ;; esac')


@failure(Task.SETTLE, "settle", "the API server did not stop within 60 seconds", "v1.20.2")
def an_api_server_that_does_not_stop(machine):
    """ctr names the same container for ever."""


@failure(Task.SETTLE, "settle", "the API server does not answer 120 seconds after its restart", "v1.20.2")
def an_api_server_that_does_not_come_back(machine):
    machine.command("ctr", ":")
    machine.command("curl", "exit 7")


# -- afterwards ---------------------------------------------------------------------------------------------------------------


@failure(Task.UPGRADE, "kubeadm", "the bundle has no kubeadm", bundle=BUNDLE)
def an_upgrade_out_of_a_bundle_without_kubeadm(machine):
    """It is empty."""


@failure(Task.UPGRADE, "upgrade", r"kubeadm upgrade apply failed \(exit code 1\)")
def an_upgrade_that_fails(machine):
    machine.command("kubeadm", "exit 1")


@failure(Task.UPGRADE, "upgrade", "kubeadm upgrade apply did not come to an end within 600 seconds")
def an_upgrade_that_takes_too_long(machine):
    machine.command("timeout", "exit 124")


@failure(Task.UPGRADE, "upgrade", "the API does not answer, so nothing was changed", config={"dns": False})
def an_upgrade_without_the_api(machine):
    machine.command("kubectl", "exit 1")


@failure(Task.UPGRADE, "kubelet", "the bundle has no kubectl", bundle=BUNDLE)
def an_upgrade_out_of_a_bundle_without_kubectl(machine):
    machine.file("/var/lib/kubeup/bundle/v1.36.4/bin/kubelet", "#!/bin/sh\n", 0o755)


@failure(Task.UPGRADE, "unit", "the kubelet's service cannot be enabled")
def an_upgrade_whose_service_cannot_be_enabled(machine):
    a_service_that_cannot_be_enabled(machine)


@failure(Task.UPGRADE, "restart", "the kubelet is not healthy 90 seconds after its restart with v1.36.4")
def a_kubelet_that_is_not_healthy(machine):
    machine.command("curl", "exit 7")


@failure(Task.UPGRADE, "restart", "the kubelet on this machine is v1.35.1, but v1.36.4 was asked for")
def a_kubelet_that_is_still_the_old_one(machine):
    machine.command("kubelet", "echo Kubernetes v1.35.1")


@failure(Task.UPGRADE, "runtime", "containerd github.com 1.7.1 is too old: Kubernetes v1.37.0 needs containerd 2", "v1.37.0")
def an_upgrade_that_needs_another_containerd(machine):
    an_old_containerd(machine)


@failure(Task.RENEW, "renew", "kubeadm certs renew failed")
def a_renewal_that_kubeadm_refuses(machine):
    machine.command("kubeadm", "exit 1")


@failure(Task.SNAPSHOT, "snapshot", "etcd does not run on this machine")
def no_etcd(machine):
    machine.command("ctr", ":")


@failure(Task.SNAPSHOT, "snapshot", "etcdctl snapshot save failed")
def an_etcd_that_gives_no_snapshot(machine):
    machine.command("ctr", 'case "$*" in *"containers ls"*) echo one ;; *"tasks ls"*) echo one 1 RUNNING ;; *) exit 1 ;; esac')


@failure(Task.SNAPSHOT, "snapshot", "etcdctl said nothing was wrong, but left no snapshot")
def a_snapshot_that_is_not_there(machine):
    """The stand-in for ctr writes nothing."""


@failure(Task.RESTORE, "restore", "there is no snapshot at /var/lib/kubeup/etcd-snapshot.db")
def nothing_to_restore(machine):
    machine.path("/var/lib/kubeup/etcd-snapshot.db").unlink()


@failure(Task.RESTORE, "restore", "this machine is not a control plane with its own etcd: there is no etcd.yaml")
def a_worker_to_restore_on(machine):
    bare(machine)


@failure(Task.RESTORE, "restore", "etcd and the API server did not stop within 120 seconds")
def an_etcd_that_does_not_stop(machine):
    """ctr names the same container for ever."""


@failure(Task.RESTORE, "restore", "the snapshot cannot be restored: bad hash")
def a_snapshot_that_is_damaged(machine):
    machine.command("ctr", 'case "$*" in *snapshot*) echo bad hash; exit 1 ;; esac')


RESTORES = 'case "$*" in *snapshot*) mkdir -p /var/lib/kubeup/restore/data/member ;; esac'


@failure(Task.RESTORE, "restore", "etcd is not healthy 180 seconds after it was restored")
def a_restored_etcd_that_does_not_come_up(machine):
    machine.command("ctr", RESTORES)
    machine.command("curl", "exit 7")


@failure(Task.RESTORE, "restore", "the API server does not answer 180 seconds after etcd was restored")
def an_api_server_that_does_not_answer_after_it(machine):
    machine.command("ctr", RESTORES)
    machine.command("curl", 'case "$*" in *readyz*) exit 7 ;; *) echo \'{"health":"true"}\' ;; esac')


@failure(Task.RESTORE, "restore", "the Node demo-1 did not register within 180 seconds after etcd was restored")
def a_node_that_does_not_register(machine):
    machine.command("ctr", RESTORES)
    machine.command("kubectl", "exit 1")


@failure(Task.LEAVE, "leave", "rm: cannot remove '/etc/kubernetes'")
def a_folder_that_cannot_be_removed(machine):
    machine.command(
        "rm", 'case "$*" in *" /etc/kubernetes "*) echo "rm: cannot remove \'/etc/kubernetes\'" >&2; exit 1 ;; esac'
    )


# ---------------------------------------------------------------------------------------------------------------------------


def bundled(machine) -> None:
    for binary in ("kubeadm", "kubelet", "kubectl"):
        machine.file(f"/var/lib/kubeup/bundle/v1.36.4/bin/{binary}", "#!/bin/sh\necho v1.36.4\n", 0o755)


def repository(machine) -> None:
    machine.command("curl", "while [ $1 != -o ]; do shift; done; echo key >$2")


def role(task: Task, step: str) -> str:
    return "worker" if task is Task.JOIN and step != "ready" else "controlPlane"


@pytest.mark.parametrize(("task", "name", "version", "given", "broken", "sentence"), FAILURES)
def test_what_a_person_sees(task, name, version, given, broken, sentence, machine, plan, node, secrets, step):
    peers = (Peer(name="demo-1", address="10.0.0.11"), Peer(name="demo-2", address="10.0.0.12"))
    healthy(machine, version)
    broken(machine)
    found = step(task, name, plan(version, control_planes=peers, **given), node(role(task, name), first=True), secrets)
    said = machine.fails(found)
    assert re.match(f"(kubeup: )?{sentence}", said), said


def test_every_step_has_a_test_for_its_failure(plan, node, secrets):
    from kubeup_kubeadm import build

    peers = (Peer(name="demo-1", address="10.0.0.11"), Peer(name="demo-2", address="10.0.0.12"))
    every = set()
    for version in ("v1.20.2", "v1.36.4", "v1.37.0"):
        for task in Task:
            for which in ("controlPlane", "worker"):
                cluster = plan(version, bundle=BUNDLE, control_planes=peers)
                steps = build().steps(task, cluster, node(which, first=True), secrets)
                every |= {re.sub(r"(-\d+){3}$", "", step.name) for step in steps}
    assert every - {case.values[1] for case in FAILURES} == set()


def test_what_kubeadm_and_the_kubelet_said_stands_above_the_sentence(machine, plan, node, secrets, step):
    healthy(machine, "v1.36.4")
    an_init_that_fails(machine)
    machine.command("journalctl", "echo 'E0101 cannot start'; echo 'I0101 chatter'")
    text = machine.run(step(Task.INIT, "init", plan(), node("controlPlane"), secrets))[1]
    assert "E0101 cannot start" in text
    assert "[ERROR Port-6443]: Port 6443 is in use" in text
    assert "chatter" not in text


@pytest.mark.parametrize("apart", [-299, 0, 299])
def test_clocks_that_agree_within_five_minutes_are_fine(apart, machine, plan, node, step):
    machine.file("/var/lib/kubeup/clock", f"1800000000 {1800000000 + apart}\n")
    machine.does(step(Task.INIT, "clock", plan(), node("controlPlane")))


def test_a_machine_whose_systemd_comes_up_is_waited_for(machine, plan, node, step):
    machine.path("/run/systemd/system").rmdir()
    machine.command("sleep", "mkdir -p /run/systemd/system")
    machine.command("df", "printf 'a\\nb 100000000 0 90000000 5%% /\\n'")
    machine.does(step(Task.PREPARE, "machine", plan(), node()))


def test_a_machine_on_which_systemd_will_never_run_is_not_waited_for(machine, plan, node, step):
    machine.path("/run/systemd/system").rmdir()
    machine.file("/proc/1/cmdline", "sleep\x00900\x00")
    machine.fails(step(Task.PREPARE, "machine", plan(), node()))
    assert not [call for call in machine.calls if call.startswith("sleep")]
