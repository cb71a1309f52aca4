# Prints the certificates that this machine made for itself, and never a key: some of the files hold both.
pem() { sed -n '/-----BEGIN CERTIFICATE-----/,/-----END CERTIFICATE-----/p'; }

# tell NAME KIND, with the PEM on stdin
tell() {
    text=$(pem)
    [ -n "$text" ] || fail "there is no certificate in $1"
    say "certificate $1 $2"
    say "$text"
}

[ -s /etc/kubernetes/pki/apiserver.crt ] || fail "there is no control plane on this machine"
for name in apiserver apiserver-kubelet-client apiserver-etcd-client front-proxy-client etcd/server etcd/peer etcd/healthcheck-client; do
    [ ! -s "/etc/kubernetes/pki/$name.crt" ] || tell "$name" renewed <"/etc/kubernetes/pki/$name.crt"
done
for name in admin super-admin controller-manager scheduler; do
    data=$(sed -n 's/^ *client-certificate-data: *//p' "/etc/kubernetes/$name.conf" 2>/dev/null | head -n 1)
    [ -z "$data" ] || printf '%s' "$data" | base64 -d | tell "$name.conf" renewed
done
kubelet=/var/lib/kubelet/pki/kubelet-client-current.pem
[ ! -s $kubelet ] || tell kubelet-client rotated <$kubelet
shown=$(served "$PORT")
[ -z "$shown" ] || say "$shown" | tell "apiserver as served" renewed
