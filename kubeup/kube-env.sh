# Read by kube-up.sh and kube-down.sh: the variables with their defaults, and the documents that they mean.
: "${KUBERNETES_PROVIDER:=docker}" "${NUM_NODES:=3}" "${NUM_MASTERS:=1}" "${INSTANCE_PREFIX:=kubernetes}"

bad() {
  echo "kube-up: $1" >&2
  exit 3
}

case $NUM_NODES in '' | *[!0-9]*) bad "NUM_NODES is '$NUM_NODES'; use a number, such as 3" ;; esac
case $NUM_MASTERS in 1 | 3 | 5) ;; *) bad "NUM_MASTERS is '$NUM_MASTERS'; etcd wants 1, 3 or 5" ;; esac
command -v kubeup >/dev/null || bad "the command kubeup is not on PATH; pip install kubeup, or activate the environment it is in"

kube_cluster() {
  kubeup init "$KUBERNETES_PROVIDER" --name "$INSTANCE_PREFIX" --replicas "$NUM_NODES" --control-planes "$NUM_MASTERS" \
    --kubernetes "${KUBERNETES_VERSION:-newest}"
}
