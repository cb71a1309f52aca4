listed=$(etcd_call cluster/member/list '{}') || fail "the etcd of this machine does not answer"
case $listed in
    *'"members"'*) ;;
    *) fail "etcd does not tell its members: $listed" ;;
esac
case $listed in
    *"\"ID\":\"$ID\""*) ;;
    *)
        say "the member $ID is gone already"
        exit 0
        ;;
esac
answer=$(etcd_call cluster/member/remove "{\"ID\":\"$ID\"}") || fail "the etcd of this machine does not answer"
case $answer in
    *'"error"'*) fail "etcd does not remove the member $ID: $answer" ;;
esac
