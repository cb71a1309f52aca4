# The control plane's manifests, or the worker's configuration, for the new version. May be run again after an interruption.
admin() { kubectl --kubeconfig=/etc/kubernetes/admin.conf -n kube-system "$@"; }

# kubeadm reads the cluster's own configuration, and one that was made before 1.21 does not say that CoreDNS moved a folder deeper.
tell_dns_repository() {
    have=$(admin get configmap kubeadm-config -o yaml) || fail "the API does not answer, so nothing was changed"
    if printf '%s\n' "$have" | sed -n '/^    dns:/,/^    [^ ]/p' | grep -q '^      imageRepository:'; then return; fi
    say "kubeadm's configuration in the cluster says from now on that CoreDNS is in $DNS_REPOSITORY"
    printf '%s\n' "$have" | sed "s@^    dns:.*@    dns:\n      imageRepository: $DNS_REPOSITORY@" | admin replace -f - >/dev/null ||
        fail "the ConfigMap kubeadm-config cannot be changed, so nothing was upgraded"
}

find_ignored
if [ "$FIRST" = yes ]; then
    had_dns=yes
    if [ "$DNS" = no ]; then
        had_dns=$(admin get deployment coredns -o name --ignore-not-found) || fail "the API does not answer, so nothing was changed"
        if [ -z "$had_dns" ]; then
            ignore CoreDNSUnsupportedPlugins "there is no CoreDNS to be upgraded"
            ignore CoreDNSMigration "there is no CoreDNS to be upgraded"
        fi
    fi
    [ -z "$DNS_REPOSITORY" ] || tell_dns_repository
    set -- apply "$VERSION" --yes
else
    set -- node
fi
[ -z "$ignored" ] || set -- "$@" --ignore-preflight-errors="$ignored"
kubeadm_ "$LIMIT" upgrade "$@" || kubeadm_failed $? "kubeadm upgrade $1"
if [ "$FIRST" = yes ] && [ -z "$had_dns" ]; then
    # kubeadm before 1.31 installs CoreDNS with every upgrade
    admin delete deployment coredns --ignore-not-found --wait=false
    admin delete service kube-dns --ignore-not-found --wait=false
fi
