# The images that this machine runs: out of the bundle, else pulled. Proven to be there before anything depends on it.
from=$STATE/bundle/$VERSION/images
for archive in "$from"/*.tar; do
    [ -e "$archive" ] || continue
    say "imports ${archive##*/}"
    ctr_ images import --no-unpack "$archive" >/dev/null ||
        fail "${archive##*/} of the bundle is not an image archive that containerd takes, or the disk is full"
done
list() { kubeadm config images list --config "$CONFIG" 2>/dev/null; }
wanted=$(list) || fail "kubeadm does not accept its configuration: $(kubeadm config images list --config "$CONFIG" 2>&1 | tail -n 1)"
[ "$ROLE" = controlPlane ] || wanted=$(printf '%s\n' "$wanted" | grep -E '/(pause|kube-proxy):')
for image in $wanted; do
    case $image in
        */coredns:*) if [ "$DNS" = no ]; then continue; fi ;;
        */kube-proxy:*) if [ "$PROXY" = no ]; then continue; fi ;;
        */etcd:*) if [ "$ETCD" = external ]; then continue; fi ;;
    esac
    image_there "$image" && continue
    if [ "$SOURCE" = bundle ]; then
        fail "the bundle has no image $image; imageRepository and images in spec.kubernetes.config must match it"
    fi
    say "pulls $image"
    if has crictl; then pull="crictl -r unix:///run/containerd/containerd.sock pull -q"; else pull="ctr -n k8s.io images pull --hosts-dir /etc/containerd/certs.d"; fi
    $pull "$image" >/dev/null || fail "cannot pull $image: the registry does not answer or does not have it"
done
rm -rf "$from"
