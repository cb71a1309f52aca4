# A snapshot by etcd's own tool, inside its container: the image is there, and the tool is of the right version.
etcd=$(running_of etcd | head -n 1)
[ -n "$etcd" ] || fail "etcd does not run on this machine"
name=kubeup-snapshot.db
rm -f "/var/lib/etcd/$name" "/var/lib/etcd/$name.part"
ctr_ tasks exec --exec-id "kubeup-$$" "$etcd" etcdctl --endpoints=https://127.0.0.1:2379 \
    --cacert=/etc/kubernetes/pki/etcd/ca.crt --cert=/etc/kubernetes/pki/etcd/healthcheck-client.crt \
    --key=/etc/kubernetes/pki/etcd/healthcheck-client.key snapshot save "/var/lib/etcd/$name" >/dev/null ||
    fail "etcdctl snapshot save failed"
[ -s "/var/lib/etcd/$name" ] || fail "etcdctl said nothing was wrong, but left no snapshot"
mkdir -p "${SNAPSHOT%/*}"
chmod 600 "/var/lib/etcd/$name"
mv "/var/lib/etcd/$name" "$SNAPSHOT"
say "$(wc -c <"$SNAPSHOT") bytes"
