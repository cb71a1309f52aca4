[ "$(cat "$STATE/joined" 2>/dev/null)" = "$CA" ] && [ -s /etc/kubernetes/kubelet.conf ]
