# Facts of a machine that decide about kubeadm's preflight.
swap_on() { [ "$(wc -l </proc/swaps)" -gt 1 ]; }

cgroup_v1() { ! [ -e /sys/fs/cgroup/cgroup.controllers ]; }

kernel_config() {
    [ -r /proc/config.gz ] || [ -r "/boot/config-$(uname -r)" ] || [ -r "/lib/modules/$(uname -r)/config" ] ||
        [ -r "/usr/src/linux-$(uname -r)/.config" ] || modprobe configs 2>/dev/null
}

image_there() { [ -n "$(ctr_ images ls -q "name==$1" 2>/dev/null)" ]; }

# Sets $ignored to the preflight errors that are known to be harmless on this machine, and says why each one is.
find_ignored() {
    ignored=
    if [ "$(uname -r | cut -d. -f1)" -gt "$KERNEL" ]; then
        ignore SystemVerification "kubeadm $VERSION does not know the kernel $(uname -r), which is newer than it"
    elif ! kernel_config; then
        ignore SystemVerification "the kernel's build configuration cannot be read here"
    elif [ "$CGROUP_V1" = refused ] && cgroup_v1; then
        ignore SystemVerification "cgroup v1 is allowed to the kubelet of this machine"
    fi
    if swap_on; then ignore Swap "the swap belongs to the host and cannot be switched off; the kubelet is told so"; fi
    if [ "$DNS" = no ] && ! image_there "$COREDNS"; then
        ignore ImagePull "CoreDNS is left out, but kubeadm $VERSION wants its image all the same"
    fi
    for given in $IGNORE; do ignore "$given" "spec.kubernetes.config.ignorePreflightErrors"; done
}

ignore() {
    case ",$ignored," in *",$1,"*) return ;; esac
    ignored=${ignored:+$ignored,}$1
    say "ignores the preflight error $1: $2"
}
