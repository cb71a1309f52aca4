# kubernetes#97294: after the second etcd member came, watches through the first API server are silently dead. Its restart cures that.
say "restarts the API server of the first control plane (kubernetes#97294)"
before=$(running_of kube-apiserver)
restart_component kube-apiserver SIGTERM
# Nothing is worth a graceful end: the watches that it would wait for are the dead ones
sleep 1
restart_component kube-apiserver SIGKILL
gone() { [ -z "$before" ] || [ "$(running_of kube-apiserver)" != "$before" ]; }
wait_for 60 gone || fail "the API server did not stop within 60 seconds"
wait_for 120 api_answers "$PORT" || {
    explain
    fail "the API server does not answer 120 seconds after its restart"
}
