# The cluster's keys come into a folder in memory; from there into kubeadm's, and nothing stays behind, whatever the step comes to.
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
