# The control plane's manifests, or the worker's configuration, for the new version. May be run again after an interruption.
admin() { kubectl --kubeconfig=/etc/kubernetes/admin.conf -n kube-system "$@"; }

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
