#!/bin/sh
# kube-down.sh: takes away what kube-up.sh made from the same environment variables, to nothing. Thin over `kubeup down`.
# Asks first, as `kubeup down` does; --yes answers (KUBE_DOWN_YES=1 too).
set -eu
. "$(dirname "$0")/kube-env.sh"
kubeup down -f "$file" ${KUBE_UP_FILE:+-f "$KUBE_UP_FILE"} ${KUBE_DOWN_YES:+--yes} "$@"
