"""What PREPARE installs and writes on machines of many kinds. On a machine made of a folder (`conftest.Machine`); stand-ins write down
how they were called."""

import tomllib

import pytest
from kubeup_core.bootstrapper import Archive, Task

BUNDLE = Archive(path="/bundles/k.tar", sha256="ab" * 32)
TOOLS = ("conntrack", "iptables", "socat", "ethtool", "mount", "python3")
RHEL = "ID=rocky\nID_LIKE='rhel centos fedora'\n"


@pytest.fixture
def host(machine):
    """Has nothing that a step would have to install; its repositories have everything."""
    for tool in TOOLS:
        machine.command(tool, ":")
    for sysctl in ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"):
        machine.file(f"/proc/sys/{sysctl}", "0\n")
    machine.command("apt-get", ":")
    machine.command("dnf", ":")
    machine.command("ctr", ":")
    machine.command("kubeadm", "echo registry.k8s.io/pause:3.10")
    machine.command("kubelet", ":")
    machine.command("containerd", "echo containerd github.com/containerd/containerd/v2 v2.1.4 abc")
    return machine


@pytest.fixture
def prepare(plan, node, step):
    return lambda name, version="v1.36.4", **given: step(Task.PREPARE, name, plan(version, **given), node())


def installed(machine, *words: str) -> list[str]:
    return [call for call in machine.calls if call.split()[0] in ("apt-get", "dnf", "dpkg") and all(w in call for w in words)]


# -- tools ------------------------------------------------------------------------------------------------------------------


def test_a_machine_that_has_every_tool_installs_nothing(host, prepare):
    host.does(prepare("system"))
    assert installed(host) == []


def test_missing_tools_come_from_the_repositories(host, prepare):
    for tool in ("conntrack", "iptables", "python3"):
        host.without(tool)
    assert "installs conntrack iptables python3" in host.does(prepare("system"))
    assert len(installed(host, "install conntrack iptables python3")) == 1


def test_a_machine_like_rhel_calls_its_packages_by_its_own_names(host, prepare):
    host.file("/etc/os-release", RHEL)
    for tool in ("conntrack", "iptables", "ip"):
        host.without(tool)
    host.does(prepare("system"))
    assert installed(host) == ["dnf -q -y install conntrack-tools iptables-nft iproute"]


def test_missing_tools_come_out_of_a_bundle_that_has_packages(host, prepare):
    host.without("socat")
    host.command("dpkg", ":")
    host.file("/var/lib/kubeup/bundle/v1.36.4/debs/socat.deb")
    host.does(prepare("system", bundle=BUNDLE))
    assert installed(host) == ["dpkg --skip-same-version --refuse-downgrade -i /var/lib/kubeup/bundle/v1.36.4/debs/socat.deb"]


# -- the system -------------------------------------------------------------------------------------------------------------


def test_sysctls_are_set_now_and_for_the_next_start(host, prepare):
    host.file("/proc/sys/fs/inotify/max_user_instances", "128\n")
    host.file("/proc/sys/net/netfilter/nf_conntrack_max", "9999999\n")
    host.does(prepare("system"))
    assert host.read("/proc/sys/net/ipv4/ip_forward") == "1\n"
    assert host.read("/proc/sys/fs/inotify/max_user_instances") == "1024\n"
    assert host.read("/proc/sys/net/netfilter/nf_conntrack_max") == "9999999\n", "more than enough"
    assert "net.bridge.bridge-nf-call-iptables = 1\n" in host.read("/etc/sysctl.d/90-kubeup.conf")
    assert host.read("/etc/modules-load.d/kubeup.conf") == "overlay\nbr_netfilter\nnf_conntrack\n"


def test_modules_of_ipvs_and_vxlan_are_loaded_now_and_at_the_next_start(host, prepare):
    host.file("/proc/net/ip_vs")
    host.does(prepare("system", cni="flannel", config={"proxyMode": "ipvs"}))
    wanted = ["ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh", "vxlan"]
    assert host.read("/etc/modules-load.d/kubeup.conf").split()[3:] == wanted
    assert [call.split()[1] for call in host.calls if call.startswith("modprobe")][3:] == wanted
    assert [call for call in host.calls if call.startswith("ip")][-1] == "ip link delete kubeup-probe"


