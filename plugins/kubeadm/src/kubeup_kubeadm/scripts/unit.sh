# The kubelet's unit, where no package brought one.
if ! [ -e /lib/systemd/system/kubelet.service ] && ! [ -e /usr/lib/systemd/system/kubelet.service ]; then
    kubelet=$(command -v kubelet) || fail "kubelet is not installed, so it cannot become a service"
    mkdir -p /etc/systemd/system/kubelet.service.d
    cat >/etc/systemd/system/kubelet.service <<UNIT
[Unit]
Description=kubelet, the agent of a Kubernetes Node
Documentation=https://kubernetes.io/docs/
Wants=network-online.target containerd.service
After=network-online.target containerd.service
StartLimitIntervalSec=0

[Service]
ExecStart=$kubelet
Restart=always
RestartSec=2

[Install]
WantedBy=multi-user.target
UNIT
    cat >/etc/systemd/system/kubelet.service.d/10-kubeadm.conf <<UNIT
[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
EnvironmentFile=-/etc/sysconfig/kubelet
ExecStart=
ExecStart=$kubelet \$KUBELET_KUBECONFIG_ARGS \$KUBELET_CONFIG_ARGS \$KUBELET_KUBEADM_ARGS \$KUBELET_EXTRA_ARGS
UNIT
fi

# What only this machine needs; a flag wins over the cluster's common configuration.
extra=
swap_on && extra="$extra --fail-swap-on=false"
if [ "$CGROUP_V1" = refused ] && cgroup_v1; then extra="$extra --fail-cgroupv1=false"; fi
if [ -n "$extra" ]; then
    if [ "$(family)" = debian ]; then file=/etc/default/kubelet; else file=/etc/sysconfig/kubelet; fi
    mkdir -p "${file%/*}"
    echo "KUBELET_EXTRA_ARGS=\"${extra# }\"" >"$file"
    say "kubelet of this machine:$extra"
fi
mkdir -p /etc/kubernetes/manifests
systemctl daemon-reload
systemctl -q enable kubelet || fail "the kubelet's service cannot be enabled"
