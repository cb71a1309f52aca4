# True when exactly this version of these binaries is on the machine.
installed() {
    for binary in $PACKAGES; do
        has "$binary" || return 1
        case $binary in
            kubeadm) [ "$(kubeadm version -o short 2>/dev/null)" = "$VERSION" ] || return 1 ;;
            kubelet) [ "$(kubelet --version 2>/dev/null | awk '{print $2}')" = "$VERSION" ] || return 1 ;;
        esac
    done
}
