# Which containerd this is, and whether the version of Kubernetes goes with it. Changes nothing.
supported_containerd() {
    release=$(containerd --version | sed -E 's/.* v?([0-9]+)\.([0-9]+).*/\1/')
    case $release in
        1) [ "$CONTAINERD_1" = yes ] || fail "$(containerd --version) is too old: Kubernetes $VERSION needs containerd 2" ;;
        2 | 3) ;;
        *) fail "the version of containerd is not understood: $(containerd --version)" ;;
    esac
}
