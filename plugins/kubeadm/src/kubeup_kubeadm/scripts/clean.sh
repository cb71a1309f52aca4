# Takes a half-made or former Node off this machine. Never fails because something is not there.
clean() {
    # one that is down has left its containers running
    if has ctr; then systemctl -q is-active containerd || timeout 30 systemctl start containerd 2>/dev/null || :; fi
    if has kubeadm && [ -d /etc/kubernetes ]; then
        timeout 60 kubeadm reset --force --cri-socket unix:///run/containerd/containerd.sock >/dev/null 2>&1 || :
    fi
    systemctl stop kubelet 2>/dev/null || :
    rm -rf /etc/kubernetes/manifests
    if has ctr && systemctl -q is-active containerd; then
        for task in $(ctr_ tasks ls -q 2>/dev/null); do ctr_ tasks kill -s SIGKILL "$task" 2>/dev/null || :; done
        sleep 1
        for container in $(ctr_ containers ls -q 2>/dev/null); do
            ctr_ tasks delete -f "$container" >/dev/null 2>&1 || :
            ctr_ containers delete "$container" >/dev/null 2>&1 || :
        done
    fi
    # What still runs in pods has no containerd that could end it. 0 is a process that this machine, a container, cannot see.
    pods=$(find /sys/fs/cgroup/kubepods* /sys/fs/cgroup/*/kubepods* -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u | grep -vx 0) || :
    for process in $pods; do kill -KILL "$process" 2>/dev/null || :; done
    awk '$2 ~ "^/var/lib/kubelet/|^/run/netns/cni-" {print $2}' /proc/mounts | sort -r |
        while read -r mount; do umount -l "$mount" 2>/dev/null || :; done
    # A volume that could not be unmounted keeps its data.
    rm -rf --one-file-system /var/lib/kubelet || fail "something is still mounted below /var/lib/kubelet, and nothing of it was removed: unmount it"
    rm -rf /etc/kubernetes/*.conf /etc/kubernetes/pki /etc/kubernetes/tmp /var/lib/etcd "$STATE/joined" "$STATE/joining"
    forget_network
    mkdir -p /etc/kubernetes/manifests
    systemctl try-restart kubeup-routes 2>/dev/null || :
}

# The pod network's configuration, links and leases: the next one has other addresses, perhaps another plugin. The kernel takes a link
# between a pod and the machine away with the pod's namespace.
forget_network() {
    for name in 10-kubeup 10-flannel 10-calico 05-cilium; do rm -f "/etc/cni/net.d/$name.conflist"; done
    rm -f /run/netns/cni-*
    rm -rf /run/flannel /run/cni-ipam-state /var/lib/cni
    has ip || return 0
    for link in cni0 flannel.1; do ip link delete "$link" 2>/dev/null || :; done
}

dirty() {
    [ -e /etc/kubernetes/kubelet.conf ] || [ -e /etc/kubernetes/bootstrap-kubelet.conf ] || [ -e /etc/kubernetes/admin.conf ] ||
        [ -n "$(ls -A /etc/kubernetes/manifests 2>/dev/null)" ] || [ -d /var/lib/etcd/member ]
}

# Makes way for an init or a join. What an interrupted one of this cluster left is taken away; what somebody else made is not touched.
begin() {
    if dirty; then
        [ "$(cat "$STATE/joining" 2>/dev/null)" = "$CA" ] ||
            fail "this machine belongs to another Kubernetes cluster: /etc/kubernetes is not empty, and kubeup did not begin it for this cluster"
        say "an earlier attempt was interrupted: cleans up"
        clean
    fi
    echo "$CA" >"$STATE/joining"
}