def test_swap_is_off_now_and_at_the_next_start(host, prepare):
    other = "UUID=1 / ext4 defaults 0 1\n# /dev/sdb none swap sw 0 0\n/dev/sdc /swap xfs defaults 0 0\n"
    host.file("/etc/fstab", other + "/dev/sda2 none swap sw 0 0\n")
    host.does(prepare("system"))
    assert host.read("/etc/fstab") == other + "# /dev/sda2 none swap sw 0 0  (kubeup: swap is off)\n"
    assert "swapoff -a" in host.calls
    host.does(prepare("system"))
    assert host.read("/etc/fstab").count("kubeup") == 1


@pytest.mark.parametrize(
    ("given", "resolver"),
    [("nameserver 10.0.0.2\n", "nameserver 10.0.0.2\n"), ("nameserver 127.0.0.53\nsearch a\n", "search a\n")],
)
def test_pods_get_no_resolver_on_the_loopback(given, resolver, host, prepare):
    host.file("/etc/resolv.conf", given)
    host.does(prepare("system"))
    assert host.read("/etc/kubeup/resolv.conf") == resolver


# -- containerd -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "wanted"), [("ID=debian\n", "install containerd runc"), (RHEL, "dnf -q -y install containerd.io")]
)
def test_containerd_is_installed_where_it_is_missing(system, wanted, host, prepare):
    host.file("/etc/os-release", system)
    host.without("containerd")
    host.command("apt-get", f"{arrives(host)}")
    host.command("dnf", f"{arrives(host)}")
    host.does(prepare("containerd"))
    assert len(installed(host, wanted)) == 1


def test_containerd_comes_out_of_a_bundle_that_has_it(host, prepare):
    host.without("containerd")
    host.file("/var/lib/kubeup/bundle/v1.36.4/debs/containerd_2.deb")
    host.command("dpkg", arrives(host))
    host.does(prepare("containerd", bundle=BUNDLE))
    assert len(installed(host, "dpkg", "-i", "containerd_2.deb")) == 1


def arrives(host) -> str:
    host.file("/usr/share/containerd", "#!/bin/sh\necho containerd 2.1.4\n", 0o755)
    return f"cp /usr/share/containerd {host.root}/bin/containerd"


V1, V2 = "io.containerd.grpc.v1.cri", "io.containerd.cri.v1"


