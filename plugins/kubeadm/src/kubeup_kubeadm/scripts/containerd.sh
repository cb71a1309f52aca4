# containerd: installed when it is not there, configured for the kubelet, started.
if ! has containerd; then
    if has_debs && ls "$STATE/bundle/$VERSION"/debs/containerd*.deb >/dev/null 2>&1; then
        install_debs || fail "the bundle's containerd does not install"
    elif [ "$(family)" = debian ]; then
        install_packages containerd runc || fail "cannot install containerd: the package repositories do not answer or do not have it"
    else
        install_packages containerd.io || fail "cannot install containerd.io: add Docker's repository to the image, RHEL itself has no containerd"
    fi
fi
supported_containerd

pause=$PAUSE
if [ -z "$pause" ]; then
    pause=$(kubeadm config images list --kubernetes-version "$VERSION" --image-repository "$REPOSITORY" 2>/dev/null | grep '/pause:' | head -n 1) || :
    [ -n "$pause" ] || fail "kubeadm does not tell the pause image of $VERSION"
fi

# CNI plugins are looked for where every network expects them; a distribution's own are linked there.
mkdir -p /opt/cni/bin /etc/cni/net.d
if [ -d "$STATE/bundle/$VERSION/cni" ]; then
    for plugin in "$STATE/bundle/$VERSION"/cni/*; do
        [ ! -f "$plugin" ] || install -m 755 "$plugin" /opt/cni/bin/
    done
fi
for folder in /usr/lib/cni /usr/libexec/cni; do
    for plugin in "$folder"/*; do
        name=${plugin##*/}
        if [ -x "$plugin" ] && [ ! -e "/opt/cni/bin/$name" ]; then ln -s "$plugin" "/opt/cni/bin/$name"; fi
    done
done

# Without CAP_SYS_RESOURCE (bit 24) nothing may ask for a lower OOM score than its own: containers would not start.
bounding=$(awk '/^CapBnd:/ {print $2}' /proc/self/status)
restrict=false
case $(printf '%s' "$bounding" | cut -c10) in
    [13579bdf]) ;;
    *)
        restrict=true
        say "CAP_SYS_RESOURCE is missing: OOM scores are restricted"
        ;;
esac
# containerd 1.x wants the hugetlb controller unless told otherwise; some kernels have none
mirrors=
[ ! -d /etc/containerd/certs.d ] || mirrors=yes

mkdir -p /etc/containerd
if [ "$release" = 1 ]; then
    cat >/etc/containerd/config.toml.kubeup <<TOML
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$pause"
  restrict_oom_score_adj = $restrict
  tolerate_missing_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
TOML
    [ -z "$mirrors" ] || cat >>/etc/containerd/config.toml.kubeup <<'TOML'
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
TOML
else
    cat >/etc/containerd/config.toml.kubeup <<TOML
version = 3
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '$pause'
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = $restrict
  tolerate_missing_hugetlb_controller = true
[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = 'runc'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = true
TOML
    [ -z "$mirrors" ] || cat >>/etc/containerd/config.toml.kubeup <<'TOML'
[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = '/etc/containerd/certs.d'
TOML
fi
systemctl -q enable containerd
if replace /etc/containerd/config.toml || ! systemctl -q is-active containerd; then
    systemctl restart containerd || fail "containerd does not start: $(journalctl -u containerd -n 5 --no-pager -o cat 2>/dev/null | tr '\n' ' ')"
fi
wait_for 30 ctr version || fail "containerd runs but does not answer on /run/containerd/containerd.sock"
