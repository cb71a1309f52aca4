# Kernel modules, sysctls, swap, the resolver that pods get, and the tools that the kubelet and kubeadm call.
missing=
need() { has "$1" || missing="$missing $2"; }

if [ "$(family)" = debian ]; then iptools=iproute2 conntracktools=conntrack; else iptools=iproute conntracktools=conntrack-tools; fi
need conntrack $conntracktools
need iptables "$([ "$(family)" = debian ] && echo iptables || echo iptables-nft)"
need socat socat
need ethtool ethtool
need ip $iptools
need curl curl
need mount mount
need tar tar
[ "$CNI" != bridge ] || need python3 python3
if [ -n "$missing" ]; then
    if has_debs; then
        say "installs from the bundle:$missing"
        install_debs || fail "the bundle's packages do not install; it needs$missing with all they depend on"
    else
        say "installs$missing"
        # shellcheck disable=SC2086
        install_packages $missing ||
            fail "cannot install$missing: the package repositories do not answer or do not have them; put them into the image or the bundle"
    fi
fi

# A kernel without modules has them built in, or not at all; what is really missing shows in the sysctls below.
mkdir -p /etc/modules-load.d
printf '%s\n' overlay br_netfilter nf_conntrack >/etc/modules-load.d/kubeup.conf
for module in overlay br_netfilter nf_conntrack; do
    modprobe "$module" 2>/dev/null || say "module $module is not loadable (built in, or not there)"
done

# What pods would miss later, when nobody asks them why.
if [ "$PROXY" = ipvs ]; then
    printf '%s\n' ip_vs ip_vs_rr ip_vs_wrr ip_vs_sh >>/etc/modules-load.d/kubeup.conf
    for module in ip_vs ip_vs_rr ip_vs_wrr ip_vs_sh; do modprobe "$module" 2>/dev/null || :; done
    [ -e /proc/net/ip_vs ] || fail "the kernel has no /proc/net/ip_vs: the module ip_vs is missing, and kube-proxy's mode ipvs needs it"
fi
if [ "$CNI" = flannel ]; then
    echo vxlan >>/etc/modules-load.d/kubeup.conf
    modprobe vxlan 2>/dev/null || :
    ip link delete kubeup-probe 2>/dev/null || :
    ip link add kubeup-probe type vxlan id 1 dstport 8472 2>/dev/null || [ -e /sys/class/net/flannel.1 ] ||
        fail "the kernel makes no link of the type vxlan: the module vxlan is missing, and flannel needs it"
    ip link delete kubeup-probe 2>/dev/null || :
fi

must() {
    [ -e "/proc/sys/$1" ] || fail "the kernel has no /proc/sys/$1: the module $3 is missing"
    [ "$(cat "/proc/sys/$1")" = "$2" ] || { echo "$2" >"/proc/sys/$1"; } 2>/dev/null ||
        fail "/proc/sys/$1 cannot be set to $2: it is read-only here"
}
may() { { [ -w "/proc/sys/$1" ] && [ "$(cat "/proc/sys/$1")" -lt "$2" ] && echo "$2" >"/proc/sys/$1"; } 2>/dev/null || :; }
must net/ipv4/ip_forward 1 "(IPv4)"
must net/bridge/bridge-nf-call-iptables 1 br_netfilter
[ ! -e /proc/sys/net/bridge/bridge-nf-call-ip6tables ] || must net/bridge/bridge-nf-call-ip6tables 1 br_netfilter
cores=$(nproc)
track=$((cores * 32768))
[ "$track" -ge 131072 ] || track=131072
may net/netfilter/nf_conntrack_max "$track"
may fs/inotify/max_user_instances 1024
may fs/inotify/max_user_watches 524288
mkdir -p /etc/sysctl.d
cat >/etc/sysctl.d/90-kubeup.conf <<SYSCTL
net.ipv4.ip_forward = 1
net.bridge.bridge-nf-call-iptables = 1
-net.bridge.bridge-nf-call-ip6tables = 1
-net.netfilter.nf_conntrack_max = $track
-fs.inotify.max_user_instances = 1024
-fs.inotify.max_user_watches = 524288
SYSCTL

# Swap: off, now and at the next start. In a container it is the host's and stays; the kubelet is told so.
if [ -f /etc/fstab ] && grep -Eq '^[^#]+[[:space:]]swap[[:space:]]' /etc/fstab; then
    sed -i -E 's@^([^#]+[[:space:]]swap[[:space:]].*)$@# \1  (kubeup: swap is off)@' /etc/fstab
fi
swapoff -a 2>/dev/null || :
if has zramctl && [ -f /etc/systemd/zram-generator.conf ]; then : >/etc/systemd/zram-generator.conf; fi

# Pods cannot reach a resolver on the machine's loopback. A machine that brings the file has better reasons.
if [ ! -s /etc/kubeup/resolv.conf ]; then
    mkdir -p /etc/kubeup
    if [ -e /run/systemd/resolve/resolv.conf ]; then
        ln -sfn /run/systemd/resolve/resolv.conf /etc/kubeup/resolv.conf
    elif grep -Eq '^nameserver[[:space:]]+(127\.|::1)' /etc/resolv.conf 2>/dev/null; then
        grep -Ev '^nameserver[[:space:]]+(127\.|::1)' /etc/resolv.conf >/etc/kubeup/resolv.conf || :
    else
        ln -sfn /etc/resolv.conf /etc/kubeup/resolv.conf
    fi
fi

# SELinux and firewalld of RHEL-likes: containers of the control plane read host paths without labels; kube-proxy owns the rules.
if has getenforce && [ "$(getenforce)" = Enforcing ]; then
    setenforce 0
    sed -i 's/^SELINUX=enforcing$/SELINUX=permissive/' /etc/selinux/config
    say "SELinux is permissive now, as kubeadm's documentation asks"
fi
if has firewall-cmd && systemctl -q is-active firewalld; then
    systemctl disable --now firewalld >/dev/null 2>&1
    say "firewalld is off: it and kube-proxy undo each other's rules"
fi
