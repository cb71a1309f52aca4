# The pod network: reference plugins, and an agent that keeps a route to each other Node.
for plugin in bridge host-local loopback portmap; do
    [ -x "/opt/cni/bin/$plugin" ] || fail "the CNI plugin $plugin is not in /opt/cni/bin: install containernetworking-plugins, or put it into the bundle"
done
has python3 || fail "python3 is not installed; the pod network's agent needs it (or choose another spec.network.cni)"
cat >/etc/systemd/system/kubeup-routes.service <<UNIT
[Unit]
Description=kubeup's pod network: routes between Nodes
After=network-online.target containerd.service
StartLimitIntervalSec=0

[Service]
ExecStart=/usr/bin/env python3 -u /usr/local/lib/kubeup/kubeup-routes --node $NAME --cluster-cidr $POD_CIDR
Restart=always
RestartSec=2

[Install]
WantedBy=multi-user.target
UNIT
systemctl daemon-reload
systemctl -q enable kubeup-routes
systemctl restart kubeup-routes
