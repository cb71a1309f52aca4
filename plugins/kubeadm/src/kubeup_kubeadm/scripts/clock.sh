# The cluster's certificates begin to be valid when kubeup made them; a clock behind that finds every one of them invalid.
ours=$(date -u +%s)
[ "$ours" -ge "$NOT_BEFORE" ] ||
    fail "this machine's clock is $((NOT_BEFORE - ours)) seconds behind the moment at which the cluster's CA became valid ($(date -u -d "@$ours" +%FT%TZ) here)"
