"""etcd's member list, as its JSON gateway prints it (3.4.23, recorded from a cluster of three)."""

import json

import pytest
from kubeup_core import Unknown
from kubeup_core.bootstrapper import EtcdMember
from kubeup_kubeadm import build

ANSWER = {
    "header": {"cluster_id": "10953233821821083622", "member_id": "181525816240352900", "raft_term": "5"},
    "members": [
        {
            "ID": "89983983981367362",
            "name": "cp-3",
            "peerURLs": ["https://10.0.0.3:2380"],
            "clientURLs": ["https://10.0.0.3:2379"],
        },
        {"ID": "8802408529351428053", "peerURLs": ["https://[fd00::1]:2380"], "isLearner": True},
    ],
}


def test_members_are_read():
    assert build().etcd_members(json.dumps(ANSWER).encode() + b"\n") == (
        EtcdMember(id="89983983981367362", name="cp-3", address="10.0.0.3"),
        EtcdMember(id="8802408529351428053", name="", address="fd00::1", learner=True),
    )


@pytest.mark.parametrize("output", [b"", b"curl: (7) refused", b'{"error":"etcdserver: no leader","code":14}', b"[1]", b"\xff"])
def test_anything_else_is_unknown(output):
    with pytest.raises(Unknown, match="not a member list"):
        build().etcd_members(output)


def test_the_member_to_remove_is_named_by_its_id():
    assert "ID=8802408529351428053\n" in build().etcd_remove(
        EtcdMember(id="8802408529351428053", name="cp-1", address="10.0.0.1")
    )
