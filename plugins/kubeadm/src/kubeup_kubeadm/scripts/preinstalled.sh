# What has to be there already when nothing is to be installed.
for binary in $PACKAGES; do
    has "$binary" || fail "$binary is not installed${WHY:-, but spec.kubernetes.source is preinstalled}"
done
installed || fail "the installed version is $(kubeadm version -o short 2>&1 | head -n 1) (kubeadm) and $(kubelet --version 2>&1 | head -n 1), but $VERSION was asked for$WHY"