@pytest.mark.parametrize(("bounding", "restricted"), [("000001ffffffffff", False), ("00000000a80425fb", True)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_configuration_of_containerd_2(mirrored, bounding, restricted, host, prepare):
    host.file("/proc/self/status", f"CapBnd:\t{bounding}\n")
    said = host.does(prepare("containerd", config={"registryMirrors": {"docker.io": ["http://10.0.0.1"]}} if mirrored else {}))
    written = tomllib.loads(host.read("/etc/containerd/config.toml"))
    runc = {"runtime_type": "io.containerd.runc.v2", "options": {"SystemdCgroup": True}}
    images = {"pinned_images": {"sandbox": "registry.k8s.io/pause:3.10"}}
    if mirrored:
        images["registry"] = {"config_path": "/etc/containerd/certs.d"}
    assert written == {
        "version": 3,
        "plugins": {
            f"{V2}.images": images,
            f"{V2}.runtime": {
                "restrict_oom_score_adj": restricted,
                "tolerate_missing_hugetlb_controller": True,
                "containerd": {"default_runtime_name": "runc", "runtimes": {"runc": runc}},
            },
        },
    }
    assert ("CAP_SYS_RESOURCE is missing" in said) == restricted


def test_the_configuration_of_containerd_1(host, prepare):
    host.command("containerd", "echo containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20")
    host.does(prepare("containerd", config={"images": {"pause": "mirror/pause:1"}}))
    (name, plugin), *none = tomllib.loads(host.read("/etc/containerd/config.toml"))["plugins"].items()
    assert (name, none) == (V1, [])
    assert plugin["sandbox_image"] == "mirror/pause:1"
    assert plugin["containerd"]["runtimes"]["runc"]["options"] == {"SystemdCgroup": True}
    assert plugin["cni"] == {"bin_dir": "/opt/cni/bin", "conf_dir": "/etc/cni/net.d"}
    assert not plugin["restrict_oom_score_adj"]


def test_containerd_is_restarted_only_when_its_configuration_changed(host, prepare):
    host.does(prepare("containerd"))
    host.does(prepare("containerd"))
    assert host.calls.count("systemctl restart containerd") == 1


def test_cni_plugins_come_from_the_bundle_and_the_distributions_own_are_linked(host, prepare):
    host.file("/var/lib/kubeup/bundle/v1.36.4/cni/bridge", "bundle's", 0o755)
    for name in ("bridge", "portmap"):
        host.file(f"/usr/lib/cni/{name}", "debian's", 0o755)
    host.does(prepare("containerd", bundle=BUNDLE))
    assert host.read("/opt/cni/bin/bridge") == "bundle's"
    assert host.read("/opt/cni/bin/portmap") == "debian's"


# -- the kubelet --------------------------------------------------------------------------------------------------------------

SWAP = "Filename Type\n/dev/sda2 partition 1 0 -2\n"


@pytest.mark.parametrize(
    ("swap", "v1", "system", "version", "written"),
    [
        (False, False, "ID=debian\n", "v1.36.4", None),
        (True, False, "ID=debian\n", "v1.36.4", ("/etc/default/kubelet", "--fail-swap-on=false")),
        (True, False, RHEL, "v1.36.4", ("/etc/sysconfig/kubelet", "--fail-swap-on=false")),
        (False, True, "ID=debian\n", "v1.36.4", ("/etc/default/kubelet", "--fail-cgroupv1=false")),
        (True, True, "ID=debian\n", "v1.36.4", ("/etc/default/kubelet", "--fail-swap-on=false --fail-cgroupv1=false")),
        (False, True, "ID=debian\n", "v1.30.1", None),
    ],
)
def test_the_kubelet_is_told_what_only_this_machine_needs(swap, v1, system, version, written, host, prepare):
    host.file("/etc/os-release", system)
    facts(host, swap=swap, v1=v1)
    host.does(prepare("kubelet", version))
    paths = [path for path in ("/etc/default/kubelet", "/etc/sysconfig/kubelet") if host.there(path)]
    assert [(path, host.read(path)) for path in paths] == (
        [(written[0], f'KUBELET_EXTRA_ARGS="{written[1]}"\n')] if written else []
    )


def facts(host, *, swap: bool = False, v1: bool = False, kernel: str = "6.1.0") -> None:
    if swap:
        host.file("/proc/swaps", SWAP)
    if v1:
        host.path("/sys/fs/cgroup/cgroup.controllers").unlink()
    host.command("uname", f"case $1 in -r) echo {kernel} ;; *) echo x86_64 ;; esac")


@pytest.mark.parametrize(
    ("given", "version", "config", "ignored"),
    [
        ({}, "v1.36.4", {}, None),
        ({"swap": True}, "v1.36.4", {}, "Swap"),
        ({"v1": True}, "v1.36.4", {}, "SystemVerification"),
        ({"v1": True}, "v1.30.1", {}, None),
        ({"kernel": "7.0.1"}, "v1.36.4", {}, "SystemVerification"),
        ({"kernel": "6.9.9"}, "v1.36.4", {}, "SystemVerification"),
        ({"swap": True}, "v1.36.4", {"ignorePreflightErrors": [{"name": "NumCPU", "reason": "one core"}]}, "Swap,NumCPU"),
        ({}, "v1.36.4", {"dns": False}, "ImagePull"),
    ],
    ids=["none", "swap", "cgroup-v1", "cgroup-v1-old", "newer-kernel", "no-kernel-config", "named", "no-dns"],
)
def test_preflight_errors_that_are_harmless_here_are_ignored_and_said(
    given, version, config, ignored, host, plan, node, secrets, step
):
    facts(host, **given)
    host.command("kubeadm", ":")
    host.command("modprobe", "exit 1")
    said = host.does(step(Task.INIT, "init", plan(version, config=config), node("controlPlane"), secrets))
    (call,) = [call for call in host.calls if call.startswith("kubeadm init")]
    assert ("--ignore-preflight-errors" in call) == (ignored is not None)
    if ignored:
        assert call.endswith(f"--ignore-preflight-errors={ignored}")
        assert all(f"ignores the preflight error {name}: " in said for name in ignored.split(","))
