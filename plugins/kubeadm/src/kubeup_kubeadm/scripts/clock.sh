# Certificates and tokens are valid by kubeup's clock. CLOCK holds what that and this machine's said when the steps were sent; where
# nobody sent them, a clock that is behind the CA's beginning is wrong at any rate.
ours=$(date -u +%s)
if [ -s "$CLOCK" ]; then
    read -r theirs here <"$CLOCK"
    apart=$((here - theirs))
    side=ahead
    if [ "$apart" -lt 0 ]; then apart=$((-apart)) side=behind; fi
    [ "$apart" -lt 300 ] ||
        fail "this machine's clock is $apart seconds $side of kubeup's ($(date -u -d "@$here" +%FT%TZ) here, $(date -u -d "@$theirs" +%FT%TZ) there): certificates and tokens will not be valid"
fi
[ "$ours" -ge "$NOT_BEFORE" ] ||
    fail "this machine's clock is $((NOT_BEFORE - ours)) seconds behind the moment at which the cluster's CA became valid ($(date -u -d "@$ours" +%FT%TZ) here)"
