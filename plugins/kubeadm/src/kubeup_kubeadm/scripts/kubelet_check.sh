installed && grep -qs "$VERSION" "$STATE/kubelet"
