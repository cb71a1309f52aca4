systemctl stop kubeup-routes 2>/dev/null || :
clean
systemctl disable kubelet kubeup-routes >/dev/null 2>&1 || :
rm -f /etc/systemd/system/kubeup-routes.service
rm -rf /etc/kubernetes /usr/local/lib/kubeup "$STATE/bundle"
if has ip; then
    ip -4 route flush proto 77 2>/dev/null || :
    for link in cni0 flannel.1; do ip link delete "$link" 2>/dev/null || :; done
fi
for tables in iptables ip6tables; do
    if has $tables-save; then
        $tables-save 2>/dev/null | grep -Ev 'KUBE-|comment kubeup|--comment "?kubeup' | $tables-restore 2>/dev/null || :
    fi
done
rm -rf /run/cni-ipam-state /var/lib/cni
systemctl daemon-reload 2>/dev/null || :
