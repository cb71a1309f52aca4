# kubeadm join. Not re-runnable by itself: a machine on which it was interrupted is cleaned first.
trap forget_keys EXIT
trap 'exit 143' TERM # a shell that a signal ends runs no other trap
if [ -s /etc/kubernetes/admin.conf ] && [ "$(cat "$STATE/joining" 2>/dev/null)" = "$CA" ] && has kubectl; then
    # the Node of the interrupted attempt may still look Ready, and kubeadm would refuse to join as it
    timeout 20 kubectl --kubeconfig=/etc/kubernetes/admin.conf delete node "$NAME" --wait=false >/dev/null 2>&1 || :
fi
begin
put_keys
find_ignored
set -- --config "$CONFIG"
[ -z "$ignored" ] || set -- "$@" --ignore-preflight-errors="$ignored"
[ -z "$SKIP" ] || set -- "$@" --skip-phases="$SKIP"
kubeadm_ "$LIMIT" join "$@" &
join=$!
# kubernetes#99305: the kubelet refuses etcd's static pod for good; only its restart helps
restart_when_refused() {
    while kill -0 "$join" 2>/dev/null; do
        if journalctl -u kubelet --no-pager -o cat 2>/dev/null | grep -q 'Failed to admit pod.*etcd'; then
            say "the kubelet refused etcd (kubernetes#99305): restarts it"
            systemctl restart kubelet
            break
        fi
        sleep 2
    done
}
if [ "$ROLE" = controlPlane ] && [ "$ETCD_ADMISSION" = yes ]; then restart_when_refused & fi
wait "$join" || kubeadm_failed $? "kubeadm join"
echo "$CA" >"$STATE/joined"
