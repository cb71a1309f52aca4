# The local etcd through its JSON gateway, with the certificate that kubeadm made for its health checks.
etcd_call() {
    curl -sS -m 10 --cacert /etc/kubernetes/pki/etcd/ca.crt --cert /etc/kubernetes/pki/etcd/healthcheck-client.crt \
        --key /etc/kubernetes/pki/etcd/healthcheck-client.key -X POST -d "$2" "https://127.0.0.1:2379/v3/$1"
}

etcd_healthy() {
    curl -sf -m 5 --cacert /etc/kubernetes/pki/etcd/ca.crt --cert /etc/kubernetes/pki/etcd/healthcheck-client.crt \
        --key /etc/kubernetes/pki/etcd/healthcheck-client.key https://127.0.0.1:2379/health | grep -Eq '"health": *"?true'
}
