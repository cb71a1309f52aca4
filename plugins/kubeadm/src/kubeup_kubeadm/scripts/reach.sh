# Can this machine talk to the API's endpoint, and do their clocks agree?
head=$(curl -ksS -m 10 -o /dev/null -D - "https://$ENDPOINT/version" 2>&1) || {
    code=$?
    case $code in
        6) why="the name of $ENDPOINT is not known to this machine's DNS" ;;
        7) why="$ENDPOINT refuses connections, or no route leads there" ;;
        28) why="$ENDPOINT does not answer within 10 seconds: a firewall, or a wrong address" ;;
        *) why="$ENDPOINT does not speak TLS with this machine ($(printf '%s' "$head" | tail -n 1))" ;;
    esac
    fail "the API cannot be reached from this machine: $why"
}
date=$(printf '%s' "$head" | tr -d '\r' | sed -n 's/^[Dd]ate: //p' | tail -n 1)
if [ -n "$date" ]; then
    theirs=$(date -u -d "$date" +%s)
    ours=$(date -u +%s)
    apart=$((ours - theirs))
    [ "$apart" -ge 0 ] || apart=$((-apart))
    [ "$apart" -lt 120 ] ||
        fail "this machine's clock is $apart seconds away from the control plane's ($(date -u -d "@$ours" +%FT%TZ) here, $(date -u -d "@$theirs" +%FT%TZ) there): certificates and tokens will not be valid"
fi
