# kubeadm, kubelet and kubectl out of the bundle (or as found), with the kubelet's unit as kubeadm expects it.
from=$STATE/bundle/$VERSION/bin
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
