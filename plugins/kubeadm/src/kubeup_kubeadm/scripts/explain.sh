# kubeadm with a time limit: kubeadm_ SECONDS ARGUMENTS...; what it says is in a file, the important part of it is told at the end.
kubeadm_() {
    limit=$1
    shift
    began=$(date +%s)
    timeout -k 10 "$limit" kubeadm "$@" >"$STATE/kubeadm.log" 2>&1 || {
        code=$?
        # 137 is also what a kubeadm leaves that did not listen when its time was over
        if [ "$code" = 137 ] && [ $(($(date +%s) - began)) -ge "$limit" ]; then code=124; fi
        return "$code"
    }
}

# Ends the step: kubeadm_failed CODE WHAT
kubeadm_failed() {
    explain
    say "--- kubeadm:"
    if grep -q '\[ERROR ' "$STATE/kubeadm.log"; then grep '\[ERROR ' "$STATE/kubeadm.log"; else tail -n 8 "$STATE/kubeadm.log"; fi
    [ "$1" != 124 ] || fail "$2 did not come to an end within $LIMIT seconds"
    fail "$2 failed (exit code $1)"
}

# What people need to see when a control plane or a kubelet does not come up. Short: only the end of it reaches the Machine's status.
explain() {
    say "--- kubelet:"
    journalctl -u kubelet -n 300 --no-pager -o cat 2>/dev/null | grep -E '^[EF][0-9]{4}' |
        grep -Ev 'cri_stats_provider|perf_event|not found in .* cache|network not ready' | tail -n 4 | cut -c1-300 || :
    for component in etcd kube-apiserver; do
        # shellcheck disable=SC2012  # the newest one; the names are the kubelet's
        log=$(ls -t /var/log/pods/kube-system_"$component"-*/"$component"/*.log 2>/dev/null | head -n 1)
        if [ -n "$log" ]; then
            say "--- $component:"
            tail -n 3 "$log" | cut -c1-300 || :
        fi
    done
}
