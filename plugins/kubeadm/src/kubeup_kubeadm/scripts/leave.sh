systemctl stop kubeup-routes 2>/dev/null || :
clean
systemctl disable kubelet kubeup-routes >/dev/null 2>&1 || :
rm -f /etc/systemd/system/kubeup-routes.service
# Keys, and what holds some: an etcd from before a restore, beside the rest
rm -rf /run/kubeup /etc/kubernetes /var/lib/etcd.[0-9]*
rm -rf /usr/local/lib/kubeup "$STATE/bundle"
if has ip; then ip -4 route flush proto 77 2>/dev/null || :; fi
for tables in iptables ip6tables; do
    if has $tables-save; then
        $tables-save 2>/dev/null | grep -Ev 'KUBE-|FLANNEL-|CNI-(HOSTPORT|DN|SN)-|--comment "?(kubeup|flanneld)' | $tables-restore 2>/dev/null || :
    fi
done
systemctl daemon-reload 2>/dev/null || :
