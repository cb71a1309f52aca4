# The control plane's manifests, or the worker's configuration, for the new version. May be run again after an interruption.
find_ignored
set --
[ -z "$ignored" ] || set -- "$@" --ignore-preflight-errors="$ignored"
if [ "$FIRST" = yes ]; then
    had_dns=$(kubectl --kubeconfig=/etc/kubernetes/admin.conf -n kube-system get deployment coredns -o name --ignore-not-found) || had_dns=
    timeout "$LIMIT" kubeadm upgrade apply "$VERSION" --yes "$@" || {
        code=$?
        explain
        fail "kubeadm upgrade apply failed (exit code $code)"
    }
    if [ "$DNS" = no ] && [ -z "$had_dns" ]; then
        # kubeadm up to 1.30 installs CoreDNS with every upgrade
        kubectl --kubeconfig=/etc/kubernetes/admin.conf -n kube-system delete deployment coredns --ignore-not-found --wait=false
        kubectl --kubeconfig=/etc/kubernetes/admin.conf -n kube-system delete service kube-dns --ignore-not-found --wait=false
    fi
else
    timeout "$LIMIT" kubeadm upgrade node "$@" || {
        code=$?
        explain
        fail "kubeadm upgrade node failed (exit code $code)"
    }
fi
