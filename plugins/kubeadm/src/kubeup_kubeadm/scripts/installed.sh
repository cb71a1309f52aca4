# True when exactly this version is on the machine.
installed() {
    for binary in kubeadm kubelet kubectl; do has "$binary" || return 1; done
    [ "$(kubeadm version -o short 2>/dev/null)" = "$VERSION" ] && [ "$(kubelet --version 2>/dev/null | awk '{print $2}')" = "$VERSION" ]
}
