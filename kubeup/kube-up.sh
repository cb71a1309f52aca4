#!/bin/sh
# kube-up.sh: a Kubernetes cluster from environment variables, as Kubernetes' own script of this name had it. Thin over `kubeup up`.
#
#   KUBERNETES_PROVIDER  docker   any installed provider, or the name of a Provider object (gce, aws, libvirt, ssh, ...)
#   NUM_NODES            3        workers; 0 makes the control plane run workloads
#   NUM_MASTERS          1        control planes: 1, 3 or 5
#   KUBERNETES_VERSION            vX.Y.Z; the default is the newest that the bootstrapper knows
#   INSTANCE_PREFIX      kubernetes   name of the cluster
#   KUBE_UP_FILE                  more documents for the same cluster (Providers, volumes ...): a file, applied with it
#
# kube-down.sh takes it away again, from the same variables. What is not a variable here is a field in a file: kubeup init.
set -eu
. "$(dirname "$0")/kube-env.sh"
file=$(mktemp -d)/cluster.yaml
trap 'rm -rf "$(dirname "$file")"' EXIT
kube_cluster >"$file"
kubeup up -f "$file" ${KUBE_UP_FILE:+-f "$KUBE_UP_FILE"} "$@"
