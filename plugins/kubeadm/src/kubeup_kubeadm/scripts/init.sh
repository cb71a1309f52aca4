# kubeadm init. Not re-runnable by itself: a machine on which it was interrupted is cleaned first.
trap forget_keys EXIT
trap 'exit 143' TERM # a shell that a signal ends runs no other trap
begin
put_keys
find_ignored
set -- --config "$CONFIG" --skip-token-print
[ -z "$ignored" ] || set -- "$@" --ignore-preflight-errors="$ignored"
[ -z "$SKIP" ] || set -- "$@" --skip-phases="$SKIP"
kubeadm_ "$LIMIT" init "$@" || kubeadm_failed $? "kubeadm init"
echo "$CA" >"$STATE/joined"
