# The control plane of this machine answers by itself, not only through the balancer.
wait_for "$LIMIT" api_answers "$PORT" || {
    explain
    fail "the API server of this machine does not answer /readyz within $LIMIT seconds"
}
if [ "$ETCD" = local ]; then
    wait_for "$LIMIT" etcd_healthy || {
        explain
        fail "the etcd of this machine is not healthy after $LIMIT seconds"
    }
fi
