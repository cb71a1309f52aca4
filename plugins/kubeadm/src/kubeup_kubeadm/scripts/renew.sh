# New certificates from the same keys; every component reads its own when it starts.
has kubeadm || fail "kubeadm is not installed, but it is needed to renew certificates"
kubeadm certs renew all || fail "kubeadm certs renew failed"
for component in etcd kube-apiserver kube-controller-manager kube-scheduler; do
    [ -n "$(running_of $component)" ] || continue
    before=$(running_of $component)
    restart_component $component SIGTERM
    again() { now=$(running_of "$component") && [ -n "$now" ] && [ "$now" != "$before" ]; }
    wait_for 120 again || {
        explain
        fail "$component does not run 120 seconds after its certificate was renewed"
    }
    if [ $component = etcd ]; then
        wait_for 60 etcd_healthy || fail "etcd is not healthy 60 seconds after its certificate was renewed"
    fi
done
wait_for 120 api_answers "$PORT" || {
    explain
    fail "the API server does not answer 120 seconds after its certificate was renewed"
}
shown=$(served "$PORT")
if [ -n "$shown" ] && [ "$shown" != "$(sed -n '/BEGIN CERTIFICATE/,/END CERTIFICATE/p' /etc/kubernetes/pki/apiserver.crt)" ]; then
    fail "the API server still shows another certificate than the new one in /etc/kubernetes/pki/apiserver.crt"
fi
systemctl restart kubelet
