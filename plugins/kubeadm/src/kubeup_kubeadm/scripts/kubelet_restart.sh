systemctl daemon-reload
systemctl restart kubelet
healthy() { [ "$(curl -sf -m 3 http://127.0.0.1:10248/healthz)" = ok ]; }
wait_for 90 healthy || {
    explain
    fail "the kubelet is not healthy 90 seconds after its restart with $VERSION"
}
have=$(kubelet --version | awk '{print $2}')
[ "$have" = "$VERSION" ] || fail "the kubelet on this machine is $have, but $VERSION was asked for"
