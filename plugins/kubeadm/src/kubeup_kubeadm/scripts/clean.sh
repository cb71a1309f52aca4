# Takes a half-made or former Node off this machine. Never fails because something is not there.
clean() {
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
    awk '$2 ~ "^/var/lib/kubelet/" {print $2}' /proc/mounts | sort -r | while read -r mount; do umount -l "$mount" 2>/dev/null || :; done
    rm -rf /etc/kubernetes/*.conf /etc/kubernetes/pki /etc/kubernetes/tmp /var/lib/kubelet /var/lib/etcd "$STATE/joined" "$STATE/joining"
    rm -f /etc/cni/net.d/10-kubeup.conflist
    mkdir -p /etc/kubernetes/manifests
    systemctl try-restart kubeup-routes 2>/dev/null || :
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
