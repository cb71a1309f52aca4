# kubeadm init. Not re-runnable by itself: a machine on which it was interrupted is cleaned first.
if dirty; then
    say "an earlier attempt was interrupted: cleans up"
    clean
fi
put_keys
find_ignored
set -- --config "$CONFIG" --skip-token-print
[ -z "$ignored" ] || set -- "$@" --ignore-preflight-errors="$ignored"
[ -z "$SKIP" ] || set -- "$@" --skip-phases="$SKIP"
timeout "$LIMIT" kubeadm init "$@" || {
    code=$?
    explain
    [ $code != 124 ] || fail "kubeadm init did not come to an end within $LIMIT seconds"
    fail "kubeadm init failed (exit code $code)"
}
forget_keys
echo "$CA" >"$STATE/joined"
