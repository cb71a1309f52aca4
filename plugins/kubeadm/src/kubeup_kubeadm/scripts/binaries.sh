# kubeadm, kubelet and kubectl out of the bundle (or as found), with the kubelet's unit as kubeadm expects it.
from=$STATE/bundle/$VERSION/bin
# Looked at before anything is replaced: a bundle of another version must not touch what runs.
if [ -x "$from/kubeadm" ]; then
    have=$("$from/kubeadm" version -o short) || fail "kubeadm of the bundle does not run on this machine"
    [ "$have" = "$VERSION" ] || fail "kubeadm in the bundle is $have, but $VERSION was asked for"
fi
for binary in $BINARIES; do
    if [ -x "$from/$binary" ]; then
        cmp -s "$from/$binary" "/usr/local/bin/$binary" || {
            cp "$from/$binary" "/usr/local/bin/.$binary.kubeup"
            chmod 755 "/usr/local/bin/.$binary.kubeup"
            mv "/usr/local/bin/.$binary.kubeup" "/usr/local/bin/$binary"
        }
    elif [ "$binary" != crictl ]; then
        fail "the bundle has no $binary"
    fi
done
have=$(kubeadm version -o short) || fail "kubeadm does not run on this machine: $(kubeadm version -o short 2>&1 | head -n 1)"
[ "$have" = "$VERSION" ] || fail "kubeadm on this machine is $have, but $VERSION was asked for"
