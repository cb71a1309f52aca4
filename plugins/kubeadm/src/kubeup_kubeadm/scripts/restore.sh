# etcd of one member out of a snapshot. What was there before is kept beside it.
[ -s "$SNAPSHOT" ] || fail "there is no snapshot at $SNAPSHOT"
manifests=/etc/kubernetes/manifests
aside=$STATE/manifests
mkdir -p "$aside"
if [ -s "$manifests/etcd.yaml" ]; then
    for component in kube-apiserver kube-controller-manager kube-scheduler etcd; do mv "$manifests/$component.yaml" "$aside/"; done
fi
[ -s "$aside/etcd.yaml" ] || fail "this machine is not a control plane with its own etcd: there is no etcd.yaml"
image=$(sed -n 's/^ *image: *//p' "$aside/etcd.yaml" | head -n 1)
stopped() { [ -z "$(running_of etcd)$(running_of kube-apiserver)" ]; }
wait_for 120 stopped || fail "etcd and the API server did not stop within 120 seconds"

work=$STATE/restore
rm -rf "$work"
mkdir -p "$work"
cp "$SNAPSHOT" "$work/snapshot.db"
restore() {
    rm -rf "$work/data"
    ctr_ run --rm --mount "type=bind,src=$work,dst=/restore,options=rbind:rw" "$image" "kubeup-restore-$1-$$" \
        "$@" snapshot restore /restore/snapshot.db --data-dir=/restore/data --name="$NAME" \
        --initial-cluster="$NAME=https://$ADDRESS:2380" --initial-advertise-peer-urls="https://$ADDRESS:2380" \
        --initial-cluster-token="kubeup-$(date +%s)"
}
# etcdutl does it from etcd 3.5 on; older images only have etcdctl
restore etcdutl >"$work/log" 2>&1 || restore etcdctl >"$work/log" 2>&1 ||
    fail "the snapshot cannot be restored: $(tail -n 1 "$work/log")"
[ -d "$work/data/member" ] || fail "the snapshot cannot be restored: $(tail -n 1 "$work/log")"
[ ! -d /var/lib/etcd ] || mv /var/lib/etcd "/var/lib/etcd.$(date -u +%Y%m%dT%H%M%SZ)"
mv "$work/data" /var/lib/etcd
chmod 700 /var/lib/etcd
rm -rf "$work"
mv "$aside"/*.yaml "$manifests/"
systemctl restart kubelet
wait_for 180 etcd_healthy || {
    explain
    fail "etcd is not healthy 180 seconds after it was restored"
}
wait_for 180 api_answers "$PORT" || {
    explain
    fail "the API server does not answer 180 seconds after etcd was restored"
}

kube() { timeout 60 kubectl --kubeconfig=/etc/kubernetes/admin.conf --request-timeout=30s "$@"; }
registered() { kube get node "$NAME" >/dev/null 2>&1; }
wait_for 180 registered || fail "the Node $NAME did not register within 180 seconds after etcd was restored"
# What joins asks etcd of every control plane that the API knows of, and waits minutes for those that are no more: kubeadm before 1.22
# by a list of API servers, newer ones by the Pods of etcd.
if [ -n "$(kube -n kube-system get configmap kubeadm-config -o 'jsonpath={.data.ClusterStatus}')" ]; then
    only="apiEndpoints:\\n  $NAME:\\n    advertiseAddress: $ADDRESS\\n    bindPort: $PORT\\n"
    kube -n kube-system patch configmap kubeadm-config --type=merge \
        -p "{\"data\":{\"ClusterStatus\":\"${only}apiVersion: kubeadm.k8s.io/v1beta2\\nkind: ClusterStatus\\n\"}}" >/dev/null
fi
kube -n kube-system get pods -l component=etcd -o name | { grep -vx "pod/etcd-$NAME" || :; } | while read -r pod; do
    kube -n kube-system delete "$pod" --force --grace-period=0 >/dev/null 2>&1 || :
done
# One that became a control plane after the snapshot was taken is not in it as one.
for label in $LABELS; do kube label node "$NAME" --overwrite "$label" >/dev/null; done
for taint in $TAINTS; do kube taint node "$NAME" --overwrite "$taint" >/dev/null; done
