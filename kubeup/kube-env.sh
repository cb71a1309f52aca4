# Read by kube-up.sh and kube-down.sh: the variables with their defaults, and the documents that they mean, in $file.
: "${KUBERNETES_PROVIDER:=docker}" "${NUM_NODES:=3}" "${NUM_MASTERS:=1}" "${INSTANCE_PREFIX:=kubernetes}"

bad() {
  echo "kube-up: $1" >&2
  exit 3
}

case $NUM_NODES in '' | *[!0-9]*) bad "NUM_NODES is '$NUM_NODES'; use a number, such as 3" ;; esac
case $NUM_MASTERS in 1 | 3 | 5) ;; *) bad "NUM_MASTERS is '$NUM_MASTERS'; etcd wants 1, 3 or 5" ;; esac
[ -r "${KUBE_UP_FILE:-/dev/null}" ] || bad "KUBE_UP_FILE is '$KUBE_UP_FILE', which cannot be read"
command -v kubeup >/dev/null || bad "the command kubeup is not on PATH; pip install kubeup, or activate the environment it is in"

folder=$(mktemp -d)
file=$folder/cluster.yaml
trap 'tidy $?' EXIT

# An error names the file and a line in it, so it stays where something failed.
tidy() {
  if [ "$1" = 0 ] || ! [ -s "$file" ]; then rm -rf "$folder"; else echo "kube-up: $file is what the variables mean" >&2; fi
}

kubeup init "$KUBERNETES_PROVIDER" --with "${KUBE_UP_FILE:-/dev/null}" --name "$INSTANCE_PREFIX" --replicas "$NUM_NODES" \
  --kubernetes "${KUBERNETES_VERSION:-newest}" --control-planes "$NUM_MASTERS" >"$file"
