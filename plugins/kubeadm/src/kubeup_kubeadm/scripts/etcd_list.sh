etcd_call cluster/member/list '{}' || fail "the etcd of this machine does not answer"
echo
