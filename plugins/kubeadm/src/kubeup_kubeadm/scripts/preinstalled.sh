# What has to be there already when nothing is to be installed.
for binary in kubeadm kubelet; do
    has "$binary" || fail "$binary is not installed, but spec.kubernetes.source is preinstalled"
done
have=$(kubeadm version -o short)
[ "$have" = "$VERSION" ] || fail "the installed kubeadm is $have, but $VERSION was asked for"
kubelet=$(kubelet --version | awk '{print $2}')
[ "$kubelet" = "$VERSION" ] || fail "the installed kubelet is $kubelet, but $VERSION was asked for"
