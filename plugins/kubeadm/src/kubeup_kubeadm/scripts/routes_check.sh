systemctl -q is-active kubeup-routes && grep -q -- "--node $NAME --cluster-cidr $POD_CIDR" /etc/systemd/system/kubeup-routes.service
