# The cluster's keys come into a folder in memory; from there into kubeadm's, and nothing stays behind.
put_keys() {
    [ -d /run/kubeup/pki ] || return 0
    umask 077
    mkdir -p /etc/kubernetes/pki/etcd
    chmod 755 /etc/kubernetes/pki /etc/kubernetes/pki/etcd
    (cd /run/kubeup/pki && find . -type f) | while read -r file; do
        cp "/run/kubeup/pki/$file" "/etc/kubernetes/pki/$file"
        case $file in *.key) ;; *) chmod 644 "/etc/kubernetes/pki/$file" ;; esac
    done
    umask 022
}

forget_keys() { rm -rf /run/kubeup/pki "$CONFIG"; }

# What people need to see when kubeadm gives up
explain() {
    say "--- kubelet:"
    journalctl -u kubelet -n 200 --no-pager -o cat 2>/dev/null | grep -E '^[EF][0-9]{4}|rror|ailed' | tail -n 8 || :
    for component in etcd kube-apiserver; do
        log=$(ls -t /var/log/pods/kube-system_"$component"-*/"$component"/*.log 2>/dev/null | head -n 1)
        if [ -n "$log" ]; then
            say "--- $component:"
            tail -n 5 "$log" || :
        fi
    done
}
