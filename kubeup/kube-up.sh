#!/bin/sh
# kube-up.sh: a Kubernetes cluster from environment variables, as Kubernetes' own script of this name had it. Thin over `kubeup up`.
#
#   KUBERNETES_PROVIDER  docker   an installed provider that needs no config, or the name of a Provider in KUBE_UP_FILE
#   NUM_NODES            3        workers; 0 makes the control plane run workloads
#   NUM_MASTERS          1        control planes: 1, 3 or 5
#   KUBERNETES_VERSION            vX.Y.Z; the default is the newest that the bootstrapper knows
#   INSTANCE_PREFIX      kubernetes   name of the cluster
#   KUBE_UP_FILE                  a file of more documents, applied with it: the Provider (gce, aws, libvirt, ssh), volumes ...
#
# kube-down.sh takes it away again, from the same variables. What is not a variable here is a field in a file: kubeup init.
set -eu
. "$(dirname "$0")/kube-env.sh"
kubeup up -f "$file" ${KUBE_UP_FILE:+-f "$KUBE_UP_FILE"} "$@"
